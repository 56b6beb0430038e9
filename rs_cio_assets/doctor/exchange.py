"""Lines about UNLOAD and COPY: two rows go to S3 with the role and come back, counted on both sides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

from rs_cio_assets.doctor.lines import Line, failed, failure, ok
from rs_cio_assets.doctor.patient import Patient
from rs_cio_assets.errors import WarehouseRefused, WarehouseUnavailable
from rs_cio_assets.warehouse import Session
from rs_cio_assets.warehouse.exchange import Exchange

FOLDER = "doctor"
ROWS = 2
_QUERY = "SELECT 1::BIGINT AS n, ''a''::VARCHAR(8) AS word UNION ALL SELECT 2::BIGINT, ''b''::VARCHAR(8)"  # quotes doubled
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
    folder = f"{FOLDER}/{uuid4().hex}/"
    url = f"{exchange.url.rstrip('/')}/{folder}"
    try:
        with patient.warehouse.session() as session:
            unloaded = _unload(session, exchange, folder, url)
            yield unloaded
            if unloaded.status == "ok":
                yield _copy(session, exchange, url)
    finally:
        exchange.store.delete(exchange.store.list(folder))


def _unload(session: Session, exchange: Exchange, folder: str, url: str) -> Line:
    # The role and the address come from settings that allow no quote in them.
    encrypted = f" KMS_KEY_ID '{exchange.kms_key_id}' ENCRYPTED" if exchange.kms_key_id else ""
    try:
        session.run(f"UNLOAD ('{_QUERY}') TO '{url}' {_iam_role(exchange)} FORMAT AS PARQUET MANIFEST VERBOSE{encrypted}")
    except (WarehouseRefused, WarehouseUnavailable) as error:
        return failed("unload", error, _ROLE)
    manifest = json.loads(exchange.store.get(f"{folder}manifest") or b"{}")
    files = set(exchange.store.list(folder)) - {f"{folder}manifest"}
    named = {entry["url"].rpartition(folder)[2] for entry in manifest.get("entries", ())}
    rows = manifest.get("meta", {}).get("record_count")
    if rows != ROWS or {f"{folder}{name}" for name in named} != files:
        text = f"{ROWS} rows were unloaded to {url}; its manifest says {rows}, and {len(named)} of {len(files)} files"
        return failure("unload", text, "set REDSHIFT_READ=driver and report this")
    return ok("unload", f"{ROWS} rows went to {exchange.url} with the role, and the manifest agrees")


def _copy(session: Session, exchange: Exchange, url: str) -> Line:
    try:
        session.run(f"CREATE TEMP TABLE {_TABLE} (n BIGINT, word VARCHAR(8))")
        session.run(f"COPY {_TABLE} FROM '{url}manifest' {_iam_role(exchange)} FORMAT AS PARQUET MANIFEST")
        ((rows, total),) = session.fetch(f"SELECT COUNT(*), SUM(n) FROM {_TABLE}")  # noqa: S608 - a fixed name
    except (WarehouseRefused, WarehouseUnavailable) as error:
        return failed("copy", error, _ROLE)
    if (int(rows), int(total or 0)) != (ROWS, 3):
        text = f"{ROWS} rows were unloaded, and COPY brought back {rows}"
        return failure("copy", text, "set REDSHIFT_DELIVERY_LOG=false and report this")
    return ok("copy", f"the {ROWS} rows came back with the role")


def _iam_role(exchange: Exchange) -> str:
    return "IAM_ROLE default" if exchange.role == "default" else f"IAM_ROLE '{exchange.role}'"
