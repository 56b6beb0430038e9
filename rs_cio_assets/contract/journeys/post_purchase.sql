-- Every paid order is followed by its message.
SELECT
    o.customer_id,
    o.order_id,
    o.occurred_at
FROM cio_export.order_completed AS o
WHERE o.occurred_at >= :since AND o.occurred_at < :now
