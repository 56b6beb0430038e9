"""A contract beside its taxonomy lock: how they differ, which running campaigns use the old names, and the acceptance of it.

What a lock holds and what breaks it stands in `contract/lock.py`; what people are told, in `cli_lock.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rs_cio_assets.contract.load import SHIPPED, load_as_written, load_lock
from rs_cio_assets.contract.lock import LOCK_FILE, Acceptance, Difference, TaxonomyLock, differences, endings, lock_of
from rs_cio_assets.customerio import AppClient, Campaign
from rs_cio_assets.errors import ContractError, RsCioError
from rs_cio_assets.settings import CustomerioSettings


@dataclass(frozen=True)
class LockState:
    """A contract beside its lock. *lock* is None where the team keeps none; *now* is what a new one would hold."""

    folder: Path
    lock: TaxonomyLock | None
    now: TaxonomyLock
    differences: tuple[Difference, ...]
    endings: tuple[Difference, ...]

    @property
    def shown(self) -> str:
        """The lock file's name for people."""
        return f"{self.folder.name}/{LOCK_FILE}"

    @property
    def is_current(self) -> bool:
        """True when the lock holds exactly the contract's names and who uses them."""
        return self.lock is not None and self.lock.model_copy(update={"accepted": ()}) == self.now

    @property
    def breaking(self) -> tuple[Difference, ...]:
        """What the contract is refused for until it is accepted."""
        return tuple(difference for difference in self.differences if difference.is_breaking)


@dataclass(frozen=True)
class Usage:
    """What Customer.io says of the names that change or end. *problem* says why it could not be asked.

    *uses*: running campaigns that use a name, by its difference: started by that event, declared as a journey that uses it, or
    using a segment that does. *may_use*: other running campaigns that the event starts. Texts such as `Thanks (campaign 7)`.
    """

    problem: str | None = None
    uses: Mapping[Difference, tuple[str, ...]] = field(default_factory=dict)
    may_use: Mapping[Difference, tuple[str, ...]] = field(default_factory=dict)


def lock_state(folder: Path | None) -> LockState:
    """The contract in *folder* (default: the shipped one) beside its lock. Raises: ContractError when either cannot be read."""
    folder = folder or SHIPPED
    now, locked = lock_of(load_as_written(folder)), load_lock(folder)
    changed = differences(locked, now, datetime.now(UTC).date()) if locked else ()
    return LockState(folder, locked, now, changed, endings(locked) if locked else ())


def usage_of(state: LockState, settings: CustomerioSettings) -> Usage:
    """Ask Customer.io who uses each name that breaks or ends; nothing is asked when there is none."""
    asked = (*state.breaking, *state.endings)
    if not asked or state.lock is None:
        return Usage()
    segments = {**state.now.segments, **state.lock.segments}
    used = {user.partition("/")[2] for difference in asked for user in difference.used_by if user.startswith("segments/")}
    try:
        with AppClient(settings) as app:
            running = tuple(campaign for campaign in app.campaigns() if campaign.is_running)
            of_segment = {f"segments/{name}": set(app.segment_users(segments[name].segment_id)) for name in sorted(used)}
    except RsCioError as error:
        return Usage(problem=str(error))
    journeys = {**state.now.journeys, **state.lock.journeys}
    users = of_segment | {f"journeys/{name}": {journey.campaign_id} for name, journey in journeys.items()}
    uses: dict[Difference, tuple[str, ...]] = {}
    may_use: dict[Difference, tuple[str, ...]] = {}
    for difference in asked:
        feed, _, column = difference.name.partition(".")
        event_name = state.lock.feeds[feed].event_name if feed in state.lock.feeds else None
        started = {campaign.campaign_id for campaign in running if event_name and campaign.event_name == event_name}
        certain = set().union(*(users[user] for user in difference.used_by), set() if column else started)
        uses[difference] = _named(running, certain)
        may_use[difference] = _named(running, started - certain)
    return Usage(None, uses, may_use)


def _named(running: Sequence[Campaign], numbers: set[int]) -> tuple[str, ...]:
    return tuple(f"{c.name or 'unnamed'} (campaign {c.campaign_id})" for c in running if c.campaign_id in numbers)


def accept(state: LockState, usage: Usage, reason: str, *, although_used: bool) -> None:
    """Write the lock with *reason* and what changed, newest first.

    Raises: ContractError when running campaigns use a name that goes at once, or nobody could be asked, unless *although_used*.
    """
    at_once = [difference for difference in state.breaking if difference.ends is None]
    used = [f"{difference.item}: {', '.join(usage.uses[difference])}" for difference in at_once if usage.uses.get(difference)]
    if at_once and not although_used and (used or usage.problem):
        why = f"running campaigns use old names ({'; '.join(used)})" if used else f"nobody could be asked: {usage.problem}"
        raise ContractError(
            f"the lock was not written: {why}",
            next_step="send the old name beside the new one until a date (docs/analyst.md), or move the campaigns; "
            "--although-used accepts it all the same",
        )
    counts = f"{len(state.now.feeds)} feeds, {len(state.now.segments)} segments, {len(state.now.journeys)} journeys"
    changes = tuple(
        str(d) + (f"; running then: {', '.join(usage.uses[d])}" if usage.uses.get(d) else "") for d in state.differences
    )
    word = Acceptance(
        accepted_on=datetime.now(UTC).date(), reason=reason, changes=changes if state.lock else (f"The first lock: {counts}",)
    )
    written = state.now.model_copy(update={"accepted": (word, *(state.lock.accepted if state.lock else ()))})
    (state.folder / LOCK_FILE).write_text(written.text(), encoding="utf-8")
