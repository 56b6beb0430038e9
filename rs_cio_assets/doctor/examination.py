"""The doctor's list, in order, and who goes through it. A line that fails hides no other; what needs it says so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from rs_cio_assets.doctor import customerio, environment, exchange, redshift, storage
from rs_cio_assets.doctor.lines import Line, failed, warning
from rs_cio_assets.doctor.patient import Patient
from rs_cio_assets.errors import ConfigurationError, RsCioError


@dataclass(frozen=True)
class Look:
    """One thing to look at. *look* gives lines or raises an error of ours; *needs* names what must not have failed before."""

    name: str
    look: Callable[[Patient], Iterator[Line]]
    needs: Sequence[str] = ()


LOOKS: Sequence[Look] = (
    Look("contract", environment.contract),
    Look("encryption", environment.encryption),
    Look("automation", environment.automation),
    Look("store", storage.store),
    Look("store space", storage.space),
    Look("store expiry", storage.store_expiry, needs=("store",)),
    Look("redshift host", redshift.host),
    Look("redshift login", redshift.login, needs=("redshift host",)),
    Look("redshift isolation", redshift.isolation, needs=("redshift login",)),
    Look("redshift clock", redshift.clock, needs=("redshift login",)),
    Look("view", redshift.views, needs=("contract", "redshift login")),
    Look("definitions", redshift.definitions, needs=("contract", "redshift login", "store")),
    Look("tables", redshift.tables, needs=("contract", "redshift login")),
    Look("delivery log", redshift.delivery_log, needs=("redshift login",)),
    Look("exchange", storage.exchange),
    Look("exchange expiry", storage.exchange_expiry, needs=("exchange",)),
    Look("unload", exchange.unload_and_copy, needs=("exchange", "redshift login")),
    Look("track key", customerio.track_key),
    Look("region", customerio.region, needs=("track key",)),
    Look("workspace", customerio.workspace, needs=("track key",)),
    Look("customerio clock", customerio.clock, needs=("track key",)),
    Look("app key", customerio.app_key),
    Look("app workspace", customerio.same_workspace, needs=("track key", "app key")),
)


def examine(patient: Patient, *, only: Collection[str] = ()) -> Iterator[Line]:
    """Every line, as it is found; with *only*, those of these looks and of what they need.

    Raises: ConfigurationError for a name that no look has; anything that is no error of ours.
    """
    wanted = _with_needs(only) if only else {look.name for look in LOOKS}
    causes: dict[str, str] = {}  # what did not go well -> what failed first
    for look in (look for look in LOOKS if look.name in wanted):
        cause = next((causes[name] for name in look.needs if name in causes), None)
        if cause:
            causes[look.name] = cause
            yield warning(look.name, f"not looked at, because {cause} failed", f"mend {cause}, then run rs-cio doctor again")
            continue
        for line in _lines(look, patient):
            if line.status == "failure":
                causes[look.name] = look.name
            yield line


def _lines(look: Look, patient: Patient) -> Iterator[Line]:
    try:
        yield from look.look(patient)
    except RsCioError as error:
        yield failed(look.name, error)


def _with_needs(names: Collection[str]) -> set[str]:
    needs = {look.name: look.needs for look in LOOKS}
    if unknown := sorted(set(names) - set(needs)):
        raise ConfigurationError(f"the doctor has no line {unknown[0]}", next_step=f"choose of {', '.join(needs)}")
    wanted, todo = set(), list(names)
    while todo:
        name = todo.pop()
        wanted.add(name)
        todo += needs[name]
    return wanted
