"""Operations to request bodies, by offsets: one step per body, none per operation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

HEAD, TAIL = b'{"batch":[', b"]}"


@dataclass(frozen=True)
class Body:
    """One request: its bytes, and the rows (row_key, content_hash, pos) of its operations in their order."""

    data: bytes
    rows: pa.Table


def pack(batches: Iterable[pa.RecordBatch], batch_bytes: int) -> Iterator[Body]:
    """Bodies of at most *batch_bytes*, each as full as the order of operations allows.

    *batches* have the columns row_key, content_hash, pos and operation; an operation is JSON followed by a comma and is
    smaller than a body. Guarantees: every operation is in exactly one body, in order.
    """
    room = batch_bytes - len(HEAD) - len(TAIL)
    data: list[bytes] = []
    rows: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        text = batch.column("operation").cast(pa.large_binary())
        offsets = np.frombuffer(text.buffers()[1], np.int64)[text.offset : text.offset + len(text) + 1]
        keys = batch.select(["row_key", "content_hash", "pos"])
        content = memoryview(text.buffers()[2]) if text.buffers()[2] else memoryview(b"")
        start = 0
        while start < len(text):
            # The last comma of a body is dropped, so it may reach one byte further.
            end = int(np.searchsorted(offsets, offsets[start] + room - size + 1, side="right")) - 1
            if end > start:
                data.append(bytes(content[offsets[start] : offsets[end]]))
                rows.append(keys.slice(start, end - start))
                size += int(offsets[end] - offsets[start])
                start = end
            if start < len(text):
                yield _body(data, rows)
                data, rows, size = [], [], 0
    if rows:
        yield _body(data, rows)


def _body(data: list[bytes], rows: list[pa.RecordBatch]) -> Body:
    return Body(HEAD + b"".join(data)[:-1] + TAIL, pa.Table.from_batches(rows))
