"""A contract's folder on disk: a first one of a team's own, and files added to it. Never overwrites; writes all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from rs_cio_assets.contract.load import SHIPPED, load_workspace
from rs_cio_assets.contract.schema import schema_files
from rs_cio_assets.errors import ConfigurationError

_WORKSPACE = """\
# yaml-language-server: $schema=workspace.schema.json
# Conventions that hold for every feed of one Customer.io workspace.
identifier:
  column: customer_id  # TO DECIDE: the column that names the person, the same in every feed
  customerio: id
  pattern: "[A-Za-z0-9_-]{1,64}"  # TO DECIDE: as narrow as your identifiers are; rows of another shape are rejected
  description: "TO DECIDE: whose number it is, and who gives it. Never an email address, which people change."
timezone: UTC
values: {}
"""


def begin_contract(folder: Path, *, is_empty: bool) -> tuple[Path, ...]:
    """A contract in *folder*, which is new or empty: a copy of the shipped one, or with *is_empty* conventions and no feed yet.

    Returns the files. Raises: ConfigurationError when something stands there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            f"{folder} is there already, and is not empty",
            next_step=f"choose another folder, or go on with this one: export RS_CIO_CONTRACT={folder.resolve()}",
        )
    if is_empty:
        (folder / "feeds").mkdir(parents=True)
        (folder / "workspace.yaml").write_text(_WORKSPACE, encoding="utf-8")
        for name, text in schema_files().items():
            (folder / name).write_text(text, encoding="utf-8")
    else:
        shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"), dirs_exist_ok=True)
    load_workspace(folder)
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file()))


def require_own(folder: Path | None) -> Path:
    """The contract's folder, if it is a team's own. Raises: ConfigurationError where it is the shipped one: nobody edits that."""
    if folder is None:
        raise ConfigurationError(
            "the shipped contract is in use, which is part of the package and not to be edited",
            next_step="make one of your own with rs-cio contract init my_contract, then export RS_CIO_CONTRACT as it says",
        )
    return folder


def require_free(folder: Path, names: Iterable[str]) -> None:
    """Raises: ConfigurationError when one of these files of the contract is there already."""
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise ConfigurationError(
            f"{', '.join(there)} of {folder} is there already; nothing was written",
            next_step="choose another name for the feed, or remove the file first",
        )


def add_files(folder: Path, files: Mapping[str, str]) -> tuple[Path, ...]:
    """Write *files* (path in the folder -> text). Raises: ConfigurationError, before anything is written, when one is there."""
    require_free(folder, files)
    paths = {folder / name: text for name, text in files.items()}
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tuple(paths)
