"""Who asked to be deleted or blocked, by their last word in the views of the deletion and suppression feeds. No Dagster here."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from rs_cio_assets.contract.models import Contract, FeedKind
from rs_cio_assets.delivery.expressions import literal, parquet
from rs_cio_assets.errors import RsCioError
from rs_cio_assets.warehouse import Session, keep_answer, sql

_WORDS = pa.schema(
    [
        ("customer_id", pa.string()),
        ("said_at", pa.timestamp("us", tz="UTC")),
        ("loaded_at", pa.timestamp("us", tz="UTC")),
        ("is_gone", pa.bool_()),
    ]
)


def note_words(database: duckdb.DuckDBPyConnection, contract: Contract, session: Session, scratch: Path, now: datetime) -> None:
    """Make the table words (customer_id, feed, said_at, loaded_at, is_blocked): everybody whose last word is that they go.

    A block holds until it is lifted, whatever is said in between; a deletion until its person is let in again. Of two words of
    one second, the one that goes counts. *feed* is the one that said it. What is said after *now* is not known yet; what names
    nobody, or does not say what is asked for, is rejected by the delivery and counts for nothing here.
    """
    database.execute(
        "CREATE TABLE said (feed VARCHAR, kind VARCHAR, customer_id VARCHAR, said_at TIMESTAMPTZ, loaded_at TIMESTAMPTZ, "
        "is_gone BOOLEAN)"
    )
    for feed in contract.feeds_of(FeedKind.DELETION, FeedKind.SUPPRESSION):
        path = scratch / f"{feed.name}.words.parquet"
        columns = {
            "customer_id": sql.quoted(feed.identifier),
            "said_at": sql.quoted(feed.time_column),
            "loaded_at": sql.quoted(feed.loaded_at),
            "is_gone": sql.quoted(feed.suppressed_column) if feed.suppressed_column else "TRUE",
        }
        select = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
        try:
            keep_answer(session, f"SELECT {select} FROM {sql.view_name(feed)}", {}, _WORDS, path)  # noqa: S608 - names are quoted
        except RsCioError as error:
            raise error.at(feed.name) from None
        database.execute(
            f"INSERT INTO said SELECT {literal(feed.name)}, {literal(feed.kind)}, * FROM {parquet([path])} "  # noqa: S608
            "WHERE said_at <= ? AND trim(customer_id) <> '' AND is_gone IS NOT NULL",
            [now],
        )
    database.execute(
        """
        CREATE TABLE words AS
        WITH last AS (
            SELECT * FROM said
            QUALIFY row_number() OVER (PARTITION BY customer_id, kind ORDER BY said_at DESC, is_gone DESC) = 1
        ),
        blocks AS (FROM last WHERE kind = 'suppression')
        SELECT customer_id, feed, said_at, loaded_at, true AS is_blocked FROM blocks WHERE is_gone
        UNION ALL
        SELECT d.customer_id, d.feed, d.said_at, d.loaded_at, false FROM last AS d LEFT JOIN blocks AS b USING (customer_id)
        WHERE d.kind = 'deletion' AND (b.customer_id IS NULL OR (NOT b.is_gone AND b.said_at < d.said_at))
        """
    )
