"""The checks of an export: what its days' profiles and its view say, as Dagster shows it. Judging is the warehouse folder's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, AssetKey, Failure, MetadataValue

from rs_cio_assets.assets.about import check_description
from rs_cio_assets.assets.metadata import records_table
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.store import Manifest, Store
from rs_cio_assets.store.profiles import Profile, ProfileHistory
from rs_cio_assets.warehouse import ColumnDifference, ViewColumn
from rs_cio_assets.warehouse.definition import DefinitionDifference
from rs_cio_assets.warehouse.findings import DEFINITION, Finding, contract_findings, undeclared_values
from rs_cio_assets.warehouse.profile import profile_day
from rs_cio_assets.warehouse.trends import DAYS_NEEDED, TimesVerdict, VolumeVerdict, judge_times, judge_volume

CONTRACT_CHECK, VOLUME_CHECK, TIMES_CHECK, VALUES_CHECK = "contract", "volume", "times", "values"
SHOWN_SENTENCES = 20  # a run of many days may have one for each
_VOLUME_STEP = (
    "look at the loads of the tables behind the view, and at what changed in its SQL; what stays is usual after two weeks"
)
_TIMES_STEP = "mend the time in the view's SQL (local time needs CONVERT_TIMEZONE to UTC), run create_views, and the day again"
_VALUES_STEP = (
    "add what is wanted to the contract's list once journeys and segments know it, or mend the view; until then such rows may be "
    "rejected (on_undeclared_value)"
)


@dataclass(frozen=True)
class ViewState:
    """How the view differs from its contract, before a row is read. *definition* is None where no record says what it was."""

    difference: ColumnDifference
    columns: tuple[ViewColumn, ...]
    definition: DefinitionDifference | None
    undated_rows: int

    @property
    def is_outdated(self) -> bool:
        """True when create_views mends every difference: the contract's SQL has changed, and nothing else."""
        return self.definition is not None and self.definition.is_outdated

    def findings(self, feed: Feed) -> tuple[Finding, ...]:
        """What about the definition blocks."""
        if self.definition is None:
            return ()
        return tuple(Finding(DEFINITION, said, self.definition.next_step) for said in self.definition.sentences(feed.view))


@dataclass(frozen=True)
class JudgedDay:
    """One staged day and everything that is said about it."""

    profile: Profile
    findings: tuple[Finding, ...]
    volume: VolumeVerdict
    times: TimesVerdict


def check_specs(feed: Feed, key: AssetKey) -> list[AssetCheckSpec]:
    """The checks of a feed's export: times are for events, values for feeds that declare some."""
    told = {
        CONTRACT_CHECK: check_description(
            f"The view {feed.view} is what the contract says. Its definition, columns and types are the same, no two rows "
            "share a "
            "business key, nothing required is empty or over a ceiling, and times say when something happened, not when it was "
            "loaded.",
            red="a journey or segment would see something else than was agreed. The day stops, and nothing of it is sent.",
            then="read the difference below; mend the view or the contract, run the job create_views, then the day again.",
        ),
        VOLUME_CHECK: check_description(
            "The day has about as many rows as the 28 days before, and no column has more different values than it may.",
            red="a load broke, or a join in the view multiplies rows. The day is delivered all the same.",
            then="look at the loads of the tables behind the view, and at what changed in its SQL.",
        ),
        TIMES_CHECK: check_description(
            f"The times in {feed.time_column} are UTC: not after {feed.loaded_at}, when the row was loaded, and not moved by "
            "whole hours.",
            red="local time is taken for UTC: journeys start at the wrong hour, or never.",
            then="convert the time to UTC in the view's SQL, run the job create_views, then the day again.",
        ),
        VALUES_CHECK: check_description(
            "Columns whose values the contract lists hold no others.",
            red="the shop has new values that segments and journeys do not know. It warns, and stops nothing.",
            then="add them to the contract's list once journeys know them, or mend the view.",
        ),
    }
    return [AssetCheckSpec(n, asset=key, blocking=n == CONTRACT_CHECK, description=told[n]) for n in check_names(feed)]


def check_names(feed: Feed) -> list[str]:
    """The checks that a feed's export has."""
    applies = {TIMES_CHECK: feed.kind is FeedKind.EVENT, VALUES_CHECK: any(c.values for c in feed.columns.values())}
    return [n for n in (CONTRACT_CHECK, VOLUME_CHECK, TIMES_CHECK, VALUES_CHECK) if applies.get(n, True)]


def judge_days(
    feed: Feed, contract: Contract, manifests: Mapping[str, Manifest], store: Store, accepted: frozenset[str]
) -> list[JudgedDay]:
    """Profile each staged day, keep the profile, and judge it beside the days before it."""
    history = ProfileHistory(store, feed.name)
    profiles: dict[str, Profile] = {}
    with open_database() as database:
        for day, manifest in sorted(manifests.items()):
            with tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch:
                files = [store.fetch(file.key, Path(scratch)) for file in manifest.files]
                profiles[day] = profile_day(database, feed, contract, manifest, files)
    judged = []
    for day, profile in profiles.items():
        findings = contract_findings(feed, profile)
        blocked_by = tuple(dict.fromkeys(finding.name for finding in findings if finding.name not in accepted))
        history.add(replace(profile, blocked_by=blocked_by))
        earlier = history.before(day)
        judged.append(JudgedDay(profile, findings, judge_volume(feed, profile, earlier), judge_times(feed, profile, earlier)))
    return judged


def blocking_findings(feed: Feed, view: ViewState, judged: Sequence[JudgedDay], accepted: frozenset[str]) -> list[Finding]:
    """What must stop the run, besides columns; the text names the day where there are several."""
    return [finding for finding in _findings(feed, view, judged) if finding.name not in accepted]


def _findings(feed: Feed, view: ViewState, judged: Sequence[JudgedDay]) -> list[Finding]:
    of_days = [replace(f, text=_dated(f.text, day, judged)) for day in judged for f in day.findings]
    return [*view.findings(feed), *of_days]


def contract_failure(feed: Feed, label: str, view: ViewState, blocking: Sequence[Finding]) -> Failure:
    """What an operator reads when the contract stops the day: what is wrong, and every way on."""
    problems, steps = [finding.text for finding in blocking], [finding.next_step for finding in blocking]
    if view.difference.is_blocking:
        problems = [*view.difference.sentences(), *problems]
        if not view.is_outdated:
            steps.insert(0, _columns_step(feed))
    steps.append("then run this day again")
    if blocking and not view.difference.is_blocking:
        names = ", ".join(dict.fromkeys(finding.name for finding in blocking))
        steps.append(f"if it is right as it is, run it once with accept: [{names}] (run config of redshift/exports/{feed.name})")
    return Failure(
        description=f"feed {feed.name}, {label}: {feed.view} does not match the contract: {_joined(problems)}. "
        f"Next step: {'; '.join(dict.fromkeys(steps))}",
        allow_retries=False,
    )


def check_results(
    feed: Feed, view: ViewState, judged: Sequence[JudgedDay], accepted: frozenset[str]
) -> Iterator[AssetCheckResult]:
    """One result for each of the feed's checks; of the contract alone when no day was staged."""
    yield _contract_result(feed, view, judged, accepted)
    if judged:
        results = {VOLUME_CHECK: _volume_result, TIMES_CHECK: _times_result, VALUES_CHECK: _values_result}
        yield from (results[name](judged) for name in check_names(feed) if name in results)


def _contract_result(feed: Feed, view: ViewState, judged: Sequence[JudgedDay], accepted: frozenset[str]) -> AssetCheckResult:
    difference, findings = view.difference, _findings(feed, view, judged)
    said = [
        *difference.sentences(),
        *(f"{finding.text}{' (accepted for this run)' if finding.name in accepted else ''}" for finding in findings),
    ]
    steps = [finding.next_step for finding in findings if finding.name not in accepted]
    if difference.is_blocking:
        if not view.is_outdated:
            steps.insert(0, _columns_step(feed))
    elif difference.extra:
        steps.append("list the column in the contract, or leave it out of the view")
    if view.undated_rows:
        said.append(
            f"{view.undated_rows:,} rows of {feed.view} have neither {feed.time_column} nor {feed.loaded_at}: "
            "they belong to no day and are not exported"
        )
        steps.append("fill one of the two in the view's SQL")
    profiles = [day.profile for day in judged]
    metadata: dict[str, Any] = {
        "missing columns": len(difference.missing),
        "changed columns": len(difference.changed),
        "columns not in the contract": len(difference.extra),
        "without a day (rows)": view.undated_rows,
        "rows": sum(p.rows for p in profiles),
        "people": max((p.people for p in profiles), default=0),
        "most of one person (rows)": max((p.most_rows_of_a_person for p in profiles), default=0),
        "nulls where required (rows)": sum(sum(p.nulls.values()) for p in profiles),
        "outside of the day (rows)": sum(p.rows_outside_day for p in profiles),
        "another event name (rows)": sum(p.wrong_names.rows for p in profiles),
        "time equals load time (rows)": sum(p.rows_at_load_time for p in profiles),
        "repeated, equal (business keys)": sum(p.keys_equal for p in profiles),
        "repeated, different (business keys)": sum(p.keys_different for p in profiles),
        "longest text (bytes)": max((max(p.longest_bytes.values(), default=0) for p in profiles), default=0),
        "definition compared": "yes" if view.definition else "no: create_views has not run for this view",
    }
    if table := _difference_records(feed, view):
        metadata["difference"] = records_table(table)
    if view.definition and view.definition.diff:
        metadata["definition"] = MetadataValue.md("```diff\n" + "\n".join(view.definition.diff) + "\n```")
    is_blocking = difference.is_blocking or any(finding.name not in accepted for finding in findings)
    step = "; ".join(dict.fromkeys(steps))
    which = "Definition, columns" if view.definition else "Columns"
    fine = f"{which}, types, names, keys and ceilings are those of the contract, and times are no load's."
    return _result(CONTRACT_CHECK, judged, said, fine, step, metadata, is_error=is_blocking)


def _difference_records(feed: Feed, view: ViewState) -> list[dict[str, str | int | float]]:
    found = {column.name: column.type_name for column in view.columns}
    difference = view.difference
    return [
        *({"column": n, "contract": feed.columns[n].type.value, "view": "missing"} for n in difference.missing),
        *({"column": n, "contract": says, "view": has} for n, says, has in difference.changed),
        *({"column": n, "contract": "not listed", "view": found.get(n, "")} for n in difference.extra),
    ]


def _volume_result(judged: Sequence[JudgedDay]) -> AssetCheckResult:
    said = [_dated(text, day, judged) for day in judged for text in day.volume.problems]
    usual = sum(day.volume.usual_rows or 0.0 for day in judged)
    compared = min(day.volume.days_compared for day in judged)
    is_judged = all(day.volume.usual_rows is not None for day in judged)
    too_few = f"{compared} of {DAYS_NEEDED} days to compare with: not judged yet."
    rows = sum(day.profile.rows for day in judged)
    fine = f"About as many rows as usual: {rows:,}, and {usual:,.0f} are usual." if is_judged else too_few
    metadata: dict[str, Any] = {"rows": rows, "compared (days)": compared}
    if is_judged:
        has_fresh_only = all(day.volume.has_fresh_days_only for day in judged)
        metadata["usual (rows)"] = usual
        metadata["compared with"] = "days read within 2 days after their end" if has_fresh_only else "all days before"
    for name in {name: None for day in judged for name in day.profile.distinct}:
        metadata[f"different values of {name}"] = max(day.profile.distinct.get(name, 0) for day in judged)
    return _result(VOLUME_CHECK, judged, said, fine, _VOLUME_STEP, metadata, is_error=True)


def _times_result(judged: Sequence[JudgedDay]) -> AssetCheckResult:
    said = [_dated(text, day, judged) for day in judged for text in day.times.problems]
    metadata: dict[str, Any] = {
        "time after load (rows)": sum(day.profile.rows_after_load for day in judged),
        "compared (days)": min(day.times.days_compared for day in judged),
    }
    for label, lags_s in (
        ("time to load, median (s)", [day.profile.median_lag_s for day in judged]),
        ("time to load, 5th percentile (s)", [day.profile.low_lag_s for day in judged]),
    ):
        metadata |= {label: round(max(known), 3)} if (known := [lag_s for lag_s in lags_s if lag_s is not None]) else {}
    shifts = [day.times.shift_hours for day in judged if day.times.shift_hours is not None]
    metadata |= {"moved (hours)": shifts[0]} if shifts else {}
    fine = "Times are not after their load, and nothing says that they are moved by whole hours."
    return _result(TIMES_CHECK, judged, said, fine, _TIMES_STEP, metadata, is_error=True)


def _values_result(judged: Sequence[JudgedDay]) -> AssetCheckResult:
    said = [_dated(text, day, judged) for day in judged for text in undeclared_values(day.profile)]
    metadata = {"undeclared values (rows)": sum(odd.rows for day in judged for odd in day.profile.undeclared.values())}
    fine = "Columns whose values are declared hold no others."
    return _result(VALUES_CHECK, judged, said, fine, _VALUES_STEP, metadata, is_error=False)


def _result(
    name: str,
    judged: Sequence[JudgedDay],
    said: Sequence[str],
    fine: str,
    next_step: str,
    metadata: Mapping[str, Any],
    *,
    is_error: bool,
) -> AssetCheckResult:
    """A check that passes when nothing is said. Its text begins with the days: Dagster shows none beside a check."""
    days = " to ".join(dict.fromkeys(day.profile.day for day in (*judged[:1], *judged[-1:])))
    text = f"{days}: {_joined(said) if said else fine}" if days else _joined(said) or fine
    return AssetCheckResult(
        check_name=name,
        passed=not said,
        severity=AssetCheckSeverity.ERROR if is_error else AssetCheckSeverity.WARN,
        description=f"{text}. Next step: {next_step}" if said and next_step else text,
        metadata=metadata,
    )


def _dated(text: str, day: JudgedDay, judged: Sequence[JudgedDay]) -> str:
    return text if len(judged) == 1 else f"{day.profile.day}: {text}"


def _joined(said: Sequence[str]) -> str:
    more = f"; and {len(said) - SHOWN_SENTENCES} more" if len(said) > SHOWN_SENTENCES else ""
    return "; ".join(said[:SHOWN_SENTENCES]) + more


def _columns_step(feed: Feed) -> str:
    return f"mend the view's SQL (or the contract, with everybody who uses the name), materialize redshift/views/{feed.name}"
