SELECT p.customer_id
FROM cio_export.people AS p
WHERE p.first_order_at > DATEADD('day', -14, :now)
