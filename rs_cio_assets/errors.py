"""Every error this project raises on purpose, and what may be done about each.

    RsCioError
    ├── ConfigurationError      a person must change a setting or the contract; nothing was sent
    │   ├── SettingsError
    │   └── ContractError
    ├── TransientError          the same call may work later; says how long to wait where it knows
    │   ├── WarehouseUnavailable
    │   │   └── WarehouseConflict   another transaction came first; the same one may work at once
    │   ├── CustomerioUnavailable
    │   └── StoreUnavailable
    ├── PermanentError          repeating the call cannot help
    │   ├── WarehouseRefused
    │   │   └── WarehouseForbidden  a grant is missing
    │   ├── CustomerioRefused
    │   │   └── CustomerioBodyTooLarge
    │   ├── StoreRefused
    │   └── DeliveryRefused     it could be sent, and must not be without a person's word
    └── MismatchError           two counts of the same thing disagree

Texts name the feed, the day, the column and the next step. They never hold a row's values or a secret.
"""

from __future__ import annotations


class RsCioError(Exception):
    """Base of the tree: what went wrong, where, and the operator's next step.

    *problem* is one sentence; *next_step* is an instruction; *feed* and *day* (ISO date) are set where they are known.
    """

    def __init__(self, problem: str, *, next_step: str = "", feed: str | None = None, day: str | None = None) -> None:
        self.problem = problem
        self.next_step = next_step
        self.feed = feed
        self.day = day
        super().__init__(problem)

    def __str__(self) -> str:
        """One readable line: `feed order_completed, 2026-11-20: problem. Next step: ...`."""
        where = ", ".join(part for part in (f"feed {self.feed}" if self.feed else "", self.day or "") if part)
        text = f"{where}: {self.problem}" if where else self.problem
        return f"{text.rstrip('.')}. Next step: {self.next_step}" if self.next_step else text

    def at(self, feed: str, day: str | None = None) -> RsCioError:
        """The same error, told where it happened; keeps what is already known. Fills `<feed>` into the next step."""
        self.feed = self.feed or feed
        self.day = self.day or day
        self.next_step = self.next_step.replace("<feed>", self.feed)
        return self


class ConfigurationError(RsCioError):
    """A setting or the contract is wrong; a person has to change it."""


class SettingsError(ConfigurationError):
    """One or more environment variables are missing or invalid; lists all of them."""


class ContractError(ConfigurationError):
    """The contract's files are wrong; lists every problem found."""


class TransientError(RsCioError):
    """The same call may work later. *retry_after_s* is the wait asked for, in seconds, or None."""

    def __init__(
        self,
        problem: str,
        *,
        retry_after_s: float | None = None,
        next_step: str = "",
        feed: str | None = None,
        day: str | None = None,
    ) -> None:
        super().__init__(problem, next_step=next_step, feed=feed, day=day)
        self.retry_after_s = retry_after_s


class WarehouseUnavailable(TransientError):
    """Redshift cannot be reached, dropped the connection, timed out or asked for a retry (1023)."""


class WarehouseConflict(WarehouseUnavailable):
    """Redshift undid the transaction because of a concurrent one (1023, SQLSTATE 40001)."""


class CustomerioUnavailable(TransientError):
    """Customer.io answered 408, 429 or 5xx, or the connection failed, until the retries ran out."""


class StoreUnavailable(TransientError):
    """The object store (S3) did not answer or answered 5xx until its retries ran out."""


class PermanentError(RsCioError):
    """Repeating the call cannot help."""


class WarehouseRefused(PermanentError):
    """Redshift answered no: wrong credentials, missing view or column, missing grant, bad SQL."""


class WarehouseForbidden(WarehouseRefused):
    """The user of the sync lacks a grant."""


class CustomerioRefused(PermanentError):
    """Customer.io answered no to the whole request: 400, 401, 403, 404, 3xx (wrong region)."""


class CustomerioBodyTooLarge(CustomerioRefused):
    """Customer.io answered 413: the same operations in smaller requests may be taken."""


class StoreRefused(PermanentError):
    """The store cannot take or give a file: no space left, no permission, missing bucket."""


class DeliveryRefused(PermanentError):
    """What would be sent could start old journeys, or is more than a brake allows. Nothing was sent."""


class MismatchError(RsCioError):
    """Two counts of the same thing disagree; what was read or sent must not be trusted."""
