"""The command line as a whole: every command has help with an example, means the same by the same word, and is documented; what
goes wrong ends with exit code 2 and a next step. Commands that are added later are held to all of it."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rs_cio_assets import errors
from rs_cio_assets.cli import rs_cio
from rs_cio_assets.contract import SHIPPED
from rs_cio_assets_tests.desk import exit_code

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "command-line.md").read_text()
# Words in small letters are the command, the others its arguments.
ROWS = {
    name.strip(): (arguments, options, exits_1)
    for name, arguments, options, exits_1 in re.findall(
        r"^\| `rs-cio ((?:[a-z0-9-]+ ?)+\b)([^`]*)` \| ([^|]*?) ?\| ([^|]*) \|$", PAGE, re.MULTILINE
    )
}
# They run until Ctrl-C, or print what a shell or a database reads: nothing that a program would read as JSON.
WITHOUT_JSON = {"demo", "dev", "sandbox redshift", "sandbox customerio", "completion", "grants", "schema"}
# One line that each command refuses: usage, a feed or a folder that is not there. A new command brings its own.
REFUSED = {
    "backfill": ("people",),
    "completion": ("tcsh",),
    "contract assets": ("--nope",),
    "contract init": (".",),
    "contract lint": ("--nope",),
    "contract schema": ("--nope",),
    "contract test": ("peopel",),
    "create-views": ("peopel", "--dagster-home", "."),
    "demo": ("--from", "2026-11-20", "--to", "2026-11-19"),
    "dev": ("--redshift-port", "0"),
    "doctor": ("--only", "nope"),
    "grants": ("--nope",),
    "lock": ("--accept",),
    "new-feed": ("orders", "shop.orders"),
    "preview": ("people",),
    "rejections": ("--day", "2026-11-20", "--from", "2026-11-19"),
    "replay": ("people", "--from", "2026-11-19"),
    "report": ("--json", "--html", "--dagster-home", "."),
    "sandbox customerio": ("--port", "0"),
    "sandbox redshift": ("--port", "0"),
    "schema": ("--nope",),
    "send-one": ("people", "C0000001"),
    "shop advance": ("--late-orders", "-1"),
}


def commands(command: click.Command = rs_cio, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by the words that are typed."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(commands())


def help_of(name: str) -> str:
    """What --help shows, in one line."""
    command = COMMANDS[name]
    return " ".join(command.get_help(click.Context(command, info_name=f"rs-cio {name}")).split())


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    code = exit_code(*words)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str):
    """--help of each command shows how it is typed, beside its usage line."""
    _, _, text = help_of(name).partition("Usage: ")
    assert text.count(f"rs-cio {name}") > 1


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_every_command_with_its_options_and_exit_code(name: str):
    """The table of docs/command-line.md has a row for it: its arguments, its options, and when it exits 1, as its help has it."""
    assert name in ROWS, f"add `rs-cio {name}` to the table of docs/command-line.md"
    arguments, options, exits_1 = ROWS[name]
    params = COMMANDS[name].params
    assert set(re.findall(r"`(--[a-z0-9-]+)`", options)) == {p.opts[-1] for p in params if isinstance(p, click.Option)}
    shown = [(p.metavar or str(p.name)).upper().strip("[]") for p in params if isinstance(p, click.Argument)]
    assert [word.strip("[]") for word in arguments.split()] == shown
    says = re.search(r"\b(?:exits? 1|1 (?:when|unless|where))\b", help_of(name), re.IGNORECASE)
    assert bool(says) == (exits_1 != "never"), "the help says when it exits 1, and so does the page"


def test_the_page_has_no_command_that_is_gone():
    """Every row is a command."""
    assert set(ROWS) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - WITHOUT_JSON))
def test_what_reports_does_so_in_json_too(name: str):
    """Every command that ends with a report takes --json."""
    assert "--json" in {option for param in COMMANDS[name].params for option in param.opts}


def test_the_same_word_is_the_same_option_everywhere():
    """An option has one type wherever it stands, and a day is a day: --day, --from and --to are dates of one form."""
    types: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for param in command.params:
            if isinstance(param, click.Option):
                types.setdefault(param.opts[-1], set()).add(type(param.type).__name__)
    # --data is a shop's file or a stand-in's folder, --only some of the days or some of the doctor's lines.
    assert {option for option, found in types.items() if len(found) > 1} <= {"--data", "--only"}
    assert [types[option] for option in ("--day", "--from", "--to")] == [{"DayType"}] * 3


@pytest.mark.parametrize("name", COMMANDS)
def test_what_cannot_be_done_exits_2_and_says_what_to_do(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A line that the command refuses: exit code 2, and a next step, which is one of ours or click's pointer to --help."""
    monkeypatch.delenv("RS_CIO_CONTRACT", raising=False)
    assert name in REFUSED, f"add to REFUSED a line that rs-cio {name} refuses"
    code, said = typed(capsys, *name.split(), *REFUSED[name])
    assert code == 2, said
    assert "Next step: " in said or f"Try 'rs-cio {name} " in said


@pytest.mark.parametrize(
    ("environ", "words", "said"),
    [
        ({"RS_CIO_CONTRACT": "nowhere"}, ("contract", "lint"), "begin one: rs-cio contract init nowhere"),
        ({"RS_CIO_MODE": "production"}, ("contract", "lint"), "REDSHIFT_HOST: is not set"),
        ({"REDSHIFT_PORT": "1"}, ("shop", "advance", "--redshift-port", "1"), "is `make demo` or `make dev` running?"),
        ({"REDSHIFT_PORT": "1"}, ("preview", "people", "--day", "2026-11-20", "--export"), "`make dev` running?"),
        ({"REDSHIFT_PORT": "1"}, ("create-views", "--dagster-home", "."), "`make dev` running?"),
        ({"REDSHIFT_PORT": "1"}, ("backfill", "people", "--day", "2026-11-20", "--dagster-home", "."), "`make dev` running?"),
        ({}, ("preview", "peopel", "2026-11-20"), "did you mean people? If another contract has it, set RS_CIO_CONTRACT to that"),
        ({}, ("preview", "deletions", "2026-11-20"), "set enabled: true in feeds/deletions.yaml"),
        ({}, ("preview", "people", "20.11.2026"), "is not a day such as 2026-11-20"),
        ({}, ("preview", "people", "1999-11-20"), "set RS_CIO_START_DATE to an earlier one"),
        ({}, ("preview", "people", "2999-11-20"), "choose days among them"),
        ({}, ("rejections",), "give the command in the project's folder"),
        ({}, ("report",), "Give the command in the project's folder"),
        ({}, ("demo",), "run the command in the project's folder"),
    ],
)
def test_a_stumble_is_told_how_to_go_on(
    environ: dict[str, str],
    words: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    """A wrong folder, stand-ins that do not run, a feed that is unknown or off, a day that is none: exit 2 and the way out."""
    monkeypatch.chdir(tmp_path)
    for name in ("RS_CIO_CONTRACT", "DAGSTER_HOME", "RS_CIO_STORE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    code, shown = typed(capsys, *words)
    assert (code, said in " ".join(shown.split())) == (2, True), shown


def test_exit_1_is_something_to_look_at(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Findings of the linter, a sample that becomes something else, and a changed name exit 1; mended, each exits 0."""
    folder = tmp_path / "contract"
    assert typed(capsys, "contract", "init", str(folder))[0] == 0
    monkeypatch.setenv("RS_CIO_CONTRACT", str(folder))
    sql = folder / "feeds" / "people.sql"
    (folder / "samples").mkdir()
    sample = "- {case: one, becomes: %s, row: {customer_id: %s}}\n"
    for text, words, code in (
        ((sql, sql.read_text() + "\nLIMIT 5"), ("contract", "lint"), 1),
        ((sql, sql.read_text()), ("contract", "lint"), 0),
        ((folder / "samples" / "people.yaml", sample % ("sent", "C0000001")), ("contract", "test"), 1),
        ((folder / "samples" / "people.yaml", sample % ("time_missing", "C0000001")), ("contract", "test", "people"), 0),
        ((folder / "samples" / "people.yaml", sample % ("time_missing", "7")), ("contract", "test", "people"), 2),
    ):
        text[0].write_text(text[1])
        assert typed(capsys, *words)[0] == code, words


def test_documents_have_the_keys_that_programs_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The keys of --json, for the commands that need no service; those of the others are in their own tests."""
    monkeypatch.setenv("RS_CIO_STORE", str(tmp_path))
    (tmp_path / "dagster").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "dagster" / "dagster.yaml").touch()
    keys = {
        ("contract", "init", str(tmp_path / "new")): {"folder", "files"},
        ("contract", "lint"): {"feeds", "findings", "not_in_the_lock", "is_good"},
        ("contract", "test"): {"results", "is_good"},
        ("lock",): {"is_locked", "is_current", "is_written", "differences", "endings", "could_not_ask", "not_in_the_api"},
        ("rejections",): {"rows", "by_reason", "days", "total"},
        ("report",): {"summary", "lines"},
    }
    for words, expected in keys.items():
        exit_code(*words, "--json")
        assert set(json.loads(capsys.readouterr().out)) == expected
    monkeypatch.setenv("RS_CIO_CONTRACT", str(tmp_path / "new"))
    exit_code("contract", "schema", "--json")
    assert len(json.loads(capsys.readouterr().out)["files"]) == len(list(SHIPPED.glob("*.schema.json")))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_what_the_shell_reads(shell: str, capsys: pytest.CaptureFixture[str]):
    """The script names the command and the variable that click answers to; where the shell is there, it takes the script."""
    assert exit_code("completion", shell) == 0
    script = capsys.readouterr().out
    assert "_RS_CIO_COMPLETE" in script
    assert "rs-cio" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, capture_output=True)


def test_feeds_are_completed():
    """The tab key after `rs-cio preview ord` gives the feed, by what the shell itself runs."""
    environ = {**os.environ, "_RS_CIO_COMPLETE": "bash_complete", "COMP_WORDS": "rs-cio preview ord", "COMP_CWORD": "2"}
    environ.pop("RS_CIO_CONTRACT", None)
    command = [sys.executable, "-m", "rs_cio_assets.cli"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["plain,order_completed"], done.stderr


def test_every_error_that_is_raised_has_a_next_step():
    """Whatever of ours is raised anywhere in the package says what to do."""
    ours = {name for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, errors.RsCioError)}
    silent, seen = [], 0
    for module in (PROJECT / "rs_cio_assets").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ours:
                seen += 1
                if not any(word.arg in {"next_step", None} for word in node.keywords):
                    silent.append(f"{module.name}:{node.lineno}")
    assert silent == []
    assert seen > 50
