"""One reading of the large day, measured: by UNLOAD or by the driver into staged Parquet, or all the work before sending."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.days import CONTRACT
from benchmarks.measure import report_work
from benchmarks.runs import DAY, EVENTS, NOW
from rs_cio_assets.assets.export_checks import judge_days
from rs_cio_assets.contract import load_contract
from rs_cio_assets.delivery import preview_day
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets.warehouse import Warehouse, stage_days


def main() -> None:
    """Read the day in the way that is named; with `--whole` it is checked and its operations are encoded, too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["unload", "driver"])
    parser.add_argument("--port", required=True)
    parser.add_argument("--s3", required=True, help="the address of S3")
    parser.add_argument("--fetch-rows", default="1000")
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    settings = load_settings(
        {
            "REDSHIFT_PORT": options.port,
            "REDSHIFT_READ": options.way,
            "REDSHIFT_FETCH_ROWS": options.fetch_rows,
            "RS_CIO_S3_ENDPOINT_URL": options.s3,
        }
    )
    contract = load_contract(CONTRACT)
    feed = contract.feed(EVENTS)
    warehouse: Warehouse = resources_for(settings)["warehouse"]
    with tempfile.TemporaryDirectory(prefix="rs-cio-bench-") as folder:
        store = LocalStore(Path(folder) / "store")

        def work() -> Mapping[str, int]:
            with warehouse.session() as session:
                manifest = stage_days(session, feed, [DAY], store, now=lambda: datetime.now(UTC))[DAY]
            if manifest.read_by != options.way:
                raise RuntimeError(f"the day was read by {manifest.read_by}")
            if not options.whole:
                return {"rows": manifest.rows}
            judge_days(feed, contract, {DAY: manifest}, store, frozenset())
            now = datetime.fromisoformat(NOW)
            preview = preview_day(feed, contract, manifest, store, now=now, scratch=Path(folder), rows=0)
            return {"rows": manifest.rows, "encoded": preview.outcomes["send"], "requests": preview.requests}

        report_work(work)


if __name__ == "__main__":
    main()
