"""Alerts as a decision: what is told, once, again and as over; storms; what each receiver remembers; the words of a message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from rs_cio_assets.alerts import Kind, Moment, Notices, Problem, notify
from rs_cio_assets.alerts.messages import LINES_SHOWN, SLACK_LENGTH, Message
from rs_cio_assets.alerts.problems import MOST_LINES, MOST_MEMBERS, Line, State, line_of
from rs_cio_assets.errors import TransientError

NOW = datetime(2026, 11, 25, 7, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Listener:
    """A receiver that keeps what it was told, and fails while it is down."""

    def __init__(self, name: str = "log") -> None:
        self.name = name
        self.is_down = False
        self.messages: list[Message] = []

    def tell(self, message: Message) -> None:
        """Keep the message."""
        if self.is_down:
            raise TransientError(f"{self.name} answered 500")
        self.messages.append(message)

    def take(self) -> list[tuple[str, str, int]]:
        """State, kind and count of each line told since the last time."""
        lines = [(line.state.value, line.kind, line.count) for message in self.messages for line in message.lines]
        self.messages.clear()
        return lines


class Desk:
    """Receivers and their memory over many ticks; a clock that the test moves."""

    def __init__(self, *receivers: Listener) -> None:
        self.receivers = receivers
        self.memory: str | None = None
        self.now = NOW

    def tick(self, problems: Sequence[Problem] = (), *, unsure: tuple[str, ...] = (), after: timedelta = HOUR / 60) -> Notices:
        """One look at what is wrong."""
        self.now += after
        notices = notify(self.receivers, self.memory, Moment(problems, unsure), self.now)
        self.memory = notices.memory
        return notices


def run_failed(day: str, what: str = "Redshift cannot be reached", where: str = "sync_day", **more: datetime) -> Problem:
    """A failed run of a day."""
    return Problem(Kind.RUN, where, what, what, "wait for it, and run the day again", day, f"http://ui/runs/{day}", **more)


def check_failed(name: str = "fresh", what: str = "3 h old") -> Problem:
    """A check that says no."""
    return Problem(Kind.FRESHNESS, "customerio/feeds/people", name, what, "look at what loads the warehouse")


def days(count: int) -> list[str]:
    """ISO days."""
    return [(NOW.date() - timedelta(days=n)).isoformat() for n in range(count)]


def test_a_problem_is_told_at_once_and_once():
    """New: at the first tick. The same at the next ticks of the day: nothing."""
    log = Listener()
    desk = Desk(log)
    assert desk.tick([check_failed()]).told == 1
    assert log.take() == [("new", "freshness", 1)]
    for _ in range(23):
        assert desk.tick([check_failed(what="another number")], after=HOUR).told == 0
    assert log.take() == []


def test_what_is_still_there_is_told_again_after_a_day():
    """24 hours after it was told the last time."""
    log = Listener()
    desk = Desk(log)
    desk.tick([check_failed()])
    desk.tick([check_failed()], after=DAY)
    desk.tick([check_failed()], after=HOUR)
    assert log.take() == [("new", "freshness", 1), ("still there", "freshness", 1)]


def test_what_went_away_is_told_as_over_once_and_forgotten():
    """Over once; when it comes back it is new."""
    log = Listener()
    desk = Desk(log)
    desk.tick([check_failed()])
    desk.tick()
    desk.tick()
    desk.tick([check_failed()])
    assert log.take() == [("new", "freshness", 1), ("over", "freshness", 1), ("new", "freshness", 1)]


def test_what_nobody_follows_any_more_is_not_called_over():
    """A failure that grew too old to be looked at was not mended: it is forgotten without a word."""
    log = Listener()
    desk = Desk(log)
    desk.tick([run_failed("2026-11-20", followed_until=NOW + DAY)])
    log.take()
    desk.tick(after=2 * DAY)
    assert log.take() == []
    assert json.loads(desk.memory or "") == {"log": {}}


def test_what_cannot_be_judged_is_neither_over_nor_told_again():
    """A check that is not ready says nothing: its line stays as it is, and is over when the check passes."""
    log = Listener()
    desk = Desk(log)
    desk.tick([check_failed()])
    desk.tick(unsure=(line_of(Kind.FRESHNESS, "customerio/feeds/people", "fresh"),), after=2 * DAY)
    assert log.take() == [("new", "freshness", 1)]
    desk.tick()
    assert log.take() == [("over", "freshness", 1)]


def test_a_storm_is_one_message_of_one_line():
    """Thirty days of a backfill that fail alike, numbers in their texts aside: one line with their count and both ends."""
    log = Listener()
    desk = Desk(log)
    storm = [run_failed(day, f"timeout after {n} s") for n, day in enumerate(days(30))]
    assert desk.tick(storm).told == 1
    (message,) = log.messages
    assert len(message.lines) == 1
    assert "sync_day (30 times, 2026-10-27 to 2026-11-25)" in message.text()
    assert message.text().count("\n") == 1


def test_a_storm_that_grows_is_told_again_in_an_hour_with_its_count():
    """Ticks in between add nothing; after an hour those that joined are counted, and over is said once, at the very end."""
    log = Listener()
    desk = Desk(log)
    failing = [run_failed(day) for day in days(30)]
    for count in range(1, 31):
        desk.tick(failing[:count])
    assert log.take() == [("new", "run failed", 1)]
    desk.tick(failing, after=HOUR)
    desk.tick(failing, after=HOUR)
    assert log.take() == [("more", "run failed", 30)]
    desk.tick(failing[:1])
    assert log.take() == []
    desk.tick()
    assert log.take() == [("over", "run failed", 1)]


def test_problems_of_one_tick_are_one_message():
    """Whatever is found at once goes in one message, the most urgent first."""
    log = Listener()
    desk = Desk(log)
    desk.tick([check_failed(), run_failed("2026-11-20"), check_failed("fresh_too")])
    (message,) = log.messages
    assert [line.kind for line in message.lines] == ["run failed", "freshness", "freshness"]


def test_memory_and_messages_are_bounded():
    """A thousand different problems: one message of a few lines, a memory of kilobytes, and nothing is told twice."""
    log = Listener()
    desk = Desk(log, Listener("a"), Listener("b"))
    flood = [run_failed(day, f"{'x' * 900} {chr(97 + n % 26) * (n // 26 + 1)}") for n, day in enumerate(days(1000))]
    desk.tick(flood)
    (message,) = log.messages
    assert len(message.lines) == MOST_LINES
    assert message.text().count("\n") == LINES_SHOWN + 1
    assert message.text().endswith(f"and {MOST_LINES - LINES_SHOWN} more: the Dagster UI has all")
    assert message.lines[-1].what == f"{1000 - MOST_LINES + 1} more problems of other kinds"
    assert desk.tick(flood).told == 0
    alike = [run_failed(day, str(n % 30)) for n, day in enumerate(days(1000))]
    desk.tick([*flood, *alike], after=2 * DAY)
    assert len(desk.memory or "") < 60_000
    desk.tick()
    assert json.loads(desk.memory or "") == {"log": {}, "a": {}, "b": {}}


def test_members_beyond_those_remembered_start_no_message_of_their_own():
    """A line of a hundred days is told, and then only once a day."""
    log = Listener()
    desk = Desk(log)
    many = [run_failed(day) for day in days(2 * MOST_MEMBERS)]
    desk.tick(many)
    for _ in range(3):
        desk.tick(many, after=2 * HOUR)
    assert log.take() == [("new", "run failed", 2 * MOST_MEMBERS)]


def test_a_receiver_that_fails_is_told_later_and_no_other_twice():
    """Down for two ticks, then up: everything once, also what went on meanwhile; the other receiver hears each thing once."""
    log, chat = Listener(), Listener("chat")
    desk = Desk(log, chat)
    chat.is_down = True
    notices = desk.tick([check_failed()])
    assert [str(failure) for failure in notices.failures] == ["chat answered 500"]
    assert notices.told == 1
    desk.tick([check_failed(), run_failed("2026-11-20")])
    chat.is_down = False
    assert desk.tick([check_failed(), run_failed("2026-11-20")]).failures == []
    desk.tick([check_failed(), run_failed("2026-11-20")])
    assert sorted(chat.take()) == [("new", "freshness", 1), ("new", "run failed", 1)]
    assert log.take() == [("new", "freshness", 1), ("new", "run failed", 1)]


def test_what_a_receiver_never_heard_of_is_not_over_for_it():
    """What came and went while a receiver was down is no news for it; what it knew is told as over when it is back."""
    chat = Listener("chat")
    desk = Desk(chat)
    chat.is_down = True
    desk.tick([check_failed()])
    chat.is_down = False
    desk.tick()
    assert chat.take() == []
    desk.tick([check_failed()])
    chat.is_down = True
    desk.tick()
    chat.is_down = False
    desk.tick()
    assert chat.take() == [("new", "freshness", 1), ("over", "freshness", 1)]


@pytest.mark.parametrize("memory", ["", "no json", "[1]", '{"log": {"x": {"kind": 1}}}'])
def test_a_memory_that_cannot_be_read_is_an_empty_one(memory: str):
    """After an upgrade, or a cursor set by hand: everything that is there is told once more, and nothing breaks."""
    log = Listener()
    desk = Desk(log)
    desk.memory = memory
    desk.tick([check_failed()])
    assert log.take() == [("new", "freshness", 1)]


def line(what: str = "what", link: str = "") -> Line:
    """A line to be written."""
    return Line("0123abcd", State.NEW, "run failed", "sync_day", what, NOW, "do <this> & that", link, ("2026-11-20",))


def test_text_for_slack_is_escaped_as_slack_asks():
    """Only &, < and > are entities; a text that holds a mention of everybody mentions nobody."""
    text = Message([line("<!channel> a & b, order_completed", "http://ui/runs/1?a=1&b=2")], NOW).slack()
    assert "&lt;!channel&gt; a &amp; b, order_completed" in text
    assert "<http://ui/runs/1?a=1&amp;b=2|open>" in text
    assert "do &lt;this&gt; &amp; that" in text


@pytest.mark.parametrize("count", [1, 5, 11, 12, 13, 30])
def test_text_for_slack_fits_in_one_message(count: int):
    """However long the lines: whole lines within Slack's limit, and how many are left."""
    text = Message([line("<&" * 200, "http://ui/runs/1") for _ in range(count)], NOW).slack()
    shown = text.count(":red_circle:")
    assert len(text) <= SLACK_LENGTH
    assert shown >= 1
    assert (f"and {count - shown} more" in text) is (shown < count)


def test_the_document_says_everything_in_fields():
    """What a program needs: the same id from new to over, state, kind, where, days, count, words, link and since when."""
    listener = Listener()
    desk = Desk(listener)
    desk.tick([run_failed("2026-11-19"), run_failed("2026-11-20")])
    desk.tick()
    new, over = (message.document() for message in listener.messages)
    assert new["source"] == "rs_cio_assets"
    assert new["text"].startswith("rs_cio_assets: 1 new\nnew: run failed: sync_day (2 times, 2026-11-19 to 2026-11-20): Redshift")
    (problem,) = new["problems"]
    assert problem == {
        "id": problem["id"],
        "state": "new",
        "kind": "run failed",
        "where": "sync_day",
        "days": ["2026-11-19", "2026-11-20"],
        "count": 2,
        "what": "Redshift cannot be reached",
        "next_step": "wait for it, and run the day again",
        "link": "http://ui/runs/2026-11-20",
        "since": "2026-11-25T07:01:00+00:00",
    }
    assert (over["problems"][0]["id"], over["problems"][0]["state"]) == (problem["id"], "over")
