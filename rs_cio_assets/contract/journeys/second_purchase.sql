-- Who surely had to get it: a first order with a cleanser, and no second one within twelve days.
SELECT
    f.customer_id,
    f.order_id,
    f.occurred_at
FROM cio_export.order_completed AS f
LEFT JOIN cio_export.order_completed AS n
    ON n.customer_id = f.customer_id AND n.order_number = 2 AND n.occurred_at < DATEADD('day', 12, f.occurred_at)
INNER JOIN cio_export.people AS p ON p.customer_id = f.customer_id AND p.orders_count = 1
WHERE f.occurred_at >= :since
    AND f.occurred_at < :now
    AND f.order_number = 1
    AND CHARINDEX('cleanser', f.categories) > 0
    AND NOT f.is_gift_card_only
    AND n.order_id IS NULL
