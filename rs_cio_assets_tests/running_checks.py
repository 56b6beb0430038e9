"""Asset checks run alone, through Dagster, with the resources that the definitions would give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetChecksDefinition,
    AssetSelection,
    DagsterInstance,
    Definitions,
    TableMetadataValue,
    define_asset_job,
    in_process_executor,
)

from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings
from rs_cio_assets.sync import QUIET, failures


@dataclass(frozen=True)
class ChecksRun:
    """What the checks said, by name; the failed steps in words; and everything that the run showed."""

    evaluations: Mapping[str, AssetCheckEvaluation]
    failures: tuple[str, ...]
    shown: str = field(repr=False)

    def numbers(self, name: str) -> dict[str, Any]:
        """A check's metadata without its tables."""
        metadata = self.evaluations[name].metadata
        return {label: value.value for label, value in metadata.items() if not isinstance(value, TableMetadataValue)}

    def column(self, name: str, table: str, column: str) -> list[Any]:
        """One column of a table in a check's metadata."""
        found = self.evaluations[name].metadata[table]
        assert isinstance(found, TableMetadataValue)
        return [record.data[column] for record in found.records]


def run_checks(settings: Settings, checks: Sequence[AssetChecksDefinition], config: Mapping[str, Any] | None = None) -> ChecksRun:
    """One run of *checks*; *config* goes to each of them."""
    job = define_asset_job("checks", selection=AssetSelection.checks(*checks))
    defs = Definitions(asset_checks=checks, jobs=[job], resources=resources_for(settings), executor=in_process_executor)
    ops = {check.node_def.name: {"config": dict(config)} for check in checks} if config else {}
    with DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("checks").execute_in_process(
            instance=instance, raise_on_error=False, run_config={**QUIET, "ops": ops}
        )
        shown = "\n".join(str(record) for record in instance.all_logs(result.run_id))
    found = {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
    return ChecksRun(found, tuple(failures(result)), shown + str(found))
