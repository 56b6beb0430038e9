SELECT p.customer_id
FROM cio_export.people AS p
WHERE p.last_paid_order_at < DATEADD('day', -60, :now)
