"""The live suite against the stand-ins, in a process of its own as `make smoke` starts it: it works and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from rs_cio_assets.errors import SettingsError
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import SANDBOX_ROLE, Settings, environment
from rs_cio_assets_tests.live.answers import AnswersFile
from rs_cio_assets_tests.live.switches import CAPABILITIES
from rs_cio_assets_tests.live.workspace import event, new_ulid, open_workspace
from rs_cio_assets_tests.pipeline import query
from rs_cio_assets_tests.s3_stand_in import ScriptedS3

PROJECT = Path(__file__).parents[2]
SUITE = "rs_cio_assets_tests/live"
CAMPAIGN, WORKSPACE = 901, 100_001
CANNOT = {
    "zoned_copy",
    "system_tables",
    "serialization",
    "replaced_grants",
    "region",
    "manual_segments",
}  # what the stand-ins cannot do
PROCESS_S = 240


class Smoke:
    """The suite's process over three stand-ins."""

    def __init__(self, settings: Settings, s3: ScriptedS3, folder: Path) -> None:
        self.settings, self.s3, self.folder = settings, s3, folder
        self.variables = {
            "RS_CIO_LIVE": "redshift,customerio",
            "RS_CIO_LIVE_WITHOUT": ",".join(CANNOT),
            "RS_CIO_LIVE_ANSWERS": str(folder),
            "RS_CIO_LIVE_WAIT_S": "2",
            "RS_CIO_LIVE_CAMPAIGN_ID": str(CAMPAIGN),
            "RS_CIO_S3_ENDPOINT_URL": s3.url,
            "REDSHIFT_ROLE": SANDBOX_ROLE,
            "REDSHIFT_UNLOAD_TO": "s3://rs-cio-sandbox/unload",
            "REDSHIFT_PORT": str(settings.redshift.port),
            "CUSTOMERIO_TRACK_URL": settings.customerio.track_url,
            "CUSTOMERIO_APP_URL": settings.customerio.app_url,
            "CUSTOMERIO_WORKSPACE_ID": str(WORKSPACE),
        }

    @contextmanager
    def started(self, *options: str, files: Sequence[str] = ("",), **variables: str) -> Iterator[subprocess.Popen[str]]:
        """`make smoke` with *options* of pytest, of these *files* in their order; ended with the block."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *(f"{SUITE}/{file}" for file in files),
            *options,
        ]
        environ = environment({**self.variables, **variables})
        with subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Under xdist SIGINT is ignored, which a child inherits; from a terminal it is not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *options: str) -> tuple[int, str]:
        """Exit code and output."""
        with self.started(*options) as process:
            output, _ = process.communicate(timeout=PROCESS_S)
        return process.returncode, output

    def answers(self) -> dict[str, Any]:
        """The newest answers file."""
        files = [json.loads(path.read_text()) for path in self.folder.glob("*.json")]
        return max(files, key=lambda content: (content["started_at"], len(content["settled"])))

    def eight_days_ago(self) -> dict[str, str]:
        """The answers file and the person that a run left eight days ago."""
        moment = datetime.now(UTC) - timedelta(days=8)
        step = {"run": "earlier", "person": "rs-cio-smoke-earlier-kept@example.invalid", "ulid": new_ulid()}
        step["sent_at"] = moment.isoformat(timespec="seconds")
        once = event(step["person"], "rs_cio_smoke_event", {"number": 1}, ulid=step["ulid"], timestamp=int(moment.timestamp()))
        track = self.settings.customerio
        httpx.post(
            f"{track.track_url}/api/v2/batch",
            json={"batch": [once]},
            auth=(track.site_id, track.api_key.get_secret_value()),
            timeout=30,
        ).raise_for_status()
        named = track.model_copy(update={"workspace_id": WORKSPACE})
        settings = self.settings.model_copy(update={"customerio": named})
        AnswersFile(self.folder, "earlier", settings, now=lambda: moment).note("second_steps", step)
        return step

    def asked(self) -> str:
        """Names of the tests that are answered so far, in one text."""
        files = list(self.folder.glob("*.json"))
        return " ".join(answer["test"] for answer in self.answers()["answers"]) if files else ""

    def left(self) -> dict[str, list[Any]]:
        """Whatever of the suite's is in the three places."""
        people = httpx.post(
            f"{self.settings.customerio.app_url}/v1/customers",
            headers={"Authorization": "Bearer sandbox-app-key"},
            json={"filter": {"not": {"attribute": {"field": "no_such_attribute", "operator": "exists"}}}},
            params={"limit": 1_000},
            timeout=30,
        ).json()
        objects = self.s3.client.list_objects_v2(Bucket="rs-cio-sandbox", Prefix="unload/rs_cio_smoke_")
        schemas = query(self.settings, "SELECT nspname::VARCHAR FROM pg_namespace WHERE nspname LIKE 'rs\\_cio\\_smoke\\_%'")
        return {"people": people["ids"] or [], "objects": objects.get("Contents", []), "schemas": schemas}


@pytest.fixture
def customerio(tmp_path: Path) -> Iterator[CustomerioStandIn]:
    """An empty workspace with Customer.io's own limits: the suite asks for them."""
    with CustomerioStandIn(tmp_path / "customerio") as stand_in:
        yield stand_in


@pytest.fixture
def smoke(settings: Settings, s3: ScriptedS3, customerio: CustomerioStandIn, tmp_path: Path) -> Smoke:
    """The suite, and a campaign that it may start."""
    campaign = {"name": "Smoke", "state": "running", "event_name": "Smoke"}
    httpx.put(f"{customerio.url}/sandbox/campaigns/{CAMPAIGN}", json=campaign, timeout=30).raise_for_status()
    return Smoke(settings, s3, tmp_path / "answers")


def test_the_whole_suite_runs_and_leaves_nothing_but_its_second_step(smoke: Smoke):
    """Every question that the stand-ins can answer is answered and holds; what was made is gone, and no secret is in the file."""
    code, output = smoke.run()
    assert code == 0, output
    file = smoke.answers()
    answers = {answer["test"]: answer for answer in file["answers"]}
    assert len(answers) > 80
    others = {name: answer["words"] for name, answer in answers.items() if answer["verdict"] != "holds"}
    assert others.pop("test_one_ulid_is_one_event_days_later").startswith("sent now; run again after")
    assert others.pop("test_the_track_api_s_throttling_is_kept_where_it_was_met").startswith(
        "no request of this run was throttled"
    )
    assert others == {}
    kept = [step["person"] for step in file["second_steps"]]
    assert smoke.left() == {"people": kept, "objects": [], "schemas": []}
    assert file["left_behind"] == []
    assert len(kept) == 1
    text = next(smoke.folder.iterdir()).read_text()
    for secret in ("sandbox-track-key", "sandbox-app-key", "sandbox-site", "role/rs-cio-sandbox"):
        assert secret not in text


def test_the_second_step_after_eight_days_and_ctrl_c(smoke: Smoke):
    """What an earlier run left is compared and ended; interrupted after it, it keeps its answers and removes what it made."""
    step = smoke.eight_days_ago()
    faults = {"lost_events": ["rs_cio_smoke_lag"]}
    httpx.put(f"{smoke.settings.customerio.app_url}/sandbox/faults", json=faults, timeout=30).raise_for_status()
    files = ("test_redshift_unload.py", "test_customerio_events.py", "test_customerio_waits.py")
    with smoke.started("-k", "manifest or days_later or what_was_sent", files=files, RS_CIO_LIVE_WAIT_S="300") as process:
        until = time.monotonic() + PROCESS_S
        while "what_was_sent_can_be_read[an attribute]" not in smoke.asked():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.1)
        assert all(smoke.left().values()), "people, objects and a schema are there to be removed"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PROCESS_S)
    assert process.returncode == 2, output
    assert smoke.left() == {"people": [], "objects": [], "schemas": []}
    file = smoke.answers()
    (second,) = [answer for answer in file["answers"] if answer["test"].endswith("days_later")]
    assert (second["verdict"], file["settled"]) == ("holds", [step["run"]]), second
    assert [text for text in file["made"] if text.startswith("people rs-cio-smoke-")]
    assert file["left_behind"] == []


@pytest.mark.parametrize(
    ("workspace", "words"),
    [(None, "CUSTOMERIO_WORKSPACE_ID is not set"), (7, "CUSTOMERIO_WORKSPACE_ID names 7; nothing was sent")],
    ids=["none named", "another one"],
)
def test_it_refuses_to_begin_in_another_workspace(settings: Settings, workspace: int | None, words: str):
    """Without the workspace's number, or with that of another one, there is nothing that could send."""
    with pytest.raises(SettingsError, match=words):
        open_workspace(settings.customerio.model_copy(update={"workspace_id": workspace}), "run", 1)


def test_what_the_stand_ins_cannot_do_is_named():
    """Each capability that is left out here is one that the suite knows; UNLOAD and COPY are not among them."""
    assert set(CAPABILITIES) > CANNOT
    assert set(CAPABILITIES) - CANNOT == {"unload", "second_steps"}
