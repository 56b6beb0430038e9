"""What is installed is what was decided: pinned with hashes, bounded, of a licence that may be used, and with a reason.

No network: whether a version has a known hole, or was withdrawn, only an index and an advisory database know (docs/security.md).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[2]
LOCK = (PROJECT / "requirements.lock").read_text()
PYPROJECT = (PROJECT / "pyproject.toml").read_text()
# Licences that may be used as they are, in the words of packages. Another one is a person's decision, and is added here.
ALLOWED = re.compile(
    r"MIT(-0)?( License)?|0BSD|BSD(-[23]-Clause)?( License)?|3-Clause BSD License|Apache-2\.0|Apache Software License"
    r"|PSF-2\.0|Python Software Foundation License|MPL-2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\)|ISC|Zlib|CC0-1\.0"
)

# One package each, with the reason. psycopg2: the LGPL, a library that is used unchanged; dagster-postgres needs it, and only
# who keeps Dagster's records in PostgreSQL installs it.
DECIDED = {"psycopg2-binary": "GNU Library or Lesser General Public License (LGPL)"}


@dataclass(frozen=True)
class Pin:
    """One line of the lock: a version, for which environments, and how many hashes."""

    name: str
    version: Version
    marker: str
    hashes: int


def pins(lock: str) -> Iterator[Pin]:
    """Every requirement of a lock file. Raises: ValueError for a line that pins nothing."""
    for entry in re.split(r"\n(?=\S)", lock.strip()):
        text, *hashes = entry.replace("\\\n", " ").split("--hash=")
        requirement = Requirement(text.strip())
        (specifier,) = requirement.specifier
        if specifier.operator != "==":
            raise ValueError(f"{requirement.name} is not pinned")
        yield Pin(canonicalize_name(requirement.name), Version(specifier.version), str(requirement.marker or ""), len(hashes))


def declared(pyproject: str) -> list[tuple[Requirement, str]]:
    """Every dependency of the project, extras included, with the comment at the end of its line."""
    document = tomllib.loads(pyproject)["project"]
    names = [*document["dependencies"], *(name for extra in document["optional-dependencies"].values() for name in extra)]
    found = []
    for text in (name for name in names if not name.startswith(f"{document['name']}[")):  # an extra that has another one
        (line,) = [line for line in pyproject.splitlines() if line.strip().startswith(f'"{text}"')]
        found.append((Requirement(text), line.partition("#")[2].strip()))
    return found


def complaints(lock: str, pyproject: str) -> list[str]:
    """What is not in order, in words."""
    found = [f"{pin.name}: without a hash" for pin in pins(lock) if not pin.hashes]
    by_name: dict[str, list[Pin]] = {}
    for pin in pins(lock):
        by_name.setdefault(pin.name, []).append(pin)
    for requirement, reason in declared(pyproject):
        name = canonicalize_name(requirement.name)
        operators = {specifier.operator for specifier in requirement.specifier}
        if not operators & {"<", "<=", "==", "~="}:
            found.append(f"{name}: no upper bound")
        if not reason:
            found.append(f"{name}: no reason")
        if name not in by_name:
            found.append(f"{name}: not in the lock")
        found += [f"{name}: the lock has {p.version}" for p in by_name.get(name, []) if p.version not in requirement.specifier]
    return found


def licences_of(distribution: metadata.Distribution) -> Sequence[str]:
    """What a distribution says of its licence: its expression, classifiers, or the first line of its text; in parts."""
    about = distribution.metadata
    names = [re.split(" *:: *", text)[1:] for text in about.get_all("Classifier", []) if text.startswith("License ::")]
    classifiers = [parts[-1] for parts in names if len(parts) > 1]  # of one part: approved by whom, not which
    if classifiers and "License-Expression" not in about:
        return classifiers
    expression = about.get("License-Expression") or about.get("License") or "none"
    return re.split(r" (?:AND|OR) ", expression.splitlines()[0].strip("()"))


def test_the_lock_is_pinned_with_hashes_and_satisfies_the_project():
    """Each version and its hash is fixed; each dependency has an upper bound, a reason, and a pin that it allows."""
    assert complaints(LOCK, PYPROJECT) == []
    assert len(list(pins(LOCK))) > 100


@pytest.mark.parametrize(
    ("lock", "dependency", "words"),
    [
        ("a==1.0", '"a>=1,<2",  # for x', "a: without a hash"),
        ("a==1.0 \\\n    --hash=sha256:0", '"a>=1",  # for x', "a: no upper bound"),
        ("a==1.0 \\\n    --hash=sha256:0", '"a>=1,<2",', "a: no reason"),
        ("b==1.0 \\\n    --hash=sha256:0", '"a>=1,<2",  # for x', "a: not in the lock"),
        ("a==2.0 \\\n    --hash=sha256:0", '"a>=1,<2",  # for x', "a: the lock has 2.0"),
    ],
)
def test_what_is_not_in_order_is_named(lock: str, dependency: str, words: str):
    """One mistake of each kind is found, and nothing else."""
    pyproject = f"[project]\nname = 'x'\ndependencies = [\n    {dependency}\n]\n[project.optional-dependencies]\ndev = []\n"
    assert complaints(lock, pyproject) == [words]


def test_what_is_installed_is_what_the_lock_says():
    """A version that came from elsewhere into the environment is named."""
    locked = {pin.name: set() for pin in pins(LOCK)}
    for pin in pins(LOCK):
        locked[pin.name].add(pin.version)
    installed = {canonicalize_name(d.metadata["Name"]): Version(d.version) for d in metadata.distributions()}
    found = {name: str(version) for name, version in installed.items() if name in locked and version not in locked[name]}
    assert found == {}
    assert len(installed.keys() & locked.keys()) > 100


def test_every_licence_is_one_that_may_be_used():
    """Permissive ones and the MPL; whoever adds a package of another one decides so in this file."""
    locked = {pin.name for pin in pins(LOCK)}
    found = {}
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        wrong = [
            licence for licence in licences_of(distribution) if not ALLOWED.fullmatch(licence) and licence != DECIDED.get(name)
        ]
        if name in locked and wrong:
            found[name] = wrong
    assert found == {}


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"License-Expression": "MIT OR GPL-3.0-only"}, ["GPL-3.0-only"]),
        (
            {"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"},
            ["GNU General Public License v3 (GPLv3)"],
        ),
        ({"License": "Proprietary"}, ["Proprietary"]),
        ({}, ["none"]),
        ({"License": "MPL-2.0 AND MIT"}, []),
    ],
)
def test_a_licence_that_nobody_decided_on_is_named(said: dict[str, str], wrong: list[str], tmp_path: Path):
    """By its expression, its classifier or its text; and a package that says none."""
    (tmp_path / "METADATA").write_text(
        "".join(f"{name}: {value}\n" for name, value in {"Name": "a", "Version": "1", **said}.items())
    )
    distribution = metadata.Distribution.at(tmp_path)
    assert [licence for licence in licences_of(distribution) if not ALLOWED.fullmatch(licence)] == wrong
