-- One row per person. One pass over each table, joined by person at the end: no correlated subqueries.
-- updated_at is the time of the newest fact below, so it is never older than any event of the same person.
-- What a guest did belongs to the customer they became (shop.account_links, one row per guest); such a guest has no row.
WITH refunded AS (
    SELECT
        r.order_id,
        SUM(r.amount) AS amount,
        MAX(CASE WHEN r.kind = 'chargeback' THEN 1 ELSE 0 END) AS is_charged_back,
        MAX(r.refunded_at) AS refunded_at,
        MAX(r.loaded_at) AS loaded_at
    FROM shop.refunds AS r
    GROUP BY r.order_id
),

orders AS (
    SELECT
        NVL(a.customer_id, o.customer_id) AS customer_id,
        o.order_id,
        o.placed_at,
        o.paid_at,
        o.cancelled_at,
        o.total,
        o.loaded_at
    FROM shop.orders AS o
    LEFT JOIN shop.account_links AS a ON a.guest_id = o.customer_id
    WHERE NOT NVL(o.is_test, FALSE)
),

all_orders AS (
    SELECT
        o.customer_id,
        o.order_id,
        o.placed_at,
        o.paid_at,
        o.total,
        NVL(f.amount, 0) AS refunded_amount,
        CASE
            WHEN o.paid_at IS NULL AND o.cancelled_at IS NULL THEN 'pending'
            WHEN o.cancelled_at IS NOT NULL THEN 'cancelled'
            WHEN f.is_charged_back = 1 THEN 'charged_back'
            WHEN f.amount >= o.total AND f.amount > 0 THEN 'refunded'
            ELSE 'paid'
        END AS order_state,
        GREATEST(o.placed_at, o.paid_at, o.cancelled_at, f.refunded_at) AS changed_at,
        GREATEST(o.loaded_at, f.loaded_at) AS loaded_at,
        ROW_NUMBER() OVER (PARTITION BY o.customer_id ORDER BY o.placed_at DESC, o.order_id DESC) AS latest,
        ROW_NUMBER() OVER (
            PARTITION BY o.customer_id
            ORDER BY CASE WHEN o.paid_at IS NULL THEN 1 ELSE 0 END, o.paid_at, o.order_id
        ) AS earliest_paid
    FROM orders AS o
    LEFT JOIN refunded AS f ON f.order_id = o.order_id
),

category_revenue AS (
    SELECT
        o.customer_id,
        p.category,
        SUM(NVL(l.quantity * l.unit_price, 0)) AS revenue,
        SUM(CASE WHEN o.earliest_paid = 1 THEN NVL(l.quantity * l.unit_price, 0) ELSE 0 END) AS first_order_revenue,
        MAX(CASE WHEN o.earliest_paid = 1 THEN 1 ELSE 0 END) AS is_in_first_order
    FROM all_orders AS o
    INNER JOIN shop.order_lines AS l ON l.order_id = o.order_id
    INNER JOIN shop.products AS p ON p.sku = l.sku
    WHERE o.paid_at IS NOT NULL
    GROUP BY o.customer_id, p.category
),

category_ranks AS (
    SELECT
        c.customer_id,
        c.category,
        c.is_in_first_order,
        ROW_NUMBER() OVER (PARTITION BY c.customer_id ORDER BY c.revenue DESC, c.category) AS revenue_rank,
        ROW_NUMBER() OVER (
            PARTITION BY c.customer_id
            ORDER BY c.is_in_first_order DESC, c.first_order_revenue DESC, c.category
        ) AS first_order_rank
    FROM category_revenue AS c
),

categories AS (
    SELECT
        r.customer_id,
        MAX(CASE WHEN r.revenue_rank = 1 THEN r.category END) AS top_category,
        MAX(CASE WHEN r.first_order_rank = 1 AND r.is_in_first_order = 1 THEN r.category END) AS first_order_category,
        LISTAGG(CASE WHEN r.is_in_first_order = 1 THEN r.category END, ',')
            WITHIN GROUP (ORDER BY r.category) AS first_order_categories
    FROM category_ranks AS r
    GROUP BY r.customer_id
),

order_facts AS (
    SELECT
        o.customer_id,
        -- A cancelled order keeps none of its money. first_order_at and the categories know it all the same, as the
        -- order_number of its event does: what was bought first must not change once a journey has used it.
        SUM(CASE WHEN o.paid_at IS NOT NULL AND o.order_state <> 'cancelled' THEN 1 ELSE 0 END) AS orders_count,
        SUM(
            CASE WHEN o.paid_at IS NOT NULL AND o.order_state <> 'cancelled' THEN o.total - o.refunded_amount ELSE 0 END
        ) AS lifetime_value,
        MIN(o.paid_at) AS first_order_at,
        MAX(o.placed_at) AS last_order_at,
        MAX(CASE WHEN o.order_state = 'paid' THEN o.paid_at END) AS last_paid_order_at,
        MAX(CASE WHEN o.latest = 1 THEN o.order_state END) AS order_state,
        MAX(o.changed_at) AS changed_at,
        MAX(o.loaded_at) AS loaded_at
    FROM all_orders AS o
    GROUP BY o.customer_id
),

subscription_facts AS (
    SELECT
        s.customer_id,
        MAX(CASE WHEN s.paused_at IS NULL AND s.cancelled_at IS NULL THEN 1 ELSE 0 END) AS is_active,
        MAX(GREATEST(s.started_at, s.paused_at, s.cancelled_at)) AS changed_at,
        MAX(s.loaded_at) AS loaded_at
    FROM shop.subscriptions AS s
    GROUP BY s.customer_id
),

checkout_facts AS (
    SELECT
        NVL(a.customer_id, k.customer_id) AS customer_id,
        MAX(k.started_at) AS last_started_at,
        MAX(k.loaded_at) AS loaded_at
    FROM shop.checkouts AS k
    LEFT JOIN shop.account_links AS a ON a.guest_id = k.customer_id
    GROUP BY NVL(a.customer_id, k.customer_id)
),

link_facts AS (
    SELECT
        a.customer_id,
        MAX(a.linked_at) AS linked_at,
        MAX(a.loaded_at) AS loaded_at
    FROM shop.account_links AS a
    GROUP BY a.customer_id
),

-- Unsuppress brings nothing back in Customer.io: as a change of the person it has them sent anew.
return_facts AS (
    SELECT
        r.customer_id,
        MAX(r.requested_at) AS returned_at,
        MAX(r.loaded_at) AS loaded_at
    FROM shop.privacy_requests AS r
    WHERE r.request = 'unsuppress'
    GROUP BY r.customer_id
)

SELECT
    c.customer_id::VARCHAR(32) AS customer_id,
    GREATEST(
        c.updated_at, o.changed_at, s.changed_at, k.last_started_at, a.linked_at, r.returned_at
    )::TIMESTAMP AS updated_at,
    GREATEST(c.loaded_at, o.loaded_at, s.loaded_at, k.loaded_at, a.loaded_at, r.loaded_at)::TIMESTAMP AS loaded_at,
    NULLIF(LOWER(TRIM(c.email)), '')::VARCHAR(255) AS email,
    c.first_name::VARCHAR(100) AS first_name,
    c.country_code::VARCHAR(2) AS country_code,
    c.is_guest AS is_guest,
    c.created_at::TIMESTAMP AS created_at,
    NVL(o.orders_count, 0)::BIGINT AS orders_count,
    NVL(o.lifetime_value, 0)::NUMERIC(14, 2) AS lifetime_value,
    CASE
        WHEN NVL(o.lifetime_value, 0) <= 0 THEN 'none'
        WHEN o.lifetime_value <= 150 THEN 'bronze'
        WHEN o.lifetime_value <= 400 THEN 'silver'
        ELSE 'gold'
    END::VARCHAR(16) AS vip_tier,
    NVL(o.order_state, 'none')::VARCHAR(16) AS order_state,
    o.first_order_at::TIMESTAMP AS first_order_at,
    o.last_order_at::TIMESTAMP AS last_order_at,
    o.last_paid_order_at::TIMESTAMP AS last_paid_order_at,
    DATEADD('day', 60, o.last_paid_order_at)::TIMESTAMP AS becomes_inactive_at,
    g.first_order_category::VARCHAR(64) AS first_order_category,
    NULLIF(g.first_order_categories, '')::VARCHAR(200) AS first_order_categories,
    g.top_category::VARCHAR(64) AS top_category,
    CASE WHEN s.is_active = 1 THEN TRUE ELSE FALSE END AS is_active_subscriber,
    k.last_started_at::TIMESTAMP AS last_checkout_started_at
FROM shop.customers AS c
LEFT JOIN order_facts AS o ON o.customer_id = c.customer_id
LEFT JOIN categories AS g ON g.customer_id = c.customer_id
LEFT JOIN subscription_facts AS s ON s.customer_id = c.customer_id
LEFT JOIN checkout_facts AS k ON k.customer_id = c.customer_id
LEFT JOIN link_facts AS a ON a.customer_id = c.customer_id
LEFT JOIN return_facts AS r ON r.customer_id = c.customer_id
LEFT JOIN shop.account_links AS gone ON gone.guest_id = c.customer_id
WHERE gone.guest_id IS NULL
