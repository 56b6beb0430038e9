"""Lines about the warehouse: host, login, isolation, clock, views, the other tables that checks read, the delivery log.

Each opens a session of its own, which is closed without a commit: nothing stays in the warehouse.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from rs_cio_assets.contract.models import Feed
from rs_cio_assets.contract.tables import tables_of_questions
from rs_cio_assets.doctor.clocks import clock_line
from rs_cio_assets.doctor.lines import Line, failed, failure, ok, warning
from rs_cio_assets.doctor.patient import Patient
from rs_cio_assets.errors import WarehouseRefused
from rs_cio_assets.warehouse import Session, compare_columns, describe_view
from rs_cio_assets.warehouse.definition import compare_definition
from rs_cio_assets.warehouse.log_schema import SCHEMA, TABLES
from rs_cio_assets.warehouse.sql import quoted

_WAYS = {
    "password": "with the password of REDSHIFT_PASSWORD",
    "secret": "with the secret of REDSHIFT_SECRET_ID",
    "iam": "with credentials from IAM",
}


def host(patient: Patient) -> Iterator[Line]:
    """Something answers at the address."""
    patient.warehouse.require_reachable()
    redshift = patient.settings.redshift
    yield ok("redshift host", f"{redshift.host}:{redshift.port} answers")


def login(patient: Patient) -> Iterator[Line]:
    """The driver logs in, over verified TLS where it is on."""
    with patient.warehouse.session() as session:
        ((user, database),) = session.fetch("SELECT current_user::VARCHAR, current_database()::VARCHAR")
    redshift = patient.settings.redshift
    tls = "over TLS, certificate and host name verified" if redshift.tls else "without TLS"
    yield ok("redshift login", f"{user} on {database}, {_WAYS[redshift.auth]}, {tls}")


def isolation(patient: Patient) -> Iterator[Line]:
    """Whether writes of the log may be refused for what others write at the same time.

    Source: AWS, STV_DB_ISOLATION_LEVEL and CREATE DATABASE (read 2026-11-23); not proven on a real cluster.
    """
    name, question = "redshift isolation", "SELECT isolation_level FROM stv_db_isolation_level WHERE TRIM(db_name) = %s"
    try:
        with patient.warehouse.session() as session:
            rows = session.fetch(question, (patient.settings.redshift.database,))
    except WarehouseRefused as error:
        rows, why = [], error.problem
    else:
        why = "STV_DB_ISOLATION_LEVEL does not show this database"
    if not rows:
        yield warning(name, f"it cannot be read: {why}", "have an administrator look it up in STV_DB_ISOLATION_LEVEL")
        return
    level = str(rows[0][0]).strip().lower()
    if level.startswith("snapshot"):
        yield ok(name, "snapshot")
    else:
        yield warning(
            name,
            f"{level}: writes that meet others' are refused with 1023 and tried again, and an export view that others write to "
            "may be read twice",
            f"ALTER DATABASE {quoted(patient.settings.redshift.database)} ISOLATION LEVEL SNAPSHOT (while nobody is connected)",
        )


def clock(patient: Patient) -> Iterator[Line]:
    """GETDATE() beside this machine's clock. Source: AWS, GETDATE: the session's time zone, which is UTC; read 2026-11-23."""
    with patient.warehouse.session() as session:
        before = patient.now()
        ((found,),) = session.fetch("SELECT GETDATE()::TIMESTAMP")
        middle = before + (patient.now() - before) / 2
    yield clock_line("redshift clock", _aware(found) - middle, "Redshift's")


def views(patient: Patient) -> Iterator[Line]:
    """Each enabled feed's view is there, may be read, and has the contract's columns."""
    with patient.warehouse.session() as session:
        for feed in patient.contract.enabled_feeds:
            yield _view(session, feed)


def _view(session: Session, feed: Feed) -> Line:
    name = f"view {feed.name}"
    try:
        difference = compare_columns(feed, describe_view(session, feed))
        session.fetch(f"SELECT 1 FROM {quoted(feed.view_schema)}.{quoted(feed.view_table)} LIMIT 1")  # noqa: S608 - quoted names
    except WarehouseRefused as error:
        return failed(name, error.at(feed.name))
    if difference.is_blocking:
        remedy = f"mend the view or feeds/{feed.name}.yaml, then materialize redshift/views/{feed.name}"
        return failure(name, "; ".join(difference.sentences()), remedy)
    if difference.extra:
        return warning(
            name, "; ".join(difference.sentences()), f"add them to feeds/{feed.name}.yaml, or take them out of the view"
        )
    return ok(name, f"{feed.view} may be read and has the contract's {len(feed.columns)} columns")


def definitions(patient: Patient) -> Iterator[Line]:
    """The views are those that `redshift/views/<feed>` created, from the contract's SQL as it is now."""
    feeds, differences = patient.contract.enabled_feeds, []
    with patient.warehouse.session() as session:
        for feed in feeds:
            if _view(session, feed).status == "failure":
                continue  # has a line of its own
            if difference := compare_definition(session, feed, patient.store):
                differences += difference.sentences(feed.view)
    if differences:
        remedy = "run the job create_views, or accept what is there (docs/checks.md, the check contract)"
        yield warning("definitions", "; ".join(differences), remedy)
    else:
        yield ok("definitions", "no view differs from what this project created")


def tables(patient: Patient) -> Iterator[Line]:
    """What the SQL of segments, journeys and recomputations reads beside the views. Only checks need it."""
    names, refused = sorted(tables_of_questions(patient.contract)), []
    with patient.warehouse.session() as session:
        for name in names:
            try:
                schema, _, table = name.partition(".")
                session.fetch(f"SELECT 1 FROM {quoted(schema)}.{quoted(table)} LIMIT 1")  # noqa: S608 - quoted names
            except WarehouseRefused as error:
                refused.append(error.problem.removeprefix("Redshift refused: "))
    if refused:
        yield warning("tables", f"checks cannot ask: {'; '.join(refused)}", "rs-cio grants prints the SELECT that is missing")
    else:
        yield ok("tables", f"the {len(names)} tables that checks read beside the views may be read")


def delivery_log(patient: Patient) -> Iterator[Line]:
    """Rows may be written to and removed from the log's tables. Tried with statements that concern no row."""
    name = "delivery log"
    if not patient.settings.redshift.delivery_log:
        yield ok(name, "is off (REDSHIFT_DELIVERY_LOG)")
        return
    grants = f"an administrator runs what rs-cio grants prints for {SCHEMA}"
    with patient.warehouse.session() as session:
        there = {str(row[0]) for row in session.fetch("SELECT tablename FROM pg_tables WHERE schemaname = %s", (SCHEMA,))}
        missing = [table.name for table in TABLES if table.name not in there]
        if missing:
            yield _missing(session, missing)
            return
        try:
            for table in TABLES:
                full = table.full_name
                session.run(f"INSERT INTO {full} SELECT * FROM {full} WHERE FALSE")  # noqa: S608 - fixed names
                session.run(f"DELETE FROM {full} WHERE FALSE")  # noqa: S608 - fixed names
        except WarehouseRefused as error:
            yield failed(name, error, grants)
            return
    yield ok(name, f"the {len(TABLES)} tables of {SCHEMA} may be written")


def _missing(session: Session, missing: list[str]) -> Line:
    """Without the tables: may this user make them?"""
    text = f"{SCHEMA} has no table {', '.join(missing)}"
    rows = session.fetch(
        "SELECT has_schema_privilege(nspname, 'CREATE') FROM pg_namespace WHERE nspname = %s "
        "UNION ALL SELECT has_database_privilege(current_database(), 'CREATE') "
        "WHERE NOT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = %s)",
        (SCHEMA, SCHEMA),
    )
    if rows and rows[0][0]:
        return warning("delivery log", f"{text}; this user may make it", "materialize redshift/log")
    return failure(
        "delivery log",
        f"{text}, and this user may not make it",
        "an administrator runs what rs-cio schema and then what rs-cio grants prints",
    )


def _aware(found: datetime) -> datetime:
    return found if found.tzinfo else found.replace(tzinfo=UTC)
