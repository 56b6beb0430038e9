"""A query of the contract's logic/, run in the warehouse: its mistakes, counted on disk. No Dagster here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from rs_cio_assets.checks.results import SAMPLES_SHOWN, hashed
from rs_cio_assets.contract.models import Feed
from rs_cio_assets.contract.segments import Logic
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import parquet, quoted
from rs_cio_assets.warehouse import Session, keep_answer
from rs_cio_assets.warehouse.sql import quoted as sql_quoted
from rs_cio_assets.warehouse.sql import view_name

PROBLEMS_SHOWN = 10
PROBLEM_LENGTH = 80


@dataclass(frozen=True)
class LogicReport:
    """*rows* of the feed's view in the time, *mistakes* among them, people concerned; samples are (person hashed, problem)."""

    rows: int
    mistakes: int
    people: int
    by_problem: Mapping[str, int]
    samples: Sequence[tuple[str, str]]


def recompute(session: Session, logic: Logic, feed: Feed, since: datetime, now: datetime, scratch: Path) -> LogicReport:
    """Run the query for rows from *since* to *now* (aware). Raises: WarehouseRefused (bad SQL), WarehouseUnavailable."""
    at = sql_quoted(feed.time_column)
    path = scratch / f"{logic.name}.parquet"
    schema = pa.schema([(feed.identifier, pa.string()), ("problem", pa.string())])
    mistakes = keep_answer(session, logic.sql, {"now": now, "since": since}, schema, path)
    ((rows,),) = session.fetch(
        f"SELECT COUNT(*) FROM {view_name(feed)} WHERE {at} >= %s AND {at} < %s",  # noqa: S608 - quoted names
        (since.replace(tzinfo=None), now.replace(tzinfo=None)),
    )
    session.commit()
    if not mistakes:
        return LogicReport(rows, 0, 0, {}, ())
    person, problem = quoted(feed.identifier), f"left(coalesce(problem, 'not said'), {PROBLEM_LENGTH})"
    with open_database() as database:
        found = parquet([path])
        ((people,),) = database.execute(f"SELECT count(DISTINCT {person}) FROM {found}").fetchall()  # noqa: S608 - quoted names
        counts = database.execute(
            f"SELECT {problem}, count(*) FROM {found} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {PROBLEMS_SHOWN}"  # noqa: S608
        ).fetchall()
        shown = database.execute(
            f"SELECT {person}, {problem} FROM {found} ORDER BY md5({person}) LIMIT {SAMPLES_SHOWN}"  # noqa: S608
        ).fetchall()
    return LogicReport(rows, mistakes, people, dict(counts), tuple((hashed(who), what) for who, what in shown))
