"""The contract's rules that need no file, and the JSON Schemas that editors check the YAML with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from rs_cio_assets.cli import rs_cio
from rs_cio_assets.contract import SHIPPED, Column, Contract, Feed, load_contract
from rs_cio_assets.contract.kinds import TITLE_CASE
from rs_cio_assets.contract.models import MAX_ATTRIBUTES, SNAKE_CASE
from rs_cio_assets.contract.schema import schema_files
from rs_cio_assets_tests.staging import contract_of, feed_of

TEXT = {"type": "string"}
KEY = {"order_id": TEXT}


def event(columns: dict[str, Any] | None = None, **fields: Any) -> Feed:
    """An event feed."""
    return feed_of("event", {**KEY, **(columns or {})}, **fields)


def people(columns: dict[str, Any] | None = None, **fields: Any) -> Feed:
    """A people feed."""
    return feed_of("people", columns or {}, **fields)


REFUSED = {
    "NM5 lower case event": (lambda: event(event_name="order completed"), "is not Title Case, for example Order Completed"),
    "NM5 snake_case event": (lambda: event(event_name="Order_Completed"), "is not Title Case"),
    "NM5 double space": (lambda: event(event_name="Order  Completed"), "is not Title Case"),
    "event without a name": (lambda: event(event_name=None), "event_name: an event feed needs one"),
    "event name too long": (lambda: event(event_name="A" * 101), "event_name: longer than 100 bytes"),
    "NM5 camelCase": (lambda: event({"orderTotal": TEXT}), r"\[a-z_\]"),
    "NM5 double underscore": (lambda: event({"order__total": TEXT}), "columns.order__total: is not snake_case"),
    "NM5 trailing underscore": (lambda: event({"total_": TEXT}), "columns.total_: is not snake_case"),
    "NM5 leading underscore": (lambda: event({"_total": TEXT}), "columns._total: names that start with _"),
    "NM5 leading underscore of people": (lambda: people({"_tier": TEXT}), "columns._tier: names that start with _"),
    "NM5 recipient": (lambda: event({"recipient": TEXT}), "columns.recipient: the name is reserved by Customer.io"),
    "NM5 from_address": (lambda: event({"from_address": TEXT}), "columns.from_address: the name is reserved"),
    "NM5 reply_to": (lambda: event({"reply_to": TEXT}), "columns.reply_to: the name is reserved"),
    "NM5 cio_ in an event": (lambda: event({"cio_x": TEXT}), "columns.cio_x: the name is reserved"),
    "NM5 cio_ in people": (lambda: people({"cio_id": TEXT}), "columns.cio_id: the name is reserved"),
    "NM5 id": (lambda: people({"id": TEXT}), "columns.id: the name is reserved"),
    "NM5 unsubscribed": (lambda: people({"unsubscribed": {"type": "boolean"}}), "subscription state belongs to Customer.io"),
    "NM5 preferences": (
        lambda: people({"cio_subscription_preferences": {"type": "json"}}),
        "subscription state belongs to Customer.io",
    ),
    "too many": (
        lambda: people({f"a{n}": TEXT for n in range(MAX_ATTRIBUTES + 1)}),
        f"columns: {MAX_ATTRIBUTES + 1} are sent; Customer.io takes 300",
    ),
    "name too long": (lambda: people({"a" * 151: TEXT}), "longer than 150 bytes"),
    "event without a key": (lambda: event(business_key=()), "business_key: an event feed needs"),
    "key that is no column": (lambda: event(business_key=("cart_id",)), "column 'cart_id' is not declared"),
    "identifier that is no column": (lambda: event(identifier="email"), "identifier: column 'email' is not declared"),
    "time that is no timestamp": (lambda: event(time_column="order_id"), "time_column: column 'order_id' must be a timestamp"),
    "loaded_at that is no timestamp": (lambda: event(loaded_at="order_id"), "loaded_at: column 'order_id' must be a timestamp"),
    "ID2 identifier that is a number": (
        lambda: event({"customer_id": {"type": "integer"}}),
        "identifier: column 'customer_id' must be a string",
    ),
    "clear in an event": (lambda: event({"note": {"type": "string", "on_null": "clear"}}), "clear is for people"),
    "people with an event name": (lambda: people(event_name="Order Completed"), "event_name: a people feed has none"),
    "people with another key": (lambda: people(KEY, business_key=("order_id",)), "a people feed has one row per customer_id"),
    "people with a hold": (lambda: people(max_trigger_age_hours=3), "are for event feeds"),
    "trigger age over 72 h": (lambda: event(max_trigger_age_hours=72.5), "max_trigger_age_hours"),
    "view without a schema": (lambda: event(view="orders"), "view"),
    "view that is quoted": (lambda: event(view='x."y"'), "view"),
    "owner": (lambda: event(owner="retention"), "owner"),
    "two identifiers": (
        lambda: contract_of(event({"email": TEXT}, identifier="email")),
        "tested: identifier: 'email' differs from the workspace's 'customer_id'",
    ),
    "two of a name": (lambda: contract_of(people(), event()), "tested: name: 'tested' is already used by tested"),
    "two of a view": (lambda: contract_of(people(), event(name="other")), "other: view: 'cio_export.tested' is already used"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_a_feed_that_customerio_would_misread_is_refused(make: Any, message: str):
    """NM5, ID2 and their like never load, and the message names the field."""
    with pytest.raises(ValidationError, match=message):
        make()


@pytest.mark.parametrize("name", ["recipient", "_internal", "cio_x"])
def test_a_column_that_is_not_sent_may_have_any_name(name: str):
    """is_sent: false keeps a reserved name in the view and out of Customer.io."""
    assert name not in event({name: {"type": "string", "is_sent": False}}).sent_columns


def test_names_are_reserved_where_they_mean_something():
    """recipient reroutes an event's message and is a plain attribute of a person; unsubscribed the other way round."""
    assert people({"recipient": TEXT}).sent_columns == ("recipient",)
    assert "unsubscribed" in event({"unsubscribed": {"type": "boolean"}}).sent_columns


COLUMNS = {
    "decimal without scale": ({"type": "decimal", "precision": 12}, "a decimal needs precision and scale"),
    "decimal without precision": ({"type": "decimal", "scale": 2}, "a decimal needs precision and scale"),
    "scale over precision": ({"type": "decimal", "precision": 2, "scale": 3}, "scale is larger than precision"),
    "precision over 38": ({"type": "decimal", "precision": 39, "scale": 3}, "precision"),
    "precision of an integer": ({"type": "integer", "precision": 3}, "precision and scale are for decimal"),
    "minimum of a text": ({"type": "string", "minimum": 1}, "minimum and maximum are for"),
    "minimum over maximum": ({"type": "integer", "minimum": 2, "maximum": 1}, "minimum is larger than maximum"),
    "max_bytes of a number": ({"type": "integer", "max_bytes": 3}, "max_bytes is for string and json"),
    "pattern of a number": ({"type": "integer", "pattern": "[0-9]"}, "pattern and values are for string"),
    "values of a boolean": ({"type": "boolean", "values": ["yes"]}, "pattern and values are for string"),
    "no values": ({"type": "string", "values": []}, "values is empty"),
    "no description": ({"type": "string", "description": ""}, "description"),
}


@pytest.mark.parametrize(("column", "message"), COLUMNS.values(), ids=COLUMNS)
def test_an_option_that_does_not_fit_its_column_is_refused(column: dict[str, Any], message: str):
    """An option that would be ignored, or can never hold, does not load."""
    with pytest.raises(ValidationError, match=message):
        Column.model_validate({"description": "x", **column})


@pytest.mark.parametrize("pattern", ["(?=x)", r"(a)\1", "(?<=a)b", "[a", "a{1001}"])
def test_a_pattern_that_re2_refuses_is_refused(pattern: str):
    """What DuckDB could not run does not load, though Python's own expressions would take most of it."""
    with pytest.raises(ValidationError, match="is not a regular expression that RE2 takes"):
        Column(type="string", description="x", pattern=pattern)  # type: ignore[arg-type]
    with pytest.raises(duckdb.Error):
        duckdb.sql("SELECT regexp_full_match('a', ?)", params=[pattern]).fetchall()


@given(st.text(alphabet="ab01()[]{}|*+?^$.\\-,:=<!PdwpLu", max_size=12))
def test_a_pattern_loads_exactly_when_the_delivery_can_run_it(pattern: str):
    """The loader's judge and DuckDB agree on every expression."""
    try:
        duckdb.sql("SELECT regexp_full_match('a', ?)", params=[pattern]).fetchall()
        runs = True
    except duckdb.Error:
        runs = False
    try:
        Column(type="string", description="x", pattern=pattern)  # type: ignore[arg-type]
        loads = True
    except ValidationError:
        loads = False
    assert loads is runs


@given(st.lists(st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True), min_size=1, max_size=4))
def test_words_make_names_of_both_kinds(words: list[str]):
    """Words joined by _ are snake_case and never Title Case; capitalized and joined by a space the other way round."""
    snake, title = "_".join(words), " ".join(word.capitalize() for word in words)
    assert (bool(SNAKE_CASE.fullmatch(snake)), bool(TITLE_CASE.fullmatch(snake))) == (True, False)
    assert (bool(SNAKE_CASE.fullmatch(title)), bool(TITLE_CASE.fullmatch(title))) == (False, True)


@settings(max_examples=20)
@given(st.permutations(load_contract().feeds))
def test_people_are_first_in_whatever_order_the_files_are_read(feeds: list[Feed]):
    """The order of delivery is the contract's, not the file system's."""
    contract = load_contract()
    assert Contract(workspace=contract.workspace, feeds=tuple(feeds)).enabled_feeds == contract.enabled_feeds


SCHEMAS = {name: json.loads((SHIPPED / name).read_text()) for name in schema_files()}
FOLDERS = {"feeds": "feed", "segments": "segment", "journeys": "journey", "logic": "logic"}
FILES = [(path, f"{kind}.schema.json") for folder, kind in FOLDERS.items() for path in sorted((SHIPPED / folder).glob("*.yaml"))]
FILES += [(SHIPPED / "workspace.yaml", "workspace.schema.json")]


def test_the_shipped_schemas_are_those_of_the_models():
    """`rs-cio contract schema` would change nothing."""
    assert {name: (SHIPPED / name).read_text() for name in SCHEMAS} == schema_files()


def test_the_command_writes_the_schemas_beside_the_contract_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`rs-cio contract schema` writes both files into the folder that RS_CIO_CONTRACT names, and says which."""
    monkeypatch.setenv("RS_CIO_CONTRACT", str(tmp_path))
    done = CliRunner().invoke(rs_cio, ["contract", "schema"])
    assert done.exit_code == 0, done.output
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == schema_files()
    assert all(name in done.output for name in SCHEMAS)
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("path", "schema"), FILES, ids=[path.stem for path, _ in FILES])
def test_an_editor_takes_the_shipped_file_and_marks_mistakes(path: Any, schema: str):
    """Each file names its schema, keeps it, and an unknown key, a wrong type or a missing field in it is marked."""
    assert path.read_text().splitlines()[0].endswith(f"{schema}")
    validator = Draft202012Validator(SCHEMAS[schema])
    values = yaml.safe_load(path.read_text())
    assert list(validator.iter_errors(values)) == []
    first = next(iter(values))
    without = {name: value for name, value in values.items() if name != first}
    for broken in ({**values, "unknown": 1}, {**values, first: 5}, without, {**values, "name": "x", "sql": "x"}):
        assert not validator.is_valid(broken), broken.keys()
