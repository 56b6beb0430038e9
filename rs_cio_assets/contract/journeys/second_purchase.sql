-- Who surely had to get it: a first order with a cleanser that was kept, and nothing ordered within twelve days after it.
WITH orders AS (
    SELECT
        s.order_id,
        s.cancelled_at,
        LEAD(s.placed_at) OVER (
            PARTITION BY NVL(a.customer_id, s.customer_id) ORDER BY s.placed_at, s.order_id
        ) AS next_placed_at
    FROM shop.orders AS s
    LEFT JOIN shop.account_links AS a ON a.guest_id = s.customer_id
)

SELECT
    f.customer_id,
    f.order_id,
    f.occurred_at
FROM cio_export.order_completed AS f
INNER JOIN orders AS o ON o.order_id = f.order_id
WHERE f.occurred_at >= :since
    AND f.occurred_at < :now
    AND f.order_number = 1
    AND CHARINDEX('cleanser', f.categories) > 0
    AND NOT f.is_gift_card_only
    AND o.cancelled_at IS NULL
    AND (o.next_placed_at IS NULL OR o.next_placed_at >= DATEADD('day', 12, f.occurred_at))
