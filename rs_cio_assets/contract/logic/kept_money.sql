WITH orders AS (
    SELECT
        NVL(a.customer_id, o.customer_id) AS customer_id,
        o.order_id,
        o.paid_at,
        o.total
    FROM shop.orders AS o
    LEFT JOIN shop.account_links AS a ON a.guest_id = o.customer_id
    WHERE o.paid_at IS NOT NULL AND o.cancelled_at IS NULL AND NOT NVL(o.is_test, FALSE)
),

money AS (
    SELECT
        m.customer_id,
        SUM(m.total) AS paid
    FROM orders AS m
    GROUP BY m.customer_id
),

returned AS (
    SELECT
        m.customer_id,
        SUM(r.amount) AS amount
    FROM orders AS m
    INNER JOIN shop.refunds AS r ON r.order_id = m.order_id
    GROUP BY m.customer_id
),

spoiled AS (
    SELECT m.order_id
    FROM orders AS m
    INNER JOIN shop.refunds AS r ON r.order_id = m.order_id
    GROUP BY m.order_id, m.total
    HAVING MAX(CASE WHEN r.kind = 'chargeback' THEN 1 ELSE 0 END) = 1 OR (SUM(r.amount) >= m.total AND SUM(r.amount) > 0)
),

kept AS (
    SELECT
        m.customer_id,
        COUNT(*) AS orders_count,
        MAX(CASE WHEN s.order_id IS NULL THEN m.paid_at END) AS last_paid_order_at
    FROM orders AS m
    LEFT JOIN spoiled AS s ON s.order_id = m.order_id
    GROUP BY m.customer_id
)

SELECT
    p.customer_id,
    CASE
        WHEN p.lifetime_value IS NULL OR p.lifetime_value <> NVL(m.paid, 0) - NVL(r.amount, 0)
            THEN 'lifetime_value is not what was paid and kept'
        WHEN NVL(p.orders_count, -1) <> NVL(k.orders_count, 0) THEN 'orders_count is not the number of paid orders'
        ELSE 'last_paid_order_at is not the latest order that was kept'
    END AS problem
FROM cio_export.people AS p
LEFT JOIN money AS m ON m.customer_id = p.customer_id
LEFT JOIN returned AS r ON r.customer_id = p.customer_id
LEFT JOIN kept AS k ON k.customer_id = p.customer_id
WHERE p.updated_at >= :since
    AND (
        p.lifetime_value IS NULL
        OR p.lifetime_value <> NVL(m.paid, 0) - NVL(r.amount, 0)
        OR NVL(p.orders_count, -1) <> NVL(k.orders_count, 0)
        OR NVL(p.last_paid_order_at, '2000-01-01'::TIMESTAMP) <> NVL(k.last_paid_order_at, '2000-01-01'::TIMESTAMP)
    )
