"""The contract's shape: what a workspace, a feed and a column may say.

Here are the pydantic models and the rules that need no file, network or database. Reading the YAML and SQL files lives in
`load.py`, linting the SQL in `lint.py`. Every limit names its source.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from rs_cio_assets.contract.fields import Owner, SnakeName, Strict
from rs_cio_assets.contract.kinds import FeedKind, kind_problems
from rs_cio_assets.contract.segments import Journey, Logic, Segment, declared_problems

# Source of the limits: Customer.io Track API document (journeys-track.json, read 2026-08-13).
MAX_ATTRIBUTE_NAME_BYTES = 150
MAX_ATTRIBUTE_VALUE_BYTES = 1_000
MAX_ATTRIBUTES = 300
MAX_IDENTIFIER_BYTES = 150

SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# `recipient`, `from_address` and `reply_to` on an event reroute the triggered message (Track API document).
RESERVED_EVENT_PROPERTIES = frozenset({"recipient", "from_address", "reply_to"})
# Owned by Customer.io or by the preference centre: a stale warehouse copy would resubscribe people.
RESERVED_ATTRIBUTES = frozenset({"id", "cio_id", "phone", "anonymous_id", "unsubscribed"})

# An asset key of Dagster as its UI writes it: parts joined by slashes.
UpstreamKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$")]
ViewName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")]


def _compiles(pattern: str) -> str:
    """*pattern*, if RE2 takes it: the engine that DuckDB runs it with (no lookaround, no back-references)."""
    try:
        pc.call_function("match_substring_regex", [pa.scalar("")], pc.MatchSubstringOptions(pattern))
    except pa.ArrowInvalid as error:
        raise ValueError(f"found {pattern!r}; is not a regular expression that RE2 takes: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]


class ColumnType(StrEnum):
    """A column's type in the export view; says how its values are written to Customer.io."""

    STRING = "string"
    INTEGER = "integer"
    DECIMAL = "decimal"  # written as an exact JSON number
    FLOAT = "float"  # NaN and infinities are rejected: they are not JSON
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"  # UTC, written as unix seconds: segments match nothing else
    DATE = "date"  # written as unix seconds of that day's midnight UTC
    JSON = "json"  # SUPER, written as nested JSON


class Column(Strict):
    """One column of an export view, and the rules its values must keep."""

    type: ColumnType
    description: Annotated[str, StringConstraints(min_length=1)]
    required: bool = Field(default=False, description="A row with null here is rejected.")
    on_null: Literal["omit", "clear"] = Field(
        default="omit",
        description="People only: omit leaves the attribute as it is, clear removes it from the profile.",
    )
    is_sent: bool = Field(default=True, description="False keeps the column out of Customer.io.")
    max_bytes: int | None = Field(default=None, ge=1, description="Longest UTF-8 text, for string and json.")
    minimum: float | None = Field(default=None, description="Smallest value, for integer, decimal and float.")
    maximum: float | None = Field(default=None, description="Largest value, for integer, decimal and float.")
    precision: int | None = Field(default=None, ge=1, le=38, description="Decimal: all digits.")
    scale: int | None = Field(default=None, ge=0, le=10, description="Decimal: digits after the point.")
    pattern: Pattern | None = Field(default=None, description="Regular expression the whole text must match.")
    values: str | tuple[str, ...] | None = Field(
        default=None, description="Declared values, or the name of a list in workspace.yaml."
    )
    on_undeclared_value: Literal["reject", "pass"] = Field(
        default="reject", description="What happens to a row whose value is not declared."
    )
    max_distinct: int | None = Field(default=None, ge=1, description="A day with more different values fails its check.")
    until: date | None = Field(
        default=None, description="An old name that is sent beside the new one before this date, and not from it on."
    )

    @model_validator(mode="after")
    def _options_fit_the_type(self) -> Self:
        numeric = {ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.FLOAT}
        text = {ColumnType.STRING, ColumnType.JSON}
        problems: list[str] = []
        if self.type is ColumnType.DECIMAL:
            if self.precision is None or self.scale is None:
                problems.append("a decimal needs precision and scale, for example precision: 12, scale: 2")
            elif self.scale > self.precision:
                problems.append("scale is larger than precision")
        elif self.precision is not None or self.scale is not None:
            problems.append("precision and scale are for decimal columns")
        if self.type not in numeric and (self.minimum is not None or self.maximum is not None):
            problems.append("minimum and maximum are for integer, decimal and float columns")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            problems.append("minimum is larger than maximum")
        if self.values == ():
            problems.append("values is empty: every row would be rejected; leave it out")
        if self.type not in text and self.max_bytes is not None:
            problems.append("max_bytes is for string and json columns")
        if self.type is not ColumnType.STRING and (self.pattern or self.values):
            cast = "cast it to VARCHAR in the SQL and declare type: string"
            problems.append(f"pattern and values are for string columns; {cast}")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class Identifier(Strict):
    """How every feed names a person: one column, one Customer.io identifier, one shape."""

    column: SnakeName
    customerio: Literal["id", "email"] = "id"
    pattern: Pattern = Field(description="Regular expression that the whole identifier must match.")
    description: Annotated[str, StringConstraints(min_length=1)]


class Workspace(Strict):
    """Conventions that hold for every feed of one Customer.io workspace."""

    identifier: Identifier
    timezone: Literal["UTC"] = "UTC"
    values: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)


class Feed(Strict):
    """One feed: an export view and what its columns mean in Customer.io. One row per event, or per person (and day).

    Guarantees after validation: every named column is declared; every sent name is snake_case and not reserved; an event
    feed has a Title Case event name and a business key; what cannot be undone has a ceiling and is on only by its own word.
    """

    name: SnakeName
    kind: FeedKind
    description: Annotated[str, StringConstraints(min_length=1)]
    owner: Owner = Field(default="team:data", description="A Dagster owner: team:<name> or an email address.")
    enabled: bool = Field(
        default=True, description="Merges, deletions and suppressions are off unless this says true; other feeds are on."
    )
    view: ViewName
    event_name: str | None = None
    identifier: SnakeName
    business_key: tuple[SnakeName, ...] = ()
    time_column: SnakeName
    loaded_at: SnakeName
    freshness_hours: int | None = Field(
        default=None,
        ge=1,
        description="Newest loaded_at may be this old before the feed is stale. Null: not checked, for feeds with quiet days.",
    )
    is_intraday: bool = Field(
        default=False,
        description="Today's open day is synced every hour by the schedule sync_today, people first; only new rows are sent.",
    )
    max_trigger_age_hours: float | None = Field(
        default=None,
        gt=0,
        le=72,
        description="Older events are held until 72 h have passed, then delivered as history. Null: no hold.",
    )
    live_from: datetime | None = Field(
        default=None, description="Events before this moment never trigger: held until 72 h have passed."
    )
    unknown_person: Literal["deliver", "hold", "reject", "send"] = Field(
        default="deliver",
        description="Events of, and merges into, somebody whom no people feed has delivered: deliver reads and sends the person "
        "first, hold waits for them, reject keeps the row out, send lets Customer.io make a bare profile or pass over the merge.",
    )
    on_backfill: Literal["refuse", "hold", "accept"] = Field(
        default="refuse",
        description="Rows of a backfill that could start a running campaign: refuse stops before the first row, hold delivers "
        "events as history later, accept sends them.",
    )
    suppressed_column: SnakeName | None = Field(
        default=None, description="Suppressions: the boolean column that is true for suppress, false for unsuppress."
    )
    merged_column: SnakeName | None = Field(
        default=None, description="Merges: the column with the identifier that goes; the identifier column names who stays."
    )
    name_column: SnakeName | None = Field(
        default=None, description="Events: a string column of the view that must say event_name in every row, or the day stops."
    )
    max_rows_per_day: int | None = Field(
        default=None, ge=1, description="A day with more rows stops; merges, deletions and suppressions need it."
    )
    max_rows_per_person: int | None = Field(
        default=None, ge=1, description="Events: a day in which one person has more of them stops."
    )
    read: Literal["auto", "unload", "driver"] = Field(
        default="auto", description="How the view is read: by UNLOAD to S3, by the driver, or as REDSHIFT_READ says (auto)."
    )
    upstream: tuple[UpstreamKey, ...] = Field(
        default=(), description="Dagster asset keys (a/b/c) that the view is made from, for example dbt models: lineage only."
    )
    until: date | None = Field(
        default=None, description="An old event that is sent beside the new one before this date, and not from it on."
    )
    max_people_share: float = Field(
        default=0.01, gt=0, le=1, description="The same as a share of all people that were ever delivered."
    )
    min_view_share: float = Field(
        default=0.9, gt=0, le=1, description="The same kinds: the view may not shrink below this share of the rows it had."
    )
    max_rejected_share: float = Field(default=0.05, ge=0, le=1, description="A day with a larger share of rejected rows fails.")
    columns: dict[SnakeName, Column]
    sql: str = Field(description="The SELECT of the export view, from the .sql file beside the YAML.")

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Columns that make a row unique within its day: the business key, whoever is merged away, or the person."""
        return self.business_key or (self.merged_column or self.identifier,)

    @property
    def sent_columns(self) -> tuple[str, ...]:
        """Columns written as attributes (people) or properties (event), in contract order; none for the other kinds."""
        if self.kind.is_irreversible:
            return ()
        hidden = {self.identifier, self.time_column, self.loaded_at}
        return tuple(n for n, c in self.columns.items() if c.is_sent and n not in hidden)

    @property
    def view_schema(self) -> str:
        """Schema part of the view's name."""
        return self.view.split(".")[0]

    @property
    def view_table(self) -> str:
        """Name part of the view's name."""
        return self.view.split(".")[1]

    @model_validator(mode="before")
    @classmethod
    def _irreversible_is_off(cls, given: Any) -> Any:
        is_irreversible = isinstance(given, dict) and given.get("kind") in {k.value for k in FeedKind if k.is_irreversible}
        return {"enabled": False, **given} if is_irreversible else given

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        problems = [*self._column_problems(), *kind_problems(self), *self._name_problems(), *self._upstream_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _column_problems(self) -> list[str]:
        problems = []
        roles = {"identifier": self.identifier, "time_column": self.time_column, "loaded_at": self.loaded_at}
        roles |= {f"business_key[{i}]": c for i, c in enumerate(self.business_key)}
        roles |= {"name_column": self.name_column} if self.name_column else {}
        for role, column in roles.items():
            if column not in self.columns:
                problems.append(
                    f"{role}: column {column!r} is not declared under columns; declared are {', '.join(self.columns)}"
                )
            elif self.columns[column].until:
                problems.append(f"columns.{column}.until: the feed needs it ({role}); give the feed an end, or leave it out")
        if "file_row_number" in self.columns:
            problems.append("columns.file_row_number: the name is taken by the reader of staged files; rename the column")
        for role in ("time_column", "loaded_at"):
            column = self.columns.get(roles[role])
            if column is not None and column.type is not ColumnType.TIMESTAMP:
                problems.append(f"{role}: column {roles[role]!r} must be a timestamp, not {column.type.value}")
        identifier = self.columns.get(self.identifier)
        if identifier is not None and identifier.type is not ColumnType.STRING:
            problems.append(
                f"identifier: column {self.identifier!r} must be a string (cast it with ::VARCHAR), not {identifier.type.value}"
            )
        return problems

    def _name_problems(self) -> list[str]:
        problems = []
        reserved = RESERVED_ATTRIBUTES if self.kind is FeedKind.PEOPLE else RESERVED_EVENT_PROPERTIES
        for name in self.sent_columns:
            where = f"columns.{name}"
            if name in reserved or name.startswith("cio_"):
                reason = (
                    "subscription state belongs to Customer.io; a warehouse copy resubscribes people"
                    if name == "unsubscribed" or name.startswith("cio_subscription")
                    else "the name is reserved by Customer.io"
                )
                problems.append(f"{where}: {reason}; rename the column or set is_sent: false")
            elif name.startswith("_"):
                problems.append(f"{where}: names that start with _ cannot be used in segments; rename the column")
            elif not SNAKE_CASE.fullmatch(name):
                problems.append(f"{where}: is not snake_case, for example order_total")
            elif len(name.encode()) > MAX_ATTRIBUTE_NAME_BYTES:
                problems.append(f"{where}: longer than {MAX_ATTRIBUTE_NAME_BYTES} bytes")
        if len(self.sent_columns) > MAX_ATTRIBUTES:
            problems.append(f"columns: {len(self.sent_columns)} are sent; Customer.io takes {MAX_ATTRIBUTES}")
        return problems

    def _upstream_problems(self) -> list[str]:
        made_from_views = ("redshift/exports/", "customerio/feeds/", "redshift/deliveries/")
        problems = [
            f"upstream: {key!r} is made from the export views; name what the view is made from"
            for key in self.upstream
            if key == f"redshift/views/{self.name}" or key.startswith(made_from_views)
        ]
        twice = sorted({key for key in self.upstream if self.upstream.count(key) > 1})
        return [*problems, *(f"upstream: {key!r} is given twice" for key in twice)]


class Contract(Strict):
    """Everything that may be sent to one workspace."""

    workspace: Workspace
    feeds: tuple[Feed, ...]
    segments: tuple[Segment, ...] = ()
    journeys: tuple[Journey, ...] = ()
    logic: tuple[Logic, ...] = ()

    @model_validator(mode="after")
    def _feeds_agree(self) -> Self:
        problems: list[str] = []
        for what in ("name", "view", "event_name"):
            seen: dict[str, str] = {}
            for feed in self.feeds:
                value = getattr(feed, what)
                if value is not None and value in seen:
                    problems.append(f"{feed.name}: {what}: {value!r} is already used by {seen[value]}")
                elif value is not None:
                    seen[value] = feed.name
        for feed in self.feeds:
            if feed.identifier != self.workspace.identifier.column:
                problems.append(
                    f"{feed.name}: identifier: {feed.identifier!r} differs from the workspace's "
                    f"{self.workspace.identifier.column!r}; two identifiers make two profiles of one person"
                )
            for name, column in feed.columns.items():
                if isinstance(column.values, str) and column.values not in self.workspace.values:
                    problems.append(f"{feed.name}: columns.{name}.values: workspace.yaml has no list named {column.values!r}")
        problems = [f"feeds/{problem}" for problem in problems]
        problems += [": ".join(problem) for problem in declared_problems(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def enabled_feeds(self) -> tuple[Feed, ...]:
        """Feeds that are synced: merges, deletions, suppressions, people, events, each in name order."""
        order = list(FeedKind)
        return tuple(sorted((f for f in self.feeds if f.enabled), key=lambda f: (order.index(f.kind), f.name)))

    def feeds_of(self, *kinds: FeedKind) -> tuple[Feed, ...]:
        """The enabled feeds of these kinds."""
        return tuple(feed for feed in self.enabled_feeds if feed.kind in kinds)

    def version_of(self, feed: Feed) -> str:
        """12 hex digits that differ when anything that decides about the feed's rows does."""
        silent = {"sql", "description", "owner", "is_intraday", "read", "upstream"}
        text = f"{feed.model_dump_json(exclude=silent)}{self.workspace.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def feed(self, name: str) -> Feed:
        """The feed of that name. Raises: KeyError."""
        return {feed.name: feed for feed in self.feeds}[name]

    def declared_values(self, column: Column) -> tuple[str, ...] | None:
        """The values a column may hold, with a workspace list looked up, or None where any value may stand."""
        return self.workspace.values[column.values] if isinstance(column.values, str) else column.values
