"""A staged day to its profile: aggregates in DuckDB over the Parquet files, in bounded memory. It judges nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from rs_cio_assets.contract.models import ColumnType, Contract, Feed, FeedKind
from rs_cio_assets.store import Manifest
from rs_cio_assets.store.profiles import HOURS, OddValues, Profile
from rs_cio_assets.warehouse.sql import quoted

KEYS_PER_PASS = 1_500_000  # hashes that are grouped at once
SHOWN_VALUES = 20
SHOWN_CHARACTERS = 64
# In a column of categories such a text is a sign of shifted columns, and may be of a person.
_PERSONAL = re.compile(r"@|\d{5}")
_HOUR_US = 3_600_000_000
_DAY_US = HOURS * _HOUR_US
# What makes two rows of a key differ follows delivery: the time where it is sent or decides.
_TIMELESS = {FeedKind.PEOPLE, FeedKind.MERGE}


def profile_day(
    database: duckdb.DuckDBPyConnection, feed: Feed, contract: Contract, manifest: Manifest, files: Sequence[Path]
) -> Profile:
    """The profile of the day that *manifest* and its local *files* hold. Lists that columns name are looked up in *contract*."""
    empty = Profile(feed.name, manifest.day, manifest.read_at)
    if not files:
        return empty
    rows = f"read_parquet([{', '.join(_literal(str(path)) for path in files)}], hive_partitioning = false)"
    day = _Day(database, feed, rows, manifest)
    declared = {name: contract.declared_values(column) for name, column in feed.columns.items()}
    odd = {name: f"{quoted(name)} NOT IN ({', '.join(map(_literal, values))})" for name, values in declared.items() if values}
    wrong_name = f"{quoted(feed.name_column)} IS DISTINCT FROM {_literal(feed.event_name or '')}" if feed.name_column else "false"
    found = day.aggregates({**{f"odd {name}": condition for name, condition in odd.items()}, "wrong name": wrong_name})
    low_lag_s, median_lag_s = found["lags"] or (None, None)
    frequent_us, rows_at_frequent_time = day.frequent(found["frequent"])
    people, most = day.people()
    equal, different, rows_different = day.repeated_keys()
    return Profile(
        feed=feed.name,
        day=manifest.day,
        read_at=manifest.read_at,
        rows=manifest.rows,
        people=people,
        most_rows_of_a_person=most,
        rows_by_hour=tuple((found["hours"] or {}).get(hour, 0) for hour in range(HOURS)),
        median_lag_s=median_lag_s,
        low_lag_s=low_lag_s,
        rows_at_load_time=found["at load"],
        rows_after_load=found["after load"],
        rows_at_frequent_time=rows_at_frequent_time,
        frequent_us=frequent_us,
        rows_outside_day=found["outside"],
        keys_equal=equal,
        keys_different=different,
        rows_of_keys_different=rows_different,
        wrong_names=OddValues(found["wrong name"], day.values(feed.name_column or "", wrong_name) if found["wrong name"] else ()),
        nulls={name: found[f"nulls {name}"] for name, column in feed.columns.items() if column.required},
        distinct={name: day.distinct(name) for name, column in feed.columns.items() if column.max_distinct},
        undeclared={
            name: OddValues(found[f"odd {name}"], day.values(name, condition))
            for name, condition in odd.items()
            if found[f"odd {name}"]
        },
        longest_bytes={name: found[f"longest {name}"] or 0 for name in _texts(feed)},
    )


class _Day:
    """The staged rows of a day, and what is asked of them."""

    def __init__(self, database: duckdb.DuckDBPyConnection, feed: Feed, rows: str, manifest: Manifest) -> None:
        self._database, self._feed, self._rows, self._day = database, feed, rows, manifest.day
        self._passes = 1 + manifest.rows // KEYS_PER_PASS

    def aggregates(self, conditions: dict[str, str]) -> dict[str, Any]:
        """Everything that needs no grouping, by name, in one pass; *conditions* are counted too."""
        moment, loaded = (f"epoch_us({quoted(name)})" for name in (self._feed.time_column, self._feed.loaded_at))
        start = (date.fromisoformat(self._day) - date(1970, 1, 1)).days * _DAY_US
        asked = {
            "hours": f"histogram((({moment} % {_DAY_US} + {_DAY_US}) % {_DAY_US}) // {_HOUR_US})",
            "lags": f"approx_quantile(({loaded} - {moment}) / 1e6, [0.05, 0.5])",
            "frequent": f"approx_top_k({moment}, 1)",
            "at load": f"count(*) FILTER (abs({loaded} - {moment}) <= 1000000)",
            "after load": f"count(*) FILTER ({moment} - {loaded} > 60000000)",
            "outside": f"count(*) FILTER ({moment} < {start} OR {moment} >= {start + _DAY_US})",
            **{f"nulls {name}": f"count(*) - count({quoted(name)})" for name, c in self._feed.columns.items() if c.required},
            **{f"longest {name}": f"max(strlen({quoted(name)}))" for name in _texts(self._feed)},
            **{name: f"count(*) FILTER ({condition})" for name, condition in conditions.items()},
        }
        return dict(zip(asked, self._ask(f"SELECT {', '.join(asked.values())} FROM {self._rows}"), strict=True))  # noqa: S608

    def frequent(self, candidates: list[int] | None) -> tuple[int | None, int]:
        """The first of *candidates* (microseconds), and how many rows have that time."""
        if not candidates:
            return None, 0
        condition = f"epoch_us({quoted(self._feed.time_column)}) = {candidates[0]}"
        return candidates[0], self._ask(f"SELECT count(*) FROM {self._rows} WHERE {condition}")[0]  # noqa: S608

    def people(self) -> tuple[int, int]:
        """How many people there are, and the most rows of one."""
        name = quoted(self._feed.identifier)
        groups = list(self._grouped(f"hash({name})", "", "count(*), max(rows)", f"WHERE {name} IS NOT NULL"))
        return sum(people for people, _ in groups), max((most or 0 for _, most in groups), default=0)

    def repeated_keys(self) -> tuple[int, int, int]:
        """Business keys that stand in several equal rows, in several that differ, and how many rows those are.

        Rows without a whole key are no event or person that could be there twice. Keys are told apart by 64 bits.
        """
        feed = self._feed
        is_whole = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in (*feed.key_columns, feed.identifier))
        names = (feed.identifier, feed.suppressed_column, *(() if feed.kind in _TIMELESS else (feed.time_column,)))
        content = dict.fromkeys(name for name in (*names, *feed.key_columns, *feed.sent_columns) if name)
        per_key = f", min({_hash(feed, content)}) <> max({_hash(feed, content)}) AS differs"
        wanted = "count(*) FILTER (NOT differs), count(*) FILTER (differs), sum(rows) FILTER (differs)"
        groups = self._grouped(_hash(feed, feed.key_columns), per_key, wanted, f"WHERE {is_whole}", "HAVING count(*) > 1")
        equal, different, rows = (sum(count or 0 for count in counts) for counts in zip(*groups, strict=True))
        return equal, different, int(rows)

    def distinct(self, name: str) -> int:
        """Different values of a column."""
        groups = self._grouped(f"hash({quoted(name)})", "", "count(*)", f"WHERE {quoted(name)} IS NOT NULL")
        return sum(count for (count,) in groups)

    def values(self, name: str, condition: str) -> tuple[str, ...]:
        """The most frequent values of a column in rows that meet *condition*, as they may be shown."""
        # Cut in DuckDB: a text may be of any size.
        found = self._database.execute(
            f"SELECT left({quoted(name)}, {SHOWN_CHARACTERS}) FROM {self._rows} WHERE {condition} "  # noqa: S608
            f"GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {SHOWN_VALUES}"
        ).fetchall()
        return tuple(dict.fromkeys(_shown(value) for (value,) in found))

    def _grouped(self, key: str, per_key: str, wanted: str, where: str = "", having: str = "") -> Iterator[tuple[Any, ...]]:
        """*wanted* over the groups of *key*; one row for each share of the keys, so that memory stays flat."""
        share = f"{'AND' if where else 'WHERE'} {key} % {self._passes} = "
        for number in range(self._passes):
            yield self._ask(
                f"SELECT {wanted} FROM (SELECT count(*) AS rows{per_key} FROM {self._rows} "  # noqa: S608
                f"{where} {f'{share}{number}' if self._passes > 1 else ''} GROUP BY {key} {having})"
            )

    def _ask(self, query: str) -> tuple[Any, ...]:
        (row,) = self._database.execute(query).fetchall()  # aggregates without groups: always one
        return row


def _hash(feed: Feed, names: Sequence[str] | dict[str, None]) -> str:
    """64 bits of these columns of a row; of a time its seconds, as they are sent."""
    is_time = {name: feed.columns[name].type is ColumnType.TIMESTAMP for name in names}
    return f"hash({', '.join(f'epoch_us({quoted(n)}) // 1000000' if is_time[n] else quoted(n) for n in names)})"


def _texts(feed: Feed) -> list[str]:
    return [name for name, column in feed.columns.items() if column.type is ColumnType.STRING]


def _shown(value: str | None) -> str:
    if value is None or not value.strip():
        return "(empty)"
    return "(not shown: could be of a person)" if _PERSONAL.search(value) else value


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
