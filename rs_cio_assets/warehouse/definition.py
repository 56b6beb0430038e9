"""Is an export view still the one that `redshift/views/<feed>` created or verified? Its definition is remembered then, and
compared later. How it stands beside the contract's SQL is in `verification.py`."""

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
    """What stood in the warehouse after the view was created or verified, at *created_at*; *definition* is None where the
    warehouse showed none."""

    sql_sha256: str
    definition: str | None
    created_at: datetime


@dataclass(frozen=True)
class DefinitionDifference:
    """*diff*: a unified diff from what was created or verified to what is there, at most 40 lines; empty when equal.

    *is_others*: others own the view (REDSHIFT_VIEWS=verify), so that create_views compares and accepts in place of replacing.
    """

    is_sql_changed: bool  # the contract's SQL since the view was created or verified
    diff: tuple[str, ...]
    is_others: bool = False

    def sentences(self, view: str) -> tuple[str, ...]:
        """The difference in words, one for each kind."""
        sentences = []
        if self.diff:
            changed = [line for line in self.diff if line[:1] in "+-" and line[:3] not in {"+++", "---"}]
            first = " / ".join(" ".join(line.split())[:120] for line in changed[:2])
            what = "is not as create_views last verified it" if self.is_others else "was replaced outside of create_views"
            was = "verified" if self.is_others else "created"
            sentences.append(f"{view} {what}; the first difference (- {was}, + now): {first}")
        if self.is_sql_changed:
            was = "last verified" if self.is_others else "created"
            sentences.append(f"the contract's SQL changed since {view} was {was}: run create_views")
        return tuple(sentences)

    @property
    def is_outdated(self) -> bool:
        """True when the view is ours and as it was created, and only the contract has gone on."""
        return self.is_sql_changed and not self.diff and not self.is_others

    @property
    def next_step(self) -> str:
        """What to do about either."""
        if self.is_others:
            return (
                "if the change is wanted, run create_views: it compares the view with the contract and accepts the definition "
                "as it is now, replacing nothing; if not, mend the view where it is made"
            )
        if self.is_outdated:
            return "run create_views: it makes the view anew from the contract's SQL"
        return "put a wanted change into the contract's SQL, and run create_views: it replaces the view by the contract's"


_JSON = TypeAdapter(ViewRecord)


def remember_view(session: Session, feed: Feed, store: Store, now: Callable[[], datetime]) -> None:
    """Note the view as it stands now, created from *feed*'s SQL."""
    remember_definition(feed, read_definition(session, feed), store, now)


def remember_definition(feed: Feed, definition: str | None, store: Store, now: Callable[[], datetime]) -> None:
    """Note *definition* as the one that was created or verified."""
    store.put(_key(feed), _JSON.dump_json(ViewRecord(_sha256(feed), definition, now())))


def compare_definition(session: Session, feed: Feed, store: Store) -> DefinitionDifference | None:
    """How the view differs from the one that was created or verified; None where none was, or the record is lost."""
    record = recall_view(feed, store)
    if record is None:
        return None
    return difference_from(record, feed, read_definition(session, feed), is_others=session.settings.views == "verify")


def difference_from(record: ViewRecord, feed: Feed, definition: str | None, *, is_others: bool) -> DefinitionDifference:
    """How *definition*, as the warehouse tells it now, and *feed*'s SQL differ from the *record*."""
    noted, found = (text and text.rstrip("; \n").splitlines() for text in (record.definition, definition))
    diff: list[str] = []
    if noted:  # what has no definition now is a table in the view's place
        before = f"{'verified' if is_others else 'created'} by create_views"
        diff = list(difflib.unified_diff(noted, found or [], before, "in the warehouse now", lineterm="", n=1))
    return DefinitionDifference(record.sql_sha256 != _sha256(feed), tuple(diff[:DIFF_LINES]), is_others)


def recall_view(feed: Feed, store: Store) -> ViewRecord | None:
    """What was remembered of the view; None where nothing was, or it cannot be read."""
    data = store.get(_key(feed))
    try:
        return _JSON.validate_json(data) if data is not None else None
    except ValidationError:
        return None


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
