-- Who surely had to get it: a first order with a cleanser that was kept, and nothing paid within twelve days after it.
SELECT
    n.customer_id,
    n.order_id,
    n.occurred_at
FROM (
    SELECT
        f.customer_id,
        f.order_id,
        f.occurred_at,
        f.order_number,
        f.categories,
        f.is_gift_card_only,
        LEAD(f.occurred_at) OVER (PARTITION BY f.customer_id ORDER BY f.occurred_at, f.order_id) AS next_at
    FROM cio_export.order_completed AS f
) AS n
WHERE n.occurred_at >= :since
    AND n.occurred_at < :now
    AND n.order_number = 1
    AND CHARINDEX('cleanser', n.categories) > 0
    AND NOT n.is_gift_card_only
    AND (n.next_at IS NULL OR n.next_at >= DATEADD('day', 12, n.occurred_at))
    AND n.order_id NOT IN (SELECT c.order_id FROM shop.orders AS c WHERE c.cancelled_at IS NOT NULL)
