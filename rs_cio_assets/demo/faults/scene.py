"""Where a fault is planted: the shop's tables, the contract's files, the Customer.io workspace. Only ever in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from rs_cio_assets.contract import Contract, load_contract
from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.shop.tables import open_tables
from rs_cio_assets.settings import Settings

TIMEOUT_S = 30.0
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Scene:
    """A sandbox in which the shop is synced and journeys run."""

    settings: Settings
    now: datetime

    @property
    def yesterday(self) -> str:
        """The last finished UTC day."""
        return (self.now.astimezone(UTC) - timedelta(days=1)).date().isoformat()

    @property
    def today(self) -> str:
        """The open UTC day."""
        return self.now.astimezone(UTC).date().isoformat()

    @property
    def contract(self) -> Contract:
        """The contract in use."""
        return load_contract(self.settings.contract, today=self.now.date())

    def sql(self, *statements: str, **values: Any) -> None:
        """Change the warehouse in one transaction. `{name}` is a bound value; yesterday, today and now are known."""
        with open_tables(self.settings.redshift) as tables:
            for statement in statements:
                tables.run(*self._bound(statement, values))
            tables.commit()

    def one(self, statement: str, **values: Any) -> Any:
        """The first column of the first row. Raises: ConfigurationError when there is none: the shop is too small."""
        with open_tables(self.settings.redshift) as tables:
            found = tables.rows(*self._bound(statement, values))
        if not found or found[0][0] is None:
            raise ConfigurationError(
                "the shop holds nobody to plant this fault on", next_step="make clean, and a larger CUSTOMERS"
            )
        return found[0][0]

    def customerio(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask the Customer.io stand-in's own pages (`/sandbox/...`), which stand for what a person does in Customer.io."""
        answer = httpx.request(method, f"{self.settings.customerio.app_url}{path}", json=body, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def send(self, *operations: Mapping[str, Any]) -> None:
        """Another source sends to the same workspace."""
        customerio = self.settings.customerio
        key = customerio.api_key.get_secret_value()
        for operation in operations:
            answer = httpx.post(
                f"{customerio.track_url}/api/v2/entity", auth=(customerio.site_id, key), json=operation, timeout=TIMEOUT_S
            )
            answer.raise_for_status()

    def _bound(self, statement: str, values: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        known = {
            "yesterday": (self.yesterday, "::DATE"),
            "today": (self.today, "::DATE"),
            "now": (self.now.astimezone(UTC).replace(tzinfo=None), "::TIMESTAMP"),
            **{name: (value, "::VARCHAR") for name, value in values.items()},
        }
        names = [name for name in _PLACE.findall(statement) if name in known]
        text = _PLACE.sub(lambda found: f"%s{known[found[1]][1]}" if found[1] in known else found[0], statement)
        return text, tuple(known[name][0] for name in names)


Plant = Callable[[Scene], None]
Edit = Callable[[Path], None]


@dataclass(frozen=True)
class Fault:
    """One fault of the catalogue: what goes wrong, how it is planted, and which check must catch it, saying what.

    *edit* changes a copy of the contract before anything is loaded; *plant* the warehouse or Customer.io after it. Then a day
    of *feeds* is synced, in this order, *afterwards* happens, and the check is run. *check* is None where nothing gets as far
    as a check; *says* then stands in the refusal.
    """

    id: str
    what: str
    asset: str
    check: str | None
    says: str
    plant: Plant | None = None
    edit: Edit | None = None
    feeds: tuple[str, ...] = ()
    afterwards: Plant | None = None
    is_today: bool = False
    is_not_ready: bool = False


def replaced(file: str, old: str, new: str) -> Edit:
    """An edit of one text in one file of the contract. Raises: ConfigurationError where the text is not there."""

    def edit(folder: Path) -> None:
        path = folder / file
        text = path.read_text()
        if old not in text:
            raise ConfigurationError(
                f"{file} holds no {old!r}, so this fault cannot be planted", next_step="use the shipped contract"
            )
        path.write_text(text.replace(old, new, 1))

    return edit
