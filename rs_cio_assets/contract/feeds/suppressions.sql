-- One row per person and day: the latest request of that day. Of two in the same second the block wins.
WITH requests AS (
    SELECT
        r.customer_id,
        r.request,
        r.requested_at,
        r.loaded_at,
        ROW_NUMBER() OVER (
            PARTITION BY r.customer_id, TRUNC(r.requested_at) ORDER BY r.requested_at DESC, r.request
        ) AS latest
    FROM shop.privacy_requests AS r
    WHERE r.request IN ('suppress', 'unsuppress')
)

SELECT
    q.customer_id::VARCHAR(32) AS customer_id,
    q.requested_at::TIMESTAMP AS occurred_at,
    q.loaded_at::TIMESTAMP AS loaded_at,
    CASE WHEN q.request = 'suppress' THEN TRUE ELSE FALSE END AS is_suppressed
FROM requests AS q
WHERE q.latest = 1
