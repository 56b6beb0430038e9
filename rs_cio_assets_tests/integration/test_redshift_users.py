"""Users, grants and ASSUMEROLE as Redshift writes them, and what a user without rights is told."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
import redshift_connector

from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.s3 import S3StandIn
from rs_cio_assets_tests.redshift_client import ROLE, connect, one, refused, unload_sql

# Source of the forms: AWS developer guide, CREATE USER, GRANT, ALTER DEFAULT PRIVILEGES, read 2026-11-26.
GRANTS = (
    "CREATE SCHEMA cio_export",
    "CREATE USER reader PASSWORD DISABLE CONNECTION LIMIT 4 SYSLOG ACCESS RESTRICTED SESSION TIMEOUT 600",
    "ALTER USER reader CONNECTION LIMIT UNLIMITED",
    "CREATE USER view_owner PASSWORD 'Secret123' NOCREATEUSER",
    "GRANT USAGE ON SCHEMA cio_export TO reader",
    "GRANT ALL ON SCHEMA cio_export TO view_owner",
    "GRANT SELECT ON ALL TABLES IN SCHEMA cio_export TO reader",
    "ALTER DEFAULT PRIVILEGES FOR USER view_owner IN SCHEMA cio_export GRANT SELECT ON TABLES TO reader",
    "GRANT TEMPORARY ON DATABASE shop TO reader",
    "REVOKE ASSUMEROLE ON ALL FROM PUBLIC FOR ALL",
)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedshiftStandIn]:
    """A cluster with users of its own: they would be everybody's."""
    with S3StandIn() as s3, RedshiftStandIn(tmp_path_factory.mktemp("users"), s3=lambda: s3.client) as stand_in:
        with connect(stand_in) as admin:
            for statement in GRANTS:
                admin.cursor().execute(statement)
            admin.commit()
        yield stand_in


@pytest.fixture
def admin(warehouse: RedshiftStandIn) -> Iterator[redshift_connector.Cursor]:
    """A superuser's cursor; each statement is committed, and what was granted to the reader is revoked in the end."""
    with connect(warehouse) as connection:
        connection.autocommit = True
        yield connection.cursor()
        connection.cursor().execute("REVOKE ASSUMEROLE ON ALL FROM reader, public FOR ALL")


@pytest.fixture
def reader(warehouse: RedshiftStandIn) -> Iterator[redshift_connector.Cursor]:
    """The cursor of a user with no more than was granted."""
    with connect(warehouse, user="reader") as connection:
        yield connection.cursor()
        connection.rollback()


def unload(role: str = ROLE) -> str:
    """An UNLOAD to a prefix of its own."""
    written = role if role == "default" else f"'{role}'"
    return unload_sql("SELECT 1 AS a", f"unload/{uuid4().hex}/").replace(f"'{ROLE}'", written)


def test_grants_are_those_of_the_statements(warehouse: RedshiftStandIn, reader: redshift_connector.Cursor):
    """What the owner of the views makes later can be read; nothing can be made or changed."""
    with connect(warehouse, user="view_owner") as owner:
        owner.cursor().execute("CREATE VIEW cio_export.v AS SELECT 1 AS a WITH NO SCHEMA BINDING")
        owner.commit()
    assert one(reader, "SELECT a FROM cio_export.v") == 1
    assert refused(reader, "CREATE TABLE cio_export.t (a INT)")["C"] == "42501"
    assert one(reader, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'reader'") == -1


def test_a_superuser_needs_no_privilege_and_others_do(admin: redshift_connector.Cursor, reader: redshift_connector.Cursor):
    """The words are the guide's; a COPY is refused as well."""
    admin.execute(unload())
    error = refused(reader, unload())
    assert error["M"] == f'User reader does not have ASSUMEROLE permission on IAM role "{ROLE}" for UNLOAD'
    copied = refused(reader, f"COPY t FROM 's3://rs-cio-sandbox/x' IAM_ROLE '{ROLE}' FORMAT PARQUET")
    assert copied["M"].endswith("for COPY")


@pytest.mark.parametrize(
    ("granted", "written"),
    [
        (f"'{ROLE}'", ROLE),
        ("default", "default"),
        (f"'{ROLE}'", "default"),
        ("default", ROLE),
        ("ALL", ROLE),
        (f"'arn:aws:iam::1:role/x', '{ROLE}'", ROLE),
    ],
)
def test_a_granted_role_may_be_assumed_for_its_command(
    admin: redshift_connector.Cursor, reader: redshift_connector.Cursor, granted: str, written: str
):
    """FOR UNLOAD allows UNLOAD and no COPY; REVOKE takes it back."""
    admin.execute(f"GRANT ASSUMEROLE ON {granted} TO Reader FOR UNLOAD")
    reader.execute(unload(written))
    reader.execute("ROLLBACK")
    assert one(reader, f"SELECT has_assumerole_privilege('{ROLE}', 'copy')") is False
    reader.execute("ROLLBACK")
    admin.execute(f"REVOKE ASSUMEROLE ON {granted} FROM reader FOR ALL")
    assert "ASSUMEROLE" in refused(reader, unload(written))["M"]


def test_a_grant_to_public_is_everybody_s(admin: redshift_connector.Cursor, reader: redshift_connector.Cursor):
    """As before the REVOKE from PUBLIC that the guide begins with."""
    admin.execute("GRANT ASSUMEROLE ON ALL TO PUBLIC FOR COPY, UNLOAD")
    reader.execute(unload("default"))


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (f"GRANT ASSUMEROLE ON '{ROLE}' TO reader FOR ALL", "42501"),
        (f"GRANT ASSUMEROLE ON '{ROLE}' TO reader", "42601"),
        ("GRANT ASSUMEROLE ON something TO reader FOR ALL", "42601"),
        (f"GRANT ASSUMEROLE ON '{ROLE}' TO GROUP people FOR ALL", "0A000"),
        (f"REVOKE ASSUMEROLE ON '{ROLE}' FROM reader FOR EVERYTHING", "42601"),
    ],
)
def test_only_a_superuser_grants_and_only_as_the_guide_writes_it(reader: redshift_connector.Cursor, statement: str, code: str):
    """A user cannot grant itself a role; what the stand-in does not know is refused."""
    assert refused(reader, statement)["C"] == code


def test_a_grant_to_nobody_is_an_error(admin: redshift_connector.Cursor):
    """A misspelled user is named."""
    with pytest.raises(redshift_connector.ProgrammingError, match="raeder"):
        admin.execute(f"GRANT ASSUMEROLE ON '{ROLE}' TO raeder FOR ALL")


def test_the_isolation_level_can_be_asked_for(reader: redshift_connector.Cursor):
    """By anybody, for each database."""
    level = "SELECT TRIM(isolation_level) FROM stv_db_isolation_level WHERE db_name = current_database()"
    assert one(reader, level) == "Snapshot Isolation"


def test_what_was_revoked_stays_so_after_a_restart(warehouse: RedshiftStandIn, admin: redshift_connector.Cursor):
    """The default for PUBLIC is there once, when the cluster is made, and not again when it is prepared at a start."""
    admin.execute(f"GRANT ASSUMEROLE ON '{ROLE}' TO reader FOR COPY")
    warehouse._prepare()
    admin.execute("SELECT grantee, role, command FROM redshift.assumerole")
    assert [tuple(row) for row in admin.fetchall()] == [("reader", ROLE, "COPY")]
