"""Kinds of fields that several of the contract's models have."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

SnakeName = Annotated[str, StringConstraints(min_length=1, pattern=r"^[a-z_][a-z0-9_]*$")]
# What Dagster accepts as an owner (is_valid_owner, 1.13.27); it would refuse another without naming the file.
Owner = Annotated[str, StringConstraints(pattern=r"^(team:[A-Za-z0-9_-]+|[A-Za-z0-9_.+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)$")]


class Strict(BaseModel):
    """A frozen model that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
