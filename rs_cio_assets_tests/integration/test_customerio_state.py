"""What the Customer.io stand-in keeps of what it accepted, read back over HTTP. A 200 proves nothing, there as here.

Golden values: customerio-api.md, sections 2.1 (events), 2.3 and 2.4 (attributes), 7 (identity), 8 (suppression).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets_tests.customerio_http import CustomerioHttp, act, event, identify

ULID = "01BX5ZZKBKACTAV9WEVGEMMV%02d"
OLD, NEW = 1_772_000_000, 1_772_000_060


@pytest.fixture(scope="module")
def cio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CustomerioHttp]:
    """One workspace for the file; every test has people of its own."""
    with (
        CustomerioStandIn(tmp_path_factory.mktemp("state"), app_requests_per_s=None) as stand_in,
        CustomerioHttp(stand_in.url) as client,
    ):
        yield client


def merge(primary: str, secondary: str) -> dict[str, object]:
    """A merge of two ids."""
    return {"type": "person", "action": "merge", "primary": {"id": primary}, "secondary": {"id": secondary}}


def test_an_event_id_counts_once_whoever_sends_it_as_what(cio: CustomerioHttp):
    """Deduplication looks at the id alone: not at the person, the name, the time or the letters' case."""
    first = ULID % 10
    cio.send(event("dedup-a", "order", id=first, timestamp=OLD), event("dedup-a", "order", id=first, timestamp=OLD))
    cio.send(event("dedup-b", "order", id=first), event("dedup-a", "refund", id=first.lower()))
    cio.send(event("dedup-a", "order", id=ULID % 11), event("dedup-a", "order"), event("dedup-a", "order"))
    assert [e["name"] for e in cio.activities("dedup-a", "event")] == ["order"] * 4
    assert cio.attributes("dedup-b") is None


def test_everything_is_kept_over_a_restart(tmp_path: Path):
    """A workspace opened again has its people, its events, its suppressions, and still knows every event id."""
    with CustomerioStandIn(tmp_path, app_requests_per_s=None) as stand_in, CustomerioHttp(stand_in.url) as cio:
        cio.send(identify("kept", timestamp=NEW, plan="pro"), event("kept", "order", id=ULID % 20, timestamp=OLD))
        cio.send(identify("blocked", email="blocked@example.com"), act("suppress", "blocked"))
        before = cio.app("/v1/customers/kept/attributes").json(), cio.activities("kept")
    with CustomerioStandIn(tmp_path, app_requests_per_s=None) as stand_in, CustomerioHttp(stand_in.url) as cio:
        assert (cio.app("/v1/customers/kept/attributes").json(), cio.activities("kept")) == before
        assert [a["type"] for a in before[1]] == ["event", "attribute_change", "profile_create"]
        cio.send(event("somebody", "order", id=ULID % 20), identify("blocked"), identify("kept", timestamp=OLD, plan="free"))
        assert [cio.attributes(who) for who in ("somebody", "blocked")] == [None, None]
        assert cio.attributes("kept")["plan"] == "pro"


@pytest.mark.parametrize("order", [(OLD, NEW), (NEW, OLD)], ids=["in_order", "reversed"])
def test_the_later_timestamp_wins_whatever_the_order_of_arrival(cio: CustomerioHttp, order: tuple[int, int]):
    """Attributes are a compare-and-set by timestamp: any order gives the same profile."""
    who = f"ordered-{order[0]}"
    for timestamp in order:
        assert cio.entity(identify(who, timestamp=timestamp, plan=str(timestamp))).status_code == 200
    customer = cio.app(f"/v1/customers/{who}/attributes").json()["customer"]
    assert (customer["attributes"]["plan"], customer["timestamps"]["plan"]) == (str(NEW), NEW)


def test_an_older_update_leaves_a_trace_and_sets_only_what_is_new_to_it(cio: CustomerioHttp):
    """An attribute edited later stays, one never set is set, and skipped_update names what was skipped."""
    cio.send(identify("traced", timestamp=NEW, plan="pro"))
    assert cio.activities("traced", "skipped_update") == []
    cio.send(identify("traced", timestamp=OLD, plan="free", city="Oslo"))
    attributes = cio.attributes("traced")
    assert (attributes["plan"], attributes["city"]) == ("pro", "Oslo")
    (skipped,) = cio.activities("traced", "skipped_update")
    assert skipped["data"] == {"attributes": ["plan"]}


def test_a_removed_attribute_is_not_revived_by_an_older_update(cio: CustomerioHttp):
    """Removal has a time too: an older value that arrives later stays out."""
    cio.send(identify("removed", timestamp=OLD, plan="pro"), identify("removed", timestamp=NEW, plan=None))
    cio.send(identify("removed", timestamp=OLD + 1, plan="free"))
    assert "plan" not in cio.attributes("removed")


@pytest.mark.parametrize("empty", [None, ""], ids=["null", "empty_text"])
def test_null_and_the_empty_text_remove_an_attribute(cio: CustomerioHttp, empty: str | None):
    """A cleared attribute is gone, the others stay, and the change is in the activity log."""
    who = f"cleared-{empty}"
    cio.send(identify(who, email=f"{who}@example.com", plan="pro", city="Oslo"))
    cio.send(identify(who, plan=empty, email=empty))
    customer = cio.app(f"/v1/customers/{who}/attributes").json()["customer"]
    assert set(customer["attributes"]) == {"id", "cio_id", "city"}
    assert customer["identifiers"]["email"] is None
    assert cio.activities(who, "attribute_change")[0]["data"]["plan"] == {"from": "pro", "to": None}
    assert cio.app("/v1/customers", email=f"{who}@example.com").json() == {"results": []}


def test_update_only_never_creates_and_is_no_attribute(cio: CustomerioHttp):
    """With _update nobody is created, whoever exists is updated, and the flag itself is not kept."""
    cio.send(identify("absent", _update=True, plan="pro"), identify("present"), identify("present", _update=True, plan="pro"))
    assert cio.attributes("absent") is None
    attributes = cio.attributes("present")
    assert (attributes["plan"], "_update" in attributes) == ("pro", False)


def test_somebody_known_by_email_alone_gets_the_id(cio: CustomerioHttp):
    """An unknown id with a known email is the same person: no second profile, history kept, case of the email aside."""
    cio.send(event("adopt@example.com", "visit", by="email"), identify("adopted", email="Adopt@Example.com", plan="pro"))
    assert [a["name"] for a in cio.activities("adopted", "event")] == ["visit"]
    assert cio.attributes("adopt@example.com", by="email")["cio_id"] == cio.attributes("adopted")["cio_id"]
    assert len(cio.activities("adopted", "profile_create")) == 1


@pytest.mark.parametrize("who", ["known", "unknown"])
def test_somebody_elses_email_is_a_200_that_does_not_take(cio: CustomerioHttp, who: str):
    """Two ids cannot share an email: the change fails in the activity log only, and the other attributes are set."""
    email = f"owner-{who}@example.com"
    cio.send(identify(f"owner-{who}", email=email))
    if who == "known":
        cio.send(identify(f"thief-{who}", email=f"thief-{who}@example.com"))
    assert cio.entity(identify(f"thief-{who}", email=email.upper(), plan="pro")).status_code == 200
    thief = cio.attributes(f"thief-{who}")
    assert (thief.get("email"), thief["plan"]) == ("thief-known@example.com" if who == "known" else None, "pro")
    assert [a["name"] for a in cio.activities(f"thief-{who}", "failed_attribute_change")] == ["email"]
    found = cio.app("/v1/customers", email=email).json()["results"]
    assert [p["id"] for p in found] == [f"owner-{who}"]


def test_an_email_that_is_no_text_breaks_no_batch(cio: CustomerioHttp):
    """Two people with the number 5 for an email: the second does not take, and the batch is answered."""
    cio.send(identify("five-a", email=5), identify("five-b", email=5))
    assert cio.attributes("five-a")["email"] == "5"
    assert len(cio.activities("five-b", "failed_attribute_change")) == 1


def test_a_stray_event_makes_a_profile_and_says_so(cio: CustomerioHttp):
    """An event for an unknown id creates a person without attributes, which profile_create shows."""
    cio.send(event("stray", " Seen ", timestamp=OLD))
    assert [(a["type"], a.get("name")) for a in cio.activities("stray")] == [("event", "Seen"), ("profile_create", None)]
    assert set(cio.attributes("stray")) == {"id", "cio_id"}


@pytest.mark.parametrize(
    ("by", "value"), [("cio_id", "a9999999"), ("cio_id", "9" * 40), ("cio_id", "²"), ("phone", "+4712345678")]
)
def test_an_identifier_that_cannot_create_is_dropped(cio: CustomerioHttp, by: str, value: str):
    """An unknown cio_id, and a phone where phones are not enabled, make no profile: 200 and nothing more."""
    before = cio.http.get("/sandbox/counts").json()
    cio.send(event(value, by=by), identify(value, by=by, plan="pro"))
    assert cio.http.get("/sandbox/counts").json() == before


def test_delete_removes_person_and_history_and_a_later_identify_starts_anew(cio: CustomerioHttp):
    """Deletion does not block: the next identify makes a new profile without attributes or activities of the old."""
    cio.send(identify("deleted", email="deleted@example.com", plan="pro"), event("deleted"), act("delete", "deleted"))
    assert cio.attributes("deleted") is None
    cio.send(identify("deleted", city="Oslo"), act("delete", "never-existed"))
    assert set(cio.attributes("deleted")) == {"id", "cio_id", "city"}
    assert cio.activities("deleted", "event") == []


def test_suppress_blocks_every_identifier_until_unsuppress(cio: CustomerioHttp):
    """Suppression deletes and blocks id and email alike, later calls are ignored with 200; unsuppress frees, restores nothing."""
    cio.send(identify("gone", email="Gone@example.com", plan="pro"), act("suppress", "gone"))
    later = [("gone", "id"), ("gone@example.com", "email"), ("GONE@example.com", "email")]
    for who, by in later:
        cio.send(identify(who, by=by, plan="free"), event(who, by=by))
        assert cio.attributes(who, by=by) is None
    cio.send(act("unsuppress", "gone"), *(identify(who, by=by) for who, by in later))
    assert set(cio.attributes("gone")) == {"id", "cio_id"}
    assert set(cio.attributes("gone@example.com", by="email")) == {"email", "cio_id"}


def test_suppress_of_an_unknown_id_blocks_it_and_nobody_else(cio: CustomerioHttp):
    """A suppression may arrive before its person; others are untouched."""
    cio.send(act("suppress", "never-seen"), identify("never-seen"), identify("bystander"))
    assert cio.attributes("never-seen") is None
    assert cio.attributes("bystander") is not None


def test_merge_keeps_the_primarys_values_and_both_histories(cio: CustomerioHttp):
    """The secondary is deleted; its attributes fill the gaps, its events move, and profile_merge says so."""
    cio.send(identify("primary", plan="pro"), event("primary", "kept"))
    cio.send(identify("second", plan="free", city="Oslo", email="second@example.com"), event("second", "moved"))
    cio.send(merge("primary", "second"))
    attributes = cio.attributes("primary")
    assert (attributes["plan"], attributes["city"], attributes["email"]) == ("pro", "Oslo", "second@example.com")
    assert cio.attributes("second") is None
    assert {a["name"] for a in cio.activities("primary", "event")} == {"kept", "moved"}
    assert len(cio.activities("primary", "profile_merge")) == 1


def test_a_merge_without_its_primary_changes_nothing(cio: CustomerioHttp):
    """The primary must exist or nothing happens; a person merged with itself stays."""
    cio.send(identify("lonely", plan="pro"), merge("nobody", "lonely"), merge("lonely", "nobody"), merge("lonely", "lonely"))
    assert cio.attributes("lonely")["plan"] == "pro"
    assert cio.activities("lonely", "profile_merge") == []
