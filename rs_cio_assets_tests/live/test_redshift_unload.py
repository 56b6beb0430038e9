"""UNLOAD and COPY with the settings' role and place on S3: what is written, what comes back, how it is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rs_cio_assets.contract import load_contract
from rs_cio_assets.errors import WarehouseRefused
from rs_cio_assets.store import LocalStore
from rs_cio_assets.warehouse import create_view, stage_days
from rs_cio_assets.warehouse.exchange import Exchange
from rs_cio_assets.warehouse.failures import as_ours
from rs_cio_assets.warehouse.unload import read_manifest, unload_statement
from rs_cio_assets_tests.hand_made_shop import NOON
from rs_cio_assets_tests.live.answers import Answer
from rs_cio_assets_tests.live.cleaning import Cleaning
from rs_cio_assets_tests.live.cluster import Cluster, refusal
from rs_cio_assets_tests.plain_views import Row

CONTRACT = load_contract()

pytestmark = pytest.mark.needs("unload")
COLUMNS = {
    "n": "INTEGER",
    "small": "SMALLINT",
    "big": "BIGINT",
    "single": "REAL",
    "double": "DOUBLE PRECISION",
    "money": "NUMERIC(12,2)",
    "long_money": "NUMERIC(38,10)",
    "flag": "BOOLEAN",
    "text": "VARCHAR(256)",
    "code": "CHAR(4)",
    "day": "DATE",
    "moment": "TIMESTAMP",
    "zoned": "TIMESTAMPTZ",
}
ROWS = (
    """0, -32768, -9223372036854775808, 0.5, 0.1, -9999999999.99, -1234567890123456789012345678.0123456789, TRUE, '', 'ab',
    '0001-01-01', '1969-12-31 23:59:59.999999', '2026-11-20 08:00:00+02'""",
    """1, 32767, 9223372036854775807, -1.25, 1.5e300, 0.00, 0, FALSE, 'Ærøskøbing 🌊', 'abcd',
    '9999-12-31', '9999-12-31 23:59:59', '1970-01-01 00:00:00+00'""",
    """2, 0, 0, 0, 0, 0, 0, NULL, 'a "quoted", line', '', '2024-02-29', '2026-11-20 08:00:00', NULL""",
    "3" + ", NULL" * (len(COLUMNS) - 1),
)


@dataclass
class Unloaded:
    """One UNLOAD: its manifest (None where none was written) and the objects, by name after the prefix."""

    place: str
    manifest: dict[str, Any] | None
    files: dict[str, bytes]
    rows_told: int


class Place:
    """This run's part of the exchange."""

    def __init__(self, exchange: Exchange, cluster: Cluster, run: str) -> None:
        self.exchange, self._cluster, self.prefix = exchange, cluster, f"rs_cio_smoke_{run}"

    def statement(self, select: str, name: str) -> str:
        """The product's own UNLOAD."""
        return unload_statement(select, self.exchange, f"{self.prefix}/{name}/")

    def unload(self, select: str, name: str) -> Unloaded:
        """Run it and fetch everything that it wrote."""
        with self._cluster.session() as session:
            session.run(self.statement(select, name))
            ((rows,),) = session.fetch("SELECT pg_last_unload_count()")
        store, prefix = self.exchange.store, f"{self.prefix}/{name}/"
        found = {key.removeprefix(prefix): store.get(key) or b"" for key in store.list(prefix)}
        manifest = found.pop("manifest", None)
        return Unloaded(prefix, json.loads(manifest) if manifest else None, found, int(rows))

    def copy(self, table: str, unloaded: Unloaded) -> None:
        """COPY each of its files into *table*."""
        role = "default" if self.exchange.role == "default" else f"'{self.exchange.role}'"
        with self._cluster.session() as session:
            for name in sorted(unloaded.files):
                url = f"{self.exchange.url}/{unloaded.place}{name}"
                session.run(f"COPY {table} FROM '{url}' IAM_ROLE {role} FORMAT AS PARQUET")
            session.commit()

    def remove(self) -> None:
        """Every object of this run."""
        self.exchange.store.delete(self.exchange.store.list(f"{self.prefix}/"))


@pytest.fixture(scope="module")
def place(cluster: Cluster, run: str, cleaning: Cleaning) -> Place:
    """Where this run unloads to."""
    if cluster.exchange is None:
        pytest.skip("UNLOAD needs REDSHIFT_ROLE, and REDSHIFT_UNLOAD_TO or a store on S3")
    made = Place(cluster.exchange, cluster, run)
    cleaning.add(f"objects under {made.exchange.url}/{made.prefix}/", made.remove)
    return made


@pytest.fixture(scope="module")
def typed(cluster: Cluster) -> Iterator[str]:
    """A table with every column type, extremes, unicode, empty texts and a row of NULLs."""
    table = f"{cluster.schema}.typed"
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    cluster.run(f"CREATE TABLE {table} ({columns})", *(f"INSERT INTO {table} VALUES ({row})" for row in ROWS))
    return table


@pytest.fixture(scope="module")
def unloaded(place: Place, typed: str) -> Unloaded:
    """That table, unloaded once."""
    return place.unload(f"SELECT * FROM {typed}", "typed")


@pytest.mark.asks(
    "Which files and which manifest does UNLOAD write, and do their numbers agree?",
    "the manifest's rows, its entries' rows, PG_LAST_UNLOAD_COUNT and the files' own rows agree; sizes are those on S3",
    "rs_cio_assets/warehouse/exchange.py",
    relies=True,
)
def test_the_manifest_agrees_with_the_files(place: Place, unloaded: Unloaded, answer: Answer):
    """The product's own look at the manifest, the objects' sizes and PG_LAST_UNLOAD_COUNT; and each file's own count."""
    manifest = unloaded.manifest or {}
    entries = [{**entry, "url": entry["url"].rpartition("/")[2]} for entry in manifest.get("entries", ())]
    answer.facts = {
        "files": {name: len(data) for name, data in unloaded.files.items()},
        "manifest": {**manifest, "entries": entries},
        "pg_last_unload_count": unloaded.rows_told,
    }
    files = read_manifest(place.exchange, unloaded.place, unloaded.rows_told)
    rows = {unloaded.place + name: pq.read_metadata(io.BytesIO(data)).num_rows for name, data in unloaded.files.items()}
    agrees = {file.key: file.rows for file in files} == rows and sum(rows.values()) == len(ROWS)
    answer.judge(agrees, f"{len(files)} files, {sum(rows.values())} rows")


@pytest.mark.asks(
    "How are times written in Parquet: INT96 or INT64, with a zone or without?",
    "whatever the physical type, a TIMESTAMP reads as the moment that was stored and a TIMESTAMPTZ as that moment in UTC",
    "rs_cio_assets/warehouse/stage.py",
    relies=True,
)
def test_times_are_those_that_were_stored(unloaded: Unloaded, answer: Answer):
    """Physical and logical types of both, and their values."""
    found: dict[int, tuple[Any, Any]] = {}
    for data in unloaded.files.values():
        schema = pq.ParquetFile(io.BytesIO(data)).schema
        answer.facts |= {
            name: f"{schema.column(place).physical_type} {schema.column(place).logical_type}"
            for place, name in enumerate(schema.names)
        }
        table = pq.read_table(io.BytesIO(data), columns=["n", "moment", "zoned"], coerce_int96_timestamp_unit="us")
        found |= {row["n"]: (_naive(row["moment"]), _naive(row["zoned"])) for row in table.to_pylist()}
    wanted = {
        0: (datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(2026, 11, 20, 6)),  # noqa: DTZ001 - read without a zone
        1: (datetime(9999, 12, 31, 23, 59, 59), datetime(1970, 1, 1)),  # noqa: DTZ001
        2: (datetime(2026, 11, 20, 8), None),  # noqa: DTZ001
        3: (None, None),
    }
    answer.judge(found == wanted, f"{found}")


@pytest.mark.parametrize(
    "zoned",
    [pytest.param(False, id="without zones"), pytest.param(True, id="with a zone", marks=pytest.mark.needs("zoned_copy"))],
)
@pytest.mark.asks(
    "Does COPY from Parquet give back what UNLOAD wrote, NULL and the empty text apart?",
    "a round trip loses and changes nothing",
    "rs_cio_assets/warehouse/exchange.py",
    relies=True,
)
def test_a_round_trip_changes_nothing(cluster: Cluster, place: Place, typed: str, answer: Answer, zoned: bool):
    """Every column copied into an empty table of the same types; the two hold the same rows."""
    names = ", ".join(name for name in COLUMNS if (name == "zoned") == zoned or name == "n")
    unloaded = place.unload(f"SELECT {names} FROM {typed}", f"round_{zoned}")
    back = f"{cluster.schema}.back_{zoned}"
    cluster.run(f"CREATE TABLE {back} AS SELECT {names} FROM {typed} WHERE n < 0")
    place.copy(back, unloaded)
    wrong = [
        cluster.rows(f"SELECT COUNT(*) FROM (SELECT {names} FROM {one} EXCEPT SELECT {names} FROM {other}) AS d")[0][0]
        for one, other in ((typed, back), (back, typed))
    ]
    count = cluster.rows(f"SELECT COUNT(*) FROM {back}")[0][0]
    answer.facts = {"rows": count, "lost": wrong[0], "new": wrong[1]}
    answer.judge((count, *wrong) == (len(ROWS), 0, 0), f"{answer.facts}")


@pytest.mark.parametrize("name", [feed.name for feed in CONTRACT.enabled_feeds])
@pytest.mark.asks(
    "Does a day of a shipped view give the same rows by UNLOAD as by the driver?",
    "both ways of reading stage the same rows",
    "rs_cio_assets/warehouse/unload.py",
    relies=True,
)
def test_both_ways_of_reading_give_the_same_rows(
    cluster: Cluster, tables: dict[str, list[Row]], place: Place, tmp_path: Path, answer: Answer, name: str
):
    """The hand-made customers' day, staged by the product in both ways; order apart, the files hold the same."""
    feed, day = cluster.own(CONTRACT.feed(name)), f"{NOON:%Y-%m-%d}"
    staged = []
    for read in ("driver", "unload"):
        store = LocalStore(tmp_path / read)
        with cluster.session() as session:
            create_view(session, feed)
            as_told = feed.model_copy(update={"read": read})
            manifest = stage_days(session, as_told, [day], store, now=lambda: datetime.now(UTC))[day]
        rows = [row for file in manifest.files for row in pq.read_table(store.fetch(file.key, tmp_path)).to_pylist()]
        staged.append(sorted(rows, key=repr))
    answer.facts = {"rows": [len(rows) for rows in staged]}
    answer.judge(staged[0] == staged[1], f"rows by driver and by UNLOAD: {answer.facts['rows']}")


@pytest.mark.asks(
    "What does an UNLOAD of no rows write: no file, an empty one, a manifest?",
    "whatever is there counts no row, and PG_LAST_UNLOAD_COUNT says 0",
    "rs_cio_assets/warehouse/exchange.py",
    relies=True,
)
def test_no_rows_are_no_rows(place: Place, typed: str, answer: Answer):
    """Names and sizes of what appeared, and the manifest."""
    found = place.unload(f"SELECT * FROM {typed} WHERE n < 0", "none")
    answer.facts = {"files": {name: len(data) for name, data in found.files.items()}, "manifest": found.manifest}
    in_files = sum(pq.read_metadata(io.BytesIO(data)).num_rows for data in found.files.values())
    named = read_manifest(place.exchange, found.place, found.rows_told)
    answer.judge(
        (in_files, sum(file.rows for file in named), found.rows_told) == (0, 0, 0),
        f"{len(found.files)} files; manifest: {'written' if found.manifest else 'none'}",
    )


@pytest.mark.asks(
    "Does UNLOAD refuse a destination that is not empty?",
    "it does unless told otherwise, so that no leftovers are taken for rows",
    "rs_cio_assets/warehouse/exchange.py",
)
def test_a_place_that_is_not_empty_is_refused(cluster: Cluster, place: Place, typed: str, unloaded: Unloaded, answer: Answer):
    """The same statement to the same place again."""
    with cluster.session() as session:
        refused = refusal(session, place.statement(f"SELECT * FROM {typed}", "typed"))
    answer.facts = {"fields": dict(refused[0]) if refused else None}
    answer.judge(refused is not None, "refused" if refused else "taken")


@pytest.mark.parametrize("what", ["a bucket that is not there", "a role that is not there"])
@pytest.mark.asks(
    "How does Redshift say that S3 or the role is not permitted?",
    "it is told as something that repeating cannot help",
    "rs_cio_assets/warehouse/failures.py",
    relies=True,
)
def test_a_missing_permission_is_a_refusal(cluster: Cluster, place: Place, run: str, answer: Answer, what: str):
    """The error's fields as the driver has them, and what the product makes of them."""
    exchange = place.exchange
    if what == "a bucket that is not there":
        exchange = replace(exchange, url=f"s3://rs-cio-smoke-{run}-not-there")
    else:
        exchange = replace(exchange, role=f"arn:aws:iam::000000000001:role/rs-cio-smoke-{run}")
    with cluster.session() as session:
        refused = refusal(session, unload_statement("SELECT 1 AS n", exchange, f"{place.prefix}/refused/"))
    assert refused is not None, "it was taken"
    fields, error = refused
    ours = as_ours(error, cluster.settings.redshift)
    answer.facts = {"fields": dict(fields), "ours": type(ours).__name__, "next step": ours.next_step}
    answer.judge(isinstance(ours, WarehouseRefused), f"{fields.get('C')}: {fields.get('M')}")


def _naive(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=None)
