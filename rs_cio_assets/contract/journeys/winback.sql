-- Who became inactive: 60 days after the last order that was paid and kept.
SELECT
    p.customer_id,
    p.becomes_inactive_at AS occurred_at
FROM cio_export.people AS p
WHERE p.becomes_inactive_at >= :since AND p.becomes_inactive_at < :now AND NOT p.is_active_subscriber
