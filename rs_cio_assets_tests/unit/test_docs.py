"""The documentation against the code: links lead somewhere, commands exist, examples work, lists are complete."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from dagster_graphql.schema import create_schema
from graphql import parse, validate

from rs_cio_assets.cli import rs_cio
from rs_cio_assets.contract import lint_contract, load_contract
from rs_cio_assets.contract.folder import begin_contract
from rs_cio_assets.contract.models import Feed
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.delivery.rules import FOUND_BY_ENGINE, compile_rules, size_rule
from rs_cio_assets.readiness.lines import CHECKLIST
from rs_cio_assets.samples import try_samples
from rs_cio_assets.settings import SANDBOX_DEFAULTS, VARIABLES, load_settings
from rs_cio_assets_tests.live.switches import VARIABLES as LIVE_VARIABLES

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").rglob("*.md"))]
TARGETS = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


def page_id(page: Path) -> str:
    """A page's path in the project."""
    return page.relative_to(PROJECT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path):
    """Every link to a file of the project, and to a heading in one, is right."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        if "://" in path:
            continue
        linked = (page.parent / path) if path else page
        if not linked.exists() or (heading and heading not in headings(linked)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_that_are_named_exist(page: Path):
    """Each `make x` is a target, each `rs-cio x` a command, each variable one that is read."""
    text = page.read_text()
    assert {name for name in re.findall(r"`(?:.*?; )?make ([a-z]+)", text) if name not in TARGETS} == set()
    unknown = [words for words in re.findall(r"`rs-cio ([a-z -]+?)(?:`| --)", text) if not is_command(words.split())]
    assert unknown == []
    named = set(re.findall(r"`((?:RS_CIO|REDSHIFT|CUSTOMERIO)_[A-Z_]+)`", text))
    assert named - set(VARIABLES) - set(LIVE_VARIABLES) - {"REDSHIFT_PORT", "CUSTOMERIO_PORT"} == set()


def test_every_make_target_is_in_its_help():
    """`make help` lists every target."""
    described = set(re.findall(r"^([a-z]+):.*## ", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert described == TARGETS >= {"help", "demo", "test", "dev", "check", "clean"}


def test_the_analyst_s_example_feed_works(tmp_path: Path):
    """The feed of the page "Views and contracts", copied into a contract, loads and is clean."""
    page = (PROJECT / "docs" / "analyst.md").read_text()
    folder = tmp_path / "contract"
    shutil.copytree(PROJECT / "rs_cio_assets" / "contract", folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for kind in ("sql", "yaml"):
        (example,) = re.findall(rf"`feeds/review_submitted\.{kind}`[^`]*```{kind}\n(.*?)```", page, re.DOTALL)
        (folder / "feeds" / f"review_submitted.{kind}").write_text(example)
    contract = load_contract(folder)
    assert contract.feed("review_submitted").event_name == "Review Submitted"
    assert lint_contract(contract) == ()


def test_the_feed_and_the_sample_of_the_ten_minute_path_work(tmp_path: Path):
    """The feed that "Add a feed" has written by hand loads and is clean beside the shipped ones, and its sample is sent."""
    page = (PROJECT / "docs" / "add-a-feed.md").read_text()
    folder = tmp_path / "contract"
    begin_contract(folder, is_empty=False)
    for kind in ("sql", "yaml"):
        (example,) = re.findall(rf"`feeds/refund_made\.{kind}`[^`]*```{kind}\n(.*?)```", page, re.DOTALL)
        (folder / "feeds" / f"refund_made.{kind}").write_text(example)
    (sample,) = re.findall(r"```yaml\n(- case: .*?)```", page, re.DOTALL)
    (folder / "samples").mkdir()
    (folder / "samples" / "refund_made.yaml").write_text(sample)
    contract = load_contract(folder)
    assert lint_contract(contract) == ()
    (result,) = try_samples(folder, contract, contract.feed("refund_made"), now=datetime.now(UTC))
    assert result.is_good, result


def test_the_operator_s_graphql_works():
    """Each GraphQL example of the page "Operating" is valid by the schema of Dagster's own web server."""
    examples = re.findall(r"```graphql\n(.*?)```", (PROJECT / "docs" / "operator.md").read_text(), re.DOTALL)
    assert examples
    schema = create_schema().graphql_schema
    assert [error.message for example in examples for error in validate(schema, parse(example))] == []


def test_every_reason_to_reject_a_row_is_explained():
    """An operator who reads a reason finds it on the page "Reading a rejection"."""
    contract = load_contract()
    reasons = {rule.reason for rule in FOUND_BY_ENGINE}
    for feed in contract.feeds:
        rules = compile_rules(feed, contract, date(2026, 11, 24), datetime(2026, 11, 25, tzinfo=UTC))
        reasons |= {rule.reason for rule in rules} | {size_rule(feed).reason}
    page = (PROJECT / "docs" / "analyst.md").read_text()
    assert len(reasons) > 12
    assert {reason for reason in reasons if f"`{reason}`" not in page} == set()


def test_every_option_of_a_feed_is_explained():
    """Each field of a feed's YAML stands on the page "Views and contracts", in its text or in its example."""
    page = (PROJECT / "docs" / "analyst.md").read_text()
    fields = set(Feed.model_fields) - {"name", "sql", "owner"}
    assert {name for name in fields if f"`{name}" not in page and f"{name}:" not in page} == set()


def test_the_sandbox_s_tables_are_reached_as_the_page_says():
    """The command of the page "The sandbox" has the user, password, port and database that the sandbox has."""
    has = {name.removeprefix("REDSHIFT_").lower(): value for name, value in SANDBOX_DEFAULTS.items()}
    command = "PGPASSWORD={password} psql -h {host} -p {port} -U {user} {database}".format_map(has)
    assert f"`{command}`" in (PROJECT / "docs" / "sandbox.md").read_text()


def test_every_decision_is_listed():
    """The index of decisions names each page with its title."""
    folder = PROJECT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    for page in sorted(folder.glob("0*.md")):
        title = page.read_text().splitlines()[0].removeprefix("# ")
        assert f"]({page.name}) | {title} |" in index


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as the usual renderers make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def is_command(words: list[str]) -> bool:
    """True when `rs-cio` followed by *words* is a command or a group of commands."""
    command: click.Command | None = rs_cio
    for word in words:
        command = command.commands.get(word) if isinstance(command, click.Group) else None
    return command is not None


def test_the_checklist_names_the_checks_that_prove_each_line():
    """The page's lines are those of the asset readiness, and each names all checks that its line waits for, and no others."""
    text = (PROJECT / "docs" / "checklist.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")][1:]
    assert [line for line, *_ in rows] == [question.item for question in CHECKLIST]
    graph = build_definitions(load_settings({}), load_contract()).resolve_asset_graph()
    for (line, proof, _), question in zip(rows, CHECKLIST, strict=True):
        wanted = {
            key.name
            for key in graph.asset_check_keys
            if re.fullmatch(question.checks, f"{key.asset_key.to_user_string()}: {key.name}")
        }
        named = [re.sub("<[a-z]+>", ".+", name) for name in re.findall("`([^`]+)`", proof)]
        assert [name for name in sorted(wanted) if not any(re.fullmatch(pattern, name) for pattern in named)] == [], line
        unknown = [pattern for pattern in named if not any(re.fullmatch(pattern, name) for name in wanted)]
        assert unknown in ([], ["who_left_stays_gone"]), line  # the last is there once somebody may be deleted


def test_every_message_of_the_troubleshooting_table_is_one_that_is_raised():
    """Each message in the README's table stands in the code, word for word."""
    readme = (PROJECT / "README.md").read_text()
    (rows,) = re.findall(r"^\| message \|.*\n\|[-|]+\n((?:\|.*\n)+)", readme, re.MULTILINE)
    messages = [re.findall("`([^`]+)`", row.split("|")[1]) for row in rows.splitlines()]
    code = "\n".join(path.read_text() for path in (PROJECT / "rs_cio_assets").rglob("*.py"))
    parts = [part.strip() for found in messages for message in found for part in re.split(r"\.\.\.|<[a-z]+>", message)]
    assert len(messages) > 12
    assert all(messages)
    assert [part for part in parts if len(part) > 3 and part not in code] == []


def build_site(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` does, into *site*."""
    (command,) = re.findall(r"mkdocs (build.*)", (PROJECT / "Makefile").read_text())
    words = [sys.executable, "-m", "mkdocs", *command.split(), "--site-dir", str(site)]
    return subprocess.run(words, cwd=project, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="MkDocs is not installed (make lock, make test)")
def test_the_site_builds_and_a_broken_link_stops_it(tmp_path: Path):
    """`make docs` makes a page of each file and loads nothing from elsewhere; a link to a heading that is not there fails it."""
    built = build_site(PROJECT, tmp_path / "site")
    assert built.returncode == 0, built.stderr
    site = {path.relative_to(tmp_path / "site"): path.read_text() for path in (tmp_path / "site").rglob("*.html")}
    written = [page.relative_to(PROJECT / "docs") for page in (PROJECT / "docs").rglob("*.md") if page.name != "README.md"]
    assert {page.with_suffix(".html") for page in written} <= set(site)
    loaded = [url for text in site.values() for url in re.findall(r'(?:src|<link[^>]* href)="(https?://[^"]+)"', text)]
    assert loaded == []
    shown = [image for text in site.values() for image in re.findall(r'src="(images/[^"]+)"', text)]
    assert shown.count("images/graph-groups.png") == 2, "on the first page it stands for the drawing"
    assert {f"images/{image.name}" for image in (tmp_path / "site" / "images").iterdir()} == set(shown)
    copy = tmp_path / "copy"
    shutil.copytree(PROJECT / "docs", copy / "docs")
    for name in ("mkdocs.yml", "README.md", "CHANGELOG.md", "deploy", "benchmarks", "rs_cio_assets"):
        (copy / name).symlink_to(PROJECT / name)
    page = copy / "docs" / "marketer.md"
    page.write_text(page.read_text() + "\n[nowhere](checks.md#nowhere)\n")
    broken = build_site(copy, tmp_path / "broken")
    assert (broken.returncode, "does not contain an anchor '#nowhere'" in broken.stderr) == (1, True), broken.stderr
