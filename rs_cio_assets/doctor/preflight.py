"""Before the first row goes to a workspace: the doctor's failures stop it. Passed once, it costs one small read per process.

What was passed is remembered in the store, by what decides where rows go and what is needed on the way. The contract is not part
of it: every export proves its own view before a row of it is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property

from rs_cio_assets.contract.models import Contract
from rs_cio_assets.doctor.examination import examine
from rs_cio_assets.doctor.lines import Line
from rs_cio_assets.doctor.patient import Patient
from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import Warehouse

_log = logging.getLogger(__name__)


class Preflight:
    """The preflight of these settings. Many runs may ask at once: each looks for itself, and writes the same record."""

    def __init__(self, settings: Settings, read_contract: Callable[[], Contract]) -> None:
        self._settings, self._read_contract = settings, read_contract
        self._is_passed = False

    def require(self, warehouse: Warehouse, store: Store) -> None:
        """Return where it was passed before, or passes now. Raises: ConfigurationError with every failure and its remedy;
        StoreRefused, StoreUnavailable where the record cannot be read.
        """
        if self._is_passed:
            return
        if store.get(self.key) is None:
            patient = Patient(self._settings, self._read_contract, warehouse, store)
            lines = tuple(examine(patient))
            for line in (line for line in lines if line.status == "warning"):
                _log.warning("preflight: %s: %s. Next step: %s", line.name, line.text, line.remedy)
            _refuse(lines)
            self.record(patient, lines)
        self._is_passed = True

    def record(self, patient: Patient, lines: Sequence[Line]) -> None:
        """Remember that these *lines*, all of the doctor's and without a failure, were passed."""
        document = {"passed_at": patient.now().isoformat(), "warnings": [line.name for line in lines if line.status == "warning"]}
        patient.store.put(self.key, json.dumps(document).encode())

    @cached_property
    def key(self) -> str:
        """The record's object in the store: another host, user, role, workspace or store has another one. Holds no secret."""
        redshift, customerio = self._settings.redshift, self._settings.customerio
        parts = [
            self._settings.store,
            *(redshift.host, redshift.port, redshift.database, redshift.auth, redshift.user, redshift.secret_id),
            *(redshift.cluster, redshift.workgroup, redshift.role, redshift.unload_to, redshift.delivery_log),
            *(customerio.site_id, customerio.region, customerio.workspace_id, customerio.track_url, customerio.app_url),
        ]
        return f"preflight/{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}.json"


def _refuse(lines: Sequence[Line]) -> None:
    failures = [line for line in lines if line.status == "failure"]
    if failures:
        texts = [f"{line.name}: {line.text.rstrip('.')}. Remedy: {line.remedy}" for line in failures]
        raise ConfigurationError(
            "\n  ".join([f"nothing was sent yet, and the preflight found {len(failures)} failures:", *texts]) + "\n",
            next_step="mend what it names, and run it again; rs-cio doctor shows every line",
        )
