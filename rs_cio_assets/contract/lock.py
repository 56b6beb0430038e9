"""The taxonomy lock: the names and types that journeys, segments and messages in Customer.io may rely on, as they were accepted.

Pure: what a lock holds, how a contract differs from it, and who uses a name. `load.py` refuses a contract that breaks its lock;
`rs-cio lock` (`cli_lock.py`) shows differences and accepts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import yaml
from pydantic import Field

from rs_cio_assets.contract.fields import Strict
from rs_cio_assets.contract.models import Contract, Feed
from rs_cio_assets.contract.segments import Text

LOCK_FILE = "taxonomy.lock.yaml"
_HEADER = """\
# The names and types that journeys, segments and messages in Customer.io may rely on (docs/analyst.md, "The lock").
# Written by: rs-cio lock --accept --reason "..."
"""
_NOT_NAMES = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_DOTTED = re.compile(r"\w+(?:\.\w+)*")


class LockedFeed(Strict):
    """What a feed sends. Kinds and types are plain texts, so that a lock can be read whatever kinds there are today."""

    kind: str
    event_name: str | None = None
    identifier: str
    business_key: tuple[str, ...]
    until: date | None = None
    sent: Mapping[str, str] = Field(default_factory=dict, description="Property or attribute -> type.")
    sent_until: Mapping[str, date] = Field(default_factory=dict, description="Old name -> the day from which it is not sent.")


class LockedSegment(Strict):
    """A declared segment. *uses*: `<feed>` and `<feed>.<column>` of all that its SQL names."""

    segment_id: int
    uses: tuple[str, ...] = ()


class LockedJourney(Strict):
    """A declared journey. *uses*: the feed that starts it, what its SQL names, and what its segments use."""

    campaign_id: int
    uses: tuple[str, ...] = ()


class Acceptance(Strict):
    """Somebody's word for a change, kept for ever."""

    accepted_on: date
    reason: Text
    changes: tuple[str, ...]


class TaxonomyLock(Strict):
    """The names in use, feeds that are off included, and every acceptance, newest first."""

    customerio_identifier: str
    feeds: Mapping[str, LockedFeed]
    segments: Mapping[str, LockedSegment] = Field(default_factory=dict)
    journeys: Mapping[str, LockedJourney] = Field(default_factory=dict)
    accepted: tuple[Acceptance, ...] = ()

    def text(self) -> str:
        """The lock file. Names stand in alphabetical order, so that a review shows what changed and nothing else."""
        document = self.model_dump(exclude_defaults=True)
        return _HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=False, width=130)


@dataclass(frozen=True)
class Difference:
    """One place where a contract differs from its lock.

    *item* is a file without its ending (`feeds/people`), *field* a place in it, or empty. *name* is what is used of it: `<feed>`
    or `<feed>.<column>`, else empty. *used_by* are journeys and segments, such as `journeys/winback`. *ends* is the planned day
    from which a name that is sent today is not sent any more. A breaking difference needs somebody's word.
    """

    item: str
    field: str
    text: str
    is_breaking: bool
    name: str = ""
    used_by: tuple[str, ...] = ()
    ends: date | None = None

    def __str__(self) -> str:
        users = " and ".join(filter(None, (self._users("journeys"), self._users("segments"))))
        return ": ".join(filter(None, (self.item, self.field, self.text))) + (f"; used by {users}" if users else "")

    def _users(self, folder: str) -> str:
        names = [user.partition("/")[2] for user in self.used_by if user.startswith(folder)]
        return f"the {folder if len(names) > 1 else folder[:-1]} {', '.join(names)}" if names else ""


def lock_of(contract: Contract) -> TaxonomyLock:
    """What a lock of *contract* holds, before anybody accepted it. *contract* is as its files are written, old names included."""
    segments = {s.name: _named(contract.feeds, s.sql) for s in contract.segments}
    return TaxonomyLock(
        customerio_identifier=contract.workspace.identifier.customerio,
        feeds={feed.name: _locked(feed) for feed in sorted(contract.feeds, key=lambda feed: feed.name)},
        segments={
            s.name: LockedSegment(segment_id=s.segment_id, uses=tuple(sorted(segments[s.name])))
            for s in sorted(contract.segments, key=lambda segment: segment.name)
        },
        journeys={
            j.name: LockedJourney(
                campaign_id=j.campaign_id,
                uses=tuple(
                    sorted(
                        _named(contract.feeds, j.sql, j.never_sql or "")
                        | ({j.feed} if j.feed else set())
                        | segments.get(j.trigger_segment or "", set())
                        | segments.get(j.audience or "", set())
                    )
                ),
            )
            for j in sorted(contract.journeys, key=lambda journey: journey.name)
        },
    )


def _locked(feed: Feed) -> LockedFeed:
    sent = {name: feed.columns[name] for name in sorted(feed.sent_columns)}
    return LockedFeed(
        kind=feed.kind.value,
        event_name=feed.event_name,
        identifier=feed.identifier,
        business_key=feed.key_columns,
        until=feed.until,
        sent={name: column.type.value for name, column in sent.items()},
        sent_until={name: column.until for name, column in sent.items() if column.until},
    )


def _named(feeds: Iterable[Feed], *queries: str) -> set[str]:
    """The feeds whose views these queries read, and the sent columns of those that they name. Rather one too many than one less:
    a column counts for every feed of the query that has it."""
    plain = _NOT_NAMES.sub(" ", "\n".join(queries)).replace('"', "").lower()
    words = set(_DOTTED.findall(plain))
    columns = {word.rpartition(".")[2] for word in words}
    read = [feed for feed in feeds if feed.view in words]
    return {feed.name for feed in read} | {f"{f.name}.{name}" for f in read for name in f.sent_columns if name in columns}


def differences(lock: TaxonomyLock, now: TaxonomyLock, today: date) -> tuple[Difference, ...]:
    """How the contract whose lock would be *now* differs from its *lock*, in order of items.

    Breaking: what is gone or says something else, and a planned end that is new or earlier. A name whose locked end has passed
    on *today* may go. What is new breaks nothing, since nothing uses it yet.
    """
    return tuple(_differences(lock, now, today))


def _differences(lock: TaxonomyLock, now: TaxonomyLock, today: date) -> Iterator[Difference]:
    before, after, ends, new_ends = _names(lock), _names(now), _ends(lock), _ends(now)
    for item in sorted({*before, *after}):
        if item not in after:
            has_ended = _has_ended(ends, item, "", today)
            text = "the lock has it, and it is gone" + (" as planned" if has_ended else "")
            yield _difference(lock, now, item, "", text, is_breaking=not has_ended)
        elif item not in before:
            yield _difference(lock, now, item, "", "is new", is_breaking=False)
        else:
            for field in dict.fromkeys([*before[item], *after[item], ""]):
                was, found = before[item].get(field), after[item].get(field)
                has_ended = _has_ended(ends, item, field, today)
                end, new_end = ends.get((item, field)), new_ends.get((item, field))
                if was is None and found is not None:
                    yield _difference(lock, now, item, field, "is new", is_breaking=False)
                elif was != found:
                    text = f"the lock says {was}, found {found or 'nothing'}"
                    yield _difference(lock, now, item, field, text, is_breaking=not has_ended)
                elif end != new_end:
                    is_breaking = new_end is not None and (end is None or new_end < end) and not has_ended
                    text = f"the lock says {end or 'no end'}, found {new_end or 'no end'}"
                    place = f"{field}.until" if field else "until"
                    planned = new_end if new_end and new_end > today else None
                    yield _difference(lock, now, item, place, text, is_breaking=is_breaking, ends=planned)
    for folder, locked, found in (("segments", lock.segments, now.segments), ("journeys", lock.journeys, now.journeys)):
        for name in sorted(locked.keys() & found.keys()):
            old, new = set(locked[name].uses), set(found[name].uses)
            texts = (("uses", sorted(new - old)), ("no longer uses", sorted(old - new)))
            if text := "; ".join(f"{verb} {', '.join(names)}" for verb, names in texts if names):
                yield Difference(f"{folder}/{name}", "sql", text, is_breaking=False)


def endings(lock: TaxonomyLock) -> tuple[Difference, ...]:
    """The planned ends that *lock* holds, past ones included, with who uses the name still."""
    return tuple(
        _difference(lock, lock, item, field, f"is not sent from {end} on", is_breaking=False, ends=end)
        for (item, field), end in sorted(_ends(lock).items())
    )


def _difference(
    lock: TaxonomyLock, now: TaxonomyLock, item: str, field: str, text: str, *, is_breaking: bool, ends: date | None = None
) -> Difference:
    """With everybody who uses the name, by the lock or by the contract of today: a rename in all files at once hides neither."""
    folder, _, feed = item.partition("/")
    column = field.removeprefix("columns.").removesuffix(".until") if field.startswith("columns.") else ""
    name = (f"{feed}.{column}" if column else feed) if folder == "feeds" else ""
    users = {f"journeys/{key}" for taxonomy in (lock, now) for key, journey in taxonomy.journeys.items() if name in journey.uses}
    users |= {f"segments/{key}" for taxonomy in (lock, now) for key, segment in taxonomy.segments.items() if name in segment.uses}
    return Difference(item, field, text, is_breaking, name, tuple(sorted(users)), ends)


def _names(lock: TaxonomyLock) -> dict[str, dict[str, str]]:
    """Item -> field -> what it says."""
    items: dict[str, dict[str, str]] = {"workspace": {"identifier.customerio": lock.customerio_identifier}}
    for name, feed in lock.feeds.items():
        event_name = {"event_name": feed.event_name} if feed.event_name else {}
        key = {"identifier": feed.identifier, "business_key": ", ".join(feed.business_key)}
        sent = {f"columns.{column}": kind for column, kind in feed.sent.items()}
        items[f"feeds/{name}"] = {"kind": feed.kind, **event_name, **key, **sent}
    items |= {f"segments/{name}": {"segment_id": str(segment.segment_id)} for name, segment in lock.segments.items()}
    return items | {f"journeys/{name}": {"campaign_id": str(journey.campaign_id)} for name, journey in lock.journeys.items()}


def _ends(lock: TaxonomyLock) -> dict[tuple[str, str], date]:
    """(item, field) -> the day from which that name is not sent; the field is empty for a whole feed."""
    feeds = {(f"feeds/{name}", ""): feed.until for name, feed in lock.feeds.items() if feed.until}
    return feeds | {(f"feeds/{n}", f"columns.{c}"): end for n, feed in lock.feeds.items() for c, end in feed.sent_until.items()}


def _has_ended(ends: Mapping[tuple[str, str], date], item: str, field: str, today: date) -> bool:
    return any(ends.get((item, name), date.max) <= today for name in ("", field))
