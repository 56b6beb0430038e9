"""Operations to bodies: every one once and in order, whatever the batches; halves of any body are bodies; ids are ULIDs."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_cio_assets.customerio import BATCH_BYTES, OPERATION_BYTES
from rs_cio_assets.delivery.expressions import ULID_HEAD, ULID_LENGTH
from rs_cio_assets.delivery.packing import HEAD, KEPT, TAIL, Body, pack, ulids

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def key_of(number: int) -> str:
    """The row key of an operation."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def operation_of(number: int, text: str, *, has_id: bool = False) -> str:
    """An operation as the engine encodes it: JSON with a comma after it."""
    head = f'{ULID_HEAD}{"0" * ULID_LENGTH}","n":{number},"text":' if has_id else f'{{"n":{number},"text":'
    return f"{head}{json.dumps(text, ensure_ascii=False)}}},"


def batch_of(operations: Sequence[str], first: int = 0) -> pa.RecordBatch:
    """A record batch as the classifier streams them."""
    numbers = range(first, first + len(operations))
    columns = {
        "row_key": pa.array(map(key_of, numbers), pa.string()),
        "content_hash": pa.array([f"c{n}" for n in numbers], pa.string()),
        "source_hash": pa.array(numbers, pa.uint64()),
        "occurred_us": pa.array([n * 10 for n in numbers], pa.int64()),
        "pos": pa.array(numbers, pa.int64()),
        "operation": pa.array(operations, pa.string()),
        "code": pa.array([0] * len(operations), pa.int16()),
    }
    return pa.record_batch(columns)


def batches_of(operations: Sequence[str], cuts: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """The same operations in batches that end at *cuts*; some of them slices of larger ones, some empty."""
    whole = batch_of(operations)
    edges = [0, *sorted(cut % (len(operations) + 1) for cut in cuts), len(operations)]
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        yield whole.slice(start, end - start) if number % 2 else batch_of(operations[start:end], start)


def check(body: Body) -> list[int]:
    """The numbers of a body's operations; its bytes, rows and ends agree with each other."""
    parts = json.loads(body.data)["batch"]
    numbers = [part["n"] for part in parts]
    assert body.data.startswith(HEAD)
    assert body.data.endswith(TAIL)
    assert set(body.rows.column_names) == set(KEPT)
    assert body.rows["pos"].to_pylist() == numbers
    assert body.rows["row_key"].to_pylist() == [key_of(number) for number in numbers]
    assert len(body.ends) == len(numbers)
    starts = [len(HEAD), *body.ends[:-1].tolist()]
    ends = [*(body.ends[:-1] - 1).tolist(), len(body.data) - len(TAIL)]
    assert [json.loads(body.data[start:end])["n"] for start, end in zip(starts, ends, strict=True)] == numbers
    return numbers


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=120)
@given(
    drawn=st.lists(texts, max_size=40),
    cuts=st.lists(st.integers(0, 1_000), max_size=6),
    room=st.integers(400, 2_000),
    has_ulids=st.booleans(),
)
def test_any_batches_give_the_same_bodies(drawn: list[str], cuts: list[int], room: int, has_ulids: bool):
    """Every operation is in one body, in order, within the limit; where the batches are cut changes nothing at all."""
    operations = [operation_of(number, text, has_id=has_ulids) for number, text in enumerate(drawn)]
    bodies = list(pack(batches_of(operations, cuts), room, has_ulids=has_ulids))
    assert [number for body in bodies for number in check(body)] == list(range(len(drawn)))
    assert all(len(body.data) <= room for body in bodies)
    uncut = list(pack([batch_of(operations)], room, has_ulids=has_ulids))
    assert [body.data for body in bodies] == [body.data for body in uncut]
    assert [text for body in bodies for text in (part["text"] for part in json.loads(body.data)["batch"])] == drawn
    # As full as the order allows: the first operation of the next body had no room.
    for body, after in itertools.pairwise(bodies):
        first = after.ends[0] - len(HEAD) - 1 if after.rows.num_rows > 1 else len(after.data) - len(HEAD) - len(TAIL)
        assert len(body.data) + 1 + first > room


@settings(max_examples=60)
@given(drawn=st.lists(texts, min_size=1, max_size=20))
def test_halves_down_to_one_row_are_bodies_and_lose_nothing(drawn: list[str]):
    """SZ1: a server that takes one operation at a time gets each, in order, with its own row and its own id."""
    operations = [operation_of(number, text, has_id=True) for number, text in enumerate(drawn)]
    (body,) = pack([batch_of(operations)], 10**6, has_ulids=True)

    def singles(whole: Body) -> list[Body]:
        if whole.rows.num_rows == 1:
            return [whole]
        first, second = whole.halves()
        assert first.rows.num_rows + second.rows.num_rows == whole.rows.num_rows
        assert min(first.rows.num_rows, second.rows.num_rows) >= whole.rows.num_rows // 2
        assert check(first) + check(second) == check(whole)
        return singles(first) + singles(second)

    parts = singles(body)
    assert [check(part) for part in parts] == [[number] for number in range(len(drawn))]
    ids = [json.loads(part.data)["batch"][0]["id"] for part in parts]
    assert ids == [plain_ulid(key_of(number)) for number in range(len(drawn))]


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_the_limit_is_met_to_the_byte(spare: int):
    """Two operations that fill a body exactly share it; one byte less room, and each has its own."""
    operations = [operation_of(0, "a" * 50), operation_of(1, "é" * 25)]
    exact = len(HEAD) + len("".join(operations).encode()) - 1 + len(TAIL)
    bodies = list(pack([batch_of(operations)], exact + spare, has_ulids=False))
    assert [check(body) for body in bodies] == ([[0], [1]] if spare < 0 else [[0, 1]])


def test_the_largest_operations_fill_bodies_of_the_real_size():
    """SZ1: operations of 32,000 bytes go fourteen to a request of at most 475,000."""
    text = "x" * (OPERATION_BYTES - len(operation_of(10, "")) + 1)
    bodies = list(pack([batch_of([operation_of(number + 10, text) for number in range(30)], 10)], BATCH_BYTES, has_ulids=False))
    assert [body.rows.num_rows for body in bodies] == [14, 14, 2]
    assert max(len(body.data) for body in bodies) <= BATCH_BYTES


@pytest.mark.parametrize("batches", [[], [batch_of([])], [batch_of([]), batch_of([])]])
def test_nothing_to_send_is_no_body(batches: list[pa.RecordBatch]):
    """An empty day makes no request."""
    assert list(pack(batches, BATCH_BYTES, has_ulids=True)) == []


def plain_ulid(digits: str) -> str:
    """The event id of a row key, from its description alone."""
    parts = ((digits[30:], 2), (digits[:15], 12), (digits[15:30], 12))
    return "".join(CROCKFORD[int(part, 16) >> 5 * n & 31] for part, width in parts for n in reversed(range(width)))


@settings(max_examples=100)
@given(keys=st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=20), skipped=st.integers(0, 3))
def test_ulids_are_the_row_keys_in_another_form(keys: list[int], skipped: int):
    """All 128 bits count and no two keys share an id; the first digit is at most 7, as Customer.io wants it."""
    digits = [f"{key:032x}" for key in (0, 2**128 - 1, *keys)]
    skipped = min(skipped, len(digits) - 1)
    made = ulids(pa.array(["f" * 32] * skipped + digits, pa.string()).slice(skipped))
    assert made.shape == (len(digits), ULID_LENGTH)
    assert made.dtype == np.uint8
    found = [bytes(row).decode() for row in made]
    assert found == [plain_ulid(text) for text in digits]
    assert len(set(found)) == len(set(digits))
    assert max(text[0] for text in found) <= "7"
