"""The tables and views of the schema `cio_sync`: what they hold, their DDL for a DBA, and creating what is missing of them.

An upgrade only ever adds columns at the end of a table, nullable, and `create_log` adds them where the user may; rows are written
by column name, so a table that has more columns than this version knows is fine.
"""

from __future__ import annotations

from dataclasses import dataclass

from rs_cio_assets.errors import WarehouseRefused
from rs_cio_assets.warehouse.connection import Session
from rs_cio_assets.warehouse.views import create_schema

SCHEMA = "cio_sync"


@dataclass(frozen=True, eq=False)
class LogTable:
    """One table. *columns*: name -> (type, what it is). *dist* spreads its rows over the slices, *sort* orders them."""

    name: str
    about: str
    columns: dict[str, tuple[str, str]]
    dist: str
    sort: tuple[str, ...]

    @property
    def full_name(self) -> str:
        """With its schema."""
        return f"{SCHEMA}.{self.name}"

    def create(self) -> str:
        """CREATE TABLE IF NOT EXISTS."""
        columns = ",\n".join(f"    {name} {kind}" for name, (kind, _) in self.columns.items())
        attributes = f"DISTKEY ({self.dist}) SORTKEY ({', '.join(self.sort)})"
        return f"CREATE TABLE IF NOT EXISTS {self.full_name} (\n{columns}\n) {attributes}"

    def comments(self) -> list[str]:
        """COMMENT ON the table and each column."""
        said = {f"TABLE {self.full_name}": self.about}
        said |= {f"COLUMN {self.full_name}.{name}": about for name, (_, about) in self.columns.items()}
        return [f"COMMENT ON {what} IS '{text.replace(chr(39), 2 * chr(39))}'" for what, text in said.items()]


_PERSON = ("VARCHAR(1024)", "The person's identifier, as the feed gives it to Customer.io.")
_KEY = ("VARCHAR(4096)", "The row's business key in words, its parts joined by a space.")
_ROW_KEY = ("VARCHAR(32)", "Hash of feed (or event name) and business key: 32 hex digits, the same for ever.")
_FEED = ("VARCHAR(256)", "The feed of the contract.")
_DAY = ("DATE", "The UTC day (partition) that the row belongs to.")
_LOGGED = ("TIMESTAMP", "When this row was written here (UTC).")

# Distributed by the person, whom analysts join and group by; keys of people are many and even. Sorted by feed and day: what is
# replaced at once and what reports ask for lie together, so that Redshift skips the other blocks.
DELIVERIES = LogTable(
    "deliveries",
    "One row per feed, day and row key: what became of a row of an export view, and what Customer.io has acknowledged of it.",
    {
        "feed": _FEED,
        "day": _DAY,
        "row_key": _ROW_KEY,
        "identifier": _PERSON,
        "business_key": _KEY,
        "outcome": (
            "VARCHAR(16)",
            "delivered, amended, held, superseded, rejected, or pending (exported anew, not delivered yet).",
        ),
        "rows_in_view": ("INTEGER", "Rows of the day with this key; 0: delivered before, and no longer in the day."),
        "duplicates": ("INTEGER", "Of them, rows equal to another one of this key."),
        "rejected": ("INTEGER", "Of them, rejected rows: each stands in rejections."),
        "occurred_at": ("TIMESTAMP", "The feed's time column (UTC)."),
        "loaded_at": ("TIMESTAMP", "When the warehouse loaded the row (UTC)."),
        "delivered_at": ("TIMESTAMP", "Latest acknowledgement by Customer.io (UTC); null: never delivered."),
        "held_until": ("TIMESTAMP", "When a held row may go (UTC); null for one that waits for its person."),
        "content_hash": ("VARCHAR(32)", "Hash of the content that was acknowledged last."),
        "run_id": ("VARCHAR(64)", "The Dagster run of that acknowledgement."),
        "logged_at": _LOGGED,
    },
    dist="identifier",
    sort=("feed", "day"),
)
REJECTIONS = LogTable(
    "rejections",
    "One row per row that was not sent because of a mistake, as of the day's last run.",
    {
        "feed": _FEED,
        "day": _DAY,
        "row_key": _ROW_KEY,
        "identifier": _PERSON,
        "business_key": _KEY,
        "reason": ("VARCHAR(256)", "Why, in a fixed word (docs/analyst.md lists them); customerio_...: refused by Customer.io."),
        "column_name": ("VARCHAR(256)", "The column that is wrong, where it is one."),
        "message": ("VARCHAR(2048)", "Why, in a sentence."),
        "contract": ("VARCHAR(64)", "Version of the contract that judged it."),
        "first_seen": ("TIMESTAMP", "When it was first rejected for this reason (UTC)."),
        "last_seen": ("TIMESTAMP", "When it was rejected last (UTC)."),
        "attempts": ("INTEGER", "How many runs have tried it."),
        "logged_at": _LOGGED,
    },
    dist="identifier",
    sort=("feed", "day"),
)
SEGMENT_DIFFERENCES = LogTable(
    "segment_differences",
    "One row per person in whom a segment of Customer.io and the warehouse differ: each segment's last comparison.",
    {
        "segment": ("VARCHAR(256)", "The segment of the contract."),
        "checked_at": ("TIMESTAMP", "When the two were compared (UTC)."),
        "customer_id": ("VARCHAR(256)", "The person's identifier."),
        "side": ("VARCHAR(16)", "missing: belongs in the segment and is not; extra: is in it and does not belong."),
        "is_in_flight": ("BOOLEAN", "Changed too recently to be counted as a mistake."),
    },
    dist="customer_id",
    sort=("segment", "checked_at"),
)
CHECK_RESULTS = LogTable(
    "check_results",
    "One row per evaluation of a check in Dagster.",
    {
        "asset": ("VARCHAR(512)", "The asset that the check stands on."),
        "check_name": ("VARCHAR(256)", "The check."),
        "day": ("DATE", "The UTC day that the run was of; null for one that looks at many."),
        "passed": ("BOOLEAN", "Whether it passed."),
        "severity": ("VARCHAR(16)", "Of a failure: WARN or ERROR."),
        "description": ("VARCHAR(4096)", "What it said, with the next step."),
        "run_id": ("VARCHAR(64)", "The Dagster run."),
        "evaluated_at": ("TIMESTAMP", "When (UTC)."),
    },
    dist="run_id",
    sort=("evaluated_at",),
)
TABLES = (DELIVERIES, REJECTIONS, SEGMENT_DIFFERENCES, CHECK_RESULTS)

# In one statement all PERCENTILE_CONT and LISTAGG must have the same ORDER BY in Redshift (reference/redshift.md section 3).
VIEWS = {
    "last_deliveries": """SELECT identifier, feed, business_key, delivered_at, run_id
FROM (
    SELECT identifier, feed, business_key, delivered_at, run_id,
        ROW_NUMBER() OVER (PARTITION BY identifier ORDER BY delivered_at DESC, feed, row_key) AS place
    FROM cio_sync.deliveries
    WHERE delivered_at IS NOT NULL AND identifier IS NOT NULL
) AS placed
WHERE place = 1""",
    "rejection_rates": """SELECT r.feed, r.day, r.reason, r.rows_rejected, d.rows_in_view,
    ROUND(100.0 * r.rows_rejected / d.rows_in_view, 3)::NUMERIC(9, 3) AS rejected_percent
FROM (SELECT feed, day, reason, COUNT(*) AS rows_rejected FROM cio_sync.rejections GROUP BY feed, day, reason) AS r
INNER JOIN (SELECT feed, day, SUM(rows_in_view) AS rows_in_view FROM cio_sync.deliveries GROUP BY feed, day) AS d
    ON d.feed = r.feed AND d.day = r.day
WHERE d.rows_in_view > 0""",
    "latency_by_hour": """SELECT feed, DATE_TRUNC('hour', delivered_at) AS delivered_hour, COUNT(*) AS rows_delivered,
    PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY load_to_delivery_s) AS load_to_delivery_median_s,
    PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY load_to_delivery_s) AS load_to_delivery_p95_s,
    MAX(load_to_delivery_s) AS load_to_delivery_max_s,
    MAX(event_to_delivery_s) AS event_to_delivery_max_s
FROM (
    SELECT feed, delivered_at,
        DATEDIFF('second', loaded_at, delivered_at)::FLOAT AS load_to_delivery_s,
        DATEDIFF('second', occurred_at, delivered_at)::FLOAT AS event_to_delivery_s
    FROM cio_sync.deliveries
    WHERE delivered_at IS NOT NULL AND loaded_at IS NOT NULL
) AS measured
GROUP BY feed, DATE_TRUNC('hour', delivered_at)""",
    "held_now": """SELECT feed, day, identifier, business_key, row_key, occurred_at, held_until
FROM cio_sync.deliveries
WHERE outcome = 'held'""",
}


@dataclass(frozen=True)
class Created:
    """What `create_log` made: names of tables and views, and `table.column` where one was added."""

    names: tuple[str, ...]


def ddl() -> str:
    """Everything as a script for a DBA: running it again changes nothing but the views' text and the comments."""
    statements = [f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"]
    for table in TABLES:
        statements += [table.create(), *table.comments()]
    return "".join(f"{statement};\n\n" for statement in (*statements, *map(_create_view, VIEWS)))


def create_log(session: Session) -> Created:
    """Create the tables and views that are missing, and columns that an earlier version did not have. Commits.

    What is there is left alone, so a user without CREATE who finds everything needs no grant but those to write. A view is made
    anew when its columns are not those of this version; only its owner may. Raises: WarehouseRefused, WarehouseUnavailable.
    """
    session.commit()
    try:
        made = [name for table in TABLES for name in create_table(session, table)]
        made += [name for name in VIEWS if _replace_view(session, name)]
    except WarehouseRefused as error:
        error.next_step = "have a DBA run what `rs-cio schema` prints, then run this again"
        raise
    session.commit()
    return Created(tuple(made))


def create_table(session: Session, table: LogTable) -> list[str]:
    """Create *table*, and its schema, where it is missing; else add the columns it lacks. Commits; what was made, by name."""
    if not has_relation(session, table.name):
        create_schema(session, SCHEMA)
        for statement in (table.create(), *table.comments()):
            session.run(statement)
        session.commit()
        return [table.name]
    missing = [name for name in table.columns if name not in _columns_of(session, table.name)]
    for name in missing:  # one column a statement: Redshift takes no more
        session.run(f"ALTER TABLE {table.full_name} ADD COLUMN {name} {table.columns[name][0]}")
    session.commit()
    return [f"{table.name}.{name}" for name in missing]


def has_relation(session: Session, name: str) -> bool:
    """True when the schema has a table or a view of that name, whoever may read it."""
    condition = "n.nspname = %s AND c.relname = %s"
    found = "SELECT 1 FROM pg_class AS c INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE "
    return bool(session.fetch(found + condition, (SCHEMA, name)))


def _replace_view(session: Session, name: str) -> bool:
    query = f"SELECT * FROM ({VIEWS[name]}) AS wanted LIMIT 0"  # noqa: S608 - our own text
    if has_relation(session, name) and _columns_of(session, name) == [column for column, _ in session.describe(query)]:
        return False
    session.run(_create_view(name))
    return True


def _columns_of(session: Session, name: str) -> list[str]:
    return [column for column, _ in session.describe(f"SELECT * FROM {SCHEMA}.{name} LIMIT 0")]  # noqa: S608 - our own name


def _create_view(name: str) -> str:
    return f"CREATE OR REPLACE VIEW {SCHEMA}.{name} AS\n{VIEWS[name]}\nWITH NO SCHEMA BINDING"
