"""Lines about the store and the exchange on S3: a probe object, space on a disk, and rules that let people's data expire."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from rs_cio_assets.doctor.lines import Line, failure, ok, warning
from rs_cio_assets.doctor.patient import Patient
from rs_cio_assets.errors import StoreRefused
from rs_cio_assets.store import Store
from rs_cio_assets.store.s3 import S3Store

SPACE_WARNING_BYTES, SPACE_FAILURE_BYTES = 2 << 30, 100 << 20
EXCHANGE_DAYS = 1  # nothing in the exchange lasts; the shortest that S3 knows
PROBE = b"rs-cio doctor"


def store(patient: Patient) -> Iterator[Line]:
    """What every run reads and writes."""
    yield _reach("store", patient.store, patient.settings.store)


def exchange(patient: Patient) -> Iterator[Line]:
    """What this process reads of UNLOAD's files and writes for COPY."""
    place = patient.warehouse.exchange
    if place is None:
        yield ok("exchange", "is not used: REDSHIFT_ROLE, or a place on S3, is not set; views are read by the driver")
    else:
        yield _reach("exchange", place.store, place.url)


def _reach(name: str, place: Store, where: str) -> Line:
    """An object can be written, read, listed and removed."""
    key = f"doctor/{uuid4().hex}"
    place.put(key, PROBE)
    try:
        found, listed = place.get(key), place.list(key)
    finally:
        place.delete([key])
    if (found, listed, place.list(key)) != (PROBE, [key], []):
        text = f"{where} does not give back what was put, or keeps what was removed"
        return failure(name, text, "take a folder or S3: others do not keep its promises")
    return ok(name, f"{where}: an object was put, read, listed and removed")


def space(patient: Patient) -> Iterator[Line]:
    """A local disk has room for staged days."""
    if isinstance(patient.store, S3Store):
        yield ok("store space", "S3 has no end")
        return
    folder = Path(patient.settings.store).resolve()
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
    text, remedy = f"{free / (1 << 30):,.1f} GiB are free", "free space there, or set RS_CIO_STORE to a place that has more"
    if free < SPACE_FAILURE_BYTES:
        yield failure("store space", text, remedy)
    elif free < SPACE_WARNING_BYTES:
        yield warning("store space", text, remedy)
    else:
        yield ok("store space", text)


def store_expiry(patient: Patient) -> Iterator[Line]:
    """S3 itself removes rows of people, also where the job housekeeping does not run."""
    settings = patient.settings
    if not isinstance(patient.store, S3Store):
        yield ok("store expiry", f"the job housekeeping removes staged rows after {settings.staged_days} days")
        return
    for area, days in (("staged", settings.staged_days), ("rejections", settings.rejections_days)):
        yield _expiry(f"store expiry {area}", patient.store, f"{settings.store.rstrip('/')}/{area}/", f"{area}/", days)


def exchange_expiry(patient: Patient) -> Iterator[Line]:
    """What a broken run leaves of UNLOAD's files goes by itself."""
    place = patient.warehouse.exchange
    if place is not None and isinstance(place.store, S3Store):
        yield _expiry("exchange expiry", place.store, f"{place.url.rstrip('/')}/", "", EXCHANGE_DAYS)


def _expiry(name: str, place: S3Store, url: str, prefix: str, days: int) -> Line:
    """Is there a rule for everything under *url*, the store's *prefix*? The remedy holds one that is missing."""
    remedy = (
        "have an administrator add this rule to the bucket's (aws s3api put-bucket-lifecycle-configuration replaces all rules "
        f"that it has): {json.dumps(expiry_rule(url, days))}"
    )
    try:
        found = place.expires_after_days(prefix)
    except StoreRefused as error:
        return warning(name, f"the rule for {url} cannot be read: {error.problem}", f"s3:GetLifecycleConfiguration, or: {remedy}")
    if found is None:
        return warning(name, f"no rule of the bucket removes what is under {url}", remedy)
    return ok(name, f"the bucket removes what is under {url} after {found} days")


def expiry_rule(url: str, days: int) -> dict[str, object]:
    """A rule that removes everything under *url* after so many days.

    Source: AWS, S3 API reference, LifecycleRule (read 2026-11-23).
    """
    prefix = urlsplit(url).path.lstrip("/")
    name = f"rs-cio-{prefix.strip('/').replace('/', '-') or 'all'}"
    return {
        "ID": name,
        "Filter": {"Prefix": prefix},
        "Status": "Enabled",
        "Expiration": {"Days": days},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
