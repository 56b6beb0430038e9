"""What must be in order before rows are sent: a line for each thing, with its remedy; the preflight; grants for the contract."""

from rs_cio_assets.doctor.examination import LOOKS, examine
from rs_cio_assets.doctor.grants import grant_statements, script
from rs_cio_assets.doctor.lines import Line, Status, failed, failure, worst
from rs_cio_assets.doctor.patient import Patient
from rs_cio_assets.doctor.policies import process_policy, role_policy, trust_policy
from rs_cio_assets.doctor.preflight import Preflight

__all__ = [
    "LOOKS",
    "Line",
    "Patient",
    "Preflight",
    "Status",
    "examine",
    "failed",
    "failure",
    "grant_statements",
    "process_policy",
    "role_policy",
    "script",
    "trust_policy",
    "worst",
]
