"""Give every staged row its outcome: send, unchanged, amended, duplicate, held or rejected. Narrow columns only.

The rows themselves stay in Parquet; what is kept of each is its position, two hashes and its outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.delivery.expressions import FeedExpressions, literal
from rs_cio_assets.delivery.rules import DUPLICATE_DIFFERS, Rule, compile_rules, size_rule

# "Events with a timestamp in the past 72 hours can trigger campaigns": Track API document (read 2026-08-13). The margin
# keeps a row whose clock differs a little from ours on the safe side.
TRIGGER_WINDOW = timedelta(hours=72)
HOLD_MARGIN = timedelta(minutes=5)
_FILE_STRIDE = 10_000_000_000  # a row's position: its file's number times this, plus its place in the file


@dataclass(frozen=True)
class Classified:
    """Rows by outcome, and the latest time at which a held row becomes history (None without held rows)."""

    rows: Mapping[str, int]
    held_until: datetime | None


def staged_rows(files: Sequence[Path]) -> str:
    """A DuckDB relation of all staged rows with their position `pos`."""
    parts = (
        f"SELECT *, {number * _FILE_STRIDE} + file_row_number AS pos "  # noqa: S608 - paths of our own
        f"FROM read_parquet({literal(str(path))}, file_row_number = true)"
        for number, path in enumerate(files)
    )
    return f"({' UNION ALL '.join(parts)})"


def classify(
    database: duckdb.DuckDBPyConnection,
    feed: Feed,
    contract: Contract,
    expressions: FeedExpressions,
    files: Sequence[Path],
    ledger: Sequence[Path],
    day: date,
    now: datetime,
) -> Classified:
    """Make the tables `outcomes` (pos, row_key, outcome, rule) and `rejections`; returns the counts."""
    rules = (
        *compile_rules(feed, contract, day, now),
        size_rule(feed, expressions.operation),
        DUPLICATE_DIFFERS,
    )
    cases = " ".join(f"WHEN {rule.condition} THEN {number}" for number, rule in enumerate(rules))
    database.execute(
        f"""
        CREATE TABLE keyed AS
        SELECT pos, {expressions.row_key} AS row_key, {expressions.content_hash} AS content_hash,
               {expressions.occurred_us} AS occurred_us, (CASE {cases} END)::SMALLINT AS rule
        FROM {staged_rows(files)}
        """  # noqa: S608 - names and literals are quoted
    )
    _read_ledger(database, ledger)
    is_event = feed.kind is FeedKind.EVENT
    database.execute(
        f"""
        CREATE TABLE outcomes AS
        WITH repeated AS (
            SELECT row_key, min(pos) AS first_pos, count(DISTINCT content_hash) > 1 AS has_differences
            FROM keyed WHERE rule IS NULL GROUP BY row_key HAVING count(*) > 1
        )
        SELECT k.pos, k.row_key, k.occurred_us,
               CASE WHEN k.rule IS NULL AND r.has_differences THEN {len(rules) - 1} ELSE k.rule END AS rule,
               CASE WHEN k.rule IS NOT NULL OR r.has_differences THEN 'rejected'
                    WHEN k.pos <> r.first_pos THEN 'duplicate'
                    WHEN k.content_hash = l.content_hash THEN 'unchanged'
                    WHEN {is_event} AND l.row_key IS NOT NULL THEN 'amended'
                    WHEN {_is_stale(feed, now)} THEN 'held'
                    ELSE 'send' END AS outcome
        FROM keyed AS k
        LEFT JOIN repeated AS r ON r.row_key = k.row_key AND k.rule IS NULL
        LEFT JOIN delivered AS l ON l.row_key = k.row_key
        """  # noqa: S608
    )
    _note_rejections(database, expressions, files, rules)
    counts = dict(database.execute("SELECT outcome, count(*) FROM outcomes GROUP BY outcome").fetchall())
    ((latest,),) = database.execute("SELECT max(occurred_us) FROM outcomes WHERE outcome = 'held'").fetchall()
    return Classified(counts, None if latest is None else _due(latest))


def _read_ledger(database: duckdb.DuckDBPyConnection, ledger: Sequence[Path]) -> None:
    """The table `delivered`: the latest acknowledged content of each key."""
    if not ledger:
        database.execute("CREATE TABLE delivered (row_key VARCHAR, content_hash VARCHAR)")
        return
    paths = ", ".join(literal(str(path)) for path in ledger)
    database.execute(
        f"""
        CREATE TABLE delivered AS
        SELECT row_key, arg_max(content_hash, acknowledged_at) AS content_hash
        FROM read_parquet([{paths}]) SEMI JOIN keyed USING (row_key) GROUP BY row_key
        """  # noqa: S608
    )


def _is_stale(feed: Feed, now: datetime) -> str:
    """Could still start a journey, and should not: older than the feed wants, or from before it went live."""
    if feed.kind is not FeedKind.EVENT:
        return "false"
    reasons = []
    if feed.max_trigger_age_hours is not None:
        reasons.append(f"k.occurred_us < {_us(now - timedelta(hours=feed.max_trigger_age_hours))}")
    if feed.live_from is not None:
        live_from = feed.live_from if feed.live_from.tzinfo else feed.live_from.replace(tzinfo=UTC)
        reasons.append(f"k.occurred_us < {_us(live_from)}")
    if not reasons:
        return "false"
    return f"k.occurred_us > {_us(now - TRIGGER_WINDOW - HOLD_MARGIN)} AND ({' OR '.join(reasons)})"


def _note_rejections(
    database: duckdb.DuckDBPyConnection, expressions: FeedExpressions, files: Sequence[Path], rules: Sequence[Rule]
) -> None:
    table = pa.table(
        {
            "rule": pa.array(range(len(rules)), pa.int16()),
            "reason": [rule.reason for rule in rules],
            "column_name": pa.array([rule.column for rule in rules], pa.string()),
            "message": [rule.message for rule in rules],
        }
    )
    database.register("rules", table)
    database.execute(
        f"""
        CREATE TABLE rejections AS
        SELECT o.row_key, {expressions.business_key} AS business_key, u.reason, u.column_name, u.message
        FROM {staged_rows(files)} AS s
        INNER JOIN (SELECT pos, row_key, rule FROM outcomes WHERE outcome = 'rejected') AS o ON o.pos = s.pos
        INNER JOIN rules AS u ON u.rule = o.rule
        """  # noqa: S608
    )


def _due(occurred_us: int) -> datetime:
    return datetime.fromtimestamp(occurred_us / 1_000_000, UTC) + TRIGGER_WINDOW + HOLD_MARGIN


def _us(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
