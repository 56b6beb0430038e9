-- One row per product page seen by a known person. A guest's belong to the customer they became.
SELECT
    NVL(a.customer_id, v.customer_id)::VARCHAR(32) AS customer_id,
    v.viewed_at::TIMESTAMP AS occurred_at,
    v.loaded_at::TIMESTAMP AS loaded_at,
    v.view_id::VARCHAR(32) AS view_id,
    v.sku::VARCHAR(32) AS hero_sku,
    p.category::VARCHAR(64) AS primary_category,
    p.price::NUMERIC(12, 2) AS price
FROM shop.product_views AS v
LEFT JOIN shop.account_links AS a ON a.guest_id = v.customer_id
LEFT JOIN shop.products AS p ON p.sku = v.sku
