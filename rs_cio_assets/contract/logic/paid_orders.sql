WITH paid AS (
    SELECT
        o.order_id,
        NVL(a.customer_id, o.customer_id) AS customer_id,
        o.paid_at,
        o.total
    FROM shop.orders AS o
    LEFT JOIN shop.account_links AS a ON a.guest_id = o.customer_id
    WHERE o.paid_at >= :since AND o.paid_at < :now AND NOT NVL(o.is_test, FALSE)
),

events AS (
    SELECT
        e.order_id,
        e.customer_id,
        e.occurred_at,
        e.order_total
    FROM cio_export.order_completed AS e
    WHERE e.occurred_at >= :since AND e.occurred_at < :now
)

SELECT
    NVL(e.customer_id, p.customer_id) AS customer_id,
    CASE
        WHEN p.order_id IS NULL THEN 'the event is of an order that was not paid then'
        WHEN e.order_id IS NULL THEN 'a paid order has no event'
        WHEN NVL(e.customer_id, '') <> NVL(p.customer_id, '') THEN 'the event names another person than the order'
        ELSE 'order_total or the time differs from the order'
    END AS problem
FROM events AS e
FULL OUTER JOIN paid AS p ON p.order_id = e.order_id
WHERE p.order_id IS NULL
    OR e.order_id IS NULL
    OR NVL(e.customer_id, '') <> NVL(p.customer_id, '')
    OR e.occurred_at <> p.paid_at
    OR NVL(e.order_total, -1) <> NVL(p.total, -1)
