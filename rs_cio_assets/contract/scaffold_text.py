"""A draft's files: the YAML with a comment beside each guess, the SELECT, and made-up rows that say what must become of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import ValidationError

from rs_cio_assets.contract.kinds import FeedKind
from rs_cio_assets.contract.lint import lint_sql
from rs_cio_assets.contract.models import ColumnType, Contract, Feed, Workspace
from rs_cio_assets.contract.scaffold import MAX_SCALE, Draft, DraftColumn
from rs_cio_assets.errors import ContractError

SAMPLES = "samples"
PLACEHOLDER = "WRITE-ONE"  # an identifier that nobody has: the sample fails until a person writes one of the right shape
_MADE_UP: Mapping[ColumnType, object] = {
    ColumnType.STRING: "made up",
    ColumnType.INTEGER: 1,
    ColumnType.FLOAT: 1.5,
    ColumnType.BOOLEAN: True,
    ColumnType.TIMESTAMP: "2026-01-02T03:04:05",
    ColumnType.DATE: "2026-01-02",
    ColumnType.JSON: {"made": "up"},
}
# No word of SQL is made of several, but for these: a name of several words needs no quotes, any other gets them.
_SEVERAL_WORDS = re.compile(r"(?!current_|session_user)[a-z]+[a-z0-9]*(?:_[a-z0-9]+)+")


def feed_yaml(draft: Draft) -> str:
    """The text of `feeds/<name>.yaml`."""
    return "\n".join(chain(_head(draft), _fields(draft), _columns(draft))) + "\n"


def feed_sql(draft: Draft) -> str:
    """The text of `feeds/<name>.sql`: one SELECT of every column that the feed declares, renamed and cast where it must be."""
    left = [f"-- Left out: {' '.join(name.split())} ({reason})" for name, reason in draft.left_out.items()]
    columns = ",\n".join(f"    {_expression(draft, column)} AS {_plain(column.name)}" for column in draft.columns)
    source = ".".join(name if re.fullmatch("[a-z_][a-z0-9_]*", name) else _plain(name) for name in draft.source.split("."))
    return (
        "\n".join([f"-- The rows of {draft.source}; {draft.view} gives them to the feed.", *left])
        + f"\nSELECT\n{columns}\nFROM {source} AS s\n"
    )


def sample_yaml(draft: Draft, workspace: Workspace) -> str:
    """The text of `samples/<name>.yaml`: a good row, one of nobody, and one whose identifier has another shape."""
    person = made_up_identifier(workspace.identifier.pattern)
    good = {column.name: _made_up(draft, column, person) for column in draft.columns}
    cases = (
        ("a good row", good, "sent"),
        ("names nobody", {**good, draft.identifier: None}, "identifier_missing"),
        ("another shape than the workspace's", {**good, draft.identifier: f"{person} ?"}, "identifier_shape"),
    )
    lines = [
        f"# Made-up rows of {draft.name} and what must become of each: sent, or the reason of its rejection.",
        f"# No warehouse and no Customer.io is asked: rs-cio contract test {draft.name}",
    ]
    if person == PLACEHOLDER:
        lines.append(f"# Write an identifier that matches {workspace.identifier.pattern} in place of {PLACEHOLDER}.")
    for title, row, becomes in cases:
        lines += [f"- case: {title}", f"  becomes: {becomes}", "  row:"]
        lines += [f"    {_scalar(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in row.items()]
    return "\n".join(lines) + "\n"


def made_up_identifier(pattern: str) -> str:
    """A text that matches the workspace's pattern, where one of the usual shapes does; else PLACEHOLDER."""
    digits = ["1234567890123456789012345678901234567890"[:n] for n in range(1, 33)]
    prefixes = ["", *dict.fromkeys(re.findall("[A-Za-z]", pattern)), *re.findall(r"[A-Za-z]+[_:-]", pattern)]
    shapes = [f"{prefix}{number}" for prefix in prefixes for number in digits]
    shapes += ["00000000-0000-4000-8000-000000000001", "0" * 24, "0" * 32, "made.up@example.com"]
    return next((shape for shape in shapes if _matches(pattern, shape)), PLACEHOLDER)


def require_good(draft: Draft, workspace: Workspace, others: Sequence[Feed]) -> None:
    """Load and lint the draft's files as they would stand beside the *others*. Raises: ContractError with every problem."""
    try:
        feed = Feed(name=draft.name, sql=feed_sql(draft), **yaml.safe_load(feed_yaml(draft)))
        Contract(workspace=workspace, feeds=(*others, feed))
        problems = [str(finding) for finding in lint_sql(feed.sql, feed)]
    except ValidationError as error:
        problems = [line for item in error.errors(include_input=False, include_url=False) for line in item["msg"].splitlines()]
    if problems:
        raise ContractError(
            "\n  ".join([f"{draft.source} gives no feed that may be sent:", *problems]) + "\nNothing was written",
            next_step="make a view of your own over it that mends this, and give its name",
        )


def _head(draft: Draft) -> Iterator[str]:
    yield "# yaml-language-server: $schema=../feed.schema.json"
    yield f"# A draft by rs-cio new-feed, from {draft.source}. Confirm or change what says GUESS, then take the word away."
    for text in draft.to_decide:
        yield f"# TO DECIDE: {text}"


def _fields(draft: Draft) -> Iterator[str]:
    notes = draft.notes
    yield f"kind: {draft.kind.value}  # {notes['kind']}"
    if draft.to_decide:
        yield "enabled: false  # take this line away once everything TO DECIDE is settled"
    yield f"description: {_scalar(f'{_title(draft)}, from {draft.source}.')}  # say what it is for"
    yield f"view: {_scalar(draft.view)}"
    if draft.kind is FeedKind.EVENT:
        yield f"event_name: {_scalar(draft.event_name)}  # GUESS: what campaigns are started by; it cannot be renamed easily"
    yield f"identifier: {_scalar(draft.identifier)}  # {notes['identifier']}"
    if draft.key:
        yield f"business_key: [{', '.join(map(_scalar, draft.key))}]  # {notes['business_key']}"
    yield f"time_column: {_scalar(draft.time_column)}  # {notes['time_column']}"
    yield f"loaded_at: {_scalar(draft.loaded_at)}  # {notes['loaded_at']}"
    yield "# freshness_hours: 30  # how old the newest loaded_at may be; leave it out where quiet days are normal"


def _columns(draft: Draft) -> Iterator[str]:
    yield "columns:  # each is sent, but for who, when and loaded; take out what no journey or message needs"
    for column in draft.columns:
        source = column.source
        options = [f"type: {'string' if column.name == draft.identifier else _type(source.type)}"]
        options += ["required: true"] * column.is_required
        if source.type is ColumnType.DECIMAL:
            precision, scale = _digits(column)
            options.append(f"precision: {precision}, scale: {scale}")
        options += ["is_sent: false"] * (not column.is_sent)
        options.append(f"description: {json.dumps(f'{source.name} of {draft.source}.', ensure_ascii=False)}")
        yield f"  {_scalar(column.name)}: {{{', '.join(options)}}}" + (f"  # {column.note}" if column.note else "")


def _title(draft: Draft) -> str:
    return draft.event_name if draft.kind is FeedKind.EVENT else f"{draft.event_name}, one row per person"


def _type(found: ColumnType | None) -> str:
    return found.value if found else ""


def _digits(column: DraftColumn) -> tuple[int, int]:
    """Precision and scale; a NUMERIC without them holds anything, which 38 digits with 10 behind the point nearly are."""
    source = column.source
    if source.precision is None or source.scale is None:
        return 38, MAX_SCALE
    cut = max(0, source.scale - MAX_SCALE)
    return source.precision - cut, source.scale - cut


def _expression(draft: Draft, column: DraftColumn) -> str:
    source, name = column.source, f"s.{_plain(column.source.name)}"
    if draft.view == draft.source:
        return name  # the view is others', and stays as it is
    if column.name == draft.identifier or source.type_name == "CHAR":  # a CHAR comes with its padding
        return f"{name}::VARCHAR(256)"
    if source.type is ColumnType.DECIMAL and (source.precision, source.scale) != _digits(column):
        return f"{name}::NUMERIC({', '.join(map(str, _digits(column)))})"
    return name


def _plain(name: str) -> str:
    return name if _SEVERAL_WORDS.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _made_up(draft: Draft, column: DraftColumn, person: str) -> object:
    if column.name == draft.identifier:
        return person
    if column.source.type is ColumnType.DECIMAL:
        return "0" if _digits(column)[1] == 0 else "0.5"
    return _MADE_UP[column.source.type] if column.source.type else None


def _scalar(text: str) -> str:
    """*text* in YAML, in quotes where YAML would read something else (no, 12, a: b)."""
    is_plain = re.fullmatch(r"[A-Za-z][\w ,.]*", text) and yaml.safe_load(text) == text
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _matches(pattern: str, text: str) -> bool:
    options = pc.MatchSubstringOptions(f"^(?:{pattern})$")
    return bool(pc.call_function("match_substring_regex", [pa.scalar(text)], options).as_py())
