-- One row per checkout, finished or not. A guest's belong to the customer they became.
SELECT
    NVL(a.customer_id, k.customer_id)::VARCHAR(32) AS customer_id,
    k.started_at::TIMESTAMP AS occurred_at,
    k.loaded_at::TIMESTAMP AS loaded_at,
    k.checkout_id::VARCHAR(32) AS checkout_id,
    k.cart_total::NUMERIC(12, 2) AS cart_total,
    k.currency::VARCHAR(3) AS currency,
    k.items_count::BIGINT AS items_count,
    k.hero_sku::VARCHAR(32) AS hero_sku,
    p.category::VARCHAR(64) AS primary_category
FROM shop.checkouts AS k
LEFT JOIN shop.account_links AS a ON a.guest_id = k.customer_id
LEFT JOIN shop.products AS p ON p.sku = k.hero_sku
