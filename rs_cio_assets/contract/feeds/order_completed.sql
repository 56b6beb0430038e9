-- One row per paid order. A later refund does not change the event; it shows on the person (order_state, lifetime_value).
-- A product that the catalogue does not know counts in everything but the category.
WITH lines AS (
    SELECT
        l.order_id,
        l.sku,
        p.category,
        l.quantity,
        NVL(l.quantity * l.unit_price, 0) AS revenue,
        CASE WHEN p.is_gift_card THEN 1 ELSE 0 END AS is_gift_card,
        ROW_NUMBER() OVER (
            PARTITION BY l.order_id ORDER BY NVL(l.quantity * l.unit_price, 0) DESC, l.line_number
        ) AS line_rank
    FROM shop.order_lines AS l
    LEFT JOIN shop.products AS p ON p.sku = l.sku
),

categories AS (
    SELECT
        n.order_id,
        n.category,
        ROW_NUMBER() OVER (PARTITION BY n.order_id ORDER BY SUM(n.revenue) DESC, n.category) AS category_rank
    FROM lines AS n
    WHERE n.category IS NOT NULL
    GROUP BY n.order_id, n.category
),

category_lists AS (
    SELECT
        c.order_id,
        LISTAGG(c.category, ',') WITHIN GROUP (ORDER BY c.category) AS categories
    FROM categories AS c
    GROUP BY c.order_id
),

baskets AS (
    SELECT
        n.order_id,
        SUM(n.quantity) AS items_count,
        MIN(n.is_gift_card) AS is_gift_card_only,
        MAX(CASE WHEN n.line_rank = 1 THEN n.sku END) AS hero_sku
    FROM lines AS n
    GROUP BY n.order_id
),

paid AS (
    SELECT
        o.order_id,
        NVL(a.customer_id, o.customer_id) AS customer_id,  -- a guest's orders belong to the customer they became
        o.paid_at,
        o.loaded_at,
        o.total,
        o.currency,
        o.discount_code,
        o.discount,
        ROW_NUMBER() OVER (
            PARTITION BY NVL(a.customer_id, o.customer_id) ORDER BY o.paid_at, o.order_id
        ) AS order_number
    FROM shop.orders AS o
    LEFT JOIN shop.account_links AS a ON a.guest_id = o.customer_id
    WHERE o.paid_at IS NOT NULL AND NOT NVL(o.is_test, FALSE)
)

SELECT
    d.customer_id::VARCHAR(32) AS customer_id,
    d.paid_at::TIMESTAMP AS occurred_at,
    d.loaded_at::TIMESTAMP AS loaded_at,
    d.order_id::VARCHAR(32) AS order_id,
    d.order_number::BIGINT AS order_number,
    CASE WHEN d.order_number = 1 THEN TRUE ELSE FALSE END AS is_first_time_buyer,
    d.total::NUMERIC(12, 2) AS order_total,
    d.currency::VARCHAR(3) AS currency,
    NVL(b.items_count, 0)::BIGINT AS items_count,
    g.category::VARCHAR(64) AS primary_category,
    i.categories::VARCHAR(200) AS categories,
    b.hero_sku::VARCHAR(32) AS hero_sku,
    CASE WHEN b.is_gift_card_only = 1 THEN TRUE ELSE FALSE END AS is_gift_card_only,
    d.discount_code::VARCHAR(64) AS discount_code,
    NVL(d.discount, 0)::NUMERIC(12, 2) AS discount_total
FROM paid AS d
LEFT JOIN baskets AS b ON b.order_id = d.order_id
LEFT JOIN categories AS g ON g.order_id = d.order_id AND g.category_rank = 1
LEFT JOIN category_lists AS i ON i.order_id = d.order_id
