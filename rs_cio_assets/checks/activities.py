"""What Customer.io did not take after its 200: failed activities and accidental profiles since the last look. No Dagster here.

The log has no time filter, and its order is not documented: newest first is assumed, and a whole page of old ones ends the
reading. What was found is kept in the store for as long as Customer.io shows it, so that it is new once and told for a day.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from rs_cio_assets.checks.results import CANARY_PREFIX, hashed
from rs_cio_assets.contract.models import Contract, FeedKind
from rs_cio_assets.customerio import Activity, AppClient
from rs_cio_assets.customerio.limits import ACTIVITIES_PAGE
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import person_key
from rs_cio_assets.delivery.people import acknowledged_keys
from rs_cio_assets.errors import StoreRefused
from rs_cio_assets.store import Store

LOOK = "looks/activities.json"
FAILED = ("failed_attribute_change", "failed_event", "failed_batch_update")
SKIPPED, CREATED = "skipped_update", "profile_create"
TOLD_FOR = timedelta(hours=24)
KEPT_FOR = timedelta(days=31)  # Customer.io guarantees 30 days of activities (App API document, read 2026-09-17)
OVERLAP = timedelta(minutes=10)  # of looks at profiles: Customer.io's clock is another one
UNDER_WAY = timedelta(minutes=5)  # so long a delivered person may be missing from the ledger
NAME_LENGTH = 80
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Found:
    """One activity that somebody must see. *what* is an event's or attributes' names; *found_at* is unix seconds of our look."""

    activity: str
    type: str
    what: str
    person: str
    found_at: int


@dataclass(frozen=True)
class Look:
    """What was found so far (as private as the store is), and when it was looked last: unix seconds, 0 for never."""

    looked_at: int = 0
    found: tuple[Found, ...] = ()


@dataclass(frozen=True)
class ActivitiesReport:
    """*told*: what was found in the last 24 hours, *new* of them by this look.

    *without_id*: new profiles that have no id of ours: sign-ups in Customer.io itself. *unread*: types whose log is longer than
    what was read. *look*: what to keep, when nothing is unread.
    """

    told: tuple[Found, ...]
    new: int
    without_id: int
    profiles_created: int
    unread: tuple[str, ...]
    requests: int
    look: Look = field(repr=False, default_factory=Look)

    def of(self, *types: str) -> tuple[Found, ...]:
        """Those of some types."""
        return tuple(found for found in self.told if found.type in types)


def read_activities(
    app: AppClient, contract: Contract, store: Store, now: datetime, scratch: Path, *, max_pages: int
) -> ActivitiesReport:
    """Everything of the log since the last look, and what earlier looks found within 24 hours. Keeps nothing: see `keep_look`.

    At most *max_pages* of each type are read. Raises: CustomerioRefused, CustomerioUnavailable, MismatchError, StoreRefused.
    """
    before = app.requests
    earlier = _load(store)
    known = {found.activity for found in earlier.found}
    now_s = int(now.timestamp())
    unread, new = [], []
    shown = set[str]()
    for kind in (*FAILED, SKIPPED):
        # By id, not by time: the activity of an event may carry the event's time, which is years ago in a backfill.
        activities, is_cut = recent(app, kind, max_pages, known=known)
        unread += [kind] * is_cut
        shown |= {_id_of(activity) for activity in activities}
        new += [Found(_id_of(a), kind, _what(a), a.person_id, now_s) for a in activities if _id_of(a) not in known]
    since = datetime.fromtimestamp(earlier.looked_at, UTC) - OVERLAP if earlier.looked_at else now - TOLD_FOR
    created, is_cut = recent(app, CREATED, max_pages, since=since)
    created = [a for a in created if a.timestamp >= since.timestamp()]
    unread += [CREATED] * is_cut
    profiles = [Found(_id_of(a), CREATED, "", a.person_id, now_s) for a in created if a.person_id and _id_of(a) not in known]
    times = {a.person_id: a.timestamp for a in created}
    # An earlier stranger may have been delivered since, or be gone.
    new_ids = {found.activity for found in (*new, *profiles)}
    candidates = [*profiles, *(found for found in earlier.found if found.type == CREATED)]
    strangers = list(_strangers(app, contract, store, candidates, times, now, scratch))
    kept = [found for found in earlier.found if found.type != CREATED]
    everything = (*new, *strangers, *kept)
    told = tuple(found for found in everything if found.found_at > now_s - TOLD_FOR.total_seconds())
    return ActivitiesReport(
        told=told,
        new=sum(found.activity in new_ids for found in told),
        without_id=sum(not a.person_id for a in created),
        profiles_created=len(created),
        unread=tuple(unread),
        requests=app.requests - before,
        look=Look(
            now_s,
            tuple(f for f in everything if f.found_at > now_s - KEPT_FOR.total_seconds() or f.activity in shown),
        ),
    )


def keep_look(store: Store, look: Look) -> None:
    """Remember *look*, so that the next one begins there."""
    store.put(LOOK, json.dumps(asdict(look), indent=1).encode())


def recent(
    app: AppClient, kind: str, max_pages: int, *, since: datetime = EPOCH, known: AbstractSet[str] = frozenset()
) -> tuple[list[Activity], bool]:
    """A type's newest activities until a whole page is *known* or older than *since*; true when *max_pages* ended it."""
    found: list[Activity] = []
    old = 0
    for activity in app.activities_of_all(kind):
        if len(found) == max_pages * ACTIVITIES_PAGE:
            return found, True
        found.append(activity)
        old = old + 1 if activity.timestamp < since.timestamp() or _id_of(activity) in known else 0
        if old == ACTIVITIES_PAGE:
            break
    return found, False


def _load(store: Store) -> Look:
    data = store.get(LOOK)
    if data is None:
        return Look()
    try:
        document = json.loads(data)
        return Look(int(document["looked_at"]), tuple(Found(**found) for found in document["found"]))
    except (ValueError, KeyError, TypeError):
        raise StoreRefused(f"{LOOK} cannot be read", next_step="remove it from the store: the next look begins anew") from None


def _strangers(
    app: AppClient,
    contract: Contract,
    store: Store,
    profiles: Sequence[Found],
    times: Mapping[str, int],
    now: datetime,
    scratch: Path,
) -> Iterator[Found]:
    """Those of *profiles* that exist, whom no people feed has delivered, and who are no canary."""
    ids = _undelivered(contract, store, sorted({p.person for p in profiles if not p.person.startswith(CANARY_PREFIX)}), scratch)
    held = app.attributes(ids)
    seen: set[str] = set()
    for found in profiles:
        profile = held.get(found.person)
        if profile is None or found.person in seen:
            continue
        seen.add(found.person)
        is_bare = not set(profile.attributes) - {"id", "cio_id"}
        if not is_bare and times.get(found.person, 0) > (now - UNDER_WAY).timestamp():
            continue
        yield replace(found, what="a bare profile, as an event makes it" if is_bare else "a profile that somebody else filled")


def _undelivered(contract: Contract, store: Store, ids: Sequence[str], scratch: Path) -> list[str]:
    """Those of *ids* that no people feed has delivered."""
    if not ids:
        return []
    with open_database() as database:
        database.register("created", pa.table({"id": pa.array(ids, pa.string())}))
        known = "".join(
            f" ANTI JOIN {acknowledged_keys(database, store, feed, scratch)} AS known_{n} "
            f"ON known_{n}.row_key = {person_key(feed, 'created.id')}"
            for n, feed in enumerate(contract.feeds_of(FeedKind.PEOPLE))
        )
        return [name for (name,) in database.execute(f"SELECT id FROM created{known} ORDER BY id").fetchall()]  # noqa: S608 - our own names


def _id_of(activity: Activity) -> str:
    """The activity's id, or what takes its place where the answer has none."""
    return activity.activity_id or hashed((activity.type, activity.name, activity.timestamp, activity.person_id))


def _what(activity: Activity) -> str:
    """The names of what it is about, cut short."""
    attributes = activity.data.get("attributes") if activity.type == SKIPPED else activity.data
    names = [activity.name] if activity.name else sorted(str(name) for name in attributes or ())
    return (", ".join(names) or "not said")[:NAME_LENGTH]
