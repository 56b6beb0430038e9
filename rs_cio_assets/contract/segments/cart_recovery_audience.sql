SELECT DISTINCT k.customer_id
FROM cio_export.checkout_started AS k
LEFT JOIN cio_export.order_completed AS o
    ON o.customer_id = k.customer_id AND o.occurred_at > DATEADD('day', -3, :now) AND o.occurred_at <= :now
WHERE k.occurred_at > DATEADD('day', -3, :now) AND k.occurred_at <= :now AND o.order_id IS NULL
