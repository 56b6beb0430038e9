"""A feed of one's own as a new user adds it: tables that exist, `rs-cio new-feed`, and people and events that arrive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from rs_cio_assets.contract import load_contract
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets_tests.customerio_http import CustomerioHttp
from rs_cio_assets_tests.desk import exit_code
from rs_cio_assets_tests.pipeline import run_sql, write_dagster_yaml

AT = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0, tzinfo=None) - timedelta(days=5)
DAY = AT.date().isoformat()
PLANTED = ("C0000001", "ada@example.com", "hunter2", "R-1")
TABLES = (
    "DROP SCHEMA IF EXISTS club CASCADE",
    "CREATE SCHEMA club",
    (
        "CREATE TABLE club.members (member_id VARCHAR(32), email VARCHAR(254), points NUMERIC(12, 2), updated_at TIMESTAMP, "
        "loaded_at TIMESTAMP)"
    ),
    (
        'CREATE TABLE club.reviews (id BIGINT, review_code VARCHAR(16), member_id VARCHAR(32), "Number of Stars" SMALLINT, '
        "recipient TEXT, password VARCHAR(32), took INTERVAL, submitted_at TIMESTAMPTZ, _loaded_at TIMESTAMP)"
    ),
    "CREATE TABLE club.doubtful (member_id VARCHAR(32), visit_id INTEGER, visited_at TIMESTAMP, loaded_at TIMESTAMP)",
    "CREATE TABLE club.bare (name VARCHAR(32), seen DATE)",
    ("INSERT INTO club.members VALUES ('C0000001', 'ada@example.com', 12.5, %s, %s)", (AT, AT)),
    (
        (
            "INSERT INTO club.reviews VALUES (1, 'R-1', 'C0000001', 5, 'me', 'hunter2', NULL, %s, %s), "
            "(2, 'R-2', 'C0000001', 4, 'me', 'hunter2', NULL, %s, %s)"
        ),
        (AT, AT + timedelta(hours=1)) * 2,
    ),
    (
        "INSERT INTO club.doubtful VALUES ('C0000001', 7, %s, %s), ('nobody', 7, %s, %s), ('C0000001', 8, NULL, %s)",
        (AT, AT, AT, AT, AT),
    ),
)


@dataclass(frozen=True)
class User:
    """Somebody with a terminal, a contract of their own and the two stand-ins."""

    folder: Path
    settings: Settings
    capsys: pytest.CaptureFixture[str]

    def type(self, *words: str) -> tuple[int, str]:
        """`rs-cio` with these words: its exit code, and all that it showed."""
        code = exit_code(*words)
        shown = self.capsys.readouterr()
        return code, shown.out + shown.err

    def document(self, *words: str) -> dict:
        """What it prints with --json."""
        exit_code(*words, "--json")
        return json.loads(self.capsys.readouterr().out)

    def read(self, name: str) -> str:
        """A file of the contract."""
        return (self.folder / name).read_text()


@pytest.fixture
def user(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redshift: RedshiftStandIn,
    customerio: CustomerioStandIn,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[User]:
    """An empty contract whose people are members, and tables that know nothing of feeds."""
    environ = {
        "RS_CIO_CONTRACT": str(tmp_path / "contract"),
        "RS_CIO_STORE": str(tmp_path / "store"),
        "REDSHIFT_PORT": str(redshift.port),
        "CUSTOMERIO_TRACK_URL": customerio.url,
        "CUSTOMERIO_APP_URL": customerio.url,
        "DAGSTER_HOME": str(tmp_path / "dagster"),
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    write_dagster_yaml(tmp_path / "dagster")
    settings = load_settings(environ)
    run_sql(settings, *TABLES)
    found = User(tmp_path / "contract", settings, capsys)
    assert found.type("contract", "init", str(found.folder), "--empty")[0] == 0
    workspace = yaml.safe_load(found.read("workspace.yaml"))
    workspace["identifier"] |= {"column": "member_id", "pattern": "[CG][0-9]{7}", "description": "The club's number."}
    (found.folder / "workspace.yaml").write_text(yaml.safe_dump(workspace))
    yield found
    run_sql(settings, "DROP SCHEMA club CASCADE")  # with the views over it


def test_two_tables_become_a_person_and_an_event_in_customerio(user: User):
    """init, new-feed twice, lint, test, create-views, backfill: each exits 0, no file is edited, and person and events are in
    Customer.io with their values, which no command shows."""
    said = ""
    for words in (
        ("new-feed", "members", "club.members"),
        ("new-feed", "review_submitted", "club.reviews"),
        ("contract", "lint"),
        ("contract", "test"),
        ("create-views",),
        ("preview", "review_submitted", "--export", "--rows", "0"),
        ("backfill", "all", "--day", DAY),
    ):
        code, shown = user.type(*words)
        assert code == 0, shown
        said += shown
    assert "6 cases, 0 wrong." in said
    assert f"review_submitted {DAY}: 2 rows." in said  # the newest day that has some
    written = "".join(path.read_text() for path in user.folder.rglob("*") if path.is_file())
    assert [value for value in PLANTED if value in said or value in written] == []
    with CustomerioHttp(user.settings.customerio.app_url) as cio:
        profile = cio.attributes("C0000001") or {}
        events = [each for each in cio.activities("C0000001", "event") if each["name"] == "Review Submitted"]
    assert (profile["email"], float(profile["points"])) == ("ada@example.com", 12.5)
    assert len(events) == 2
    assert all(set(event["data"]) == {"id", "review_code", "number_of_stars"} for event in events)


def test_a_guess_is_marked_and_what_cannot_be_sent_is_named(user: User):
    """The key is what no two rows share; a time gets its usual name; a secret and a reserved name are not sent; a type that no
    feed holds is left out with what to do."""
    user.type("new-feed", "members", "club.members")
    document = user.document("new-feed", "review_submitted", "club.reviews")
    assert (document["kind"], document["rows"], document["is_on"], document["to_decide"]) == ("event", 2, True, [])
    assert set(document["left_out"]) == {"took"}
    assert {note.partition(":")[0] for note in document["notes"].values()} == {"GUESS"}
    feed = load_contract(user.folder).feed("review_submitted")
    assert (feed.event_name, feed.business_key, feed.time_column) == ("Review Submitted", ("id",), "occurred_at")
    assert {name for name, column in feed.columns.items() if not column.is_sent} == {"recipient", "password"}
    text = user.read("feeds/review_submitted.yaml")
    assert "business_key: [id]  # GUESS: no two of 2 rows share it" in text
    assert "required: true" not in next(line for line in text.splitlines() if line.startswith("  number_of_stars"))


def test_what_a_person_must_decide_turns_the_feed_off(user: User):
    """A key that is shared, identifiers of another shape, rows without a time, no people feed: exit 1, each said with numbers,
    and `enabled: false`; the feed loads, lints and is named by the commands that need it on."""
    code, shown = user.type("new-feed", "visited", "club.doubtful")
    assert code == 1
    for text in (
        "1 of 3 rows have no visited_at",
        "1 of 3 rows have an member_id without the workspace's shape",
        "no people feed is there",
        "rows share their visit_id",
    ):
        assert f"TO DECIDE: {text}" in shown, shown
    assert user.type("contract", "lint")[0] == 0
    assert not load_contract(user.folder).feed("visited").enabled
    code, shown = user.type("create-views", "visited")
    assert (code, "the feed is off. Next step: set enabled: true in feeds/visited.yaml" in shown) == (2, True)


def test_a_person_s_word_stands_in_place_of_a_guess(user: User):
    """--kind, --identifier, --time, --loaded-at and --key are taken as they are, and noted so; several columns make a key."""
    words = ("--kind", "event", "--identifier", "member_id", "--time", "visited_at", "--loaded-at", "loaded_at")
    document = user.document("new-feed", "visited", "club.doubtful", *words, "--key", "member_id", "--key", "visit_id")
    assert all(note.startswith("as you said") for note in document["notes"].values())
    assert not any("rows share" in text for text in document["to_decide"])
    assert load_contract(user.folder).feed("visited").business_key == ("member_id", "visit_id")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("visited", "club.bare"), "no column says when a row reached the warehouse"),
        (("visited", "club.bare"), "no column (a timestamp in UTC) says when it happened"),
        (
            ("visited", "club.nothing"),
            "club.nothing must be a table or view that this user may read; club has bare, doubtful, members",
        ),
        (("visited", "nowhere.members"), "it sees no table in a schema nowhere"),
        (("visited", "doubtful"), "doubtful is not schema.table"),
        (("Visited", "club.doubtful"), "use snake_case"),
        (("visited", "club.doubtful", "--time", "visit_id"), "--time visit_id of club.doubtful is no timestamp"),
        (("visited", "club.doubtful", "--key", "nope"), "has no column nope"),
        (("visited", "club.doubtful", "--time", "loaded_at", "--loaded-at", "loaded_at"), "would tell late rows from others"),
    ],
)
def test_what_cannot_be_a_feed_is_said_and_nothing_is_written(user: User, words: tuple[str, ...], said: str):
    """Exit 2, what is missing by name, a next step, and a contract folder as it was."""
    before = sorted(user.folder.rglob("*"))
    code, shown = user.type("new-feed", *words)
    assert (code, said in shown, "Next step: " in shown) == (2, True, True), shown
    assert sorted(user.folder.rglob("*")) == before


def test_a_view_that_others_own_keeps_its_names(user: User, monkeypatch: pytest.MonkeyPatch):
    """With REDSHIFT_VIEWS=verify the source is the feed's view: no rename and no cast, so that it fits as it stands."""
    monkeypatch.setenv("REDSHIFT_VIEWS", "verify")
    user.type("new-feed", "visited", "club.doubtful")
    feed = load_contract(user.folder).feed("visited")
    assert (feed.view, feed.time_column) == ("club.doubtful", "visited_at")
    assert "::VARCHAR" not in feed.sql.upper()


def test_nothing_is_overwritten_and_the_shipped_contract_is_not_edited(user: User, monkeypatch: pytest.MonkeyPatch):
    """The same feed again, a contract in a folder with files, and a new feed without RS_CIO_CONTRACT: exit 2, and what to do."""
    user.type("new-feed", "visited", "club.doubtful")
    kept = user.read("feeds/visited.yaml")
    code, shown = user.type("new-feed", "visited", "club.doubtful")
    assert (code, "is there already" in shown) == (2, True)
    assert user.read("feeds/visited.yaml") == kept
    assert user.type("contract", "init", str(user.folder))[0] == 2
    monkeypatch.delenv("RS_CIO_CONTRACT")
    code, shown = user.type("new-feed", "visited", "club.doubtful")
    assert (code, "rs-cio contract init" in shown) == (2, True)
