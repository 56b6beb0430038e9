"""Operations to request bodies, by offsets: a few steps per body, none per operation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rs_cio_assets.delivery.expressions import ULID_HEAD, ULID_LENGTH

HEAD, TAIL = b'{"batch":[', b"]}"
KEPT = ("row_key", "content_hash", "source_hash", "occurred_us", "pos")
_CROCKFORD = np.frombuffer(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", np.uint8)
_HEX_DIGIT = np.zeros(256, np.uint8)
_HEX_DIGIT[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)
_BASE_32 = str.maketrans(bytes(_CROCKFORD).decode(), "0123456789abcdefghijklmnopqrstuv")  # as int() reads it
_IS_ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")


@dataclass(frozen=True)
class Body:
    """One request: its bytes, the rows (KEPT) of its operations in their order, and where in the bytes each ends."""

    data: bytes
    rows: pa.Table
    ends: np.ndarray

    def halves(self) -> tuple[Body, Body]:
        """The same operations in two bodies, for a server that finds this one too large."""
        middle = self.rows.num_rows // 2
        cut = int(self.ends[middle - 1])
        return (
            Body(self.data[: cut - 1] + TAIL, self.rows.slice(0, middle), self.ends[:middle]),
            Body(HEAD + self.data[cut:], self.rows.slice(middle), self.ends[middle:] - cut + len(HEAD)),
        )


def pack(batches: Iterable[pa.RecordBatch], batch_bytes: int, *, has_ulids: bool) -> Iterator[Body]:
    """Bodies of at most *batch_bytes*, each as full as the order of operations allows.

    *batches* have the columns KEPT and operation; an operation is JSON followed by a comma and is smaller than a body. With
    *has_ulids* each begins with an id of zeros, which becomes the ULID of its row key. Guarantees: every operation is in
    exactly one body, in order.
    """
    room = batch_bytes - len(HEAD) - len(TAIL)
    data: list[memoryview] = []
    rows: list[pa.RecordBatch] = []
    ends: list[np.ndarray] = []
    size = 0
    for batch in batches:
        content, offsets = _bytes_of(batch.column("operation"))
        if has_ulids:
            places = offsets[:-1, None] + np.arange(len(ULID_HEAD), len(ULID_HEAD) + ULID_LENGTH)
            content[places] = ulids(batch.column("row_key"))
        view, keys = content.data, batch.select(KEPT)
        start, count = 0, batch.num_rows
        while start < count:
            # The last comma of a body is dropped, so it may reach one byte further.
            end = int(np.searchsorted(offsets, offsets[start] + room - size + 1, side="right")) - 1
            if end > start:
                data.append(view[offsets[start] : offsets[end]])
                rows.append(keys.slice(start, end - start))
                ends.append(offsets[start + 1 : end + 1] - offsets[start] + size + len(HEAD))
                size += int(offsets[end] - offsets[start])
                start = end
            if start < count:
                yield _body(data, rows, ends)
                data, rows, ends, size = [], [], [], 0
    if rows:
        yield _body(data, rows, ends)


def ulids(row_keys: pa.Array) -> np.ndarray:
    """The event ids of row keys (32 hex digits each), as bytes of shape (rows, 26): the same 128 bits in ULID form.

    Customer.io takes ids of ULID shape only and does not read the time in them (customerio-api.md, S15).
    """
    content, _ = _bytes_of(row_keys)
    digits = _HEX_DIGIT[content.reshape(-1, 32)]
    halves = (digits[:, ::2] << 4 | digits[:, 1::2]).view(">u8").astype(np.uint64)
    first, last = halves[:, 0], halves[:, 1]
    # The last 8 bits become 2 digits of base 32 (the first at most 7), the others twice 12 of 60 bits.
    numbers = ((last & np.uint64(0xFF), 2), (first >> np.uint64(4), 12), (first << np.uint64(56) | last >> np.uint64(8), 12))
    made = np.empty((len(content) // 32, ULID_LENGTH), np.uint8)
    place = 0
    for number, width in numbers:
        for shift in range(5 * width - 5, -1, -5):
            made[:, place] = _CROCKFORD[(number >> np.uint64(shift)) & np.uint64(31)]
            place += 1
    return made


def row_key_of(event_id: str) -> str | None:
    """The row key whose ULID is *event_id*, the reverse of `ulids`; None for what is no ULID."""
    ulid = event_id.upper()
    if not _IS_ULID.fullmatch(ulid):
        return None
    digits = f"{int(ulid.translate(_BASE_32), 32):032x}"
    return digits[2:] + digits[:2]  # the key's last 8 bits stand first


def _bytes_of(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """A writable copy of the bytes of all *texts* (none is null), and the offsets of each text in it."""
    column = texts.cast(pa.large_binary())
    _, offsets_buffer, data = column.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[column.offset : column.offset + len(column) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    content = np.frombuffer(data, np.uint8)[first:last].copy() if data is not None else np.empty(0, np.uint8)
    return content, offsets - first


def _body(data: list[memoryview], rows: list[pa.RecordBatch], ends: list[np.ndarray]) -> Body:
    joined = b"".join([HEAD, *data[:-1], data[-1][:-1], TAIL])
    return Body(joined, pa.Table.from_batches(rows), np.concatenate(ends))
