"""The asset `readiness`: the implementation checklist as one table in the UI, each line with its evidence and date."""

from collections.abc import Sequence
from datetime import UTC, datetime

from dagster import (
    AssetCheckKey,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
)

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.metadata import records_table
from rs_cio_assets.contract.models import Contract
from rs_cio_assets.readiness.evidence import known_facts, latest_evidence
from rs_cio_assets.readiness.lines import State, readiness
from rs_cio_assets.readiness.report import as_markdown, summary
from rs_cio_assets.store import Store

READINESS_KEY = AssetKey(["readiness"])


def build_readiness(contract: Contract, checks: Sequence[AssetCheckKey], *, locked_on: str | None) -> AssetsDefinition:
    """Reads what the latest of *checks* said; asks neither the warehouse nor Customer.io. Materialize it after the checks."""

    @asset(
        key=READINESS_KEY,
        deps=[feed_key(feed.name) for feed in contract.enabled_feeds],
        description="The guide's implementation checklist as one table. Each line says whether it is ready, by which checks, "
        "when they ran, and what to do next where it is not. When every line is ready, a marketer may wire journeys. "
        "`rs-cio report` writes the same as a page.",
        group_name="readiness",
        kinds={"table"},
        owners=["team:retention"],
    )
    def readiness_table(context: AssetExecutionContext, store: ResourceParam[Store]) -> MaterializeResult:
        now = datetime.now(UTC)
        lines = readiness(latest_evidence(context.instance, checks), known_facts(contract, store, now, locked_on=locked_on), now)
        context.log.info(summary(lines, now))
        by_state = {state: sum(line.state is state for line in lines) for state in State}
        table: list[dict[str, str | int | float]] = [
            {
                "state": line.state.value,
                "checklist": line.item,
                "next step": line.next_step,
                "evidence": line.evidence,
                "checked (UTC)": f"{line.oldest:%Y-%m-%d %H:%M}" if line.oldest else "never",
            }
            for line in lines
        ]
        return MaterializeResult(
            metadata={
                "lines ready": by_state[State.READY],
                "lines failing": by_state[State.FAILING],
                "lines not ready": by_state[State.NOT_READY],
                "checklist": records_table(table),
                "report": MetadataValue.md(as_markdown(lines, now)),
            }
        )

    return readiness_table
