"""`make bench`: measure, print the tables, and write the JSON."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from benchmarks.runs import Bench, Options
from benchmarks.tables import document_of, tables_of

TABLE_WIDTH = 124  # narrower, figures would be cut off


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, type=click.IntRange(min=1_000), help="Rows of a day.")
@click.option(
    "--large-rows", default=10_000_000, show_default=True, type=click.IntRange(0), help="Rows of the large day; 0: none."
)
@click.option("--concurrency", default=4, show_default=True, type=click.IntRange(1, 64), help="Requests under way.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="Runs of each; the large day has one.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write everything measured here.")
@click.option("--alternatives-python", required=True, type=click.Path(path_type=Path, exists=True), help="With requirements.txt.")
def main(rows: int, large_rows: int, concurrency: int, repeats: int, json_file: Path | None, alternatives_python: Path) -> None:
    """Deliver made-up days to a sink on 127.0.0.1, by us and by what a user would pick instead."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes and the folder below are cleared away
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    with tempfile.TemporaryDirectory(prefix="rs-cio-bench-") as folder, console.status("") as status:
        python = Path(sys.executable)
        options = Options(rows, large_rows, concurrency, repeats, python, alternatives_python.absolute(), Path(folder))
        bench = Bench(options, status.update if console.is_terminal else console.print)
        results, failure = bench.run(), ""
        if large_rows:
            try:
                results["events_large"] = bench.run_large()
            except RuntimeError as error:
                failure = str(error)  # the other figures are worth having
    for table in tables_of(results, concurrency):
        console.print(table)
    if json_file:
        json_file.write_text(json.dumps(document_of(results, options), indent=1) + "\n")
    if failure:
        raise click.ClickException(failure)


if __name__ == "__main__":
    main()
