"""Results as tables and as JSON; the ratios are computed here and nowhere else."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from rich.table import Table

from benchmarks.runs import Options, Result, alternatives

Results = Mapping[str, Result]
OURS = ("events", "events_large", "events_unchanged", "events_later", "people", "people_unchanged", "people_later")
PARTS = ("events", "offline", "events_unchanged", "reading")


def tables_of(results: Results, concurrency: int) -> Iterator[Table]:
    """Our delivery, the alternatives beside it, and where our time goes."""
    yield _ours(results)
    yield _beside(results, concurrency)
    yield _parts(results)


def ratios_of(results: Results, concurrency: int) -> dict[str, float]:
    """`<other>_wall` and `<other>_cpu`: how many times more the alternative takes for a row of an event than we do.

    `*_share`: the time of a re-sync as a part of the first delivery's. `large_rss`: peak memory of the large day as a multiple.
    """
    ours = results["events"].median
    ratios = {}
    for other in alternatives(concurrency):
        theirs = results[other.name].median
        ratios[f"{other.name}_wall"] = ours.rows_per_s / theirs.rows_per_s
        ratios[f"{other.name}_cpu"] = theirs.cpu_s_per_million / ours.cpu_s_per_million
    for kind in ("events", "people"):
        for state in ("unchanged", "later"):
            ratios[f"{kind}_{state}_share"] = results[f"{kind}_{state}"].median.wall_s / results[kind].median.wall_s
    if "events_large" in results:
        ratios["large_rss"] = results["events_large"].peak_rss_mb / results["events"].peak_rss_mb
    return ratios


def document_of(results: Results, options: Options) -> dict[str, Any]:
    """Everything that was measured, every single run of it, and on what machine."""
    packages = ("duckdb", "pyarrow", "httpx", "numpy")
    return {
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "options": {name: getattr(options, name) for name in ("rows", "large_rows", "concurrency", "repeats")},
        "ratios": ratios_of(results, options.concurrency),
        "results": {name: {"label": r.label, "runs": [asdict(run) for run in r.runs]} for name, r in results.items()},
    }


def _ours(results: Results) -> Table:
    table = _table("Ours", "delivery of a day", "rows", "s", "rows/s", "CPU s/1M", "requests", "MB sent", "peak MB", "share")
    for name in OURS:
        if name not in results:
            continue
        result, run = results[name], results[name].median
        whole = results[name.split("_")[0]].median
        table.add_row(
            result.label,
            f"{run.rows:,}",
            f"{run.wall_s:.2f}",
            f"{run.rows_per_s:,.0f}",
            f"{run.cpu_s_per_million:.2f}",
            f"{run.requests:,}",
            f"{run.request_bytes / 1_000_000:,.1f}",
            f"{result.peak_rss_mb:,.0f}",
            f"{run.wall_s / whole.wall_s:.0%}" if run.rows == whole.rows else "",
        )
    if "events_large" in results:
        ratio = results["events_large"].peak_rss_mb / results["events"].peak_rss_mb
        table.caption = f"peak memory of the large day: {ratio:.2f} times that of {results['events'].median.rows:,} rows"
    return table


def _beside(results: Results, concurrency: int) -> Table:
    ratios = ratios_of(results, concurrency)
    heads = ("way to send an event", "rows", "rows/s", "CPU s/1M", "requests/1M", "time, ours = 1", "CPU, ours = 1")
    table = _table("Side by side, same rows, same sink", *heads)
    for name in ("events", *(other.name for other in alternatives(concurrency))):
        run = results[name].median
        table.add_row(
            "ours" if name == "events" else results[name].label,
            f"{run.rows:,}",
            f"{run.rows_per_s:,.0f}",
            f"{run.cpu_s_per_million:,.1f}",
            f"{run.requests * 1_000_000 / run.rows:,.0f}",
            *(f"{ratios.get(f'{name}_{what}', 1):,.1f}" for what in ("wall", "cpu")),
        )
    return table


def _parts(results: Results) -> Table:
    table = _table("Where our time goes: the same events with less to do", "run", "s", "CPU s", "share of the time")
    whole = results["events"].median
    for name in PARTS:
        run = results[name].median
        table.add_row(results[name].label, f"{run.wall_s:.2f}", f"{run.cpu_s:.2f}", f"{run.wall_s / whole.wall_s:.0%}")
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
