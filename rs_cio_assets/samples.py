"""Made-up rows of a feed and what must become of each: a team's own tests of its contract, without a warehouse or Customer.io.

`samples/<feed>.yaml` is a list of cases. A case's row goes alone through the same engine as a day of a run: the contract's rules
and operations are tried, the SQL of the view is not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rs_cio_assets.contract.models import Column, ColumnType, Contract, Feed
from rs_cio_assets.contract.scaffold_text import SAMPLES
from rs_cio_assets.delivery import Preview, preview_day
from rs_cio_assets.errors import ContractError
from rs_cio_assets.store import Fingerprint, LocalStore, Manifest, StagedFile
from rs_cio_assets.warehouse.staged_days import staged_schema

SENT = "sent"


class Sample(BaseModel):
    """One case: a made-up *row* by column (a column that is not named is null) and what it *becomes*: sent, or the reason of its
    rejection (docs/analyst.md, "Reading a rejection")."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    case: str
    becomes: str
    row: dict[str, Any]


@dataclass(frozen=True)
class SampleResult:
    """What became of one case; *operation* is what would be sent, as it would be sent, or None."""

    feed: str
    case: str
    wanted: str
    became: str
    operation: Mapping[str, Any] | None

    @property
    def is_good(self) -> bool:
        """True when the row became what the case says."""
        return self.became == self.wanted


def sampled_feeds(folder: Path, contract: Contract) -> list[Feed]:
    """The feeds of the contract, on or off, that have samples. Raises: ContractError when a file of samples has no feed."""
    names = sorted(path.stem for path in (folder / SAMPLES).glob("*.yaml"))
    feeds = {feed.name: feed for feed in contract.feeds}
    if unknown := [name for name in names if name not in feeds]:
        raise ContractError(
            f"{SAMPLES}/{unknown[0]}.yaml has no feed of that name", next_step="name the file as the feed, or remove it"
        )
    return [feeds[name] for name in names]


def try_samples(folder: Path, contract: Contract, feed: Feed, *, now: datetime) -> Iterator[SampleResult]:
    """Each case of the feed in the file's order. Raises: ContractError when the file cannot be read, with its case."""
    for sample in _read(folder, feed):
        with tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch:
            preview = _preview(feed, contract, _typed(feed, sample), Path(scratch), now)
        became = next(iter(preview.rejected_by_reason), None) or _outcome(preview)
        yield SampleResult(feed.name, sample.case, sample.becomes, became, next(iter(preview.operations), None))


def _read(folder: Path, feed: Feed) -> Sequence[Sample]:
    name = f"{SAMPLES}/{feed.name}.yaml"
    try:
        found = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        samples = TypeAdapter(tuple[Sample, ...]).validate_python(found)
    except FileNotFoundError:
        raise ContractError(
            f"there is no {name}", next_step="write made-up rows of the feed there (docs/add-a-feed.md shows some)"
        ) from None
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        line = f", line {mark.line + 1}" if mark else ""
        raise ContractError(f"{name}{line} is not YAML", next_step="mend that line") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ContractError(
            f"{name}: {where}: {first['msg']}", next_step="give each case its `case`, `becomes` and `row` (docs/add-a-feed.md)"
        ) from None
    return samples


def _typed(feed: Feed, sample: Sample) -> dict[str, Any]:
    """The row as an export would stage it."""
    where = f"{SAMPLES}/{feed.name}.yaml, case {sample.case!r}"
    if unknown := [name for name in sample.row if name not in feed.columns]:
        raise ContractError(
            f"{where}: the feed has no column {unknown[0]}", next_step=f"use its columns: {', '.join(feed.columns)}"
        )
    row = {}
    for name, value in sample.row.items():
        try:
            row[name] = None if value is None else _value(feed.columns[name], value)
        except (TypeError, ValueError, InvalidOperation):
            wanted = feed.columns[name].type.value
            raise ContractError(
                f"{where}: {name} is no {wanted}", next_step=f"write a {wanted} there, a text in quotes"
            ) from None
    return row


def _value(column: Column, value: Any) -> Any:
    """A YAML value as the column's type. Raises: TypeError, ValueError, InvalidOperation where it is none."""
    kinds: dict[ColumnType, type | tuple[type, ...]] = {
        ColumnType.STRING: str,
        ColumnType.INTEGER: int,
        ColumnType.FLOAT: (int, float),
        ColumnType.BOOLEAN: bool,
    }
    if column.type in kinds:
        if not isinstance(value, kinds[column.type]) or (isinstance(value, bool) and column.type is not ColumnType.BOOLEAN):
            raise TypeError
        return float(value) if column.type is ColumnType.FLOAT else value
    if column.type is ColumnType.DECIMAL:
        return Decimal(str(value))
    if column.type is ColumnType.JSON:
        return json.dumps(value)
    if column.type is ColumnType.DATE:
        return value if type(value) is date else date.fromisoformat(value)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _preview(feed: Feed, contract: Contract, row: Mapping[str, Any], scratch: Path, now: datetime) -> Preview:
    """What a day of this row alone would become, in an empty store."""
    moment = row.get(feed.time_column) or row.get(feed.loaded_at) or now - timedelta(days=7)
    store, schema = LocalStore(scratch / "store"), staged_schema(feed)
    path, key = scratch / "sample.parquet", f"staged/{feed.name}/sample/part-00000.parquet"
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in schema.names}], schema), path)
    columns = tuple((name, column.type.value) for name, column in feed.columns.items())
    files = (StagedFile(key, 1, path.stat().st_size),)
    day = moment.date().isoformat()
    manifest = Manifest(feed.name, day, feed.view, Fingerprint(1, None, "sample"), 1, files, columns, now)
    store.put_file(key, path)
    return preview_day(feed, contract, manifest, store, now=now, scratch=scratch, rows=1)


def _outcome(preview: Preview) -> str:
    outcome = next(name for name, rows in preview.outcomes.items() if rows)
    return SENT if outcome == "send" else outcome
