"""What may be sent: the models, and the YAML and SQL files that a team edits. No network, no Dagster."""

from rs_cio_assets.contract.kinds import FeedKind
from rs_cio_assets.contract.lint import LintFinding, lint_contract, lint_sql
from rs_cio_assets.contract.load import SHIPPED, load_contract
from rs_cio_assets.contract.models import Column, ColumnType, Contract, Feed, Workspace
from rs_cio_assets.contract.segments import Journey, Logic, Segment

__all__ = [
    "SHIPPED",
    "Column",
    "ColumnType",
    "Contract",
    "Feed",
    "FeedKind",
    "Journey",
    "LintFinding",
    "Logic",
    "Segment",
    "Workspace",
    "lint_contract",
    "lint_sql",
    "load_contract",
]
