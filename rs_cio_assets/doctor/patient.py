"""What the doctor looks at: settings and the three things they lead to. Nothing is opened before a line asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from rs_cio_assets.contract.models import Contract
from rs_cio_assets.customerio import TrackClient, WorkspaceRegion
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import Warehouse


@dataclass(frozen=True)
class Asked:
    """An answer, and the moment (aware UTC, by this machine's clock) in the middle between question and answer."""

    answer: WorkspaceRegion
    at: datetime


@dataclass(frozen=True)
class Patient:
    """*read_contract* loads the contract, or raises ContractError; *now* is this machine's clock (aware UTC)."""

    settings: Settings
    read_contract: Callable[[], Contract]
    warehouse: Warehouse
    store: Store
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @cached_property
    def contract(self) -> Contract:
        """The contract. Raises: ContractError."""
        return self.read_contract()

    @cached_property
    def account(self) -> Asked:
        """Where the Track key belongs. Raises: CustomerioRefused, CustomerioUnavailable, MismatchError."""
        with TrackClient(self.settings.customerio) as track:
            before = self.now()
            answer = track.find_region()
        return Asked(answer, before + (self.now() - before) / 2)
