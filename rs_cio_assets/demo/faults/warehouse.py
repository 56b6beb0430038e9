"""Faults of the warehouse: rows that are wrong, loads that stall, views that somebody changed."""

from __future__ import annotations

from rs_cio_assets.demo.faults.scene import Fault, Scene, replaced

_ORDERS, _CHECKOUTS, _PEOPLE = "order_completed", "checkout_started", "people"


def _run(*statements: str):
    return lambda scene: scene.sql(*statements)


def _guest_who_became_customer(scene: Scene) -> None:
    guest = scene.one(
        "SELECT c.customer_id FROM shop.customers AS c LEFT JOIN shop.account_links AS a ON a.guest_id = c.customer_id "
        "WHERE c.is_guest AND a.guest_id IS NULL AND c.updated_at < {yesterday} ORDER BY c.updated_at DESC LIMIT 1"
    )
    customer = scene.one("SELECT customer_id FROM shop.customers WHERE NOT is_guest ORDER BY 1 LIMIT 1")
    scene.sql(
        "INSERT INTO shop.account_links VALUES ({guest}, {customer}, {now} - INTERVAL '1 hour', {now} - INTERVAL '5 minutes')",
        guest=guest,
        customer=customer,
    )


def _shared_email(scene: Scene) -> None:
    email = scene.one("SELECT email FROM shop.customers WHERE NOT is_guest ORDER BY customer_id LIMIT 1")
    other = scene.one("SELECT customer_id FROM shop.customers WHERE NOT is_guest ORDER BY customer_id DESC LIMIT 1")
    scene.sql("UPDATE shop.customers SET email = {email} WHERE customer_id = {other}", email=email, other=other)


def _refund(scene: Scene) -> None:
    order = scene.one(
        "SELECT o.order_id FROM shop.orders AS o LEFT JOIN shop.account_links AS a ON a.guest_id = o.customer_id "
        "WHERE o.paid_at > {now} - INTERVAL '7 days' AND o.cancelled_at IS NULL AND NOT o.is_test "
        "AND a.guest_id IS NULL ORDER BY o.paid_at LIMIT 1"
    )
    scene.sql(
        "INSERT INTO shop.refunds SELECT 'R-PLANTED', order_id, customer_id, {now} - INTERVAL '2 hours', total, "
        "'refund', {now} - INTERVAL '1 hour' FROM shop.orders WHERE order_id = {order}",
        order=order,
    )


def _view_by_hand(scene: Scene) -> None:
    feed = scene.contract.feed(_CHECKOUTS)
    by_hand = feed.sql.replace("k.started_at::TIMESTAMP AS occurred_at", "k.loaded_at::TIMESTAMP AS occurred_at")
    scene.sql(f"CREATE OR REPLACE VIEW {feed.view} AS\n{by_hand}\nWITH NO SCHEMA BINDING")


WAREHOUSE_FAULTS = (
    Fault(
        "ID1",
        "orders without a customer number",
        f"customerio/feeds/{_ORDERS}",
        "rejections_within_budget",
        "rejected and not sent",
        plant=_run("UPDATE shop.orders SET customer_id = NULL WHERE TRUNC(paid_at) = {yesterday}"),
        feeds=(_ORDERS,),
    ),
    Fault(
        "ID2",
        "customer numbers that lost their letter",
        "customerio/feeds/people",
        "identities_agree",
        _ORDERS,
        plant=_run("UPDATE shop.orders SET customer_id = SUBSTRING(customer_id, 2) WHERE TRUNC(paid_at) = {yesterday}"),
        feeds=(_ORDERS,),
    ),
    Fault(
        "ID3", "two people share an email address", "customerio/feeds/people", "identities_agree", "share", plant=_shared_email
    ),
    Fault(
        "ID5",
        "a guest became a customer, and merges are off",
        "customerio/feeds/people",
        "identities_agree",
        "became customers",
        plant=_guest_who_became_customer,
        feeds=(_PEOPLE,),
        is_today=True,
    ),
    Fault(
        "TM1",
        "checkouts without a time",
        f"customerio/feeds/{_CHECKOUTS}",
        "rejections_within_budget",
        "rejected and not sent",
        plant=_run("UPDATE shop.checkouts SET started_at = NULL WHERE TRUNC(loaded_at) = {yesterday}"),
        feeds=(_CHECKOUTS,),
    ),
    Fault(
        "TM2",
        "checkouts of the future",
        f"customerio/feeds/{_CHECKOUTS}",
        "rejections_within_budget",
        "rejected and not sent",
        plant=_run("UPDATE shop.checkouts SET started_at = {now} + INTERVAL '30 minutes' WHERE TRUNC(loaded_at) = {today}"),
        feeds=(_CHECKOUTS,),
        is_today=True,
    ),
    Fault(
        "TM3",
        "the load's time is sold as the time of the checkout",
        f"redshift/exports/{_CHECKOUTS}",
        "contract",
        "load",
        plant=_run("UPDATE shop.checkouts SET started_at = loaded_at WHERE TRUNC(loaded_at) = {yesterday}"),
        feeds=(_CHECKOUTS,),
    ),
    Fault(
        "TM4",
        "local time is sold as UTC: two hours ahead",
        f"redshift/exports/{_CHECKOUTS}",
        "times",
        "2 h",
        plant=_run(
            "UPDATE shop.checkouts SET started_at = started_at + INTERVAL '2 hours' WHERE TRUNC(started_at) = {yesterday}"
        ),
        feeds=(_CHECKOUTS,),
    ),
    Fault(
        "TM10",
        "the warehouse's load stalls: nothing new for two days",
        f"customerio/feeds/{_CHECKOUTS}",
        "fresh",
        "loaded",
        plant=_run("DELETE FROM shop.checkouts WHERE loaded_at > {now} - INTERVAL '48 hours'"),
    ),
    Fault(
        "NM2",
        "a property is renamed in the view",
        f"redshift/exports/{_ORDERS}",
        "contract",
        "order_total is missing",
        edit=replaced("feeds/order_completed.sql", "AS order_total", "AS total"),
        feeds=(_ORDERS,),
    ),
    Fault(
        "NM3",
        "the view has a column that the contract does not list",
        f"redshift/exports/{_ORDERS}",
        "contract",
        "not in the contract",
        edit=replaced(
            "feeds/order_completed.sql", "d.order_number::BIGINT AS", "1 AS new_column,\n    d.order_number::BIGINT AS"
        ),
        feeds=(_ORDERS,),
    ),
    Fault(
        "NM6",
        "merchandising renames a category",
        f"redshift/exports/{_CHECKOUTS}",
        "values",
        "toner",
        plant=_run("UPDATE shop.products SET category = 'toner' WHERE category = 'serum'"),
        feeds=(_CHECKOUTS,),
    ),
    Fault(
        "SZ1",
        "names that are longer than the contract allows",
        "customerio/feeds/people",
        "rejections_within_budget",
        "rejected and not sent",
        plant=_run("UPDATE shop.customers SET first_name = REPEAT('ö', 90)"),
        feeds=(_PEOPLE,),
    ),
    Fault(
        "SZ2",
        "a join multiplies the checkouts",
        f"redshift/exports/{_CHECKOUTS}",
        "volume",
        "rows",
        plant=_run(
            "INSERT INTO shop.checkouts SELECT k.checkout_id || '-' || l.line_number || '-' || l.order_id, k.customer_id, "
            "k.started_at, k.completed_at, k.cart_total, k.currency, k.items_count, k.hero_sku, k.loaded_at "
            "FROM shop.checkouts AS k CROSS JOIN (SELECT order_id, line_number FROM shop.order_lines LIMIT 20) AS l "
            "WHERE TRUNC(k.started_at) = {yesterday}"
        ),
        feeds=(_CHECKOUTS,),
    ),
    Fault(
        "SZ3",
        "a day of checkouts did not arrive",
        f"redshift/exports/{_CHECKOUTS}",
        "volume",
        "rows",
        plant=_run("DELETE FROM shop.checkouts WHERE TRUNC(started_at) = {yesterday}"),
        feeds=(_CHECKOUTS,),
    ),
    Fault(
        "DU1",
        "a join gives the same checkout twice, with different content",
        f"redshift/exports/{_CHECKOUTS}",
        "contract",
        "differ",
        plant=_run(
            "INSERT INTO shop.products SELECT sku, title, 'mask', price, is_gift_card FROM shop.products WHERE category <> 'mask'"
        ),
        feeds=(_CHECKOUTS,),
    ),
    Fault(
        "LG1",
        "the latest order counts as the first",
        f"customerio/feeds/{_ORDERS}",
        "logic_first_orders",
        "order_number",
        edit=replaced("feeds/order_completed.sql", "ORDER BY o.paid_at, o.order_id", "ORDER BY o.paid_at DESC, o.order_id"),
        feeds=(_ORDERS,),
    ),
    Fault(
        "LG2",
        "refunded money counts in lifetime_value",
        "customerio/feeds/people",
        "logic_kept_money",
        "lifetime_value",
        edit=replaced("feeds/people.sql", "THEN o.total - o.refunded_amount ELSE", "THEN o.total ELSE"),
        plant=_refund,
        feeds=(_PEOPLE,),
        is_today=True,
    ),
    Fault(
        "WH3",
        "somebody replaces the view by hand",
        f"redshift/exports/{_CHECKOUTS}",
        "contract",
        "replaced outside of create_views",
        plant=_view_by_hand,
        feeds=(_CHECKOUTS,),
    ),
)
