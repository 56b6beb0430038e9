"""A feed's first draft from a table or view that exists: which column is who, when, loaded and the key, and how sure that is.

Pure: columns and counts come in, a draft goes out. The warehouse is asked in `warehouse/source.py`; the files' text is made in
`scaffold_text.py`. Every choice is a guess by name, type and counts, and says so; nothing here sees a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rs_cio_assets.contract.kinds import FeedKind
from rs_cio_assets.contract.models import (
    RESERVED_ATTRIBUTES,
    RESERVED_EVENT_PROPERTIES,
    SNAKE_CASE,
    ColumnType,
    Feed,
    Workspace,
)
from rs_cio_assets.errors import ConfigurationError

MANY_ROWS = 100  # fewer without a null say nothing about the next one
KEYS_TESTED = 4  # a COUNT(DISTINCT) each: the dearest part of the one look at the source
MAX_SCALE = 10  # of a decimal in a feed
_LOADED = re.compile(r"(?:^|_)(?:load(?:ed)?|ingest(?:ed)?|inserted|synced|extracted|emitted|batched)(?:_(?:at|time|ts|on))?$")
_PERSON = re.compile(r"^(?:customer|user|person|people|client|member|buyer|account|profile|contact|subscriber|guest)s?(?:_|$)")
_PEOPLE = re.compile(r"(?:^|_)(?:customers|users|people|persons|clients|members|accounts|profiles|contacts|subscribers)$")
_KEY = re.compile(r"(?:^|_)(?:id|uuid|key|number|no)$")
_CHANGED = re.compile(r"^(?:updated|modified|changed)(?:_|$)")
_SECRET = re.compile(r"(?:^|_)(?:password|passwd|secret|token|hash|iban|cvv|ssn|card_number)(?:_|$)")
_KEY_TYPES = {ColumnType.STRING, ColumnType.INTEGER}


@dataclass(frozen=True)
class SourceColumn:
    """A column of the source: the contract's type (None: none fits), the warehouse's name of it, and a NUMERIC's digits."""

    name: str
    type: ColumnType | None
    type_name: str
    precision: int | None = None
    scale: int | None = None


@dataclass(frozen=True)
class Counts:
    """What the source was counted to hold. *filled*: rows by column that are not null. *distinct*: different values by key (its
    columns; whole keys alone). *of_shape*: by column, rows of the workspace's pattern; a column is not there where the warehouse
    could not try it."""

    rows: int
    filled: Mapping[str, int]
    distinct: Mapping[tuple[str, ...], int]
    of_shape: Mapping[str, int]

    def is_unique(self, key: tuple[str, ...]) -> bool:
        """True when every row has the whole key, and no other row has it too."""
        return self.rows > 0 and self.distinct.get(key) == self.rows and all(self.filled[name] == self.rows for name in key)


@dataclass(frozen=True)
class Choices:
    """What a person said instead of a guess; None and empty: guess. Names are the source's."""

    kind: FeedKind | None = None
    identifier: str | None = None
    time: str | None = None
    loaded_at: str | None = None
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class DraftColumn:
    """A column of the feed: its *name*, where it comes from, and *note*, the comment beside it."""

    name: str
    source: SourceColumn
    is_required: bool = False
    is_sent: bool = True
    note: str = ""


@dataclass(frozen=True)
class Draft:
    """A feed to be looked at, in its own names. *notes*: why each field says what it does. *to_decide*: what a person must
    settle before the feed may be on. *left_out*: columns of the source that the feed cannot hold, with what to do."""

    name: str
    source: str
    view: str
    kind: FeedKind
    identifier: str
    time_column: str
    loaded_at: str
    key: tuple[str, ...]
    columns: tuple[DraftColumn, ...]
    notes: Mapping[str, str]
    to_decide: tuple[str, ...]
    left_out: Mapping[str, str]

    @property
    def event_name(self) -> str:
        """Title Case of the feed's name: review_submitted is Review Submitted."""
        return self.name.replace("_", " ").title()


@dataclass(frozen=True)
class Candidates:
    """Columns that could have each role, the likeliest first; what a person named stands alone."""

    identifier: tuple[str, ...]
    time: tuple[str, ...]
    loaded_at: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    kind: FeedKind
    has_rivals: bool  # another time is as likely as the first


def candidates(name: str, source: str, columns: Sequence[SourceColumn], workspace: Workspace, said: Choices) -> Candidates:
    """Which columns are worth counting. Raises: ConfigurationError naming every role that no column can have, and what to do."""
    _require_columns(source, columns, said)
    kind = said.kind or (FeedKind.PEOPLE if _PEOPLE.search(source) or _PEOPLE.search(name) else FeedKind.EVENT)
    of_type = {column.name: column.type for column in columns}
    loaded = [said.loaded_at] if said.loaded_at else [n for n in _times(of_type) if _LOADED.search(n.lower()) and n != said.time]
    likely = {n: _likelihood(n.lower(), name, kind) for n in _times(of_type) if n not in loaded}
    times = [said.time] if said.time else sorted(likely, key=lambda n: -likely[n])
    people = [said.identifier] if said.identifier else _people_columns(of_type, workspace)
    missing = list(_missing(kind, people, times, loaded))
    if missing:
        raise ConfigurationError(
            "\n  ".join([f"{source} cannot be a feed yet:", *missing]) + "\nNothing was written",
            next_step="mend what is named above, and give the command again",
        )
    singles = [n for n, t in of_type.items() if t in _KEY_TYPES and _KEY.search(n.lower()) and n not in people]
    singles.sort(key=lambda n: not _shares_a_word(n, f"{name} {source}"))  # a review's review_id before its product_id
    keys = [said.key] if said.key else [(n,) for n in singles[:KEYS_TESTED]] or [(people[0], times[0])]
    is_open = not said.time and len(times) > 1 and likely[times[0]] == likely[times[1]]
    return Candidates(tuple(people), tuple(times), tuple(loaded), tuple(keys), kind, is_open)


def draft(
    name: str,
    source: str,
    columns: Sequence[SourceColumn],
    workspace: Workspace,
    said: Choices,
    found: Candidates,
    counts: Counts,
    *,
    others: Sequence[Feed] = (),
    view: str | None = None,
) -> Draft:
    """The feed *name* as far as it can be guessed, beside the contract's *others*.

    *view*: an export view that others own and that keeps its names and types; default: one that is made in the schema cio_export,
    with the usual names for who, when and loaded.
    """
    identifier = max(found.identifier, key=lambda n: counts.of_shape.get(n, 0))  # the first where none is better
    time, loaded = found.time[0], found.loaded_at[0]
    key = next((key for key in found.keys if counts.is_unique(key)), found.keys[0])
    usual = "occurred_at" if found.kind is FeedKind.EVENT else "updated_at"
    wanted = {identifier: workspace.identifier.column, time: usual, loaded: "loaded_at"}
    if view:
        wanted = {}
    roles = {identifier, time, loaded, *(key if found.kind is FeedKind.EVENT else ())}
    names = _feed_names(columns, wanted)
    left_out = dict(_left_out(columns, roles, names if view else {}))
    made = Draft(
        name=name,
        source=source,
        view=view or f"cio_export.{name}",
        kind=found.kind,
        identifier=names[identifier],
        time_column=names[time],
        loaded_at=names[loaded],
        key=tuple(names[n] for n in key) if found.kind is FeedKind.EVENT else (),
        columns=tuple(
            _draft_column(column, names[column.name], found.kind, roles, counts)
            for column in columns
            if column.name not in left_out
        ),
        notes=_notes(said, found, counts, identifier, time, loaded, key),
        to_decide=(),
        left_out=left_out,
    )
    to_decide = list(_to_decide(found, counts, workspace, identifier, time, loaded, key))
    people = [feed.name for feed in others if feed.kind is FeedKind.PEOPLE]
    if found.kind is FeedKind.EVENT and not people:
        to_decide.append(
            "no people feed is there, so that every event would be rejected as person_unknown: add one first, or let Customer.io "
            "make bare profiles with unknown_person: send"
        )
    if found.kind is FeedKind.PEOPLE and people:
        to_decide.append(
            f"{', '.join(people)} is a people feed already: add the columns there, or send here only what it does not"
        )
    return replace(made, to_decide=tuple(to_decide))


def _require_columns(source: str, columns: Sequence[SourceColumn], said: Choices) -> None:
    there = [column.name for column in columns]
    asked = (said.identifier, said.time, said.loaded_at, *said.key)
    unknown = [name for name in asked if name and name not in there]
    if unknown:
        raise ConfigurationError(
            f"{source} has no column {', '.join(unknown)}", next_step=f"name some of its columns: {', '.join(there)}"
        )
    of_type = {column.name: column.type for column in columns}
    for option, name in (("--time", said.time), ("--loaded-at", said.loaded_at)):
        if name and of_type[name] is not ColumnType.TIMESTAMP:
            raise ConfigurationError(
                f"{option} {name} of {source} is no timestamp", next_step="cast it in a view of yours, and give that view's name"
            )
    if said.time and said.time == said.loaded_at:
        raise ConfigurationError(
            f"--time and --loaded-at are both {said.time}: nothing would tell late rows from others",
            next_step="have the load write its own time, loaded_at TIMESTAMP DEFAULT GETDATE()",
        )


def _missing(kind: FeedKind, people: Sequence[str], times: Sequence[str], loaded: Sequence[str]) -> Iterator[str]:
    if not people:
        yield "no column names the person (a text or a whole number): join it in a view of yours, or give --identifier COLUMN"
    if not times:
        what = "when it happened" if kind is FeedKind.EVENT else "when the person last changed"
        yield f"no column (a timestamp in UTC) says {what}: add one, cast it in a view of yours, or give --time COLUMN"
    if not loaded:
        yield (
            "no column says when a row reached the warehouse, so late rows would be missed: have the load write one (loaded_at "
            "TIMESTAMP DEFAULT GETDATE()), or give --loaded-at COLUMN"
        )


def _times(of_type: Mapping[str, ColumnType | None]) -> list[str]:
    return [name for name, kind in of_type.items() if kind is ColumnType.TIMESTAMP]


def _people_columns(of_type: Mapping[str, ColumnType | None], workspace: Workspace) -> list[str]:
    able = [name for name, kind in of_type.items() if kind in _KEY_TYPES]
    if workspace.identifier.column in able:
        return [workspace.identifier.column]
    return [name for name in able if _PERSON.match(name.lower())][:KEYS_TESTED]


def _likelihood(time: str, feed: str, kind: FeedKind) -> int:
    """How likely a column is the time that a feed of this kind goes by; its own scale."""
    if kind is FeedKind.PEOPLE:
        return 2 if _CHANGED.match(time) else 1
    if _shares_a_word(time, feed):
        return 4  # refunded_at of order_refunded
    if re.search("occurred|happened|event", time):
        return 3
    return 0 if _CHANGED.match(time) else 1 if "created" in time else 2


def _shares_a_word(column: str, text: str) -> bool:
    """True when a word of *column* stands in *text* too; plurals and past tenses alike, by their first letters."""
    generic = {"id", "at", "on", "time", "ts", "date", "key", "number", "no", "uuid"}
    stems = {word[:5] for word in re.findall("[a-z]+", text.lower())}
    return any(word[:5] in stems for word in column.lower().split("_") if word not in generic and word)


def _feed_names(columns: Sequence[SourceColumn], wanted: Mapping[str, str]) -> dict[str, str]:
    """The feed's name of each column: the usual one for a role, else its own in snake_case; no name twice."""
    taken = set(wanted.values())
    names: dict[str, str] = dict(wanted)
    for column in columns:
        if column.name in names:
            continue
        plain = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.name).lower()).strip("_")
        plain = plain if SNAKE_CASE.fullmatch(plain) else f"column_{plain}".strip("_")
        number, name = 2, plain
        while name in taken:
            name, number = f"{plain}_{number}", number + 1
        taken.add(name)
        names[column.name] = name
    return names


def _left_out(columns: Sequence[SourceColumn], roles: set[str], fixed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """*fixed*: the feed's names where the view keeps its own."""
    for column in columns:
        if column.type is None:
            yield column.name, f"{column.type_name}: cast it in the SQL, for example to VARCHAR, and declare it"
        elif column.name in roles:
            continue
        elif column.name.startswith("_") or column.name == "file_row_number":
            yield column.name, "a technical column; to send it, give it another name in the SQL, and declare it"
        elif fixed and fixed[column.name] != column.name:
            yield column.name, "its name is not snake_case; rename it where the view is made"


def _draft_column(column: SourceColumn, name: str, kind: FeedKind, roles: set[str], counts: Counts) -> DraftColumn:
    if column.name in roles:
        return DraftColumn(name, column, is_required=True)
    reserved = RESERVED_ATTRIBUTES if kind is FeedKind.PEOPLE else RESERVED_EVENT_PROPERTIES
    if name in reserved or name.startswith("cio_"):
        return DraftColumn(
            name, column, is_sent=False, note="Customer.io has this name for itself; rename it in the SQL to send it"
        )
    if _SECRET.search(name):
        return DraftColumn(name, column, is_sent=False, note="GUESS: by its name nothing that a message needs")
    is_full = kind is FeedKind.EVENT and MANY_ROWS <= counts.rows == counts.filled.get(column.name)
    note = f"GUESS: required, for no row of {counts.rows:,} is without it" if is_full else ""
    return DraftColumn(name, column, is_required=is_full, note=note)


def _notes(
    said: Choices, found: Candidates, counts: Counts, identifier: str, time: str, loaded: str, key: tuple[str, ...]
) -> dict[str, str]:
    """A comment for each field: who said it, or why it was guessed."""
    others = {"time_column": found.time[1:], "loaded_at": found.loaded_at[1:], "identifier": found.identifier[1:]}
    rivals = {field: f"; or {', '.join(names[:3])}" if names else "" for field, names in others.items()}
    shape = counts.of_shape.get(identifier)
    by_shape = f", {shape:,} of {counts.filled[identifier]:,} rows have the workspace's shape" if shape is not None else ""
    unique = f"no two of {counts.rows:,} rows share it" if counts.is_unique(key) else "see TO DECIDE"
    guessed = {
        "kind": "by the names; people is one row per person, event one per thing that happened",
        "identifier": f"{identifier}{by_shape}{rivals['identifier']}",
        "time_column": f"{time}, in UTC{rivals['time_column']}",
        "loaded_at": f"{loaded}{rivals['loaded_at']}",
        "business_key": unique,
    }
    is_said = {
        "kind": said.kind,
        "identifier": said.identifier,
        "time_column": said.time,
        "loaded_at": said.loaded_at,
        "business_key": said.key,
    }
    if found.kind is FeedKind.PEOPLE:
        del guessed["business_key"]  # one row per person
    return {field: f"as you said: {text}" if is_said[field] else f"GUESS: {text}" for field, text in guessed.items()}


def _to_decide(
    found: Candidates, counts: Counts, workspace: Workspace, identifier: str, time: str, loaded: str, key: tuple[str, ...]
) -> Iterator[str]:
    if not counts.rows:
        yield "there is no row, so that no guess could be tested: is this the right table?"
        return
    person = (identifier,) if found.kind is FeedKind.PEOPLE else ()
    for column in dict.fromkeys((identifier, time, loaded, *(key if not person else ()))):
        empty = counts.rows - counts.filled[column]
        if empty:
            yield f"{empty:,} of {counts.rows:,} rows have no {column} and would be rejected: WHERE s.{column} IS NOT NULL?"
    shape, filled = counts.of_shape.get(identifier), counts.filled[identifier]
    pattern = workspace.identifier.pattern
    if shape is None:
        yield f"whether {identifier} has the workspace's shape {pattern} could not be tried in the warehouse: look at some rows"
    elif shape < filled:
        yield (
            f"{filled - shape:,} of {filled:,} rows have an {identifier} without the workspace's shape {pattern} and would be "
            "rejected: another column (--identifier), another join, or another pattern in workspace.yaml?"
        )
    if found.has_rivals:
        yield f"{time} and {found.time[1]} are as likely the time that the feed goes by: which one?"
    if found.kind is FeedKind.PEOPLE and not _CHANGED.match(time.lower()):
        yield f"{time} does not look like the person's last change; rows whose other columns change would not be sent again"
    unique = person or key
    if not counts.is_unique(unique) and all(counts.filled[name] == counts.rows for name in unique):
        what = "one row per person" if person else "one row per event"
        yield f"rows share their {', '.join(unique)}, and a feed has {what}: name more columns (--key), or make it so in the SQL"
