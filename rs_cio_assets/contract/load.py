"""Contract files to models. Every problem of every file is reported at once, with file, line, field and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from rs_cio_assets.contract.models import Column, Contract, Feed, Identifier, Workspace
from rs_cio_assets.errors import ContractError

SHIPPED = Path(__file__).parent
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_Lines = dict[tuple[str, ...], int]
_NEXT_STEP = "mend the lines named above (docs/analyst.md shows every field) and start again"


@dataclass(frozen=True)
class _Problem:
    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


def load_contract(folder: Path | None = None) -> Contract:
    """The contract in *folder* (default: the shipped one): `workspace.yaml` and `feeds/<name>.yaml` with `<name>.sql`.

    Raises: ContractError listing every problem found, one per line as `file:line: field: what is wrong`.
    """
    folder = folder or SHIPPED
    problems: list[_Problem] = []
    if not folder.is_dir():
        raise _contract_error(folder, [_Problem(f"{folder.name}/", 1, "is not a folder; correct RS_CIO_CONTRACT")])
    workspace = _load_model(folder / "workspace.yaml", "workspace.yaml", Workspace, {}, {}, problems)
    lines: dict[str, _Lines] = {}  # feed -> line of each of its fields
    feeds = [
        feed for path in _feed_files(folder, problems) if (feed := _load_feed(path, lines.setdefault(path.stem, {}), problems))
    ]
    if problems or not isinstance(workspace, Workspace):
        raise _contract_error(folder, problems)
    try:
        return Contract(workspace=workspace, feeds=tuple(feeds))
    except ValidationError as error:
        texts = [text for item in error.errors() for text in _message(item).splitlines()]
        raise _contract_error(folder, [_disagreement(text, lines) for text in texts]) from None


def _disagreement(text: str, lines: Mapping[str, _Lines]) -> _Problem:
    """A rule over several files (`<feed>: <field>: what is wrong`) at its place in the feed's file."""
    feed, _, rest = text.partition(": ")
    return _Problem(f"feeds/{feed}.yaml", _line(tuple(rest.partition(":")[0].split(".")), lines[feed]), rest)


def _contract_error(folder: Path, problems: Sequence[_Problem]) -> ContractError:
    count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
    return ContractError(
        "\n  ".join([f"the contract in {folder.name}/ has {count}:", *map(str, problems)]) + "\nNothing was loaded",
        next_step=_NEXT_STEP,
    )


def _feed_files(folder: Path, problems: list[_Problem]) -> list[Path]:
    feeds = folder / "feeds"
    names = {path.stem for path in feeds.glob("*") if path.suffix in {".yaml", ".sql"}}
    problems.extend(
        _Problem(f"feeds/{path.name}", 1, f"is not read; name it {path.stem}.yaml") for path in sorted(feeds.glob("*.yml"))
    )
    if not names:
        problems.append(_Problem("feeds/", 1, "there is no feed; a feed is <name>.yaml with <name>.sql"))
    for name in sorted(names):
        for present, absent in ((".sql", ".yaml"), (".yaml", ".sql")):
            if (feeds / f"{name}{present}").exists() and not (feeds / f"{name}{absent}").exists():
                problems.append(_Problem(f"feeds/{name}{present}", 1, f"there is no feeds/{name}{absent} beside it"))
    return sorted(feeds / f"{name}.yaml" for name in names if (feeds / f"{name}.yaml").exists())


def _load_feed(path: Path, lines: _Lines, problems: list[_Problem]) -> Feed | None:
    query = path.with_suffix(".sql")
    sql = (_read(query, f"feeds/{query.name}", problems) or "") if query.exists() else ""
    if query.exists() and not _COMMENT.sub("", sql).strip() and not any(p.file == f"feeds/{query.name}" for p in problems):
        problems.append(_Problem(f"feeds/{query.name}", 1, "is empty; it must hold the SELECT of the export view"))
    feed = _load_model(path, f"feeds/{path.name}", Feed, {"name": path.stem, "sql": sql}, lines, problems)
    return feed if isinstance(feed, Feed) else None


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
        hint = f"; did you mean {similar[0]}?" if similar else ""
        return f"is not a known field{hint} (allowed: {', '.join(allowed)})"
    if kind in {"enum", "literal_error"}:
        return f"found {given!r}; allowed: {context.get('expected', '')}"
    if kind == "string_pattern_mismatch":
        return f"found {given!r}; must match {context.get('pattern')}"
    if kind == "string_type" and isinstance(given, bool):
        return f"found {str(given).lower()} without quotes, which YAML reads as a truth value; write it in quotes"
    if kind in {"dict_type", "model_type", "model_attributes_type"}:
        return f"found {given!r}; must be a mapping of fields"
    if kind == "value_error":
        return str(context.get("error", item["msg"]))
    return f"found {given!r}; {item['msg'][0].lower()}{item['msg'][1:]}" if given is not None else item["msg"]


def _allowed_fields(location: tuple[int | str, ...], model: type[BaseModel] | None) -> list[str]:
    parents = {"columns": Column, "identifier": Identifier}
    owner = parents.get(str(location[0]), model) if len(location) > 1 else model
    hidden = {"name", "sql"} if owner is Feed else set()
    return sorted(set(owner.model_fields) - hidden) if owner else []
