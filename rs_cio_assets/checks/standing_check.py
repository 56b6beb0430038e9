"""Checks that stand on their own: each looks at many days at once, and is no part of any of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetKey,
    multi_asset_check,
)
from dagster._core.storage.tags import BACKFILL_ID_TAG

Look = Callable[..., AssetCheckResult]


def standing_check(
    *, asset: AssetKey, name: str, description: str, pool: str, silent_with: Collection[str] = (BACKFILL_ID_TAG,)
) -> Callable[[Look], AssetChecksDefinition]:
    """Make the decorated function a check of *asset* that looks when it is asked, by job, schedule or hand, and in no backfill.

    A backfill from the UI takes every check of its assets, also those that its job leaves out (Dagster 1.13): a year of days
    would look 365 times. In a run with one of the tags *silent_with* the check therefore ends without a word, and its latest
    word stands.
    """
    spec = AssetCheckSpec(name, asset=asset, description=description)

    def decorate(look: Look) -> AssetChecksDefinition:
        @multi_asset_check(name=spec.get_python_identifier(), specs=[spec], can_subset=True, pool=pool)
        @functools.wraps(look)
        def standing(*args: Any, **given: Any) -> Iterator[AssetCheckResult]:
            context = AssetCheckExecutionContext.get()
            if context.run.tags.keys() & set(silent_with):
                context.log.info(f"{name} stands on its own: in this run it does not look")
                return
            yield look(*args, **given)

        return standing

    return decorate
