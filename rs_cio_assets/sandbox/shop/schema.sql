CREATE SCHEMA shop;
CREATE TABLE shop.customers (
    customer_id VARCHAR(32) NOT NULL, email VARCHAR(255), first_name VARCHAR(100), last_name VARCHAR(100), country_code CHAR(2),
    is_guest BOOLEAN, created_at TIMESTAMP, updated_at TIMESTAMP, loaded_at TIMESTAMP
) DISTKEY (customer_id) SORTKEY (customer_id);
CREATE TABLE shop.products (
    sku VARCHAR(32) NOT NULL, title VARCHAR(255), category VARCHAR(64), price NUMERIC(12, 2), is_gift_card BOOLEAN
) DISTSTYLE ALL;
CREATE TABLE shop.orders (
    order_id VARCHAR(32) NOT NULL, customer_id VARCHAR(32), checkout_id VARCHAR(32), placed_at TIMESTAMP, paid_at TIMESTAMP,
    cancelled_at TIMESTAMP, currency CHAR(3), discount_code VARCHAR(64), discount NUMERIC(12, 2), total NUMERIC(12, 2),
    is_test BOOLEAN, loaded_at TIMESTAMP
) DISTKEY (customer_id) SORTKEY (placed_at);
CREATE TABLE shop.order_lines (
    order_id VARCHAR(32) NOT NULL, line_number INTEGER NOT NULL, sku VARCHAR(32), quantity INTEGER, unit_price NUMERIC(12, 2)
) DISTKEY (order_id);
CREATE TABLE shop.checkouts (
    checkout_id VARCHAR(32) NOT NULL, customer_id VARCHAR(32), started_at TIMESTAMP, completed_at TIMESTAMP,
    cart_total NUMERIC(12, 2), currency CHAR(3), items_count INTEGER, hero_sku VARCHAR(32), loaded_at TIMESTAMP
) DISTKEY (customer_id) SORTKEY (started_at);
CREATE TABLE shop.subscriptions (
    subscription_id VARCHAR(32) NOT NULL, customer_id VARCHAR(32), sku VARCHAR(32), price NUMERIC(12, 2), interval_days INTEGER,
    started_at TIMESTAMP, paused_at TIMESTAMP, cancelled_at TIMESTAMP, cancel_reason VARCHAR(64), loaded_at TIMESTAMP
) DISTKEY (customer_id) SORTKEY (started_at);
CREATE TABLE shop.refunds (
    refund_id VARCHAR(32) NOT NULL, order_id VARCHAR(32), customer_id VARCHAR(32), refunded_at TIMESTAMP,
    amount NUMERIC(12, 2), kind VARCHAR(16), loaded_at TIMESTAMP
) DISTKEY (customer_id) SORTKEY (refunded_at);
CREATE TABLE shop.product_views (
    view_id VARCHAR(32) NOT NULL, customer_id VARCHAR(32), sku VARCHAR(32), viewed_at TIMESTAMP, loaded_at TIMESTAMP
) DISTKEY (customer_id) SORTKEY (viewed_at);
-- A guest who made an account later. Orders keep the guest's number: whoever reads them looks here.
CREATE TABLE shop.account_links (
    guest_id VARCHAR(32) NOT NULL, customer_id VARCHAR(32) NOT NULL, linked_at TIMESTAMP, loaded_at TIMESTAMP
) DISTKEY (guest_id) SORTKEY (linked_at);
-- What people ask about their data: delete, suppress or unsuppress.
CREATE TABLE shop.privacy_requests (
    customer_id VARCHAR(32) NOT NULL, request VARCHAR(16), requested_at TIMESTAMP, loaded_at TIMESTAMP
) DISTKEY (customer_id) SORTKEY (requested_at);
-- What is loaded: which shop, from which seed and size, and until when.
CREATE TABLE shop.clock (
    kind VARCHAR(64), seed BIGINT, customers BIGINT, first_day TIMESTAMP, loaded_until TIMESTAMP
);
