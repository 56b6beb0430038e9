-- One row per guest who made an account.
SELECT
    a.customer_id::VARCHAR(32) AS customer_id,
    a.linked_at::TIMESTAMP AS occurred_at,
    a.loaded_at::TIMESTAMP AS loaded_at,
    a.guest_id::VARCHAR(32) AS guest_id
FROM shop.account_links AS a
