"""Frozen reports to Dagster metadata: ordered, with units, and without personal data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import MetadataValue, TableColumn, TableColumnConstraints, TableRecord, TableSchema

from rs_cio_assets.assets.deliveries import HELD, HELD_UNTIL, SOURCE, source_metadata
from rs_cio_assets.contract.models import Column, Feed
from rs_cio_assets.delivery import DeliveryReport, LateArrivals, Preview
from rs_cio_assets.store import Manifest

# What each outcome of a row means, in the order of the sum that the check every_row_is_accounted_for makes.
_OUTCOMES = {
    "delivered": "sent in this run, and acknowledged by Customer.io",
    "unchanged": "sent before with the same content",
    "amended, not re-sent": "an event that was sent before and has changed since: Customer.io takes an event once",
    "duplicates": "equal to another row with the same key",
    HELD: "young enough to start a journey but not meant to, or waiting for its person: goes later by itself",
    "superseded": "undone by a later day",
    "rejected": "not sent, for a reason",
}


def column_schema(feed: Feed) -> TableSchema:
    """The contract's columns as Dagster shows them, in contract order."""
    return TableSchema(
        columns=[
            TableColumn(
                name=name,
                type=_type_text(column),
                description=f"{column.description} ({_role(feed, name)})",
                constraints=TableColumnConstraints(nullable=not column.required),
            )
            for name, column in feed.columns.items()
        ]
    )


def _type_text(column: Column) -> str:
    return f"decimal({column.precision},{column.scale})" if column.precision else column.type.value


def _role(feed: Feed, name: str) -> str:
    roles = {feed.identifier: "identifier", feed.time_column: "time", feed.loaded_at: "load time"}
    return roles.get(name, "sent" if name in feed.sent_columns else "not sent")


def export_metadata(manifest: Manifest) -> dict[str, Any]:
    """What was read from the warehouse for one day."""
    newest = manifest.fingerprint.latest_loaded_at
    return {
        "rows": manifest.rows,
        "size (bytes)": sum(file.size_bytes for file in manifest.files),
        "files": len(manifest.files),
        "fingerprint": manifest.fingerprint.text(),
        "newest loaded_at (UTC)": MetadataValue.timestamp(newest) if newest else MetadataValue.text("no rows"),
        "read at (UTC)": MetadataValue.timestamp(manifest.read_at),
        "read by": "UNLOAD to S3" if manifest.read_by == "unload" else "the driver, DECLARE and FETCH",
        "dagster/partition_row_count": manifest.rows,
    }


def delivery_metadata(report: DeliveryReport, manifest: Manifest, late: LateArrivals) -> dict[str, Any]:
    """What happened to one day's rows in Customer.io. Rows are counted once each; *late* ones stand among them."""
    counts = (
        report.delivered,
        report.unchanged,
        report.amended,
        report.duplicates,
        report.held,
        report.superseded,
        report.rejected,
    )
    outcomes = dict(zip(_OUTCOMES, counts, strict=True))
    metadata: dict[str, Any] = {
        "rows": report.rows,
        **outcomes,
        "what became of the rows": records_table(
            [{"outcome": name, "rows": rows, "meaning": _OUTCOMES[name]} for name, rows in outcomes.items()]
        ),
        "young enough to start a campaign": report.could_trigger,
        "arrived late (rows)": late.rows,
        "people delivered first": report.people_first,
        "requests": report.requests,
        "sent (bytes)": report.request_bytes,
        "pace (requests/s)": round(report.requests_per_s, 1),
        "duration (s)": round(report.seconds, 3),
        SOURCE: source_metadata(manifest),
        "dagster/partition_row_count": report.rows,
    }
    if late.rows:
        metadata |= {"how late, median (h)": round(late.median_h, 2), "how late, largest (h)": round(late.largest_h, 2)}
    if report.held_until:
        metadata[HELD_UNTIL] = MetadataValue.timestamp(report.held_until)
    if report.rejected_by_reason:
        metadata["rejected by reason"] = counts_table("reason", report.rejected_by_reason)
    if report.examples:
        metadata["rejected rows (examples, keys hashed)"] = records_table(
            [{"row": e.row_key_hash, "reason": e.reason, "column": e.column or "", "message": e.message} for e in report.examples]
        )
    if report.delivered_examples:
        metadata["delivered rows (sample, keys hashed)"] = ", ".join(report.delivered_examples)
    return metadata


def preview_metadata(preview: Preview) -> dict[str, Any]:
    """What a delivery would do; the operations themselves hold personal data and are not shown."""
    metadata: dict[str, Any] = {
        "rows": preview.rows,
        "rows by outcome": counts_table("outcome", preview.outcomes),
        "young enough to start a campaign": preview.could_trigger,
        "unknown people": preview.unknown_people,
        "requests": preview.requests,
        "to send (bytes)": preview.request_bytes,
    }
    if preview.rejected_by_reason:
        metadata["rejected by reason"] = counts_table("reason", preview.rejected_by_reason)
    if preview.campaigns:
        campaigns = [{"campaign": c.campaign_id, "name": c.name, "event": c.event_name or "a segment"} for c in preview.campaigns]
        metadata["campaigns that could start"] = records_table(campaigns)
    return metadata


def counts_table(what: str, counts: Mapping[str, int]) -> MetadataValue:
    """A table of *what* and its row count, most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return records_table([{what: name, "rows": count} for name, count in ordered])


def records_table(records: list[dict[str, str | int | float]]) -> MetadataValue:
    """A table with one row per record; the first record names the columns."""
    columns = [
        TableColumn(name=name, type="string" if isinstance(value, str) else "number") for name, value in records[0].items()
    ]
    return MetadataValue.table([TableRecord(dict(r)) for r in records], schema=TableSchema(columns=columns))
