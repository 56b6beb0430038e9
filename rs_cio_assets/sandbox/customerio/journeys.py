"""Journeys of people through running campaigns: who starts one, who waits, whom a message is made for.

A journey is tried until the person passes the campaign's filter, then waits for the delay, then ends with a message or without.
Time is what the workspace says: a journey's step is taken as of the moment at which it was due, in the order of those moments.
Sources: customerio-api.md, sections 2.2, 4.4 and 9. Unpublished, so our reading: the times of the retries within 30 minutes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rs_cio_assets.sandbox.customerio.campaigns import Campaign, plans_of
from rs_cio_assets.sandbox.customerio.conditions import data_matches
from rs_cio_assets.sandbox.customerio.database import Row
from rs_cio_assets.sandbox.customerio.messages import create_message_tables, make_message
from rs_cio_assets.sandbox.customerio.segments import is_member, members, segment_of
from rs_cio_assets.sandbox.customerio.workspace import Workspace

TRIGGER_WINDOW_S = 72 * 3_600  # "events with a timestamp in the past 72 hours can trigger campaigns"
FUTURE_S = 300  # of clocks that differ
RETRIES_S = (60, 120, 300, 600, 1_200, 1_800)  # after the start, for a person outside of the filter
LOOK_S = 60  # between two looks at whole segments while data comes in
SCHEMA = (
    # state: trying, never_activated, waiting, exited_early, finished. due_at: of the next step, null when ended.
    """CREATE TABLE IF NOT EXISTS journeys (
        number INTEGER PRIMARY KEY, campaign_id INTEGER NOT NULL, cio_id INTEGER, -- null once the person is gone
        event_id TEXT, started_at INTEGER NOT NULL, activated_at INTEGER, due_at INTEGER,
        state TEXT NOT NULL, is_messaged INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS journeys_due ON journeys (due_at, number) WHERE due_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS journeys_of_campaign ON journeys (campaign_id, started_at)",
    "CREATE INDEX IF NOT EXISTS journeys_of_person ON journeys (cio_id, campaign_id)",
    # Who was in all trigger segments of a running campaign at the last look.
    """CREATE TABLE IF NOT EXISTS seen_members (
        campaign_id INTEGER, cio_id INTEGER, PRIMARY KEY (campaign_id, cio_id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS seen_members_of_person ON seen_members (cio_id)",
    "CREATE TEMP TABLE IF NOT EXISTS members_now (cio_id INTEGER PRIMARY KEY)",
)


class Journeys:
    """Follows one workspace, from when it is made. `look` is for who reads, `reload` for who changes campaigns."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        create_message_tables(workspace)
        for statement in SCHEMA:
            workspace.change(statement)
        self._running: Mapping[int, Campaign] = {}
        self._by_event: dict[str, list[Campaign]] = {}
        self._by_segment: list[Campaign] = []
        self._looked_at = self._changes_looked_at = -1
        self._know(plans_of(workspace))
        workspace.followers.append(self)

    def reload(self) -> None:
        """Campaigns were changed: those that stopped end their journeys, those that began note who is in their segments."""
        before, plans = self._running, plans_of(self._workspace)
        self._know(plans)
        self._end("campaign_id NOT IN (SELECT value FROM json_each(?))", json.dumps(list(self._running)))
        for table in ("journeys", "seen_members"):  # of a deleted campaign
            self._workspace.change(
                f"DELETE FROM {table} WHERE campaign_id NOT IN (SELECT value FROM json_each(?))",  # noqa: S608
                (json.dumps(list(plans)),),
            )
        for campaign in self._by_segment:
            known = before.get(campaign.campaign_id)
            is_new = known is None or known.trigger_segment_ids != campaign.trigger_segment_ids
            if is_new and not campaign.is_open_to_current:
                self._note_members(campaign, self._workspace.now())

    def settle(self, now: int) -> None:
        """Take every step that is due by *now*; look at the trigger segments, if the last look is a minute old."""
        if self._running:
            if not 0 <= now - self._looked_at < LOOK_S:
                self._look(now)
            self._take_steps(now)

    def look(self) -> None:
        """Settle the workspace for a reader: with a look at the trigger segments, however new the last one is."""
        with self._workspace.transaction():
            self._workspace.settle()
            if self._by_segment and self._changes() != self._changes_looked_at:
                now = self._workspace.now()
                self._look(now)
                self._take_steps(now)
                self._changes_looked_at = self._changes()

    def event(self, cio_id: int, name: str, event_id: str | None, timestamp: int, data: Mapping[str, Any], now: int) -> None:
        """Start the journeys of the campaigns that the event triggers."""
        campaigns = self._by_event.get(name, ())
        if campaigns and now - TRIGGER_WINDOW_S < timestamp <= now + FUTURE_S:
            for campaign in campaigns:
                if data_matches(campaign.trigger_filter, data):
                    self._start(campaign, cio_id, event_id, now)

    def gone(self, cio_id: int) -> None:
        """End the person's journeys. The numbers of the campaigns stay; an id that is given anew is another person."""
        self._end("cio_id = ?", cio_id)
        for table in ("journeys", "messages"):
            self._workspace.change(f"UPDATE {table} SET cio_id = NULL WHERE cio_id = ?", (cio_id,))  # noqa: S608
        self._workspace.change("DELETE FROM seen_members WHERE cio_id = ?", (cio_id,))

    def _know(self, plans: Mapping[int, Campaign]) -> None:
        self._running = {number: plan for number, plan in plans.items() if plan.is_running}
        self._by_event, self._by_segment = {}, []
        for campaign in self._running.values():
            if campaign.event_name is not None:
                self._by_event.setdefault(campaign.event_name, []).append(campaign)
            elif campaign.trigger_segment_ids:
                self._by_segment.append(campaign)

    def _look(self, now: int) -> None:
        """Start a journey for everybody who was in no earlier look and is in all trigger segments now."""
        for campaign in self._by_segment:
            segments = (segment_of(self._workspace, segment_id) for segment_id in campaign.trigger_segment_ids)
            if any(segment is not None and not segment.is_finished(now) for segment in segments):
                continue  # nobody left a segment because it is being built
            for cio_id in self._note_members(campaign, now):
                self._start(campaign, cio_id, None, now)
        self._looked_at = now

    def _note_members(self, campaign: Campaign, now: int) -> list[int]:
        """Keep who is in all trigger segments now; those of them who were not at the last look."""
        queries = [members(self._workspace, segment_id, now) for segment_id in campaign.trigger_segment_ids]
        change, campaign_id = self._workspace.change, campaign.campaign_id
        change("DELETE FROM members_now")
        change(
            f"INSERT INTO members_now {' INTERSECT '.join(f'SELECT * FROM ({sql})' for sql, _ in queries)}",  # noqa: S608
            [value for _, values in queries for value in values],
        )
        change(
            "DELETE FROM seen_members WHERE campaign_id = ? AND cio_id NOT IN (SELECT cio_id FROM members_now)", (campaign_id,)
        )
        entered = "INSERT OR IGNORE INTO seen_members SELECT ?, cio_id FROM members_now RETURNING cio_id"
        return [cio_id for (cio_id,) in self._workspace.rows(entered, (campaign_id,))]

    def _start(self, campaign: Campaign, cio_id: int, event_id: str | None, now: int) -> None:
        faults, campaign_id = self._workspace.faults(), campaign.campaign_id
        if campaign_id in faults.get("silent_journeys", ()) or (campaign.is_once and self._has_entered(campaign_id, cio_id)):
            return
        for _ in range(2 if campaign_id in faults.get("doubled_journeys", ()) else 1):
            self._workspace.change(
                "INSERT INTO journeys (state, campaign_id, cio_id, event_id, started_at, due_at) "
                "VALUES ('trying', ?, ?, ?, ?, ?)",
                (campaign_id, cio_id, event_id, now, now),
            )

    def _has_entered(self, campaign_id: int, cio_id: int) -> bool:
        entered = "SELECT 1 FROM journeys WHERE cio_id = ? AND campaign_id = ? AND state != 'never_activated' LIMIT 1"
        return bool(self._workspace.rows(entered, (cio_id, campaign_id)))

    def _take_steps(self, now: int) -> None:
        due = "SELECT * FROM journeys WHERE due_at <= ? ORDER BY due_at, number LIMIT 1"
        while found := self._workspace.rows(due, (now,)):  # one at a time: a step may put the next one before others
            journey = found[0]
            campaign = self._running[journey["campaign_id"]]
            if journey["state"] == "trying":
                self._try(campaign, journey)
            else:
                self._finish(campaign, journey)

    def _try(self, campaign: Campaign, journey: Row) -> None:
        tried_at, started_at = journey["due_at"], journey["started_at"]
        if self._is_in(campaign.filter_segment_ids, journey["cio_id"], tried_at):
            late_s = self._workspace.faults().get("late_journeys", {}).get(str(campaign.campaign_id), 0)
            self._workspace.change(
                "UPDATE journeys SET state = 'waiting', activated_at = ?, due_at = ? WHERE number = ?",
                (tried_at, tried_at + campaign.delay_s + late_s, journey["number"]),
            )
        elif again_at := next((started_at + after for after in RETRIES_S if started_at + after > tried_at), None):
            self._workspace.change("UPDATE journeys SET due_at = ? WHERE number = ?", (again_at, journey["number"]))
        else:
            self._end("number = ?", journey["number"])

    def _finish(self, campaign: Campaign, journey: Row) -> None:
        if not self._is_in(campaign.only_if_segment_ids, journey["cio_id"], journey["due_at"]):
            self._end("number = ?", journey["number"])
            return
        is_sent = make_message(self._workspace, campaign, journey["cio_id"], journey["event_id"], journey["due_at"])
        self._workspace.change(
            "UPDATE journeys SET state = 'finished', due_at = NULL, is_messaged = ? WHERE number = ?",
            (is_sent, journey["number"]),
        )

    def _end(self, condition: str, value: Any) -> None:
        """End the journeys under way that meet the condition, without a message."""
        self._workspace.change(
            "UPDATE journeys SET due_at = NULL, "  # noqa: S608 - conditions of this file
            "state = CASE state WHEN 'trying' THEN 'never_activated' ELSE 'exited_early' END "
            f"WHERE due_at IS NOT NULL AND {condition}",
            (value,),
        )

    def _is_in(self, segment_ids: tuple[int, ...], cio_id: int, at: int) -> bool:
        return all(is_member(self._workspace, segment_id, cio_id, at) for segment_id in segment_ids)

    def _changes(self) -> int:
        """How many rows this connection has changed: the same number says that the workspace is the same."""
        return self._workspace.rows("SELECT total_changes() AS n")[0]["n"]
