"""What a person writes first: the driver's fetchmany into pandas, and a Parquet file of it. In the alternatives' environment."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import redshift_connector

from benchmarks.measure import report_work

ROWS_PER_FETCH = 10_000


def main() -> None:
    """Read the day, measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--query", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rs-cio-bench-") as folder:

        def work() -> Mapping[str, int]:
            with redshift_connector.connect(
                host="127.0.0.1",
                port=options.port,
                database="shop",
                user="cio_sync",
                password="sandbox",  # noqa: S106 - the stand-in's
                ssl=False,
                application_name="benchmark",
            ) as connection:
                cursor = connection.cursor()
                cursor.execute(options.query)
                names = [column[0] for column in cursor.description]
                parts = []
                while rows := cursor.fetchmany(ROWS_PER_FETCH):
                    parts.append(pd.DataFrame(list(map(tuple, rows)), columns=names))
            frame = pd.concat(parts, ignore_index=True)
            frame.to_parquet(Path(folder) / "day.parquet")
            return {"rows": len(frame)}

        report_work(work)


if __name__ == "__main__":
    main()
