-- Who bought in the last three days must not be reminded of a cart. From the shop's own orders, not from the feed.
SELECT DISTINCT NVL(a.customer_id, o.customer_id) AS customer_id
FROM shop.orders AS o
LEFT JOIN shop.account_links AS a ON a.guest_id = o.customer_id
WHERE o.paid_at > DATEADD('day', -3, :now) AND o.paid_at <= :now AND NOT NVL(o.is_test, FALSE)
