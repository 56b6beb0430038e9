SELECT p.customer_id
FROM cio_export.people AS p
WHERE p.orders_count >= 2
