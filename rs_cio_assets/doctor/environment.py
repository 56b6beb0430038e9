"""Lines about what needs no network: the contract and its lock, encryption, what the settings turn on."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from rs_cio_assets.contract.load import load_lock
from rs_cio_assets.contract.lock import differences, lock_of
from rs_cio_assets.doctor.lines import Line, ok, warning
from rs_cio_assets.doctor.patient import Patient


def contract(patient: Patient) -> Iterator[Line]:
    """The contract loads, agrees with its lock, and the lock is current."""
    feeds = len(patient.contract.enabled_feeds)
    lock = load_lock(patient.settings.contract)
    if lock is None:
        yield warning(
            "contract",
            f"{feeds} feeds are on; there is no lock, so names that journeys use may change unnoticed",
            'rs-cio lock --accept --reason "..."',
        )
        return
    # What breaks the lock does not load; names whose last day has passed look like it, and are planned.
    changes = differences(lock, lock_of(patient.contract), patient.now().date())
    added = sum(not change.is_breaking for change in changes)
    if added:
        text = f"{feeds} feeds are on; {added} new names are not in the lock yet"
        yield warning("contract", text, 'rs-cio lock shows them; rs-cio lock --accept --reason "..." locks them')
    else:
        yield ok("contract", f"{feeds} feeds are on, and the lock is current")


def encryption(patient: Patient) -> Iterator[Line]:
    """Rows of people and passwords cross no network in the clear."""
    settings = patient.settings
    urls = {
        "CUSTOMERIO_TRACK_URL": settings.customerio.track_url,
        "CUSTOMERIO_APP_URL": settings.customerio.app_url,
        "RS_CIO_S3_ENDPOINT_URL": settings.s3.endpoint_url or "",
    }
    clear = [name for name, url in urls.items() if url.startswith("http://") and not _is_here(urlsplit(url).hostname or "")]
    if not settings.redshift.tls and not _is_here(settings.redshift.host):
        clear.insert(0, "REDSHIFT_TLS=false")
    if clear:
        text = f"people's data crosses the network in the clear: {', '.join(clear)}"
        yield warning("encryption", text, "set REDSHIFT_TLS=true, and addresses that begin with https://")
    else:
        how = "certificates and host names are verified" if settings.redshift.tls else "Redshift is on this machine"
        yield ok("encryption", f"every connection that leaves this machine is encrypted; {how}")


def automation(patient: Patient) -> Iterator[Line]:
    """What runs by itself, who hears of it, and how fast Customer.io is sent to."""
    settings = patient.settings
    pace = f"at most {settings.customerio.max_requests_per_s:g} requests/s, {settings.customerio.concurrency} at once"
    canary = "canaries send two made-up people" if settings.canary else "no canaries"
    runs = "schedules and sensors run" if settings.automation else "schedules and sensors wait to be turned on"
    text = f"{runs}; {canary}; {pace}"
    if settings.automation and not (settings.alerts.webhook_url or settings.alerts.slack_url):
        remedy = "set RS_CIO_ALERT_SLACK_URL or RS_CIO_ALERT_WEBHOOK_URL"
        yield warning("automation", f"{text}; nobody but the log is told when something is wrong", remedy)
    elif not settings.preflight:
        text = f"{text}; RS_CIO_PREFLIGHT=false: nothing looks at these lines before the first row is sent"
        yield warning("automation", text, "unset RS_CIO_PREFLIGHT")
    else:
        yield ok("automation", text)


def _is_here(host: str) -> bool:
    """True for this machine's own address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
