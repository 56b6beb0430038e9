-- One row per subscription that was paused.
SELECT
    s.customer_id::VARCHAR(32) AS customer_id,
    s.paused_at::TIMESTAMP AS occurred_at,
    s.loaded_at::TIMESTAMP AS loaded_at,
    s.subscription_id::VARCHAR(32) AS subscription_id,
    s.sku::VARCHAR(32) AS hero_sku,
    p.category::VARCHAR(64) AS primary_category,
    s.price::NUMERIC(12, 2) AS price,
    s.interval_days::BIGINT AS interval_days,
    DATEDIFF('day', s.started_at, s.paused_at)::BIGINT AS tenure_days
FROM shop.subscriptions AS s
LEFT JOIN shop.products AS p ON p.sku = s.sku
WHERE s.paused_at IS NOT NULL
