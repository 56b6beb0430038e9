"""`rs-cio schema`: what a DBA runs so that the delivery log has its tables."""

from __future__ import annotations

import click


@click.command()
def schema() -> None:
    """The tables and views of the delivery log (schema cio_sync) as SQL for a DBA. Connects to nothing.

    \b
    Example: rs-cio schema > cio_sync.sql
    """
    from rs_cio_assets.warehouse.log_schema import ddl  # noqa: PLC0415 - the driver is slow to import

    click.echo(ddl(), nl=False)
