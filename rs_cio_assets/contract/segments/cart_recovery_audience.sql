WITH bought AS (
    SELECT DISTINCT o.customer_id
    FROM cio_export.order_completed AS o
    WHERE o.occurred_at > DATEADD('day', -3, :now) AND o.occurred_at <= :now
)

SELECT DISTINCT k.customer_id
FROM cio_export.checkout_started AS k
LEFT JOIN bought AS b ON b.customer_id = k.customer_id
WHERE k.occurred_at > DATEADD('day', -3, :now) AND k.occurred_at <= :now AND b.customer_id IS NULL
