"""Our errors to Dagster's: the one place that decides what is retried.

A transient error asks for a retry of the day, in minutes. Everything else of ours fails the step at once, with the next step
an operator should take. Retrying one request, in seconds, is the HTTP client's job; a dead process is the daemon's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import Failure, MetadataValue, RetryRequested

from rs_cio_assets.errors import RsCioError, TransientError

RETRIES_PER_DAY = 2
RETRY_WAIT_S = 60.0
LONGEST_RETRY_WAIT_S = 900.0


@contextmanager
def failing_clearly(feed: str | None = None, day: str | None = None) -> Iterator[None]:
    """Turn our errors inside the block into a Dagster retry or failure that names *feed*, *day* (where given) and the next step.

    The original exception is not chained: a driver's own text may quote a row's values.

    Raises: RetryRequested for a TransientError, Failure for any other RsCioError.
    """
    try:
        yield
    except TransientError as error:
        _place(error, feed, day)
        wait_s = min(error.retry_after_s or RETRY_WAIT_S, LONGEST_RETRY_WAIT_S)
        raise RetryRequested(max_retries=RETRIES_PER_DAY, seconds_to_wait=wait_s) from _as_failure(error)
    except RsCioError as error:
        raise _as_failure(_place(error, feed, day)) from None


def _place(error: RsCioError, feed: str | None, day: str | None) -> RsCioError:
    return error.at(feed, day) if feed else error


def _as_failure(error: RsCioError) -> Failure:
    return Failure(
        description=str(error),
        metadata={
            "problem": MetadataValue.text(error.problem),
            "next step": MetadataValue.text(error.next_step or "see the run's log"),
            "kind of error": MetadataValue.text(type(error).__name__),
        },
        allow_retries=False,
    )
