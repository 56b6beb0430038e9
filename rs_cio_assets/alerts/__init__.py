"""Which problems are told now, in which words, and to whom. No Dagster here: what is wrong is collected in `automation`."""

from rs_cio_assets.alerts.notifier import Notices, Receiver, notify, receivers_for
from rs_cio_assets.alerts.problems import Kind, Moment, Problem

__all__ = ["Kind", "Moment", "Notices", "Problem", "Receiver", "notify", "receivers_for"]
