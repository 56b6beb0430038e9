SELECT p.customer_id
FROM cio_export.people AS p
WHERE p.orders_count = 1 AND CHARINDEX('cleanser', p.first_order_categories) > 0
