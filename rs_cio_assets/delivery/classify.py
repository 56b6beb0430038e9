"""Give every staged row its outcome, in SQL over columns; rows that are to be sent come with their operation.

The rows stream from Parquet in one pass. What is kept of them are small tables: keys that repeat within the day, what the
ledger holds, people who are unknown or gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from pathlib import Path

import duckdb
import pyarrow as pa

from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import OPERATION_BYTES
from rs_cio_assets.delivery.expressions import ATTRIBUTES, FeedExpressions, literal, parquet, quoted, with_texts
from rs_cio_assets.delivery.options import DeliveryOptions
from rs_cio_assets.delivery.rules import (
    DUPLICATE_DIFFERS,
    FOUND_BY_ENGINE,
    PERSON_DELETED,
    PERSON_UNKNOWN,
    Rule,
    compile_rules,
    size_rule,
)

# "Events with a timestamp in the past 72 hours can trigger campaigns": Track API document (read 2026-08-13). The margin
# keeps a row whose clock differs a little from ours on the safe side.
TRIGGER_WINDOW = timedelta(hours=72)
HOLD_MARGIN = timedelta(minutes=5)
ROWS_PER_BATCH = 8_192  # larger Arrow batches cost cache and memory (performance.md, section A)
ROWS_PER_PASS = 1_000_000  # what is joined at once: two staged files, or many small ones
KEYS_PER_PASS = 1_500_000  # 64 bits each, what is grouped at once
_KEYED = ('"~row_key"', '"~source"', '"~us"')
_FILE_STRIDE = 10_000_000_000  # a row's position: its file's number times this, plus its place in the file
# A row's code is its outcome; of a rejected row, this plus the number of the rule that it breaks.
FIRST_RULE = 100
REFUSED_BEFORE = FIRST_RULE - 1  # rejected: Customer.io refused this content of the row in an earlier run
WAITS_FOR_PERSON = FIRST_RULE - 2  # held, without a date


class Outcome(IntEnum):
    """What becomes of a row. Every row has exactly one."""

    SEND = 0
    UNCHANGED = 1
    AMENDED = 2
    DUPLICATE = 3
    HELD = 4
    SUPERSEDED = 5
    REJECTED = 6


def staged_rows(files: Mapping[int, Path]) -> str:
    """A DuckDB relation of the rows of staged files with their position "~pos"; *files* by their number within the day."""
    parts = (
        f'SELECT * EXCLUDE (file_row_number), {number * _FILE_STRIDE} + file_row_number AS "~pos" '  # noqa: S608 - our own paths
        f"FROM {parquet([path], ', file_row_number = true')}"
        for number, path in files.items()
    )
    return f"({' UNION ALL '.join(parts)})"


def outcome_of(code: int) -> Outcome:
    """The outcome that a row's code says."""
    if code >= REFUSED_BEFORE:
        return Outcome.REJECTED
    return Outcome.HELD if code == WAITS_FOR_PERSON else Outcome(code)


@dataclass(frozen=True)
class PeopleKeys:
    """Who was acknowledged by a feed with one row per person: a DuckDB relation (row_key, day, occurred_at), and the row key that
    the feed gives to an identifier, an expression."""

    relation: str
    key_of: Callable[[str], str]


class Classifier:
    """One staged day against its ledger. First what the caller knows (`note_...`), then `counts` and `stream`, which agree."""

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        feed: Feed,
        contract: Contract,
        expressions: FeedExpressions,
        files: Sequence[tuple[Path, int]],
        day: date | None,
        now: datetime,
        options: DeliveryOptions,
    ) -> None:
        """*files* are the day's, with their rows. Finds the keys that stand in the day more than once."""
        self._database, self._feed, self._expressions = database, feed, expressions
        self._now, self._options = now, options
        self._compiled = compile_rules(feed, contract, day, now)
        self.rules: tuple[Rule, ...] = (*self._compiled, size_rule(feed), *FOUND_BY_ENGINE)
        self.rows_unchanged = 0  # set aside by note_delivered
        self._row_count = sum(rows for _, rows in files)
        self._rows = staged_rows({number: path for number, (path, _) in enumerate(files)})
        self._parts = [staged_rows(part) for part in _parts_of(files)]
        self._joins: list[str] = []  # what the small tables add to a row
        self._flags = {
            "~known_content": "NULL",
            "~is_known": "false",
            "~first_pos": "NULL",
            "~has_differences": "false",
            "~refused_content": "NULL",
            "~gone_rule": "NULL",
            "~is_superseded": "false",
        }
        self._gone_tables = 0
        self._has_unknown = False
        self._has_repeated = self._find_repeated()

    def note_delivered(self, segments: Sequence[Path]) -> None:
        """Compare with the ledger's *segments* and set aside the rows that were delivered as they are; all that follows looks at
        the others only."""
        if not segments or self._options.has_resend:
            return
        e = self._expressions
        repeated = ("LEFT JOIN repeated AS r USING (row_key)", "count(r.row_key) > 0") if self._has_repeated else ("", "false")
        # Also of the rows that repeat: they are compared by their content.
        differs = "l.source_hash IS DISTINCT FROM k.source_hash"
        content = "l.content_hash" if self._has_repeated else f"CASE WHEN {differs} THEN l.content_hash END"
        self._database.execute("CREATE TABLE changed (pos BIGINT, content_hash VARCHAR, is_known BOOLEAN)")
        for part in self._parts:
            self._database.execute(
                f'CREATE OR REPLACE TABLE keyed AS SELECT "~pos" AS pos, {e.row_key} AS row_key, {e.source_hash} AS source_hash '  # noqa: S608
                f"FROM {part}"
            )
            # The ledger passes by the rows of this part, however long it is; of each row its latest acknowledgement counts.
            self._database.execute(
                f"""
                INSERT INTO changed
                SELECT pos, content_hash, is_known FROM (
                    SELECT k.pos, any_value(k.source_hash) AS own_hash, arg_max(l.source_hash, l.acknowledged_at) AS source_hash,
                           arg_max({content}, l.acknowledged_at) AS content_hash,
                           count(l.row_key) > 0 AS is_known, {repeated[1]} AS is_repeated
                    FROM keyed AS k LEFT JOIN {parquet(segments)} AS l USING (row_key) {repeated[0]} GROUP BY k.pos
                ) WHERE is_repeated OR own_hash IS DISTINCT FROM source_hash
                """  # noqa: S608 - names of our own
            )
        self._database.execute("DROP TABLE keyed")
        self.rows_unchanged = self._row_count - self._count("changed")
        self._joins.append('INNER JOIN changed AS c ON c.pos = k."~pos"')
        self._flags |= {"~known_content": "c.content_hash", "~is_known": "c.is_known"}

    @property
    def rows_left(self) -> int:
        """Rows that are not set aside."""
        return self._row_count - self.rows_unchanged

    def note_refused(self, rejections: str, version: str) -> None:
        """Leave out what Customer.io refused in an earlier run (*rejections*), as long as row and contract stay as they were."""
        if self._options.has_resend:
            return
        replay = "".join(f" AND reason <> {literal(reason)}" for reason in sorted(self._options.replay))
        if "all" not in self._options.replay and self._keep(
            "refused",
            f"SELECT DISTINCT row_key, content_hash FROM {rejections} "  # noqa: S608
            f"WHERE starts_with(reason, 'customerio_') AND contract = {literal(version)}{replay}",
        ):
            self._join("refused AS p", 'p.row_key = k."~row_key"')
            self._flags["~refused_content"] = "p.content_hash"

    def note_gone(self, gone: PeopleKeys, rule: Rule) -> None:
        """Reject by *rule* the rows of people in *gone*.

        A deleted person may come back: rows after the deletion's time are fine. A merged identifier never does.
        """
        until = "max(occurred_at)" if rule is PERSON_DELETED else "'infinity'::TIMESTAMPTZ"
        self._gone_tables += 1
        name = f"gone_{self._gone_tables}"
        if self._keep(
            name,
            f"SELECT identifier, {until} AS until FROM {self._people(self._rows)} AS people "  # noqa: S608
            f"INNER JOIN {gone.relation} AS gone ON gone.row_key = {gone.key_of('people.identifier')} GROUP BY identifier",
        ):
            person, moment = quoted(self._feed.identifier), quoted(self._feed.time_column)
            self._join(name, f"{name}.identifier = k.{person} AND k.{moment} <= {name}.until")
            code = f"CASE WHEN {name}.until IS NOT NULL THEN {FIRST_RULE + self.rules.index(rule)} END"
            self._flags["~gone_rule"] = f"coalesce({self._flags['~gone_rule']}, {code})"

    def note_superseded(self, acknowledged: str, day: str) -> None:
        """Pass over rows whose key a later day of the feed has settled (*acknowledged*): what is older must not undo it."""
        if self._keep("superseded", f"SELECT DISTINCT row_key FROM {acknowledged} WHERE day > {literal(day)}"):  # noqa: S608
            self._join("superseded AS t", 't.row_key = k."~row_key"')
            self._flags["~is_superseded"] = "t.row_key IS NOT NULL"

    def note_unknown_people(
        self, known: Sequence[PeopleKeys], deleted: Sequence[PeopleKeys], *, is_outcome: bool = True
    ) -> pa.ChunkedArray:
        """Find who, among those with an undelivered row, is in none of *known*, or was deleted since.

        Returns their identifiers. Their rows wait or are rejected, unless this *is_outcome* is false. May be called again after
        some of them were delivered.
        """
        self._database.execute("CREATE OR REPLACE TABLE unknown_people (identifier VARCHAR)")
        for part in self._parts:
            people = self._people(part, 'WHERE NOT "~is_known"')
            self._database.execute(f"CREATE OR REPLACE TABLE named AS SELECT *, NULL::TIMESTAMPTZ AS gone_at FROM {people}")  # noqa: S608
            for keys in deleted:
                self._database.execute(
                    "UPDATE named SET gone_at = greatest(coalesce(gone_at, d.at), d.at) FROM "  # noqa: S608 - names of our own
                    f"(SELECT row_key, max(occurred_at) AS at FROM {keys.relation} GROUP BY row_key) AS d "
                    f"WHERE d.row_key = {keys.key_of('identifier')}"
                )
            strangers = "".join(
                f" ANTI JOIN {keys.relation} AS known_{n} ON known_{n}.row_key = {keys.key_of('named.identifier')}"
                + (f" AND (named.gone_at IS NULL OR known_{n}.occurred_at > named.gone_at)" if deleted else "")
                for n, keys in enumerate(known)
            )
            self._database.execute(f"INSERT INTO unknown_people SELECT identifier FROM named{strangers}")  # noqa: S608
        unknown = self._database.sql("SELECT DISTINCT identifier FROM unknown_people").to_arrow_table()["identifier"]
        self._has_unknown = is_outcome and len(unknown) > 0
        return unknown

    def counts(self) -> dict[int, tuple[int, int]]:
        """Code -> rows, and how many of them could start a campaign now; without encoding an operation."""
        if not self.rows_left:
            return {int(Outcome.UNCHANGED): (self.rows_unchanged, 0)}
        could_trigger = f'"~us" > {self._trigger_us()}' if self._feed.kind is FeedKind.EVENT else "true"
        counts = {int(Outcome.UNCHANGED): (self.rows_unchanged, 0)}
        for part in self._parts:
            found = self._database.execute(
                f'SELECT "~code", count(*), count(*) FILTER ({could_trigger}) FROM {self._coded(part)} GROUP BY 1'  # noqa: S608
            )
            for code, rows, young in found.fetchall():
                rows_before, young_before = counts.get(code, (0, 0))
                counts[code] = (rows_before + rows, young_before + young)
        return counts

    def stream(self) -> Iterator[pa.RecordBatch]:
        """Every row that is not set aside, in bounded batches and in no order: pos, code, occurred_us; what is sent also has
        row_key, content_hash, source_hash and operation, what is rejected row_key, content_hash and business_key."""
        e, is_sent, is_rejected = self._expressions, f'"~code" = {Outcome.SEND}', f'"~code" >= {REFUSED_BEFORE}'
        for part in self._parts:
            yield from self._database.sql(
                f"""
                SELECT "~pos" AS pos, "~code" AS code, "~us" AS occurred_us,
                       CASE WHEN {is_sent} OR {is_rejected} THEN "~row_key" END AS row_key,
                       CASE WHEN {is_sent} OR {is_rejected} THEN "~content" END AS content_hash,
                       CASE WHEN {is_sent} THEN "~source" END AS source_hash,
                       CASE WHEN {is_rejected} THEN {e.business_key} END AS business_key,
                       CASE WHEN {is_sent} THEN {e.operation} END AS operation
                FROM {self._coded(part)}
                """  # noqa: S608 - names and literals are quoted
            ).to_arrow_reader(ROWS_PER_BATCH)

    def keep_codes(self, table: str) -> None:
        """Make *table* (pos, code) of every row that is not set aside."""
        self._database.execute(f"CREATE TABLE {table} (pos BIGINT, code SMALLINT)")
        for part in self._parts if self.rows_left else ():
            self._database.execute(f'INSERT INTO {table} SELECT "~pos", "~code" FROM {self._coded(part)}')  # noqa: S608

    def _coded(self, rows: str) -> str:
        """*rows* with their "~code"."""
        is_event, is_resend = self._feed.kind is FeedKind.EVENT, self._options.has_resend
        unknown = WAITS_FOR_PERSON if self._feed.unknown_person == "hold" else FIRST_RULE + self.rules.index(PERSON_UNKNOWN)
        cases = (
            ('"~rule" IS NOT NULL', f'{FIRST_RULE} + "~rule"', True),
            ('"~has_differences"', FIRST_RULE + self.rules.index(DUPLICATE_DIFFERS), True),
            ('"~pos" <> "~first_pos"', Outcome.DUPLICATE, True),
            ('"~content" = "~known_content"', Outcome.UNCHANGED, not is_resend),
            ('"~is_known"', Outcome.AMENDED, is_event and not is_resend),
            ('"~content" = "~refused_content"', REFUSED_BEFORE, True),
            ('"~gone_rule" IS NOT NULL', '"~gone_rule"', True),
            (f"{quoted(self._feed.identifier)} IN (SELECT identifier FROM unknown_people)", unknown, self._has_unknown),  # noqa: S608
            ('"~is_superseded"', Outcome.SUPERSEDED, True),
            (self._is_held(), Outcome.HELD, is_event),
        )
        chosen = " ".join(f"WHEN {condition} THEN {code}" for condition, code, is_asked in cases if is_asked)
        code = f"(CASE {chosen} ELSE {Outcome.SEND} END)::SMALLINT"
        return f'(SELECT *, {code} AS "~code" FROM {self._ruled(self._joined(rows))})'  # noqa: S608

    def _find_repeated(self) -> bool:
        keys = f"hash({', '.join(quoted(name) for name in self._feed.key_columns)})"
        self._database.execute('CREATE TABLE suspects ("~hash" UBIGINT)')
        passes = 1 + self._row_count // KEYS_PER_PASS
        for number in range(passes):  # each looks at its share of the keys, so that memory stays flat
            self._database.execute(
                f'INSERT INTO suspects SELECT "~hash" FROM (SELECT {keys} AS "~hash" FROM {self._rows}) '  # noqa: S608
                f'WHERE "~hash" % {passes} = {number} GROUP BY 1 HAVING count(*) > 1'
            )
        if not self._count("suspects"):
            return False
        suspects = f'(SELECT * FROM {self._rows} WHERE {keys} IN (SELECT "~hash" FROM suspects))'  # noqa: S608
        count = self._keep(
            "repeated",
            'SELECT "~row_key" AS row_key, min("~pos") AS first_pos, min("~content") <> max("~content") AS has_differences '  # noqa: S608
            f'FROM {self._ruled(self._joined(suspects))} WHERE "~rule" IS NULL GROUP BY 1 HAVING count(*) > 1',
        )
        if count:
            self._join("repeated AS r", 'r.row_key = k."~row_key"')
            self._flags |= {"~first_pos": "r.first_pos", "~has_differences": "coalesce(r.has_differences, false)"}
        return bool(count)

    def _joined(self, rows: str) -> str:
        """*rows* with their keys, and what the small tables say of them."""
        e = self._expressions
        row_key, source, us = _KEYED
        flags = ", ".join(f'{sql} AS "{name}"' for name, sql in self._flags.items())
        keyed = f"(SELECT *, {e.row_key} AS {row_key}, {e.source_hash} AS {source}, {e.occurred_us} AS {us} FROM {rows})"  # noqa: S608
        return f"(SELECT k.*, {flags} FROM {keyed} AS k {' '.join(self._joins)})"  # noqa: S608

    def _ruled(self, rows: str) -> str:
        """*rows* (joined) with "~rule", "~attributes" and "~content"; a row that breaks a rule is not encoded."""
        e, last = self._expressions, len(self._compiled)
        cases = " ".join(f"WHEN {rule.condition} THEN {number}" for number, rule in enumerate(self._compiled))
        layer = f'(SELECT *, CASE {cases} END AS "~broken" FROM {with_texts(e, rows)})'  # noqa: S608
        layer = f'(SELECT *, CASE WHEN "~broken" IS NULL THEN {e.attributes} END AS {ATTRIBUTES} FROM {layer})'  # noqa: S608
        # The exact size is measured only where the attributes alone come near the limit.
        is_large = f"strlen({ATTRIBUTES}) > {OPERATION_BYTES - 2_000} AND strlen({e.operation}) - 1 > {OPERATION_BYTES}"
        return (
            f'(SELECT *, CASE WHEN {ATTRIBUTES} IS NOT NULL THEN {e.content_hash} END AS "~content", '  # noqa: S608
            f'CASE WHEN {is_large} THEN {last} ELSE "~broken" END AS "~rule" FROM {layer})'
        )

    def _people(self, rows: str, where: str = "") -> str:
        """The well-formed identifiers of *rows*; with *where* only those of some (joined)."""
        identifier = quoted(self._feed.identifier)
        shape = " AND ".join(f"({r.condition}) IS NOT TRUE" for r in self._compiled if r.column == self._feed.identifier)
        rows = f"(SELECT * FROM {rows} WHERE {shape})"  # noqa: S608
        return f"(SELECT DISTINCT {identifier} AS identifier FROM {self._joined(rows) if where else rows} {where})"  # noqa: S608

    def _is_held(self) -> str:
        """Could still start a journey and should not: older than the feed wants, from before it went live, or of a backfill
        that waits."""
        reasons = []
        if self._feed.max_trigger_age_hours is not None:
            reasons.append(f'"~us" < {_us(self._now - timedelta(hours=self._feed.max_trigger_age_hours))}')
        if self._feed.live_from is not None:
            live_from = self._feed.live_from if self._feed.live_from.tzinfo else self._feed.live_from.replace(tzinfo=UTC)
            reasons.append(f'"~us" < {_us(live_from)}')
        if self._options.is_backfill and (self._options.on_backfill or self._feed.on_backfill) == "hold":
            reasons.append("true")
        return f'"~us" > {self._trigger_us()} AND ({" OR ".join(reasons)})' if reasons else "false"

    def _trigger_us(self) -> int:
        return _us(self._now - TRIGGER_WINDOW - HOLD_MARGIN)

    def _join(self, table: str, condition: str) -> None:
        self._joins.append(f"LEFT JOIN {table} ON {condition}")

    def _keep(self, name: str, query: str) -> int:
        """Make the table *name*; its number of rows."""
        self._database.execute(f"CREATE TABLE {name} AS {query}")
        return self._count(name)

    def _count(self, table: str) -> int:
        ((count,),) = self._database.execute(f"SELECT count(*) FROM {table}").fetchall()  # noqa: S608
        return count


def _parts_of(files: Sequence[tuple[Path, int]]) -> Iterator[dict[int, Path]]:
    """The files by their number, in parts of about ROWS_PER_PASS rows: what is joined at once stays small, whatever the day."""
    part: dict[int, Path] = {}
    count = 0
    for number, (path, rows) in enumerate(files):
        if part and count + rows > ROWS_PER_PASS:
            yield part
            part, count = {}, 0
        part[number] = path
        count += rows
    if part:
        yield part


def due_at(occurred_us: int) -> datetime:
    """When an event of that time can start no campaign any more."""
    return datetime.fromtimestamp(occurred_us / 1_000_000, UTC) + TRIGGER_WINDOW + HOLD_MARGIN


def _us(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
