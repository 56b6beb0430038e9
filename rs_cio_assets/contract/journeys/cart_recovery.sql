-- Who surely had to get it: no paid order in the three days before the checkout, nor in the four days after it.
SELECT
    k.customer_id,
    k.checkout_id,
    k.occurred_at
FROM cio_export.checkout_started AS k
LEFT JOIN cio_export.order_completed AS o
    ON o.customer_id = k.customer_id
    AND o.occurred_at > DATEADD('day', -3, k.occurred_at)
    AND o.occurred_at < DATEADD('day', 4, k.occurred_at)
WHERE k.occurred_at >= :since AND k.occurred_at < :now AND o.order_id IS NULL
