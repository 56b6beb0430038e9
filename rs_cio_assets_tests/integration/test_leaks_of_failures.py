"""What goes wrong with a row's values in it: no run, check or error says them, whoever refused: we, Redshift, S3, Customer.io."""

from __future__ import annotations

import logging
import traceback

import pytest

from rs_cio_assets.errors import RsCioError
from rs_cio_assets.settings import Settings
from rs_cio_assets_tests.integration.test_bad_input import DAY, Case
from rs_cio_assets_tests.leaks import Hidden
from rs_cio_assets_tests.pipeline import open_pipeline, run_sql
from rs_cio_assets_tests.s3_stand_in import ScriptedS3

ID, EMAIL, NAME, TOKEN = "C7654321", "kateřina.o'shea@mail.example.com", "Kateřina", "hush-5f1c"
HIDDEN = Hidden(ids=[ID], emails=[EMAIL], names=[NAME], secrets=[TOKEN])
SAID = f"{NAME} <{EMAIL}> {ID} {TOKEN}"
GOOD = "customer_id, occurred_at, loaded_at, order_id, total"
# What the orders view selects -> what goes wrong.
VIEWS = {
    "rejected": "*",
    "a cast": f"{GOOD}, note::INT::VARCHAR AS note",
    "a date": f"{GOOD}, note::TIMESTAMP::VARCHAR AS note",
    "a number": "customer_id, occurred_at, loaded_at, order_id, SUBSTRING(note, 1, 20)::NUMERIC(12,2) AS total, note",
    "a division": f"{GOOD}, (1 / (LEN(note) - LEN(note)))::VARCHAR AS note",
    "another type": "customer_id, note AS occurred_at, loaded_at, order_id, total, note",
    "no such column": f"{GOOD}, no_such AS note",
}


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Everything that is logged from INFO on is looked at."""
    caplog.set_level(logging.INFO)


def run_day(case: Case, sql: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> str:
    """Make the views, sync the day, and require that nothing of it says a planted value; the failures and failed checks."""
    with open_pipeline(case.settings, case.contract(sql)) as pipeline:
        outcomes = [pipeline.create_views(), pipeline.sync_one(DAY)]
        leaks = HIDDEN.found_in_instance(pipeline.instance)
    for where, text in {"outcomes": str(outcomes), "logs": caplog.text, "output": str(capfd.readouterr())}.items():
        leaks |= HIDDEN.found_in(where, text)
    assert leaks == set()
    said = [failure for outcome in outcomes for failure in outcome.failures]
    return "\n".join([*said, *(c.description for o in outcomes for c in o.checks if not c.is_passed)])


@pytest.mark.parametrize(
    ("view", "way"), [*((view, "driver") for view in VIEWS), ("rejected", "unload"), ("a cast", "unload"), ("a date", "unload")]
)
def test_no_failure_of_a_view_says_a_value(
    view: str,
    way: str,
    settings: Settings,
    settings_with_s3: Settings,
    shown: None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
):
    """Rejected rows, and casts that the server refuses by quoting the value, read by the driver and by UNLOAD."""
    case = Case(settings_with_s3 if way == "unload" else settings)
    case.add(order_id="O2", customer_id=f"{ID} {SAID[:30]}", note=SAID)
    case.add(order_id="O3", customer_id=ID, note=f"{SAID} {'n' * 40_000}")
    case.add(order_id="O4", customer_id=ID, note=SAID)
    try:
        assert run_day(case, VIEWS[view], caplog, capfd)
    finally:
        run_sql(case.settings, f"DROP SCHEMA {case.schema} CASCADE")


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket")])
def test_no_error_of_s3_says_a_value(
    status: int,
    code: str,
    settings_with_s3: Settings,
    s3: ScriptedS3,
    shown: None,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
):
    """UNLOAD is refused with a text that quotes a row; the operator hears status, code and next step."""
    case = Case(settings_with_s3)
    s3.refuse("put_object", status, code, message=SAID)
    try:
        said = run_day(case, "*", caplog, capfd)
    finally:
        run_sql(case.settings, f"DROP SCHEMA {case.schema} CASCADE")
    assert f"{status}" in said


def test_the_words_of_the_stand_in_do_quote_the_value(settings: Settings):
    """Without our mapping the server's error says the value: what the tests above prove is not the stand-in's silence."""
    with pytest.raises(Exception, match=TOKEN) as refused:
        run_sql(settings, ("SELECT %s::VARCHAR::INT", (TOKEN,)))
    assert not isinstance(refused.value, RsCioError)
    assert HIDDEN.found_in("x", "".join(traceback.format_exception(refused.value)))
