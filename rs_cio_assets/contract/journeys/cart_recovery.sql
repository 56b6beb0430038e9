-- Who surely had to get it: nothing ordered in the three days before the checkout, nor in the four days after it.
WITH orders AS (
    SELECT
        NVL(a.customer_id, s.customer_id) AS customer_id,
        s.order_id,
        s.placed_at
    FROM shop.orders AS s
    LEFT JOIN shop.account_links AS a ON a.guest_id = s.customer_id
)

SELECT
    k.customer_id,
    k.checkout_id,
    k.occurred_at
FROM cio_export.checkout_started AS k
LEFT JOIN orders AS o
    ON o.customer_id = k.customer_id
    AND o.placed_at > DATEADD('day', -3, k.occurred_at)
    AND o.placed_at < DATEADD('day', 4, k.occurred_at)
WHERE k.occurred_at >= :since AND k.occurred_at < :now AND o.order_id IS NULL
