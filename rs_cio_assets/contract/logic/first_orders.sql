WITH paid AS (
    SELECT
        o.order_id,
        NVL(a.customer_id, o.customer_id) AS customer_id,
        o.paid_at
    FROM shop.orders AS o
    LEFT JOIN shop.account_links AS a ON a.guest_id = o.customer_id
    WHERE o.paid_at IS NOT NULL AND NOT NVL(o.is_test, FALSE)
),

recent AS (
    SELECT
        e.customer_id,
        e.order_id,
        e.order_number,
        e.is_first_time_buyer
    FROM cio_export.order_completed AS e
    WHERE e.occurred_at >= :since AND e.occurred_at < :now
),

counted AS (
    SELECT
        r.order_id,
        COUNT(earlier.order_id) AS orders_before
    FROM recent AS r
    INNER JOIN paid AS this ON this.order_id = r.order_id
    LEFT JOIN paid AS earlier
        ON earlier.customer_id = this.customer_id
        AND (earlier.paid_at < this.paid_at OR (earlier.paid_at = this.paid_at AND earlier.order_id < this.order_id))
    GROUP BY r.order_id
)

SELECT
    r.customer_id,
    CASE
        WHEN c.order_id IS NULL THEN 'the shop knows no such paid order'
        WHEN NVL(r.order_number, 0) <> c.orders_before + 1 THEN 'order_number is not the place among the paid orders'
        ELSE 'is_first_time_buyer contradicts order_number'
    END AS problem
FROM recent AS r
LEFT JOIN counted AS c ON c.order_id = r.order_id
WHERE c.order_id IS NULL
    OR NVL(r.order_number, 0) <> c.orders_before + 1
    OR NVL(r.is_first_time_buyer, r.order_number <> 1) <> (r.order_number = 1)
