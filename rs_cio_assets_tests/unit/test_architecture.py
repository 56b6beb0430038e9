"""Who may import whom. The rules stand in MAY_IMPORT below, their reasons in the design's architecture.md.

A contract says what may be sent and knows nobody; warehouse, customerio, delivery and store are engines without Dagster; the
sandbox is known only to those who start it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "rs_cio_assets"
MODULES = sorted(PACKAGE.rglob("*.py"))
LINES = 400
# A folder of one machine, or a host that packages come from. Neither pattern matches its own text.
PRIVATE = re.compile(rb"(?<![\w.])/(?:home|root|work|Users)(?![\w-])|pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|crates\.io")

# Part of the package -> what of ours it may import, besides itself. What is not listed may import everything but the sandbox.
MAY_IMPORT = {
    "errors": set(),
    "settings": {"errors"},
    "silence": set(),
    "contract": {"errors"},
    "store": {"errors"},
    "warehouse": {"contract", "settings", "errors", "store", "silence"},
    "customerio": {"contract", "settings", "errors", "store", "silence"},
    "delivery": {"contract", "customerio", "store", "errors"},
    "alerts": {"settings", "errors", "silence"},
    "assets": {"contract", "warehouse", "customerio", "delivery", "store", "settings", "errors"},
    "checks": {"assets", "contract", "warehouse", "customerio", "delivery", "store", "settings", "errors"},
    "locking": {"contract", "customerio", "settings", "errors"},
    "readiness": {"assets", "checks", "contract", "store", "errors"},
    "automation": {
        "assets",
        "checks",
        "readiness",
        "alerts",
        "contract",
        "warehouse",
        "customerio",
        "delivery",
        "store",
        "settings",
        "errors",
    },
    # The doctor opens everything that a sync opens, and is asked before one: it knows the engines, and no asset.
    "doctor": {"contract", "warehouse", "customerio", "store", "settings", "errors"},
    "resources": {"warehouse", "store", "settings", "errors"},
    "sandbox": {"contract", "settings", "errors"},
}
ENGINES = {"contract", "store", "warehouse", "customerio", "delivery", "alerts", "doctor", "settings", "errors", "silence"}
MAY_IMPORT_SANDBOX = {"sandbox", "demo", "cli"}


def part_of(module: Path) -> str:
    """The folder or file of the package that a module belongs to."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(module: Path) -> str:
    """A module's path in the package, as a test id."""
    return module.relative_to(PACKAGE).as_posix()


def imports(module: Path) -> Iterator[str]:
    """Every module that is imported, also within functions and for types; a name imported from a package with its package."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import hides what it imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_imported(module: Path) -> set[str]:
    """Parts of our package that a module imports, without its own."""
    ours = (name.split(".") for name in imports(module) if name.split(".")[0] == "rs_cio_assets")
    return {parts[1] if len(parts) > 1 else "" for parts in ours} - {part_of(module)}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_imports_only_what_its_part_may(module: Path):
    """The import rules hold for every module, also for imports within functions."""
    part = part_of(module)
    imported = parts_imported(module)
    if part in MAY_IMPORT:
        assert imported - MAY_IMPORT[part] == set()
    if part not in MAY_IMPORT_SANDBOX:
        assert "sandbox" not in imported
    outside = {name.split(".")[0] for name in imports(module)}
    if part in ENGINES:
        assert {name for name in outside if name.startswith("dagster")} == set()
    assert "rs_cio_assets_tests" not in outside


def test_every_part_is_where_the_rules_expect_it():
    """A rule about a folder that was renamed would hold by itself; each named part exists, and the rules see imports at all."""
    parts = {part_of(module) for module in MODULES}
    assert set(MAY_IMPORT) | MAY_IMPORT_SANDBOX | ENGINES <= parts
    assert parts_imported(PACKAGE / "delivery" / "day.py") >= {"contract", "customerio", "store", "errors"}
    assert "sandbox" in parts_imported(PACKAGE / "cli.py")


def test_only_the_settings_read_the_environment():
    """Outside the sandbox, os.environ, os.getenv and environment files are read in settings.py alone."""
    readers = set()
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            is_read = isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}
            is_read = is_read and isinstance(node.value, ast.Name) and node.value.id == "os"
            is_imported = isinstance(node, ast.ImportFrom) and node.module == "os"
            if is_read or (is_imported and {alias.name for alias in node.names} & {"environ", "environb", "getenv"}):
                readers.add(name_of(module))
    assert {reader for reader in readers if not reader.startswith("sandbox/")} == {"settings.py"}


def test_no_code_asks_whether_it_is_in_the_sandbox():
    """The sandbox runs the code of production: nothing reads the settings' mode, so nothing can branch on it."""
    asking = set()
    for module in MODULES:
        tree = ast.parse(module.read_text())
        reads = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "mode"]
        named = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in {"mode", "RS_CIO_MODE"}]
        if reads or named:
            asking.add(name_of(module))
    # settings.py chooses the defaults; the demo refuses to start the stand-ins under production settings.
    assert asking == {"settings.py", "demo/sandbox.py"}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_file_has_one_concern(module: Path):
    """No file is past 400 lines, and none is named for having no subject."""
    assert len(module.read_text().splitlines()) <= LINES
    names = {part.removesuffix(".py") for part in module.relative_to(PACKAGE).parts}
    assert names & {"utils", "util", "helpers", "helper", "common", "misc"} == set()


def test_every_imported_library_is_a_declared_dependency():
    """What the product imports is in pyproject.toml, so that an installation without the development extra works."""
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[=>\[]", text)[0].lower().replace("-", "_") for text in declared}
    names |= {"yaml", "boto3", "botocore"}  # pyyaml's module; what dagster-aws brings (pyproject.toml says so)
    names |= {"sqlalchemy"}  # what Dagster keeps its history with
    outside = {name.split(".")[0] for module in MODULES for name in imports(module)} - set(sys.stdlib_module_names)
    optional = {"sqlglot"}  # the linter's second look, where it is installed
    assert outside - names - optional - {"rs_cio_assets"} == set()


def test_no_file_names_a_folder_of_one_machine_or_a_package_registry():
    """Every tracked or new file works from any clone: no home or work folder, no registry's host, no URL in the lock file."""
    folders = [f"x={'/'}{name}{'/'}me" for name in ("home", "root", "Users")]
    hosts = [f"https://{name}{'.'}org/x" for name in ("pypi", "registry.npmjs", "files.pythonhosted")]
    assert all(PRIVATE.search(text.encode()) for text in (*folders, *hosts))
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True).stdout.decode().split("\0")
    files = [PROJECT / name for name in listed if name and (PROJECT / name).is_file()]
    assert {PROJECT / "README.md", PROJECT / "requirements.lock", *MODULES} <= set(files)
    assert [file.name for file in files if PRIVATE.search(file.read_bytes())] == []
    assert "://" not in (PROJECT / "requirements.lock").read_text()
