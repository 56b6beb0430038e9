"""Lines about UNLOAD and COPY: two rows go to S3 with the role and come back, counted on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

from rs_cio_assets.doctor.lines import Line, failed, failure, ok
from rs_cio_assets.doctor.patient import Patient
from rs_cio_assets.errors import MismatchError, WarehouseRefused, WarehouseUnavailable
from rs_cio_assets.warehouse import Session
from rs_cio_assets.warehouse.exchange import PROBE, Exchange
from rs_cio_assets.warehouse.unload import read_manifest, unload_statement

ROWS = 2
_QUERY = "SELECT 1::BIGINT AS n, 'a'::VARCHAR(8) AS word UNION ALL SELECT 2::BIGINT, 'b'::VARCHAR(8)"
_TABLE = "rs_cio_doctor"
_ROLE = (
    "give the role the S3 policy that rs-cio grants --iam prints, attach it to the cluster or namespace, and grant it: rs-cio "
    "grants prints GRANT ASSUMEROLE"
)


def unload_and_copy(patient: Patient) -> Iterator[Line]:
    """A real UNLOAD and a real COPY; both clean up, whatever happens. One line each; none where there is no exchange."""
    exchange = patient.warehouse.exchange
    if exchange is None:
        return
    place = f"{PROBE}{uuid4().hex}/"
    try:
        with patient.warehouse.session() as session:
            unloaded = _unload(session, exchange, place)
            yield unloaded
            if unloaded.status == "ok":
                yield _copy(session, exchange, place)
    finally:
        exchange.store.delete(exchange.store.list(place))


def _unload(session: Session, exchange: Exchange, place: str) -> Line:
    try:
        session.run(unload_statement(_QUERY, exchange, place))
        read_manifest(exchange, place, ROWS)
    except MismatchError as error:
        return failure("unload", error.problem, "set REDSHIFT_READ=driver and report this")
    except (WarehouseRefused, WarehouseUnavailable) as error:
        return failed("unload", error, _ROLE)
    return ok("unload", f"{ROWS} rows went to {exchange.url} with the role, and the manifest agrees")


def _copy(session: Session, exchange: Exchange, place: str) -> Line:
    manifest = f"'{exchange.url}/{place}manifest'"
    try:
        session.run(f"CREATE TEMP TABLE {_TABLE} (n BIGINT, word VARCHAR(8))")
        session.run(f"COPY {_TABLE} FROM {manifest} {exchange.iam_role} FORMAT AS PARQUET MANIFEST")
        ((rows, total),) = session.fetch(f"SELECT COUNT(*), SUM(n) FROM {_TABLE}")  # noqa: S608 - a fixed name
    except (WarehouseRefused, WarehouseUnavailable) as error:
        return failed("copy", error, _ROLE)
    if (int(rows), int(total or 0)) != (ROWS, 3):
        text = f"{ROWS} rows were unloaded, and COPY brought back {rows}"
        return failure("copy", text, "set REDSHIFT_DELIVERY_LOG=false and report this")
    return ok("copy", f"the {ROWS} rows came back with the role")
