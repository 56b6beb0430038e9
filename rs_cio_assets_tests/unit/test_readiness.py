"""The readiness checklist: which line is ready, failing or not ready, on which evidence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rs_cio_assets.contract import load_contract
from rs_cio_assets.readiness import State, as_html, as_markdown, readiness
from rs_cio_assets.readiness.lines import Evidence, Facts, Verdict

NOW = datetime(2026, 11, 25, 7, tzinfo=UTC)
FEEDS = ("people", "order_completed", "checkout_started", "subscription_cancelled", "subscription_paused")
PEOPLE = "customerio/feeds/people"
SEGMENTS = tuple(f"segment_{segment.name}" for segment in load_contract().segments)


def facts(days: int = 14, locked_on: str | None = "2026-11-01") -> Facts:
    """The shipped contract, with *days* delivered of every feed."""
    return Facts(load_contract(), dict.fromkeys(FEEDS, days), locked_on)


def passed(asset: str, check: str, *, at: datetime = NOW) -> Evidence:
    """A check that passed."""
    return Evidence(asset, check, Verdict.PASSED, "fine", at)


def all_good() -> list[Evidence]:
    """Every check that the lines ask for, passed now."""
    exports = [passed(f"redshift/exports/{feed}", check) for feed in FEEDS for check in ("contract", "times")]
    per_feed = [
        passed(f"customerio/feeds/{feed}", check)
        for feed in FEEDS
        for check in ("rejections_within_budget", "customerio_holds_what_was_sent")
    ]
    names = ("identities_agree", "customerio_refused_nothing_later", "who_left_stays_gone", *SEGMENTS)
    people = [passed(PEOPLE, name) for name in names]
    journeys = [
        passed("customerio/feeds/order_completed", f"journey_{name}_{what}")
        for name in ("post_purchase", "cart_recovery")
        for what in ("fires", "keeps_its_promise")
    ]
    return [*exports, *per_feed, *people, *journeys, passed(PEOPLE, "winback_reaches_nobody_it_must_not")]


def test_with_everything_proven_every_line_is_ready():
    """Eight lines, as the guide lists them, each with the date of its oldest evidence."""
    lines = readiness(all_good(), facts(), NOW)
    assert [line.state for line in lines] == [State.READY] * 8
    assert {line.oldest for line in lines} == {NOW}
    assert [line.next_step for line in lines] == [""] * 8


@pytest.mark.parametrize(
    ("check", "line"),
    [
        ("identities_agree", 0),
        ("times", 1),
        ("segment_repeat_buyers", 5),
        ("journey_cart_recovery_fires", 6),
        ("winback_reaches_nobody_it_must_not", 7),
    ],
)
def test_a_failed_check_makes_its_line_fail_and_is_quoted(check: str, line: int):
    """One red check is enough, and its own text stands in the evidence."""
    evidence = [
        item if item.check != check else Evidence(item.asset, check, Verdict.FAILED, "12 people", NOW) for item in all_good()
    ]
    lines = readiness(evidence, facts(), NOW)
    assert lines[line].state is State.FAILING
    assert f"{check}: 12 people" in lines[line].evidence
    assert lines[line].next_step


@pytest.mark.parametrize("verdict", [Verdict.NOT_READY, Verdict.NEVER_RUN])
def test_what_was_not_looked_at_is_not_ready(verdict: Verdict):
    """A check that never ran, or could not say anything, leaves its line open."""
    evidence = [
        item if item.check != "identities_agree" else Evidence(PEOPLE, item.check, verdict, "", None) for item in all_good()
    ]
    assert readiness(evidence, facts(), NOW)[0].state is State.NOT_READY


def test_old_evidence_does_not_count():
    """A check that passed eight days ago proves nothing about today."""
    old = NOW - timedelta(days=8)
    evidence = [item if item.check != "who_left_stays_gone" else passed(PEOPLE, item.check, at=old) for item in all_good()]
    line = readiness(evidence, facts(), NOW)[7]
    assert (line.state, line.oldest) == (State.NOT_READY, old)
    assert "1 of them older than 7 days" in line.evidence


def test_warnings_within_budget_do_not_hold_a_line_back():
    """Some rejected rows within the feed's budget are everyday business."""
    evidence = [
        item if item.check != "rejections_within_budget" else Evidence(item.asset, item.check, Verdict.WARNED, "", NOW)
        for item in all_good()
    ]
    assert readiness(evidence, facts(), NOW)[0].state is State.READY


def test_three_segments_are_enough_and_two_are_not():
    """The guide asks for at least three."""
    for count, state in ((3, State.READY), (2, State.NOT_READY)):
        dropped = SEGMENTS[count:]
        evidence = [
            item if item.check not in dropped else Evidence(PEOPLE, item.check, Verdict.NEVER_RUN, "", None)
            for item in all_good()
        ]
        assert readiness(evidence, facts(), NOW)[5].state is state


def test_facts_hold_a_line_back():
    """Too few delivered days, or names that are not locked, whatever the checks say."""
    lines = readiness(all_good(), facts(days=6, locked_on=None), NOW)
    assert [line.state is State.NOT_READY for line in lines] == [False, True, False, False, True, False, False, False]
    assert "fewer than 7 of" in lines[4].evidence


def test_the_report_holds_every_line_and_escapes():
    """Markdown and HTML say the same; what stands in a check's text cannot break the table."""
    evidence = [
        item if item.check != "identities_agree" else Evidence(PEOPLE, item.check, Verdict.FAILED, "a | b <script>", NOW)
        for item in all_good()
    ]
    lines = readiness(evidence, facts(), NOW)
    markdown, page = as_markdown(lines, NOW), as_html(lines, NOW)
    assert "7 of 8 lines are ready" in markdown
    assert markdown.count("\n| ") == 10
    assert "a \\| b <script>" in markdown
    assert "a | b &lt;script&gt;" in page
    assert page.count("<tr>") == 9
