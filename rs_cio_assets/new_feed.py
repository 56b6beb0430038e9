"""A feed's first files from a table or view of the warehouse: look at it, draft, check, write. Shows and keeps no row."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rs_cio_assets.contract.folder import add_files, require_free, require_own
from rs_cio_assets.contract.load import load_as_written, load_workspace
from rs_cio_assets.contract.models import SNAKE_CASE
from rs_cio_assets.contract.scaffold import Choices, Draft, candidates, draft
from rs_cio_assets.contract.scaffold_text import SAMPLES, feed_sql, feed_yaml, require_good, sample_yaml
from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings
from rs_cio_assets.warehouse.source import count_source, describe_source

_SOURCE = re.compile(r"[^.\s]+\.[^.\s]+")


@dataclass(frozen=True)
class NewFeed:
    """What was written, from what. *rows*: of the source, when it was counted."""

    draft: Draft
    rows: int
    files: tuple[Path, ...]


def new_feed(settings: Settings, name: str, source: str, said: Choices, *, log: Callable[[str], None]) -> NewFeed:
    """Write `feeds/<name>.yaml`, `feeds/<name>.sql` and `samples/<name>.yaml` into the team's contract, from *source*.

    Where others own the export views (REDSHIFT_VIEWS=verify) *source* is the feed's view and keeps its names and types; else the
    feed gets a view of its own. Nothing is written unless all of it loads and is clean.

    Raises: ConfigurationError when the name will not do, a file is there, or a role has no column; ContractError;
    WarehouseRefused, WarehouseUnavailable.
    """
    folder = require_own(settings.contract)
    _require_names(name, source)
    workspace = load_workspace(folder)
    has_feeds = any((folder / "feeds").glob("*.yaml"))  # a contract that has none yet does not load
    others = load_as_written(folder).feeds if has_feeds else ()
    require_free(folder, (f"feeds/{name}.yaml", f"feeds/{name}.sql", f"{SAMPLES}/{name}.yaml"))  # counting may take minutes
    with resources_for(settings)["warehouse"].session() as session:
        log(f"reading the columns of {source}")
        columns = describe_source(session, source)
        found = candidates(name, source, columns, workspace, said)
        log(f"counting rows, nulls and keys of {source}")
        counts = count_source(session, source, columns, found, workspace.identifier.pattern)
    view = source if settings.redshift.views == "verify" else None
    made = draft(name, source, columns, workspace, said, found, counts, others=others, view=view)
    require_good(made, workspace, others)
    texts = {
        f"feeds/{name}.yaml": feed_yaml(made),
        f"feeds/{name}.sql": feed_sql(made),
        f"{SAMPLES}/{name}.yaml": sample_yaml(made, workspace),
    }
    return NewFeed(made, counts.rows, add_files(folder, texts))


def next_steps(made: Draft) -> Sequence[str]:
    """What a person does next, in order, as they would type it."""
    settle = (
        [f"settle what is TO DECIDE in feeds/{made.name}.yaml, and take its line enabled: false away"] if made.to_decide else []
    )
    return (
        *settle,
        f"read feeds/{made.name}.yaml: confirm or change each GUESS",
        "rs-cio contract lint",
        f"rs-cio contract test {made.name}",
        f"rs-cio create-views {made.name}",
        f"rs-cio preview {made.name} --export",
        f"rs-cio backfill {made.name} --day DAY, the one that preview showed",
        "reload the definitions in the Dagster UI, which then shows the feed",
    )


def _require_names(name: str, source: str) -> None:
    if not SNAKE_CASE.fullmatch(name):
        raise ConfigurationError(f"{name} cannot be a feed's name", next_step="use snake_case, for example review_submitted")
    if not _SOURCE.fullmatch(source):
        raise ConfigurationError(f"{source} is not schema.table", next_step="name the schema too, for example shop.refunds")
