"""UNLOAD and COPY with the settings' role and place on S3: what is written, what comes back, how it is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest

from rs_cio_assets.errors import WarehouseRefused
from rs_cio_assets.warehouse.exchange import Exchange
from rs_cio_assets.warehouse.failures import as_ours
from rs_cio_assets_tests.live.answers import Answer
from rs_cio_assets_tests.live.cleaning import Cleaning
from rs_cio_assets_tests.live.cluster import Cluster, refusal

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

    manifest: dict[str, Any] | None
    files: dict[str, bytes]
    rows_told: int


class Place:
    """This run's part of the exchange."""

    def __init__(self, exchange: Exchange, cluster: Cluster, run: str) -> None:
        self.exchange, self._cluster, self.prefix = exchange, cluster, f"rs_cio_smoke_{run}"

    def url(self, name: str) -> str:
        """`s3://.../<name>`."""
        return f"{self.exchange.url.rstrip('/')}/{self.prefix}/{name}"

    def role(self, role: str | None = None) -> str:
        """The clause that names the role."""
        role = role or self.exchange.role
        return "IAM_ROLE default" if role == "default" else f"IAM_ROLE '{role}'"

    def statement(self, select: str, name: str) -> str:
        """UNLOAD as the product means to use it."""
        quoted = select.replace("'", "''")
        return f"UNLOAD ('{quoted}') TO '{self.url(name)}/' {self.role()} FORMAT AS PARQUET MANIFEST VERBOSE MAXFILESIZE 64 MB"

    def unload(self, select: str, name: str) -> Unloaded:
        """Run it and fetch everything that it wrote."""
        with self._cluster.session() as session:
            session.run(self.statement(select, name))
            ((rows,),) = session.fetch("SELECT pg_last_unload_count()")
        store, prefix = self.exchange.store, f"{self.prefix}/{name}/"
        found = {key.removeprefix(prefix): store.get(key) or b"" for key in store.list(prefix)}
        manifest = found.pop("manifest", None)
        return Unloaded(json.loads(manifest) if manifest else None, found, int(rows))

    def remove(self) -> None:
        """Every object of this run."""
        self.exchange.store.delete(self.exchange.store.list(f"{self.prefix}/"))


@pytest.fixture(scope="module")
def place(cluster: Cluster, run: str, cleaning: Cleaning) -> Place:
    """Where this run unloads to."""
    if cluster.exchange is None:
        pytest.skip("UNLOAD needs REDSHIFT_ROLE, and REDSHIFT_UNLOAD_TO or a store on S3")
    made = Place(cluster.exchange, cluster, run)
    cleaning.add(f"objects under {made.url('')}", made.remove)
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
    """Every number that says how many there are."""
    manifest = unloaded.manifest
    assert manifest is not None, "no manifest was written"
    entries = {urlsplit(e["url"]).path.rpartition("/")[2]: e["meta"] for e in manifest["entries"]}
    answer.facts = {
        "files": {name: len(data) for name, data in unloaded.files.items()},
        "manifest": {**manifest, "entries": [{**e, "url": e["url"].rpartition("/")[2]} for e in manifest["entries"]]},
        "pg_last_unload_count": unloaded.rows_told,
    }
    rows = {name: pq.read_metadata(io.BytesIO(data)).num_rows for name, data in unloaded.files.items()}
    counts = {
        sum(rows.values()),
        sum(e["record_count"] for e in entries.values()),
        manifest["meta"]["record_count"],
        unloaded.rows_told,
    }
    sizes = {name: meta["content_length"] for name, meta in entries.items()}
    answer.judge(counts == {len(ROWS)} and sizes == answer.facts["files"], f"rows by four counts: {sorted(counts)}")


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


@pytest.mark.asks(
    "Does COPY from Parquet give back what UNLOAD wrote, NULL and the empty text apart?",
    "a round trip loses and changes nothing",
    "rs_cio_assets/warehouse/exchange.py",
    relies=True,
)
def test_a_round_trip_changes_nothing(cluster: Cluster, place: Place, typed: str, unloaded: Unloaded, answer: Answer):
    """Each file copied into an empty table of the same columns; the two tables hold the same rows."""
    back = f"{cluster.schema}.back"
    cluster.run(f"CREATE TABLE {back} (LIKE {typed})")
    with cluster.session() as session:
        for name in sorted(unloaded.files):
            session.run(f"COPY {back} FROM '{place.url(f'typed/{name}')}' {place.role()} FORMAT AS PARQUET")
        session.commit()
    different = cluster.rows(
        f"SELECT n, 'lost' FROM (SELECT * FROM {typed} EXCEPT SELECT * FROM {back}) AS a "
        f"UNION ALL SELECT n, 'new' FROM (SELECT * FROM {back} EXCEPT SELECT * FROM {typed}) AS b"
    )
    texts = "SELECT COUNT(*), COUNT(text), SUM(CASE WHEN text = '' THEN 1 ELSE 0 END) FROM {}"
    counts = [cluster.rows(texts.format(table))[0] for table in (typed, back)]
    answer.facts = {"rows that differ": different, "rows, texts, empty texts": counts}
    answer.judge(not different and counts[0] == counts[1], f"{len(different)} rows differ; {counts}")


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
    in_manifest = ((found.manifest or {}).get("meta") or {}).get("record_count", 0)
    answer.judge(
        (in_files, in_manifest, found.rows_told) == (0, 0, 0), f"{len(found.files)} files; manifest: {found.manifest is not None}"
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
    url, role = place.url("refused"), place.role()
    if what == "a bucket that is not there":
        url = f"s3://rs-cio-smoke-{run}-not-there/x"
    else:
        role = place.role(f"arn:aws:iam::{'0' * 11}1:role/rs-cio-smoke-{run}")
    with cluster.session() as session:
        refused = refusal(session, f"UNLOAD ('SELECT 1 AS n') TO '{url}/' {role} FORMAT AS PARQUET")
    assert refused is not None, "it was taken"
    fields, error = refused
    ours = as_ours(error, cluster.settings.redshift)
    answer.facts = {"fields": dict(fields), "ours": type(ours).__name__, "next step": ours.next_step}
    answer.judge(isinstance(ours, WarehouseRefused), f"{fields.get('C')}: {fields.get('M')}")


def _naive(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=None)
