"""Is an export view still the one that `redshift/views/<feed>` created? Its definition is remembered then, and compared later."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from rs_cio_assets.contract.models import Feed
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse.connection import Session

DIFF_LINES = 40


@dataclass(frozen=True)
class ViewRecord:
    """What stood in the warehouse after the view was created; *definition* is None where the warehouse showed none."""

    sql_sha256: str
    definition: str | None
    created_at: datetime


@dataclass(frozen=True)
class DefinitionDifference:
    """*diff*: a unified diff from what was created to what is there, at most 40 lines; empty when equal."""

    is_sql_changed: bool  # the contract's SQL since the view was created
    diff: tuple[str, ...]

    def sentences(self, view: str) -> tuple[str, ...]:
        """The difference in words, one for each kind."""
        sentences = []
        if self.diff:
            changed = [line for line in self.diff if line[:1] in "+-" and line[:3] not in {"+++", "---"}]
            first = " / ".join(" ".join(line.split())[:120] for line in changed[:2])
            sentences.append(f"{view} was replaced outside of create_views; the first difference (- created, + now): {first}")
        if self.is_sql_changed:
            sentences.append(f"the contract's SQL changed since {view} was created: run create_views")
        return tuple(sentences)


_JSON = TypeAdapter(ViewRecord)


def remember_view(session: Session, feed: Feed, store: Store, now: Callable[[], datetime]) -> None:
    """Note the view as it stands now, created from *feed*'s SQL."""
    record = ViewRecord(_sha256(feed), read_definition(session, feed), now())
    store.put(_key(feed), _JSON.dump_json(record))


def compare_definition(session: Session, feed: Feed, store: Store) -> DefinitionDifference | None:
    """How the view differs from the one that was created; None where none was by this project, or the record is lost."""
    data = store.get(_key(feed))
    try:
        record = _JSON.validate_json(data) if data is not None else None
    except ValidationError:
        record = None
    if record is None:
        return None
    created, found = (text and text.rstrip("; \n").splitlines() for text in (record.definition, read_definition(session, feed)))
    diff: list[str] = []
    if created:  # what has no definition now is a table in the view's place
        diff = list(
            difflib.unified_diff(created, found or [], "created by create_views", "in the warehouse now", lineterm="", n=1)
        )
    return DefinitionDifference(record.sql_sha256 != _sha256(feed), tuple(diff[:DIFF_LINES]))


def read_definition(session: Session, feed: Feed) -> str | None:
    """The view's SQL as the warehouse tells it; None when it tells none.

    Source: PG_VIEWS, a catalog view of the leader node, shows late-binding views too; not proven on a real cluster.
    """
    rows = session.fetch(
        "SELECT definition FROM pg_views WHERE schemaname = %s AND viewname = %s", (feed.view_schema, feed.view_table)
    )
    return str(rows[0][0]) if rows and rows[0][0] else None


def _sha256(feed: Feed) -> str:
    return hashlib.sha256(feed.sql.encode()).hexdigest()


def _key(feed: Feed) -> str:
    return f"views/{feed.name}.json"
