-- One row per person and day with a request to be deleted, at the time of that day's last.
SELECT
    r.customer_id::VARCHAR(32) AS customer_id,
    MAX(r.requested_at)::TIMESTAMP AS occurred_at,
    MAX(r.loaded_at)::TIMESTAMP AS loaded_at
FROM shop.privacy_requests AS r
WHERE r.request = 'delete'
GROUP BY r.customer_id, TRUNC(r.requested_at)
