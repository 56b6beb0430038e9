"""Contract files to models. Every problem of every file is reported at once, with file, line, field and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from rs_cio_assets.contract.lock import LOCK_FILE, TaxonomyLock, differences, lock_of
from rs_cio_assets.contract.models import Column, Contract, Feed, Identifier, Workspace
from rs_cio_assets.contract.segments import Journey, Logic, Segment
from rs_cio_assets.errors import ContractError

SHIPPED = Path(__file__).parent
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_Lines = dict[tuple[str, ...], int]
_FOLDERS: Mapping[str, type[BaseModel]] = {"feeds": Feed, "segments": Segment, "journeys": Journey, "logic": Logic}
_NEXT_STEP = "mend the lines named above (docs/analyst.md shows every field) and start again"


@dataclass(frozen=True)
class _Problem:
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


def load_contract(folder: Path | None = None, *, today: date | None = None) -> Contract:
    """The contract in *folder* (default: the shipped one): `workspace.yaml`, and in `feeds/`, `segments/`, `journeys/` and
    `logic/` each `<name>.yaml` with `<name>.sql`. Names whose `until` is not after *today* (UTC; default: now) are left out.

    Raises: ContractError listing every problem found, one per line as `file:line: field: what is wrong`; so is what differs from
    the lock and may be in use.
    """
    folder, today = folder or SHIPPED, today or datetime.now(UTC).date()
    lines: dict[str, _Lines] = {}  # folder/name -> line of each of its fields
    contract = load_as_written(folder, lines)
    lock = load_lock(folder)
    broken = [d for d in differences(lock, lock_of(contract), today) if d.is_breaking] if lock else []
    if broken:
        raise _contract_error(folder, [_disagreement(f"{difference}. Run rs-cio lock", lines) for difference in broken])
    return _as_of(contract, today)


def load_as_written(folder: Path | None = None, lines: dict[str, _Lines] | None = None) -> Contract:
    """The contract as its files say it: whatever its lock says, and with the names whose `until` has passed. Fills *lines*.

    Raises: ContractError, as load_contract does.
    """
    folder, lines = folder or SHIPPED, {} if lines is None else lines
    problems: list[_Problem] = []
    if not folder.is_dir():
        raise _no_folder(folder)
    place = lines.setdefault("workspace", {})
    workspace = _load_model(folder / "workspace.yaml", "workspace.yaml", Workspace, {}, place, problems)
    found = {name: tuple(_load_folder(folder, name, model, lines, problems)) for name, model in _FOLDERS.items()}
    if problems or not isinstance(workspace, Workspace):
        raise _contract_error(folder, problems)
    try:
        return Contract(workspace=workspace, **found)
    except ValidationError as error:
        texts = [text for item in error.errors() for text in _message(item).splitlines()]
        raise _contract_error(folder, [_disagreement(text, lines) for text in texts]) from None


def load_workspace(folder: Path | None = None) -> Workspace:
    """The conventions alone, also of a contract that has no feed yet. Raises: ContractError."""
    folder = folder or SHIPPED
    problems: list[_Problem] = []
    if not folder.is_dir():
        raise _no_folder(folder)
    workspace = _load_model(folder / "workspace.yaml", "workspace.yaml", Workspace, {}, {}, problems)
    if not isinstance(workspace, Workspace):
        raise _contract_error(folder, problems)
    return workspace


def load_lock(folder: Path | None = None) -> TaxonomyLock | None:
    """The contract's lock, or None where a team keeps none. Raises: ContractError."""
    path = (folder or SHIPPED) / LOCK_FILE
    if not path.exists():
        return None
    problems: list[_Problem] = []
    lock = _load_model(path, LOCK_FILE, TaxonomyLock, {}, {}, problems)
    if not isinstance(lock, TaxonomyLock):
        raise _contract_error(path.parent, problems)
    return lock


def _as_of(contract: Contract, today: date) -> Contract:
    """The contract without the old names whose last day has passed."""
    feeds = []
    for feed in contract.feeds:
        kept = {name: column for name, column in feed.columns.items() if column.until is None or today < column.until}
        if feed.until is None or today < feed.until:
            feeds.append(feed.model_copy(update={"columns": kept}))
    return contract.model_copy(update={"feeds": tuple(feeds)})


def _load_folder(
    folder: Path, name: str, model: type[BaseModel], lines: dict[str, _Lines], problems: list[_Problem]
) -> Iterator[Any]:
    """What stands in one of the contract's folders: `<name>.yaml` with `<name>.sql`."""
    for path in _files(folder / name, problems, is_needed=model is Feed):
        queries = {"sql": _query(path.with_suffix(".sql"), name, problems) or ""}
        if model is Journey and path.with_suffix(".never.sql").exists():
            queries["never_sql"] = _query(path.with_suffix(".never.sql"), name, problems) or ""
        shown, given = f"{name}/{path.name}", {"name": path.stem, **queries}
        loaded = _load_model(path, shown, model, given, lines.setdefault(f"{name}/{path.stem}", {}), problems)
        if loaded is not None:
            yield loaded


def _disagreement(text: str, lines: Mapping[str, _Lines]) -> _Problem:
    """A rule over several files (`<folder>/<name>: <field>: what is wrong`) at its place in its file."""
    item, _, rest = text.partition(": ")
    return _Problem(f"{item}.yaml", _line(tuple(rest.partition(":")[0].split(".")), lines.get(item, {})), rest)


def _contract_error(folder: Path, problems: Sequence[_Problem]) -> ContractError:
    count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
    return ContractError(
        "\n  ".join([f"the contract in {folder.name}/ has {count}:", *map(str, problems)]) + "\nNothing was loaded",
        next_step=_NEXT_STEP,
    )


def _no_folder(folder: Path) -> ContractError:
    error = _contract_error(folder, [_Problem(f"{folder.name}/", 1, "is not a folder; correct RS_CIO_CONTRACT")])
    error.next_step = (
        "name the folder that holds workspace.yaml, by its whole path where commands are given in several folders, "
        f"or begin one: rs-cio contract init {folder.name}"
    )
    return error


def _files(folder: Path, problems: list[_Problem], *, is_needed: bool) -> list[Path]:
    """The YAML files of a folder, each with its SQL beside it."""
    shown = folder.name
    names = {path.name.split(".")[0] for path in folder.glob("*") if path.suffix in {".yaml", ".sql"}}
    problems.extend(
        _Problem(f"{shown}/{path.name}", 1, f"is not read; name it {path.stem}.yaml") for path in sorted(folder.glob("*.yml"))
    )
    if not names and is_needed:
        problems.append(_Problem(f"{shown}/", 1, "there is no feed; a feed is <name>.yaml with <name>.sql"))
    for name in sorted(names):
        present = {suffix for suffix in (".yaml", ".sql", ".never.sql") if (folder / f"{name}{suffix}").exists()}
        for missing in sorted({".yaml", ".sql"} - present):
            found = f"{shown}/{name}{min(present - {missing}, key=len)}" if present else f"{shown}/{name}"
            problems.append(_Problem(found, 1, f"there is no {shown}/{name}{missing} beside it"))
    return sorted(folder / f"{name}.yaml" for name in names if (folder / f"{name}.yaml").exists())


def _query(path: Path, folder: str, problems: list[_Problem]) -> str | None:
    """The SELECT in a file that is there."""
    if not path.exists():
        return None
    shown = f"{folder}/{path.name}"
    sql = _read(path, shown, problems)
    if sql is not None and not _COMMENT.sub("", sql).strip():
        problems.append(_Problem(shown, 1, "is empty; it must hold the SELECT"))
    return sql


def _read(path: Path, shown: str, problems: list[_Problem]) -> str | None:
    """The file's text; None, with a problem noted, when it cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        problems.append(_Problem(shown, 1, "the file is missing"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problems.append(_Problem(shown, line, f"found byte 0x{error.object[error.start]:02x}; the file must be saved as UTF-8"))
    except OSError as error:
        problems.append(_Problem(shown, 1, f"cannot be read: {(error.strerror or type(error).__name__).lower()}"))
    return None


def _load_model(
    path: Path, shown: str, model: type[BaseModel], given: Mapping[str, Any], lines: _Lines, problems: list[_Problem]
) -> BaseModel | None:
    """The model in a YAML file, with *given* fields that stand elsewhere; None when there are problems. Fills *lines*."""
    before = len(problems)
    text = _read(path, shown, problems)
    if text is None:
        return None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            problems.append(_Problem(shown, 1, "must be a mapping of fields, for example `kind: event`"))
            return None
        _walk(node, (), lines, shown, problems)
        values = yaml.SafeLoader("").construct_document(node) if len(problems) == before else {}
    except yaml.YAMLError as error:
        problems.append(_Problem(shown, *_not_yaml(error, text)))
        return None
    problems.extend(
        _Problem(shown, lines[(name,)], f"{name}: is taken from the file's name and the .sql file")
        for name in given
        if name in values
    )
    if len(problems) > before:
        return None
    try:
        return model.model_validate({**values, **given})
    except ValidationError as error:
        problems.extend(_Problem(shown, *place) for place in _places(error, model, lines))
        return None


def _not_yaml(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """Line and text of a syntax error."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return (mark.line + 1 if mark else 1), f"this is not YAML: {error.problem or error}"
    position = getattr(error, "position", 0)
    return text.count("\n", 0, position) + 1, f"this is not YAML: {str(error).splitlines()[0]}"


def _walk(
    node: yaml.Node,
    path: tuple[str, ...],
    lines: _Lines,
    shown: str,
    problems: list[_Problem],
    around: frozenset[int] = frozenset(),
) -> None:
    """Remember the line of every field; refuse what YAML would silently overwrite (a key given twice) or cannot build."""
    line = node.start_mark.line + 1
    if id(node) in around:
        problems.append(_Problem(shown, line, f"{'.'.join(path)}: refers to itself"))
    elif isinstance(node, yaml.ScalarNode):
        try:
            yaml.SafeLoader("").construct_object(node)
        except (ValueError, yaml.YAMLError):
            kind = node.tag.rpartition(":")[2]
            problems.append(_Problem(shown, line, f"{'.'.join(path)}: found {node.value!r}; is not a {kind} that is known here"))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[*path, str(index)] = item.start_mark.line + 1
            _walk(item, (*path, str(index)), lines, shown, problems, around | {id(node)})
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                problems.append(_Problem(shown, line, f"{'.'.join((*path, 'a name'))}: must be plain text"))
                continue
            here = (*path, str(key.value))
            if here in lines:
                problems.append(_Problem(shown, line, f"{'.'.join(here)}: is given twice (first in line {lines[here]})"))
                continue
            lines[here] = line
            _walk(value, here, lines, shown, problems, around | {id(node)})


def _places(error: ValidationError, model: type[BaseModel], lines: Mapping[tuple[str, ...], int]) -> list[tuple[int, str]]:
    """Line and text of each problem. Messages of whole-model rules may name several fields, one per line of text."""
    places = []
    for item in error.errors(include_url=False):
        if item["loc"][-1:] == ("str",) and isinstance(item.get("input"), list):
            continue  # a text or a list would do, a list was given: what is wrong with it stands beside this
        path = tuple(str(part) for part in item["loc"] if part not in {"tuple[str, ...]", "str", "[key]"})
        for text in _message(item, model).splitlines():
            field = path or tuple(text.partition(":")[0].split("."))
            shown = f"{'.'.join(path)}: {text}" if path else text
            places.append((_line(field, lines), shown))
    return sorted(set(places))


def _line(path: tuple[str, ...], lines: Mapping[tuple[str, ...], int]) -> int:
    """The line of the field, or of the nearest field around it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _message(item: Mapping[str, Any], model: type[BaseModel] | None = None) -> str:  # noqa: PLR0911 - one per kind
    """What pydantic found, in words for somebody who edits YAML."""
    kind, given, context = item["type"], item.get("input"), item.get("ctx", {})
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        allowed = _allowed_fields(item["loc"], model)
        name = str(item["loc"][-1])
        similar = difflib.get_close_matches(name, allowed, n=1)
        hint = f"; did you mean {similar[0]}?" if similar else f" (allowed: {', '.join(allowed)})"
        return f"is not a known field{hint}"
    if kind in {"enum", "literal_error"}:
        return f"found {given!r}; allowed: {context.get('expected', '')}"
    if kind == "string_pattern_mismatch":
        return f"found {given!r}; must match {context.get('pattern')}"
    if kind == "string_type" and isinstance(given, bool):
        return f"found {str(given).lower()} without quotes, which YAML reads as a truth value; write it in quotes"
    if kind == "string_type" and isinstance(given, int | float):
        return f"found {given!r} without quotes, which YAML reads as a number; write it in quotes"
    if kind in {"dict_type", "model_type", "model_attributes_type"}:
        return f"found {given!r}; must be a mapping of fields"
    if kind == "value_error":
        return str(context.get("error", item["msg"]))
    return f"found {given!r}; {item['msg'][0].lower()}{item['msg'][1:]}" if given is not None else item["msg"]


def _allowed_fields(location: tuple[int | str, ...], model: type[BaseModel] | None) -> list[str]:
    parents = {"columns": Column, "identifier": Identifier}
    owner = parents.get(str(location[0]), model) if len(location) > 1 else model
    hidden = {"name", "sql", "never_sql"} if owner in _FOLDERS.values() else set()
    return sorted(set(owner.model_fields) - hidden) if owner else []
