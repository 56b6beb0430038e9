"""The smallest set of rights for the contract, as SQL for an administrator. Nothing is run here, and no secret is in it.

A view runs with its owner's rights: who reads it needs SELECT on the view, and its owner SELECT on the tables.
Source: AWS, CREATE VIEW, GRANT, CREATE USER (read 2026-11-23). Proven on the stand-in; not on a real cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rs_cio_assets.contract.models import Contract
from rs_cio_assets.contract.tables import tables_of_questions, tables_of_views
from rs_cio_assets.settings import RedshiftSettings
from rs_cio_assets.warehouse.log_schema import SCHEMA, TABLES, VIEWS
from rs_cio_assets.warehouse.sql import quoted

CONNECTIONS = 10  # runs at once, sensors, the command line: each has one, for as long as it reads


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon, and why it is needed."""

    sql: str
    reason: str


def grant_statements(
    contract: Contract, redshift: RedshiftSettings, user: str, view_owner: str | None = None
) -> tuple[Statement, ...]:
    """Every GRANT that *user* needs, in order; running one again changes nothing.

    With REDSHIFT_VIEWS=create *user* makes and owns the export views; with verify others do: *view_owner*'s are there, too.
    """
    return tuple(_statements(contract, redshift, user, view_owner))


def script(contract: Contract, redshift: RedshiftSettings, user: str, view_owner: str | None = None) -> str:
    """The grants as a script, with the user and what else an administrator should know as comments."""
    lines = [*_head(redshift, user), ""]
    for statement in grant_statements(contract, redshift, user, view_owner):
        lines += [f"-- {statement.reason}", f"{statement.sql};", ""]
    return "\n".join([*lines, *_tail(contract, redshift, view_owner)]) + "\n"


def _head(redshift: RedshiftSettings, user: str) -> Iterator[str]:
    yield f"-- What the sync needs in database {redshift.database}, and no more. Run it there as a superuser, and again after the"
    yield "-- contract changed. Only CREATE USER cannot be repeated: leave it out where the user is there."
    if redshift.delivery_log:
        yield "-- Before: what rs-cio schema prints, which makes the tables of the delivery log."
    yield f"CREATE USER {quoted(user)} PASSWORD DISABLE CONNECTION LIMIT {CONNECTIONS};"
    if redshift.auth != "iam":
        yield f"-- It logs in by password: ALTER USER {quoted(user)} PASSWORD '...'; by hand, so that the password is in no file."
    yield f"-- Sessions set query_group to {redshift.query_group} by themselves: give it a queue in the workload management."


def _statements(contract: Contract, redshift: RedshiftSettings, user: str, view_owner: str | None) -> Iterator[Statement]:
    to = quoted(user)
    schemas = sorted({feed.view_schema for feed in contract.enabled_feeds})
    is_owner = redshift.views == "create"
    for schema in schemas:
        yield Statement(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}", "where the export views are")
        yield Statement(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {to}", "reaches the export views")
        if is_owner:
            yield Statement(f"GRANT CREATE ON SCHEMA {quoted(schema)} TO {to}", "makes the export views, and owns them")
    if not is_owner:
        for feed in contract.enabled_feeds:
            yield Statement(f"GRANT SELECT ON {_name(feed.view)} TO {to}", f"reads the feed {feed.name}")
    asked = tables_of_questions(contract)
    read = asked | tables_of_views(contract) if is_owner else asked
    why = (
        "is read by export views, whose owner it is, or by checks"
        if is_owner
        else "is read by segments, journeys or recomputations"
    )
    yield from _reads(read, to, why, reached=set(schemas))
    if view_owner and not is_owner:
        yield from _reads(tables_of_views(contract), quoted(view_owner), "is read by export views, with their owner's rights")
    if redshift.delivery_log:
        yield Statement(f"GRANT USAGE ON SCHEMA {quoted(SCHEMA)} TO {to}", "reaches the delivery log")
        for name in (table.full_name for table in TABLES):
            for verb in ("SELECT", "INSERT", "DELETE"):
                yield Statement(f"GRANT {verb} ON {_name(name)} TO {to}", f"replaces a day's rows of {name}")
        for view in VIEWS:
            yield Statement(f"GRANT SELECT ON {_name(f'{SCHEMA}.{view}')} TO {to}", "redshift/log compares its columns")
    if redshift.role and redshift.has_exchange:
        for verb, why in (("UNLOAD", "reads views by way of S3"), ("COPY", "writes the delivery log by way of S3")):
            if verb == "UNLOAD" or redshift.delivery_log:
                yield Statement(f"GRANT ASSUMEROLE ON {_role(redshift.role)} TO {to} FOR {verb}", why)


def _reads(tables: frozenset[str], to: str, why: str, reached: set[str] | None = None) -> Iterator[Statement]:
    for schema in sorted({table.partition(".")[0] for table in tables} - (reached or set())):
        yield Statement(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {to}", f"reaches the tables of {schema}")
    for table in sorted(tables):
        yield Statement(f"GRANT SELECT ON {_name(table)} TO {to}", f"{table} {why}")


def _tail(contract: Contract, redshift: RedshiftSettings, view_owner: str | None) -> Iterator[str]:
    if redshift.views == "verify":
        yield "-- Export views run with their owner's rights. The owner needs USAGE and SELECT on:"
        yield f"--   {', '.join(sorted(tables_of_views(contract)))}"
        if view_owner is None:
            yield "--   rs-cio grants --schema-owner NAME prints these grants."
        yield "-- A view that is dropped and made again (dbt does so) has lost its grants: run this again, or use dbt's grants."
    if redshift.has_exchange:
        yield "-- Everybody may use every attached role until a superuser has said once, for the whole cluster:"
        yield "--   REVOKE ASSUMEROLE ON ALL FROM PUBLIC FOR ALL;"
        yield "-- rs-cio grants --iam prints the policies of the role, and of this process."
    if redshift.has_exchange or redshift.delivery_log:
        yield f"-- TEMP tables are everybody's unless taken away; then: GRANT TEMP ON DATABASE {quoted(redshift.database)} TO ..."


def _name(name: str) -> str:
    return ".".join(map(quoted, name.split(".")))


def _role(role: str) -> str:
    """A role as GRANT takes it. Of a chain the first is the cluster's own; whether a chain is granted whole is not proven."""
    return "default" if role == "default" else f"'{role}'"
