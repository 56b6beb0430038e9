"""How far another clock is from this machine's, as a line.

People carry a version timestamp, the moment at which the warehouse was read: a clock that is ahead keeps a person's later changes
out for as long. An event is history for Customer.io after 72 hours (decision 8 of the design): what is held until then must not
go too early.
"""

from __future__ import annotations

from datetime import timedelta

from rs_cio_assets.doctor.lines import Line, failure, ok, warning

WARNING_FROM = timedelta(seconds=30)
FAILURE_FROM = timedelta(minutes=5)


def clock_line(name: str, ahead: timedelta, whose: str) -> Line:
    """*ahead*: by how much the other clock is before this machine's; negative where it is behind."""
    distance, seconds = abs(ahead), abs(ahead).total_seconds()
    if distance < WARNING_FROM:
        return ok(name, f"{whose} clock and this machine's agree within {WARNING_FROM.total_seconds():.0f} s")
    text = f"{whose} clock is {seconds:,.0f} s {'ahead of' if ahead > timedelta() else 'behind'} this machine's"
    remedy = "set this machine's clock by NTP (timedatectl status)"
    return failure(name, text, remedy) if distance > FAILURE_FROM else warning(name, text, remedy)
