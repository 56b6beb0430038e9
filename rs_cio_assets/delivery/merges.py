"""The order of merges: Customer.io promises none within a request or between requests, so who waits for whom is ours to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa


def in_waves(people: Mapping[int, tuple[str, str]], batches: Sequence[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """*batches* in waves: no person stands twice in one, and each merge comes after the earlier ones of its two people.

    *people* are those of each row by its pos, in the order of the merges' times. A wave is sent when the one before is
    acknowledged.
    """
    wanted = {pos for batch in batches for pos in batch["pos"].to_pylist()}
    last_wave: dict[str, int] = {}
    waves: dict[int, int] = {}
    for pos, pair in people.items():
        if pos in wanted:
            waves[pos] = 1 + max(last_wave.get(person, -1) for person in pair)
            last_wave.update(dict.fromkeys(pair, waves[pos]))
    for wave in sorted(set(waves.values())):
        members = np.array([pos for pos, number in waves.items() if number == wave])
        yield [batch.filter(pa.array(np.isin(batch["pos"].to_numpy(), members))) for batch in batches]
