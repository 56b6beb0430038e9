"""What the engine sends, against Customer.io's published schema of one operation, and against the stand-in's rules.

Source: track-v2-operation-schemas.json in the shared reference folder, from Customer.io's Track API document of 2026-08-13;
app-api-subset.yaml there, from its App API document of 2026-09-17.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rs_cio_assets.contract import ColumnType, Contract, Feed
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.customerio.rules import problems_of
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.customerio_http import CustomerioHttp, event, identify
from rs_cio_assets_tests.shared import SHARED, SKIP_REASON
from rs_cio_assets_tests.staging import RecordingTrack, contract_of, deliver, feed_of, stage

pytestmark = pytest.mark.skipif(SHARED is None, reason=SKIP_REASON)

DAY = "2026-11-20"
AT = datetime(2026, 11, 20, 12, 30, 15, 999_999, tzinfo=UTC)
TYPED: dict[str, Mapping[str, Any]] = {
    "a_string": {"type": "string"},
    "an_integer": {"type": "integer"},
    "a_decimal": {"type": "decimal", "precision": 37, "scale": 10},
    "a_float": {"type": "float"},
    "a_boolean": {"type": "boolean"},
    "a_timestamp": {"type": "timestamp"},
    "a_date": {"type": "date"},
    "a_json": {"type": "json"},
}
CLEARED = {f"{name}_cleared": {**column, "on_null": "clear"} for name, column in TYPED.items()}
VALUES: tuple[dict[str, Any], ...] = (
    {
        "a_string": 'Zoë 🎁 "quoted" \\ \u2028 \x01 </script>',
        "an_integer": 2**63 - 1,
        "a_decimal": Decimal("-123456789012345678901234567.0123456789"),
        "a_float": 1e-300,
        "a_boolean": False,
        "a_timestamp": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        "a_date": date(2026, 2, 28),
        "a_json": '{"ключ": [1, null, {"x": "é"}]}',
    },
    {
        "a_string": "",
        "an_integer": -(2**63),
        "a_decimal": Decimal(0),
        "a_float": -1.7976931348623157e308,
        "a_boolean": True,
        "a_timestamp": AT,
        "a_date": date(1900, 1, 1),
        "a_json": "null",
    },
    {},  # every column null
)
PEOPLE = feed_of("people", {**TYPED, **CLEARED, "email": {"type": "string"}}, name="folk", view="cio_export.folk")
EVENTS = feed_of("event", {"order_id": {"type": "string", "required": True}, **TYPED})
BY_ID = contract_of(PEOPLE, EVENTS)
BY_EMAIL = Contract(
    workspace=BY_ID.workspace.model_copy(
        update={"identifier": BY_ID.workspace.identifier.model_copy(update={"customerio": "email", "pattern": "[^@ ]+@[^@ ]+"})}
    ),
    feeds=BY_ID.feeds,
)
GOOD_IDENTIFY = {
    "type": "person",
    "action": "identify",
    "identifiers": {"id": "42"},
    "timestamp": 1_772_013_598,
    "attributes": {},
}
GOOD_EVENT = {**GOOD_IDENTIFY, "action": "event", "name": "order_completed", "id": "01BX5ZZKBKACTAV9WEVGEMMVRY"}


@pytest.fixture(scope="module")
def published() -> jsonschema.Draft202012Validator:
    """The published schema of one operation, as an OpenAPI 3.1 document means it."""
    assert SHARED is not None
    document = SHARED / "reference" / "customerio-openapi" / "track-v2-operation-schemas.json"
    schema = json.loads(document.read_text("utf-8"))["entityOperation"]
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def sent_of(feed: Feed, contract: Contract, tmp_path: Path) -> list[dict[str, Any]]:
    """The operations as parsed from the bytes that the engine sent for VALUES, one row each."""
    is_email = contract.workspace.identifier.customerio == "email"
    rows = []
    for number, values in enumerate(VALUES):
        who = f"zoë{number}@example.com" if is_email else f"C{number:07d}"
        row = {"customer_id": who, "updated_at": AT, "occurred_at": AT, "loaded_at": AT, "order_id": f"Ø{number}", **values}
        rows.append({**row, "email": f"zoë{number}@example.com", **{f"{name}_cleared": value for name, value in values.items()}})
    store, track = LocalStore(tmp_path / "store"), RecordingTrack()
    report = deliver(feed, contract, stage(store, feed, DAY, rows, tmp_path), store, track.client(), tmp_path)
    assert (report.delivered, report.rejected_by_reason) == (len(VALUES), {})
    return [operation for body in track.bodies for operation in json.loads(body.decode("utf-8"))["batch"]]


@pytest.mark.parametrize("contract", [BY_ID, BY_EMAIL], ids=["by_id", "by_email"])
@pytest.mark.parametrize("feed", [PEOPLE, EVENTS], ids=["people", "event"])
def test_everything_sent_is_an_operation_as_published(
    feed: Feed, contract: Contract, published: jsonschema.Draft202012Validator, tmp_path: Path
):
    """Every column type, at its ends, null, cleared and in any script, is valid to the schema and to the stand-in."""
    assert {column["type"] for column in TYPED.values()} == {kind.value for kind in ColumnType}
    operations = sent_of(feed, contract, tmp_path)
    assert len(operations) == len(VALUES)
    for operation in operations:
        published.validate(operation)
        assert problems_of(operation) == []
    sent = {name for operation in operations for name in operation["attributes"]}
    assert sent >= set(TYPED) | (set(CLEARED) if feed is PEOPLE else set())


def test_the_widest_decimal_that_a_contract_may_declare_is_delivered(tmp_path: Path):
    """NUMERIC(38,10) is a valid contract, so a small amount in such a column is sent."""
    feed = feed_of("people", {"amount": {"type": "decimal", "precision": 38, "scale": 10}})
    row = {"customer_id": "C0000001", "updated_at": AT, "loaded_at": AT, "amount": Decimal("1.5")}
    store, track = LocalStore(tmp_path / "store"), RecordingTrack()
    manifest = stage(store, feed, DAY, [row], tmp_path)
    assert deliver(feed, contract_of(feed), manifest, store, track.client(), tmp_path).delivered == 1


def changed(operation: Mapping[str, Any], *without: str, **changes: Any) -> dict[str, Any]:
    """A good operation, spoiled."""
    return {name: value for name, value in {**operation, **changes}.items() if name not in without}


MUTATED = {
    "no_object": [],
    "no_type": changed(GOOD_IDENTIFY, "type"),
    "unknown_type": changed(GOOD_IDENTIFY, type="pirate"),
    "no_action": changed(GOOD_IDENTIFY, "action"),
    "unknown_action": changed(GOOD_IDENTIFY, action="dance"),
    "action_is_object": changed(GOOD_IDENTIFY, action={}),
    "no_identifiers": changed(GOOD_IDENTIFY, "identifiers"),
    "empty_identifiers": changed(GOOD_IDENTIFY, identifiers={}),
    "two_identifiers": changed(GOOD_IDENTIFY, identifiers={"id": "42", "email": "a@example.com"}),
    "unknown_identifier": changed(GOOD_EVENT, identifiers={"customer_id": "42"}),
    "identifier_is_number": changed(GOOD_EVENT, identifiers={"id": 42}),
    "identifiers_are_text": changed(GOOD_EVENT, identifiers="42"),
    "timestamp_is_text": changed(GOOD_IDENTIFY, timestamp="1772013598"),
    "timestamp_is_fraction": changed(GOOD_EVENT, timestamp=1_772_013_598.5),
    "timestamp_is_null": changed(GOOD_EVENT, timestamp=None),
    "attributes_are_list": changed(GOOD_IDENTIFY, attributes=[]),
    "attributes_are_null": changed(GOOD_EVENT, attributes=None),
    "update_is_text": changed(GOOD_IDENTIFY, attributes={"_update": "yes"}),
    "no_event_name": changed(GOOD_EVENT, "name"),
    "event_name_is_number": changed(GOOD_EVENT, name=5),
    "event_id_is_number": changed(GOOD_EVENT, id=5),
    "merge_without_secondary": {"type": "person", "action": "merge", "primary": {"id": "42"}},
    "merge_of_two_identifiers": {
        "type": "person",
        "action": "merge",
        "primary": {"id": "42", "email": "a@example.com"},
        "secondary": {"id": "43"},
    },
}


@pytest.mark.parametrize("mutation", MUTATED)
def test_a_spoiled_operation_is_refused_by_the_schema_and_by_the_stand_in(
    mutation: str, published: jsonschema.Draft202012Validator
):
    """The stand-in is no more lenient than the published schema: what one refuses, the other does."""
    operation = MUTATED[mutation]
    assert not published.is_valid(operation)
    assert problems_of(operation)


@pytest.mark.parametrize("operation", [GOOD_IDENTIFY, GOOD_EVENT], ids=["identify", "event"])
def test_the_unspoiled_operations_are_accepted_by_both(operation: dict[str, Any], published: jsonschema.Draft202012Validator):
    """The mutations above are refused for what was spoiled: their originals are fine."""
    assert published.is_valid(operation)
    assert problems_of(operation) == []


# Operations with everything in them that the stand-in knows. Relationships are published too, but not known here: none are given.
WHOLE = {
    "identify": {
        **GOOD_IDENTIFY,
        "attributes": {"plan": "pro", "_update": True, "cio_subscription_preferences": {"topics": {"topic_1": True}}},
        "cio_relationships": [],
    },
    "event": {
        **GOOD_EVENT,
        "attributes": {"recipient": "a@example.com", "from_address": "b@example.com", "reply_to": "c@example.com", "n": [{}]},
    },
    "page": {**GOOD_EVENT, "action": "page"},
    "merge": {"type": "person", "action": "merge", "primary": {"id": "42"}, "secondary": {"email": "dup@example.com"}},
    "suppress": {"type": "person", "action": "suppress", "identifiers": {"cio_id": "a3000001"}},
}
ABSENT = object()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every member of *value*, however deep."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def spoiled(operation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """*operation* with one member gone, or of every other JSON type in turn."""
    for *path, last in places(operation):
        for value in (ABSENT, None, True, 5, 1.5, "text", [], {}, [{}]):
            mutated = inner = copy.deepcopy(dict(operation))
            for key in path:
                inner = inner[key]
            if value is ABSENT:
                del inner[last]
            else:
                inner[last] = value
            yield mutated


@pytest.mark.parametrize("action", WHOLE)
def test_whatever_the_schema_refuses_the_stand_in_names_by_its_place(
    action: str, published: jsonschema.Draft202012Validator, customerio: CustomerioStandIn
):
    """Every member left out or of another type: one batch of all that the schema refuses is refused item by item, over HTTP."""
    refused = [operation for operation in spoiled(WHOLE[action]) if not published.is_valid(operation)]
    assert published.is_valid(WHOLE[action])
    assert len(refused) > 30
    with CustomerioHttp(customerio.url) as cio:
        assert cio.entity(WHOLE[action]).status_code == 200
        answer = cio.batch(*refused)
        assert answer.status_code == 207
        assert {error["batch_index"] for error in answer.json()["errors"]} == set(range(len(refused)))
        assert {cio.entity(operation).status_code for operation in refused[::10]} == {400}


def app_schema(name: str) -> jsonschema.Draft202012Validator:
    """The published schema of one thing that the App API answers with; a member that it does not name is refused too."""
    assert SHARED is not None
    document = yaml.safe_load((SHARED / "reference" / "customerio-openapi" / "app-api-subset.yaml").read_text("utf-8"))
    schema = {"components": document["components"], "$ref": f"#/components/schemas/{name}", "unevaluatedProperties": False}
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture
def answering(customerio: CustomerioStandIn) -> Iterator[CustomerioHttp]:
    """A workspace with people of each kind: with both identifiers, with one, without attributes, with every type of activity."""
    with CustomerioHttp(customerio.url) as cio:
        cio.send(
            identify("both", email="both@example.com", timestamp=1_772_013_598, n=5, unsubscribed=True, gone="x"),
            identify("both", timestamp=1_772_013_598, gone=None, tags=["é"]),
            identify("both", timestamp=1_772_013_500, n=6),
            identify("only@example.com", by="email", run="7"),
            event("stray", "Seen", id="01BX5ZZKBKACTAV9WEVGEMMVRY", attributes={"x": {"y": 1}}),
            event("both", "Seen"),
            {**event("both", "Screen"), "action": "screen"},
            identify("bare", email="both@example.com"),
        )
        yield cio


def test_people_are_answered_as_published(answering: CustomerioHttp):
    """Customers and identifiers, one by one, in bulk, by email and by search, are of the published shape."""
    customer, identifiers = app_schema("Customer"), app_schema("Identifiers")
    for who, by in (("both", "id"), ("stray", "id"), ("only@example.com", "email")):
        single = answering.app(f"/v1/customers/{who}/attributes", id_type=by).json()
        many = answering.post_app("/v1/customers/attributes", {"ids": [who]}, id_type=by).json()
        assert (set(single), set(many)) == ({"customer"}, {"customers"})
        assert many["customers"] == [single]
        customer.validate(single["customer"])
    found = answering.app("/v1/customers", email="only@example.com").json()
    anybody = {"attribute": {"field": "run", "operator": "exists", "value": ""}}
    searched = answering.post_app("/v1/customers", {"filter": {"or": [anybody, {"not": anybody}]}}).json()
    assert (set(found), set(searched)) == ({"results"}, {"identifiers", "ids", "next"})
    assert (len(found["results"]), len(searched["identifiers"]), len(searched["ids"])) == (1, 4, 3)
    assert all(isinstance(text, str) for text in [*searched["ids"], searched["next"]])
    for person in [*found["results"], *searched["identifiers"]]:
        identifiers.validate(person)


@pytest.mark.parametrize("kind", ["event", "screen", "failed_attribute_change"])
def test_activities_are_answered_as_published(answering: CustomerioHttp, kind: str):
    """Entries that have a name, with and without an event id of their own, are of the published shape."""
    activities = [a for who in ("both", "stray", "bare") for a in answering.activities(who, kind)]
    assert activities
    for activity in activities:
        app_schema("Activity").validate(activity)


@pytest.mark.parametrize("kind", ["profile_create", "attribute_change", "skipped_update"])
def test_activities_without_a_name_are_answered_as_published(answering: CustomerioHttp, kind: str):
    """Entries that are about no event leave the name out."""
    for activity in answering.activities("both", kind):
        app_schema("Activity").validate(activity)
