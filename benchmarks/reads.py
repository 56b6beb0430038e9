"""`make reads`: a large day out of Redshift by UNLOAD, by the driver, and by what a person writes first: fetchmany into pandas.

The warehouse is the Redshift stand-in with S3 beside it, in a process of its own, on the same machine: what UNLOAD costs here is
not what it costs a cluster. Each reading is a process of its own; figures are of that process alone.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measured
from benchmarks.processes import run_measured
from benchmarks.runs import DAY
from rs_cio_assets.sandbox.processes import ManagedProcess, accepts_connections, command_line
from rs_cio_assets.settings import environment, load_settings
from rs_cio_assets.warehouse import Warehouse

# Deterministic, with nulls, quotes and accents; a thousandth of the rows breaks a rule of the contract.
_COLUMNS = """
    'C' || LPAD(CAST(n % 400000 AS VARCHAR), 7, '0') AS customer_id,
    TIMESTAMP '{day} 00:00:00' + INTERVAL '1 second' * (n % 86400) AS occurred_at,
    TIMESTAMP '{day} 23:59:59' + INTERVAL '1 second' * (n % 3600) AS loaded_at,
    'ORD-' || LPAD(CAST(n AS VARCHAR), 9, '0') AS order_id,
    CAST(CASE WHEN n % 1000 = 7 THEN -1 ELSE 5 + n % 60000 / 100.0 END AS NUMERIC(12,2)) AS revenue,
    CAST(n % 5000 / 100.0 AS NUMERIC(12,2)) AS tax,
    CAST(CASE WHEN n % 5 < 2 THEN n % 900 / 100.0 END AS NUMERIC(12,2)) AS discount,
    CAST(SUBSTRING('USDEURGBP', CAST(n % 3 * 3 + 1 AS INTEGER), 3) AS VARCHAR(3)) AS currency,
    CAST(1 + n % 8 AS BIGINT) AS item_count,
    CAST(CASE n % 10 WHEN 0 THEN 'WELCOME10' WHEN 1 THEN 'BLACK"FRIDAY"' WHEN 2 THEN 'VIP ★ 20' END AS VARCHAR(64)) AS coupon,
    CAST(CASE n % 3 WHEN 0 THEN 'web' WHEN 1 THEN 'ios' ELSE 'android' END AS VARCHAR(16)) AS channel,
    n % 10 < 3 AS is_first_order,
    CAST(SUBSTRING('USDEGBFRBRJP', CAST(n % 6 * 2 + 1 AS INTEGER), 2) AS VARCHAR(2)) AS shipping_country,
    CAST(CASE WHEN n % 20 > 0 THEN n % 10000 / 10000.0 END AS DOUBLE PRECISION) AS margin_pct,
    CAST('[{{"sku":"S' || n % 500 || '","name":"Café Mug, Ø 9 cm","price":12.5}}]' AS SUPER) AS products
"""
_WAYS = (
    ("unload", "ours, UNLOAD to S3", "reading", ("unload",)),
    ("driver", "ours, driver, DECLARE and FETCH 1,000", "reading", ("driver",)),
    ("driver_10000", "ours, driver, FETCH 10,000", "reading", ("driver", "--fetch-rows", "10000")),
    ("pandas", "fetchmany into pandas, to_parquet", "pandas_read", ()),
    ("unload_whole", "ours, UNLOAD, checked and encoded, too", "reading", ("unload", "--whole")),
)


@click.command()
@click.option("--rows", default=5_000_000, show_default=True, type=click.IntRange(min=1_000), help="Rows of the day.")
@click.option("--small-rows", default=1_000_000, show_default=True, type=click.IntRange(0), help="A smaller day, too; 0: none.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write everything measured here.")
@click.option("--alternatives-python", required=True, type=click.Path(path_type=Path, exists=True), help="With requirements.txt.")
def main(rows: int, small_rows: int, json_file: Path | None, alternatives_python: Path) -> None:
    """Read made-up days by each way, one after the other."""
    console = Console(width=124)
    document: dict[str, dict[str, dict]] = {}
    with tempfile.TemporaryDirectory(prefix="rs-cio-bench-") as folder, running_redshift(Path(folder)) as (port, s3):
        for count in (small_rows, rows) if small_rows else (rows,):
            console.print(f"making {count:,} rows in the stand-in")
            make_day(port, count)
            measured = {}
            for name, label, module, arguments in _WAYS:
                console.print(f"{count:,} rows: {label}")
                if module == "pandas_read":
                    query = ["--port", str(port), "--query", "SELECT * FROM cio_export.order_completed"]
                    measured[name] = run_measured(alternatives_python.absolute(), module, query)
                else:
                    measured[name] = run_measured(Path(sys.executable), module, [*arguments, "--port", str(port), "--s3", s3])
                if measured[name].rows != count:
                    raise click.ClickException(f"{label}: {measured[name].rows:,} of {count:,} rows")
            console.print(_table(count, measured))
            document[str(count)] = {name: asdict(run) for name, run in measured.items()}
    if json_file:
        json_file.write_text(json.dumps(document, indent=1) + "\n")


@contextmanager
def running_redshift(folder: Path) -> Iterator[tuple[int, str]]:
    """The port of a Redshift stand-in and the address of S3 beside it, in a process of their own."""
    port, s3_port = _free_port(), _free_port()
    ports = ("--port", str(port), "--s3-port", str(s3_port))
    command = command_line("sandbox", "redshift", *ports, "--data", str(folder / "redshift"))
    with ManagedProcess("the Redshift stand-in", command, folder / "redshift.log", environment({})) as process:
        process.wait_until(lambda: accepts_connections(port))
        yield port, f"http://127.0.0.1:{s3_port}"


def make_day(port: int, rows: int) -> None:
    """The view `cio_export.order_completed` over a table of *rows* rows, all on one day."""
    settings = load_settings({"REDSHIFT_PORT": str(port)}).redshift
    made = _COLUMNS.format(day=DAY)
    with Warehouse(settings).session() as session:
        for statement in (
            "CREATE SCHEMA IF NOT EXISTS bench",
            "CREATE SCHEMA IF NOT EXISTS cio_export",
            "DROP VIEW IF EXISTS cio_export.order_completed",
            "DROP TABLE IF EXISTS bench.orders",
            f"CREATE TABLE bench.orders AS SELECT {made} FROM generate_series(1, {rows}) AS s(n)",  # noqa: S608 - our own
            "CREATE VIEW cio_export.order_completed AS SELECT * FROM bench.orders WITH NO SCHEMA BINDING",
        ):
            session.run(statement)
        session.commit()


def _table(rows: int, measured: dict[str, Measured]) -> Table:
    table = Table(title=f"{rows:,} rows of 15 columns", title_justify="left")
    table.add_column("way", no_wrap=True)
    for head in ("s", "rows/s", "CPU s/1M", "peak MB", "time, UNLOAD = 1", "CPU, UNLOAD = 1"):
        table.add_column(head, justify="right", no_wrap=True)
    base = measured["unload"]
    for name, label, *_ in _WAYS:
        run = measured[name]
        table.add_row(
            label,
            f"{run.wall_s:.1f}",
            f"{run.rows_per_s:,.0f}",
            f"{run.cpu_s_per_million:.1f}",
            f"{run.peak_rss_mb:,.0f}",
            f"{run.wall_s / base.wall_s:.1f}",
            f"{run.cpu_s / base.cpu_s:.1f}",
        )
    return table


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
