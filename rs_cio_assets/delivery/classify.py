"""Give every staged row its outcome, in SQL over columns; rows that are to be sent come with their operation.

The rows stream from Parquet in one pass. What is kept of them are small tables: keys that repeat within the day, what the
ledger holds, people who are unknown or gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from pathlib import Path

import duckdb
import pyarrow as pa

from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import OPERATION_BYTES
from rs_cio_assets.delivery.expressions import ATTRIBUTES, FeedExpressions, literal, quoted
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
_KEYED = ('"~row_key"', '"~source"', '"~us"')
_FILE_STRIDE = 10_000_000_000  # a row's position: its file's number times this, plus its place in the file
# A row's code is its outcome; of a rejected row, this plus the number of the rule that it breaks.
FIRST_RULE = 100
REFUSED_BEFORE = FIRST_RULE - 1  # rejected: Customer.io refused this content of the row in an earlier run


class Outcome(IntEnum):
    """What becomes of a row. Every row has exactly one."""

    SEND = 0
    UNCHANGED = 1
    AMENDED = 2
    DUPLICATE = 3
    HELD = 4
    SUPERSEDED = 5
    REJECTED = 6


def staged_rows(files: Sequence[Path]) -> str:
    """A DuckDB relation of all staged rows with their position "~pos"."""
    parts = (
        f'SELECT * EXCLUDE (file_row_number), {number * _FILE_STRIDE} + file_row_number AS "~pos" '  # noqa: S608 - our own paths
        f"FROM read_parquet({literal(str(path))}, file_row_number = true)"
        for number, path in enumerate(files)
    )
    return f"({' UNION ALL '.join(parts)})"


def outcome_of(code: int) -> Outcome:
    """The outcome that a row's code says."""
    return Outcome.REJECTED if code >= REFUSED_BEFORE else Outcome(code)


class Classifier:
    """One staged day against its ledger. First what the caller knows (`note_...`), then `counts` and `stream`, which agree."""

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        feed: Feed,
        contract: Contract,
        expressions: FeedExpressions,
        files: Sequence[Path],
        day: date | None,
        now: datetime,
        options: DeliveryOptions,
    ) -> None:
        self._database, self._feed, self._expressions = database, feed, expressions
        self._now, self._options = now, options
        self._rows = staged_rows(files)
        self._compiled = compile_rules(feed, contract, day, now)
        self.rules: tuple[Rule, ...] = (*self._compiled, size_rule(feed), *FOUND_BY_ENGINE)
        self.rows_unchanged = 0  # set aside by note_delivered
        self._has_unknown = False
        self._joins: list[str] = []  # what the small tables add to a row
        self._flags = {
            "~known_content": "NULL",
            "~is_known": "false",
            "~is_same": "false",
            "~first_pos": "NULL",
            "~has_differences": "false",
            "~refused_content": "NULL",
            "~gone_rule": "NULL",
            "~is_superseded": "false",
        }

    def note_delivered(self, delivered: str, *, is_complete: bool = False) -> None:
        """Compare with *delivered*, a relation of the ledger's latest acknowledgements; empty text: nothing was delivered.

        Call it first: it also finds the keys that stand in the day more than once. With *is_complete* most rows are expected to
        be delivered already: the others are set aside at once, and all that follows looks at those only.
        """
        has_repeated = self._find_repeated()
        if not delivered:
            return
        is_same = 'coalesce(l.source_hash = k."~source", false)' + (" AND r.row_key IS NULL" if has_repeated else "")
        self._flags |= {"~known_content": "l.content_hash", "~is_known": "l.row_key IS NOT NULL", "~is_same": is_same}
        self._join(f"{delivered} AS l", 'l.row_key = k."~row_key"')
        if not is_complete or self._options.has_resend:
            return
        changed = self._keep(
            "changed",
            f'SELECT * EXCLUDE ({", ".join(_KEYED)}, {", ".join(map(quoted, self._flags))}), "~known_content" AS "~l_content", '  # noqa: S608
            f'"~is_known" AS "~l_is_known" FROM {self._joined(self._rows)} WHERE NOT "~is_same"',
        )
        ((count,),) = self._database.execute(f"SELECT count(*) FROM {self._rows}").fetchall()  # noqa: S608
        self.rows_unchanged = count - changed
        self._rows = "changed"
        del self._joins[-1]
        self._flags |= {"~known_content": 'k."~l_content"', "~is_known": 'k."~l_is_known"', "~is_same": "false"}

    def note_refused(self, rejections: str, version: str) -> None:
        """Leave out what Customer.io refused in an earlier run (*rejections*), as long as row and contract stay as they were."""
        replay = "".join(f" AND reason <> {literal(reason)}" for reason in sorted(self._options.replay))
        if "all" not in self._options.replay and self._keep(
            "refused",
            f"SELECT DISTINCT row_key, content_hash FROM {rejections} "  # noqa: S608
            f"WHERE starts_with(reason, 'customerio_') AND contract = {literal(version)}{replay}",
        ):
            self._join("refused AS p", 'p.row_key = k."~row_key"')
            self._flags["~refused_content"] = "p.content_hash"

    def note_gone(self, gone: str, person_key: Callable[[str], str], rule: Rule) -> None:
        """Reject by *rule* the rows of people in the relation *gone*, whose row_key is *person_key* of the identifier.

        A deleted person may come back: rows after the deletion's time are fine. A merged identifier never does.
        """
        until = "max(occurred_at)" if rule is PERSON_DELETED else "'infinity'::TIMESTAMPTZ"
        name = f"gone_{len(self._joins)}"
        if self._keep(
            name,
            f"SELECT identifier, {until} AS until FROM {self._people()} AS people "  # noqa: S608
            f"INNER JOIN {gone} AS gone ON gone.row_key = {person_key('people.identifier')} GROUP BY identifier",
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

    def note_unknown_people(self, known: Sequence[tuple[str, Callable[[str], str]]]) -> pa.ChunkedArray:
        """Find who, among those with an undelivered row, is in none of *known*: relations, each with its key of an identifier.

        Returns their identifiers. May be called again after some of them were delivered.
        """
        strangers = "".join(
            f" ANTI JOIN {relation} AS known_{n} ON known_{n}.row_key = {key('people.identifier')}"
            for n, (relation, key) in enumerate(known)
        )
        self._database.execute("DROP TABLE IF EXISTS unknown_people")
        people = self._people('WHERE NOT "~is_known"')
        if self._keep("unknown_people", f"SELECT identifier FROM {people} AS people{strangers}"):  # noqa: S608
            self._has_unknown = True
        return self._database.sql("SELECT identifier FROM unknown_people").to_arrow_table()["identifier"]

    def counts(self) -> dict[int, tuple[int, int]]:
        """Code -> rows, and how many of them could start a campaign now; without encoding an operation."""
        could_trigger = f'"~us" > {self._trigger_us()}' if self._feed.kind is FeedKind.EVENT else "true"
        found = self._database.execute(
            f'SELECT "~code", count(*), count(*) FILTER ({could_trigger}) FROM {self._coded()} GROUP BY 1'  # noqa: S608
        )
        counts = {code: (rows, young) for code, rows, young in found.fetchall()}
        rows, young = counts.get(Outcome.UNCHANGED, (0, 0))
        return counts | {int(Outcome.UNCHANGED): (rows + self.rows_unchanged, young)}

    def stream(self) -> Iterator[pa.RecordBatch]:
        """Every row that is not set aside, in bounded batches and in no order: pos, code, occurred_us; what is sent also has
        row_key, content_hash, source_hash and operation, what is rejected row_key, content_hash and business_key."""
        e, is_sent, is_rejected = self._expressions, f'"~code" = {Outcome.SEND}', f'"~code" >= {REFUSED_BEFORE}'
        yield from self._database.sql(
            f"""
            SELECT "~pos" AS pos, "~code" AS code, "~us" AS occurred_us,
                   CASE WHEN {is_sent} OR {is_rejected} THEN "~row_key" END AS row_key,
                   CASE WHEN {is_sent} OR {is_rejected} THEN "~content" END AS content_hash,
                   CASE WHEN {is_sent} THEN "~source" END AS source_hash,
                   CASE WHEN {is_rejected} THEN {e.business_key} END AS business_key,
                   CASE WHEN {is_sent} THEN {e.operation} END AS operation
            FROM {self._coded()}
            """  # noqa: S608 - names and literals are quoted
        ).to_arrow_reader(ROWS_PER_BATCH)

    def _coded(self) -> str:
        """All rows with their "~code"."""
        is_event, is_resend = self._feed.kind is FeedKind.EVENT, self._options.has_resend
        unknown = Outcome.HELD if self._feed.unknown_person == "hold" else FIRST_RULE + self.rules.index(PERSON_UNKNOWN)
        cases = (
            ('"~is_same"', Outcome.UNCHANGED, not is_resend),
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
        return f'(SELECT *, {code} AS "~code" FROM {self._ruled(self._joined(self._rows))})'  # noqa: S608

    def _find_repeated(self) -> bool:
        keys = ", ".join(quoted(name) for name in self._feed.key_columns)
        if not self._keep("suspects", f"SELECT hash({keys}) AS h FROM {self._rows} GROUP BY h HAVING count(*) > 1"):  # noqa: S608
            return False
        suspects = f"(SELECT * FROM {self._rows} WHERE hash({keys}) IN (SELECT h FROM suspects))"  # noqa: S608
        count = self._keep(
            "repeated",
            'SELECT "~row_key" AS row_key, min("~pos") AS first_pos, count(DISTINCT "~content") > 1 AS has_differences '  # noqa: S608
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
        """*rows* (joined) with "~rule", "~attributes" and "~content". An unchanged row is neither validated nor encoded."""
        e, last = self._expressions, len(self._compiled)
        cases = " ".join(f"WHEN {rule.condition} THEN {number}" for number, rule in enumerate(self._compiled))
        is_open = "NOT false" if self._options.has_resend else 'NOT "~is_same"'
        layer = f"(SELECT *{e.texts} FROM {rows})"  # noqa: S608
        layer = f'(SELECT *, CASE WHEN {is_open} THEN CASE {cases} END END AS "~broken" FROM {layer})'  # noqa: S608
        layer = f'(SELECT *, CASE WHEN {is_open} AND "~broken" IS NULL THEN {e.attributes} END AS {ATTRIBUTES} FROM {layer})'  # noqa: S608
        # The exact size is measured only where the attributes alone come near the limit.
        is_large = f"strlen({ATTRIBUTES}) > {OPERATION_BYTES - 2_000} AND strlen({e.operation}) - 1 > {OPERATION_BYTES}"
        return (
            f'(SELECT *, CASE WHEN {ATTRIBUTES} IS NOT NULL THEN {e.content_hash} END AS "~content", '  # noqa: S608
            f'CASE WHEN {is_large} THEN {last} ELSE "~broken" END AS "~rule" FROM {layer})'
        )

    def _people(self, where: str = "") -> str:
        """The day's well-formed identifiers; with *where* only those of some rows (joined)."""
        identifier = quoted(self._feed.identifier)
        shape = " AND ".join(f"({r.condition}) IS NOT TRUE" for r in self._compiled if r.column == self._feed.identifier)
        rows = f"(SELECT * FROM {self._rows} WHERE {shape})"  # noqa: S608
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
        ((count,),) = self._database.execute(f"SELECT count(*) FROM {name}").fetchall()  # noqa: S608
        return count


def due_at(occurred_us: int) -> datetime:
    """When an event of that time can start no campaign any more."""
    return datetime.fromtimestamp(occurred_us / 1_000_000, UTC) + TRIGGER_WINDOW + HOLD_MARGIN


def _us(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
