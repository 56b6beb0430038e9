"""The contract's files: what loads, and that every problem is told with file, line, field and what is allowed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from dagster import Definitions

from rs_cio_assets.contract import SHIPPED, load_contract
from rs_cio_assets.contract.lock import LOCK_FILE
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.errors import ContractError
from rs_cio_assets.settings import load_settings

CHECKOUT = "feeds/checkout_started.yaml"
SQL = "feeds/checkout_started.sql"
Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped contract, without its lock: what breaks the lock is told in test_lock.py."""
    copy = tmp_path / "contract"
    shutil.copytree(SHIPPED, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__", LOCK_FILE))
    return copy


def replace(file: str, old: str, new: str) -> Change:
    """A change of one text in one file."""

    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return change


def write(file: str, data: bytes) -> Change:
    """A change of a whole file."""
    return lambda folder: (folder / file).write_bytes(data)


def line_of(file: str, text: str) -> int:
    """The line of the shipped file that holds *text*."""
    lines = (SHIPPED / file).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def told(folder: Path) -> list[str]:
    """The problems of a contract that does not load, one per line."""
    with pytest.raises(ContractError) as error:
        load_contract(folder)
    head, *problems = error.value.problem.removesuffix("\nNothing was loaded").split("\n  ")
    assert head == f"the contract in contract/ has {len(problems)} problem{'s' if len(problems) != 1 else ''}:"
    assert str(folder) not in str(error.value)
    assert re.search("mend the lines named above|rs-cio contract init", error.value.next_step)
    return problems


FRESH = line_of(CHECKOUT, "freshness_hours")
CURRENCY = line_of(CHECKOUT, "  currency:")
CATEGORY = line_of(CHECKOUT, "  primary_category:")
VIEW = line_of(CHECKOUT, "view:")
PROBLEMS: dict[str, tuple[Change, str]] = {
    "syntax": (replace(CHECKOUT, "[checkout_id]", "[checkout_id"), f"{CHECKOUT}:11: this is not YAML: "),
    "tab": (replace(CHECKOUT, "columns:\n", "columns:\n\t"), f"{CHECKOUT}:{FRESH + 2}: this is not YAML: found character '\\t'"),
    "control character": (replace(CHECKOUT, "kind: event", "kind: \x01"), f"{CHECKOUT}:2: this is not YAML: unacceptable"),
    "two documents": (replace(CHECKOUT, "columns:", "---\ncolumns:"), f"{CHECKOUT}:{FRESH + 1}: this is not YAML: "),
    "no mapping": (write(CHECKOUT, b"- kind"), f"{CHECKOUT}:1: must be a mapping of fields"),
    "empty yaml": (write(CHECKOUT, b""), f"{CHECKOUT}:1: must be a mapping of fields"),
    "key twice": (replace(CHECKOUT, "kind: event", "kind: event\nkind: event"), f"{CHECKOUT}:3: kind: is given twice"),
    "column twice": (
        replace(CHECKOUT, "  currency:", "  cart_total:"),
        f"{CHECKOUT}:{CURRENCY}: columns.cart_total: is given twice (first in line {CURRENCY - 1})",
    ),
    "alias of itself": (replace(CHECKOUT, "[checkout_id]", "&a [*a]"), f"{CHECKOUT}:10: business_key.0: refers to itself"),
    "key that is a list": (replace(CHECKOUT, "kind: event", "? [a]\n: b\nkind: event"), f"{CHECKOUT}:2: a name: must be plain"),
    "foreign tag": (replace(CHECKOUT, "kind: event", "kind: !secret x"), f"{CHECKOUT}:2: kind: found 'x'; is not a"),
    "impossible date": (
        replace(CHECKOUT, "kind: event", "live_from: 2026-02-30\nkind: event"),
        f"{CHECKOUT}:2: live_from: found '2026-02-30'; is not a timestamp",
    ),
    "unknown option": (
        replace(CHECKOUT, "max_bytes: 3,", "max_byte: 3,"),
        f"{CHECKOUT}:{CURRENCY}: columns.currency.max_byte: is not a known field; did you mean max_bytes?",
    ),
    "unknown in workspace": (
        replace("workspace.yaml", "customerio: id", "customerios: id"),
        f"workspace.yaml:{line_of('workspace.yaml', 'customerio:')}: identifier.customerios: is not a known field; did you mean",
    ),
    "not allowed": (
        replace("workspace.yaml", "timezone: UTC", "timezone: CET"),
        f"workspace.yaml:{line_of('workspace.yaml', 'timezone')}: timezone: found 'CET'; allowed: 'UTC'",
    ),
    "wrong type": (
        replace(CHECKOUT, "freshness_hours: 30", "freshness_hours: soon"),
        f"{CHECKOUT}:{FRESH}: freshness_hours: found 'soon'; input should be a valid integer",
    ),
    "text for a mapping": (
        replace(CHECKOUT, "  currency:", "  extra: string\n  currency:"),
        f"{CHECKOUT}:{CURRENCY}: columns.extra: found 'string'; must be a mapping of fields",
    ),
    "missing field": (replace(CHECKOUT, "view: cio_export.checkout_started\n", ""), f"{CHECKOUT}:1: view: is required"),
    "truth value": (
        replace(CHECKOUT, "values: primary_category", "values: [no, maybe]"),
        f"{CHECKOUT}:{CATEGORY}: columns.primary_category.values.0: found false without quotes",
    ),
    "number in a list of texts": (
        replace(CHECKOUT, "values: primary_category", "values: [30]"),
        f"{CHECKOUT}:{CATEGORY}: columns.primary_category.values.0: found 30 without quotes",
    ),
    "unlike any option": (
        replace(CHECKOUT, "max_bytes: 3,", "colour: 3,"),
        f"{CHECKOUT}:{CURRENCY}: columns.currency.colour: is not a known field (allowed: description,",
    ),
    "name in the file": (replace(CHECKOUT, "kind: event", "name: x\nkind: event"), f"{CHECKOUT}:2: name: is taken from"),
    "owner": (replace(CHECKOUT, "team:retention", "retention"), f"{CHECKOUT}:6: owner: found 'retention'; must match"),
    "yaml without sql": (lambda folder: (folder / SQL).unlink(), f"{CHECKOUT}:1: there is no {SQL} beside it"),
    "sql without yaml": (lambda folder: (folder / CHECKOUT).unlink(), f"{SQL}:1: there is no {CHECKOUT} beside it"),
    "yml": (write("feeds/other.yml", b"kind: event"), "feeds/other.yml:1: is not read; name it other.yaml"),
    "folder for a file": (
        lambda folder: ((folder / CHECKOUT).unlink(), (folder / CHECKOUT).mkdir()),
        f"{CHECKOUT}:1: cannot be read: is a directory",
    ),
    "empty sql": (write(SQL, b" \n"), f"{SQL}:1: is empty; it must hold the SELECT"),
    "sql of comments": (write(SQL, b"-- SELECT 1\n/* to do */"), f"{SQL}:1: is empty; it must hold the SELECT"),
    "sql not UTF-8": (write(SQL, b"SELECT 1\n  AS caf\xe9"), f"{SQL}:2: found byte 0xe9; the file must be saved as UTF-8"),
    "yaml not UTF-8": (write(CHECKOUT, b"kind: event\nowner: \xff"), f"{CHECKOUT}:2: found byte 0xff; the file must be saved as"),
    "no workspace": (lambda folder: (folder / "workspace.yaml").unlink(), "workspace.yaml:1: the file is missing"),
    "no feeds": (lambda folder: shutil.rmtree(folder / "feeds"), "feeds/:1: there is no feed; a feed is <name>.yaml with"),
    "no folder": (shutil.rmtree, "contract/:1: is not a folder; correct RS_CIO_CONTRACT"),
    "file name": (
        lambda folder: [(folder / f).rename(folder / "feeds" / f"Checkout{Path(f).suffix}") for f in (CHECKOUT, SQL)],
        "feeds/Checkout.yaml:1: name: found 'Checkout'; must match",
    ),
    "upstream no key": (
        replace(CHECKOUT, "kind: event", "upstream: [dbt/carts, dbt//orders]\nkind: event"),
        f"{CHECKOUT}:2: upstream.1: found 'dbt//orders'; must match",
    ),
    "upstream is downstream": (
        replace(CHECKOUT, "kind: event", "upstream: [redshift/exports/people]\nkind: event"),
        f"{CHECKOUT}:2: upstream: 'redshift/exports/people' is made from the export views; name what",
    ),
    "upstream is itself": (
        replace(CHECKOUT, "kind: event", "upstream: [redshift/views/checkout_started]\nkind: event"),
        f"{CHECKOUT}:2: upstream: 'redshift/views/checkout_started' is made from the export views",
    ),
    "upstream twice": (
        replace(CHECKOUT, "kind: event", "upstream: [dbt/carts, dbt/carts]\nkind: event"),
        f"{CHECKOUT}:2: upstream: 'dbt/carts' is given twice",
    ),
    "view twice": (
        replace(CHECKOUT, "cio_export.checkout_started", "cio_export.people"),
        f"feeds/people.yaml:{line_of('feeds/people.yaml', 'view:')}: view: 'cio_export.people' is already used by",
    ),
    "event name twice": (
        replace(CHECKOUT, "event_name: Checkout Started", "event_name: Product Viewed"),
        f"feeds/product_viewed.yaml:{line_of('feeds/product_viewed.yaml', 'event_name')}: event_name: 'Product Viewed' is",
    ),
    "identifier": (
        lambda folder: (folder / CHECKOUT).write_text((folder / CHECKOUT).read_text().replace("customer_id", "person_id")),
        f"{CHECKOUT}:{line_of(CHECKOUT, 'identifier:')}: identifier: 'person_id' differs from the workspace's 'customer_id'",
    ),
    "list that is not there": (
        replace(CHECKOUT, "values: primary_category", "values: colours"),
        f"{CHECKOUT}:{CATEGORY}: columns.primary_category.values: workspace.yaml has no list named 'colours'",
    ),
}


@pytest.mark.parametrize(("change", "expected"), PROBLEMS.values(), ids=PROBLEMS)
def test_every_kind_of_problem_is_told_at_its_line(change: Change, expected: str, folder: Path):
    """Whatever is wrong, the message begins with file:line and field, and names what was found and what is allowed."""
    change(folder)
    assert any(problem.startswith(expected) for problem in told(folder)), told(folder)


def test_a_mistake_is_one_problem(folder: Path):
    """A list where a text or a list may stand is not also told to be no text; a near name is not followed by all the others."""
    PROBLEMS["number in a list of texts"][0](folder)
    PROBLEMS["unknown option"][0](folder)
    assert len(told(folder)) == 2
    assert not [problem for problem in told(folder) if "allowed" in problem]


def test_all_problems_of_all_files_are_told_at_once(folder: Path):
    """One attempt lists what is wrong in every file, so that nobody mends and restarts six times."""
    others = [
        (
            replace("feeds/people.yaml", "kind: people", "kind: folk"),
            "feeds/people.yaml:2: kind: found 'folk'; allowed: 'merge', 'deletion'",
        ),
        (replace("feeds/order_completed.yaml", "loaded_at: loaded_at\n", ""), "feeds/order_completed.yaml:1: loaded_at: is"),
    ]
    for change, _ in (PROBLEMS["wrong type"], PROBLEMS["not allowed"], PROBLEMS["yml"], *others):
        change(folder)
    problems = told(folder)
    expected = [PROBLEMS[name][1] for name in ("wrong type", "not allowed", "yml")] + [text for _, text in others]
    assert len(problems) == len(expected)
    assert all(any(problem.startswith(text) for problem in problems) for text in expected)


def test_a_key_that_is_given_twice_is_told_once(folder: Path):
    """A repeated column is one problem, not one for each of its options."""
    PROBLEMS["column twice"][0](folder)
    assert len(told(folder)) == 1


def test_the_shipped_contract_loads():
    """Five feeds are on and one is off; people come first."""
    contract = load_contract()
    assert [feed.name for feed in contract.enabled_feeds] == [
        "people",
        "checkout_started",
        "order_completed",
        "subscription_cancelled",
        "subscription_paused",
    ]
    assert {feed.name for feed in contract.feeds} - {feed.name for feed in contract.enabled_feeds} == {
        "product_viewed",
        "merges",
        "deletions",
        "suppressions",
    }
    assert contract.feed("people").sql == (SHIPPED / "feeds" / "people.sql").read_text()


def test_a_contract_of_other_feeds_gives_working_definitions(folder: Path):
    """RS_CIO_CONTRACT names another folder, and nothing in the definitions is tied to the shipped feeds."""
    for name in ("feeds", "segments", "journeys", "logic"):
        shutil.rmtree(folder / name)
    (folder / "feeds").mkdir()
    common = "identifier: customer_id\nloaded_at: loaded_at\nfreshness_hours: 9\n"
    columns = "columns:\n" + "".join(
        f"  {name}: {{type: {kind}, description: x}}\n"
        for name, kind in (("customer_id", "string"), ("at", "timestamp"), ("loaded_at", "timestamp"), ("ref", "string"))
    )
    kinds = {
        "readers": "kind: people\n",
        "book_lent": "kind: event\nevent_name: Book Lent\nbusiness_key: [ref]\n",
    }
    for name, kind in kinds.items():
        text = f"{kind}description: x\nview: lib.{name}\ntime_column: at\n{common}{columns}"
        (folder / "feeds" / f"{name}.yaml").write_text(text)
        (folder / "feeds" / f"{name}.sql").write_text("SELECT 1 AS x")
    definitions = build_definitions(load_settings({"RS_CIO_CONTRACT": str(folder)}))
    Definitions.validate_loadable(definitions)
    assert {key.to_user_string() for key in definitions.resolve_all_asset_keys()} == {
        "readiness",
        "store/housekeeping",
        *(f"{kind}/{name}" for name in kinds for kind in ("redshift/views", "redshift/exports", "customerio/feeds")),
    }
    assert {job.name for job in definitions.resolve_all_job_defs()} >= {"create_views", "sync_day", "read_back"}


DISAGREEING = {
    "a journey of a feed that is not there": (
        replace("journeys/cart_recovery.yaml", "feed: checkout_started", "feed: carts"),
        "journeys/cart_recovery.yaml:8: feed: there is no feed 'carts'",
    ),
    "a journey of people": (
        replace("journeys/cart_recovery.yaml", "feed: checkout_started", "feed: people"),
        "journeys/cart_recovery.yaml:8: feed: people is not an event feed",
    ),
    "two triggers": (
        replace("journeys/winback.yaml", "trigger_segment:", "feed: order_completed\ntrigger_segment:"),
        "journeys/winback.yaml:6: feed: exactly one of feed and trigger_segment",
    ),
    "an audience without those whom it must not reach": (
        lambda folder: (folder / "journeys/winback.never.sql").unlink(),
        "journeys/winback.yaml:8: audience: audience and winback.never.sql belong together",
    ),
    "a segment that is not declared": (
        replace("journeys/winback.yaml", "trigger_segment: winback_audience", "trigger_segment: lapsed"),
        "journeys/winback.yaml:6: trigger_segment: there is no segment 'lapsed'",
    ),
    "a number that is taken": (
        replace("segments/repeat_buyers.yaml", "segment_id: 1", "segment_id: 6"),
        "segments/winback_audience.yaml:6: segment_id: 6 is already used by repeat_buyers",
    ),
    "a time that nobody gives": (
        replace("segments/inactive_60_days.sql", ":now", ":today"),
        "segments/inactive_60_days.yaml:1: sql: :today is not known",
    ),
    "a query of a feed that is not there": (
        replace("logic/first_orders.yaml", "feed: order_completed", "feed: orders"),
        "logic/first_orders.yaml:6: feed: there is no feed 'orders'",
    ),
}


@pytest.mark.parametrize(("change", "expected"), DISAGREEING.values(), ids=DISAGREEING)
def test_segments_journeys_and_queries_agree_with_the_feeds(change: Change, expected: str, folder: Path):
    """What they say of each other and of feeds is looked up, and what is not so is told at its line."""
    change(folder)
    assert any(problem.startswith(expected) for problem in told(folder)), told(folder)


def test_casts_and_texts_are_no_times(folder: Path):
    """`::DATE`, a text with a colon and a comment are left alone; `:now` is a time."""
    query = "SELECT p.customer_id, 'at :noon' AS x -- :later\nFROM cio_export.people AS p WHERE p.updated_at::DATE < :now\n"
    (folder / "segments/repeat_buyers.sql").write_text(query)
    assert load_contract(folder).segments[4].sql == query


def test_an_old_name_is_there_until_its_day(folder: Path):
    """A column and a feed with `until` are loaded before that day (UTC) and left out from it on."""
    change = replace("feeds/order_completed.yaml", "currency: {type: string,", "currency: {until: 2026-12-01, type: string,")
    change(folder)
    replace("feeds/subscription_paused.yaml", "owner:", "until: 2026-12-02\nowner:")(folder)
    names = {}
    for day in (date(2026, 11, 30), date(2026, 12, 1), date(2026, 12, 2)):
        contract = load_contract(folder, today=day)
        has_feed = any(feed.name == "subscription_paused" for feed in contract.feeds)
        names[day.isoformat()] = ("currency" in contract.feed("order_completed").sent_columns, has_feed)
    assert names == {"2026-11-30": (True, True), "2026-12-01": (False, True), "2026-12-02": (False, False)}
