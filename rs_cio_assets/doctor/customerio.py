"""Lines about Customer.io: the Track key, its region and workspace, clocks, the App key and each scope that checks need.

Nothing is written. A key that is missing for checks alone is a warning: rows can be sent without it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rs_cio_assets.customerio import SCOPES, AppClient
from rs_cio_assets.doctor.clocks import clock_line
from rs_cio_assets.doctor.lines import Line, failed, failure, ok, warning
from rs_cio_assets.doctor.patient import Patient
from rs_cio_assets.errors import CustomerioRefused

_APP_KEYS = "Customer.io, Settings, Account Settings, API Credentials, App API Keys"


def track_key(patient: Patient) -> Iterator[Line]:
    """The Track API takes the credentials."""
    asked = patient.account.answer
    yield ok("track key", f"belongs to workspace {asked.workspace_id} in region {asked.region}")


def region(patient: Patient) -> Iterator[Line]:
    """The credentials' region is the settings': the other region's host would pass people's data through its servers."""
    found, expected = patient.account.answer.region, patient.settings.customerio.region
    if found == expected:
        yield ok("region", f"{found}, as CUSTOMERIO_REGION says")
    else:
        text = f"the Track key belongs to region {found}, and CUSTOMERIO_REGION says {expected}"
        yield failure("region", text, f"set CUSTOMERIO_REGION={found}")


def workspace(patient: Patient) -> Iterator[Line]:
    """The credentials' workspace is the one that was meant."""
    found, expected = patient.account.answer.workspace_id, patient.settings.customerio.workspace_id
    if expected is None:
        text = f"the Track key belongs to workspace {found}, and nothing says that it is the one you mean"
        yield warning("workspace", text, f"set CUSTOMERIO_WORKSPACE_ID={found} when it is")
    elif found == expected:
        yield ok("workspace", f"{found}, as CUSTOMERIO_WORKSPACE_ID says")
    else:
        text = f"the Track key belongs to workspace {found}, and CUSTOMERIO_WORKSPACE_ID says {expected}"
        yield failure(
            "workspace", text, f"take site id and API key of workspace {expected}, or set CUSTOMERIO_WORKSPACE_ID={found}"
        )


def clock(patient: Patient) -> Iterator[Line]:
    """Customer.io's clock beside this machine's."""
    asked = patient.account
    if asked.answer.answered_at is None:
        yield warning("customerio clock", "Customer.io's answer has no Date", "compare this machine's clock with another one")
    else:
        yield clock_line("customerio clock", asked.answer.answered_at - asked.at, "Customer.io's")


def app_key(patient: Patient) -> Iterator[Line]:
    """There is an App API key, and it is taken; one line for each scope, for each can be missing alone."""
    if patient.settings.customerio.app_api_key is None:
        text = (
            "CUSTOMERIO_APP_API_KEY is not set: nothing can be read back, and a backfill that could start a campaign is refused"
        )
        yield warning("app key", text, f"make a key ({_APP_KEYS}) with the scopes {', '.join(SCOPES)}, and set it")
        return
    refused: dict[str, CustomerioRefused] = {}
    with AppClient(patient.settings.customerio) as app:
        for scope in SCOPES:
            try:
                app.require_scope(scope)
            except CustomerioRefused as error:
                refused[scope] = error
    if len(refused) == len(SCOPES):
        yield failed("app key", refused["people"])
        return
    yield ok("app key", "is taken")
    for scope in SCOPES:
        name = f"app scope {scope}"
        if scope in refused:
            text = f"checks cannot read {scope}: {refused[scope].problem}"
            yield warning(name, text, f"give the App API key the scope for {scope} ({_APP_KEYS})")
        else:
            yield ok(name, "may be read")


def same_workspace(patient: Patient) -> Iterator[Line]:
    """App key and Track key are of one workspace. Only an account with a single workspace proves it without writing."""
    name, track = "app workspace", patient.account.answer.workspace_id
    if patient.settings.customerio.app_api_key is None:
        return
    try:
        with AppClient(patient.settings.customerio) as app:
            found = app.workspaces()
    except CustomerioRefused as error:
        text = f"nothing says that both keys are of one workspace: {error.problem}"
        yield warning(name, text, "give the App API key the scope for workspaces, or run the canary checks once")
        return
    if track not in found:
        shown = ", ".join(map(str, found)) or "none"
        text = f"the Track key is of workspace {track}, the App API key of an account with {shown}"
        yield failure(name, text, "take both keys from the same workspace")
    elif len(found) > 1:
        text = (
            f"the App API key's account has {len(found)} workspaces, {track} among them; the API does not say which one it is of"
        )
        yield warning(name, text, "make sure that both keys are of one workspace; customerio_holds_what_was_sent proves it later")
    else:
        yield ok(name, f"both keys are of workspace {track}")
