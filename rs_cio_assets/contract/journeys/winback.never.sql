-- Who bought in the last 60 days, or has a subscription that runs, is active. From the shop's own tables, not from the feed.
WITH refunded AS (
    SELECT
        r.order_id,
        SUM(r.amount) AS amount,
        MAX(CASE WHEN r.kind = 'chargeback' THEN 1 ELSE 0 END) AS is_charged_back
    FROM shop.refunds AS r
    GROUP BY r.order_id
)

SELECT NVL(a.customer_id, o.customer_id) AS customer_id
FROM shop.orders AS o
LEFT JOIN shop.account_links AS a ON a.guest_id = o.customer_id
LEFT JOIN refunded AS f ON f.order_id = o.order_id
WHERE o.paid_at > DATEADD('day', -60, :now)
    AND o.cancelled_at IS NULL
    AND NOT NVL(o.is_test, FALSE)
    AND NVL(f.amount, 0) < o.total
    AND NVL(f.is_charged_back, 0) = 0
UNION
SELECT s.customer_id
FROM shop.subscriptions AS s
WHERE s.paused_at IS NULL AND s.cancelled_at IS NULL
