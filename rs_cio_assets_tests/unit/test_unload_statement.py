"""UNLOAD and COPY as text: the guide's own examples, every option, and what is refused rather than passed over."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs_cio_assets.sandbox.redshift.copy import Copy, parse_copy
from rs_cio_assets.sandbox.redshift.files import ParquetFiles
from rs_cio_assets.sandbox.redshift.statement import Refusal
from rs_cio_assets.sandbox.redshift.unload import MB, Unload, parse_unload

ROLE = "arn:aws:iam::0123456789012:role/MyRedshiftRole"
USUAL = f"UNLOAD ('SELECT a FROM t') TO 's3://bucket/day/' IAM_ROLE '{ROLE}' FORMAT AS PARQUET"


def test_the_least_that_an_unload_says():
    """Query, place and role are read; what is not said is as the guide has it: in parallel, 6.2 GB a file, no manifest."""
    expected = Unload("SELECT a FROM t", "bucket", "day/", ROLE)
    assert parse_unload(USUAL) == expected
    assert parse_unload(f"unload ('SELECT a FROM t') -- the day\n TO 's3://bucket/day/' iam_role '{ROLE}' parquet;") == expected
    assert expected.max_file_bytes == 6336 * MB  # 6.2 GB, rounded down to 32 MB


# Source of the queries: AWS developer guide, UNLOAD and Unloading data to Amazon S3, read 2026-11-26.
@pytest.mark.parametrize(
    ("literal", "query"),
    [
        ("'select * from venue where venuestate=''NV'''", "select * from venue where venuestate='NV'"),
        (r"'select * from venue where venuestate=\'NV\''", "select * from venue where venuestate='NV'"),
        (r"'select ''a\\b'' as c;'", r"select 'a\b' as c"),
        ("$$select 'q' as c$$", "select 'q' as c"),
    ],
)
def test_the_query_is_a_literal_of_redshift(literal: str, query: str):
    """Doubled quotes and backslashes are undone as in every literal, so that one which is not escaped twice is noticed."""
    assert parse_unload(USUAL.replace("'SELECT a FROM t'", literal)).query == query


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("MANIFEST", {"has_manifest": True}),
        ("MANIFEST VERBOSE", {"has_manifest": True, "is_verbose": True}),
        ("PARALLEL OFF", {"is_parallel": False}),
        ("PARALLEL FALSE ALLOWOVERWRITE", {"is_parallel": False, "may_overwrite": True}),
        ("PARALLEL ON CLEANPATH", {"cleans_path": True}),
        ("MAXFILESIZE 200 MB", {"max_file_bytes": 192 * MB}),  # the guide's own example
        ("MAXFILESIZE AS 1 GB", {"max_file_bytes": 1024 * MB}),
        ("maxfilesize 64", {"max_file_bytes": 64 * MB}),
        ("MAXFILESIZE 5.5 MB", {"max_file_bytes": 32 * MB}),
        ("ROWGROUPSIZE 64 MB REGION AS 'eu-west-1'", {}),
        ("ENCRYPTED AUTO", {}),
        ("ENCRYPTED KMS_KEY_ID '1234abcd-12ab-34cd-56ef-1234567890ab'", {"kms_key_id": "1234abcd-12ab-34cd-56ef-1234567890ab"}),
        ("EXTENSION 'snappy.parquet'", {"extension": "snappy.parquet"}),
    ],
)
def test_options_are_understood(options: str, expected: dict[str, object]):
    """Each option of the guide that concerns Parquet means what the guide says."""
    assert parse_unload(f"{USUAL} {options}") == Unload("SELECT a FROM t", "bucket", "day/", ROLE, **expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sql", "code", "words"),
    [
        (USUAL.replace("FORMAT AS PARQUET", ""), "0A000", "FORMAT PARQUET"),
        (USUAL.replace("PARQUET", "CSV"), "0A000", "CSV"),
        (USUAL.replace("PARQUET", "JSON"), "0A000", "JSON"),
        (USUAL.replace(f"IAM_ROLE '{ROLE}'", ""), "42601", "IAM_ROLE"),
        (USUAL.replace("IAM_ROLE", "CREDENTIALS"), "0A000", "CREDENTIALS"),
        (f"{USUAL} PARTITION BY (a)", "0A000", "PARTITION BY"),
        (f"{USUAL} GZIP", "0A000", "GZIP"),
        (f"{USUAL} HEADER", "0A000", "HEADER"),
        (f"{USUAL} MANIFESTO", "0A000", "MANIFESTO"),
        (f"{USUAL} MANIFEST MANIFEST", "42601", "redundant"),
        (f"{USUAL} MAXFILESIZE 4 MB", "22023", "between 5 MB and 6.2 GB"),
        (f"{USUAL} MAXFILESIZE 7 GB", "22023", "between 5 MB and 6.2 GB"),
        (f"{USUAL} MAXFILESIZE 'x'", "42601", "'x'"),
        (f"{USUAL} ROWGROUPSIZE 256 MB", "22023", "between 32 MB and 128 MB"),
        (f"{USUAL} ENCRYPTED", "0A000", "KMS_KEY_ID"),
        (f"{USUAL} KMS_KEY_ID 'k'", "42601", "ENCRYPTED"),
        (f"{USUAL} ENCRYPTED AUTO KMS_KEY_ID 'k'", "42601", "AUTO"),
        (f"{USUAL} CLEANPATH ALLOWOVERWRITE", "42601", "together"),
        (f"{USUAL}; SELECT 1", "0A000", "SELECT"),
        (USUAL.replace("t')", "t LIMIT 10')"), "0A000", "Limit clause"),
        (USUAL.replace("'s3://bucket/day/'", "'day/'"), "22023", "s3://"),
        (USUAL.replace("('SELECT a FROM t')", "(SELECT a FROM t)"), "42601", "SELECT"),
        ("UNLOAD ('SELECT 1')", "42601", "end of input"),
    ],
)
def test_what_is_not_understood_is_refused(sql: str, code: str, words: str):
    """No option is passed over: each unknown, repeated, contradictory or impossible one is an error that names it."""
    with pytest.raises(Refusal) as caught:
        parse_unload(sql)
    assert caught.value.code == code
    assert words in caught.value.text


@pytest.mark.parametrize(
    "query", ["select a from (select a from t limit 10) as s", "select ''limit'' as a -- limit", 'select "limit" from t']
)
def test_a_limit_within_the_query_is_none_of_its_own(query: str):
    """A nested LIMIT is the way that the guide recommends; the word in a text, a name or a comment is none at all."""
    assert parse_unload(USUAL.replace("SELECT a FROM t", query)).query == query.replace("''", "'")


def test_files_are_named_as_the_guide_names_them():
    """Slice and part in parallel, a number in series; the manifest directly after the prefix, whatever that ends with."""
    parallel = Unload("", "mybucket", "unload/venue_pipe_", ROLE)
    assert [parallel.key(0, 0), parallel.key(3, 12)] == [
        "unload/venue_pipe_0000_part_00.parquet",
        "unload/venue_pipe_0003_part_12.parquet",
    ]
    assert parallel.manifest_key == "unload/venue_pipe_manifest"
    serial = Unload("", "mybucket", "key", ROLE, is_parallel=False)
    assert [serial.key(0, part) for part in range(3)] == ["key000.parquet", "key001.parquet", "key002.parquet"]


def test_a_copy_is_read_as_it_is_written():
    """Table, columns as written, place, role and manifest."""
    place = f"from 's3://bucket/x_manifest' iam_role '{ROLE}'"
    sql = f'copy log."Rows" (a, "B b") {place} format as parquet manifest statupdate off;'
    assert parse_copy(sql) == Copy('log."Rows"', '(a, "B b")', "bucket", "x_manifest", ROLE, has_manifest=True)
    least = parse_copy("COPY t FROM 's3://bucket/x' IAM_ROLE DEFAULT PARQUET")
    assert least == Copy("t", "", "bucket", "x", "default", has_manifest=False)


@pytest.mark.parametrize(
    ("sql", "code", "words"),
    [
        ("COPY t FROM 's3://b/x' IAM_ROLE default", "0A000", "FORMAT PARQUET"),
        ("COPY t FROM 's3://b/x' IAM_ROLE default CSV", "0A000", "CSV"),
        ("COPY t FROM 's3://b/x' PARQUET", "42601", "IAM_ROLE"),
        ("COPY t FROM 's3://b/x' IAM_ROLE default PARQUET FILLRECORD", "0A000", "FILLRECORD"),
        ("COPY t FROM 's3://b/x' IAM_ROLE default PARQUET MAXERROR 5", "0A000", "MAXERROR"),
        ("COPY t (a FROM 's3://b/x' IAM_ROLE default PARQUET", "42601", "FROM"),
        ("COPY t FROM '/a/file' IAM_ROLE default PARQUET", "22023", "s3://"),
        ("COPY t TO STDOUT", "42601", "TO"),
    ],
)
def test_what_a_copy_says_beyond_that_is_refused(sql: str, code: str, words: str):
    """No option of COPY is passed over."""
    with pytest.raises(Refusal) as caught:
        parse_copy(sql)
    assert (caught.value.code, words in caught.value.text) == (code, True)


def test_files_are_cut_at_their_size_and_hold_every_row_once():
    """A slice begins a next part where its file would grow past the size; each row is in one file, in order within a slice."""
    stored: dict[str, pa.Table] = {}
    sizes: dict[str, int] = {}

    def put(key: str, file: io.BufferedRandom) -> None:
        data = file.read()
        stored[key], sizes[key] = pq.read_table(io.BytesIO(data)), len(data)

    schema = pa.schema([("n", pa.int64())])
    unload = Unload("", "bucket", "p_", ROLE)
    files = ParquetFiles(schema, 2, 12_000, unload.key, put)
    for start in range(0, 10_000, 1000):
        files.add(pa.table({"n": range(start, start + 1000)}, schema=schema))
    written = files.close()
    assert [file.key for file in written] == sorted(stored)
    assert {key.split("_part_")[1] for key in stored} >= {"00.parquet", "01.parquet", "02.parquet"}
    assert [(file.size_bytes, file.rows) for file in written] == [
        (sizes[file.key], stored[file.key].num_rows) for file in written
    ]
    assert max(sizes.values()) <= 12_000
    rows = [row for key in sorted(stored) for row in stored[key]["n"].to_pylist()]
    assert sorted(rows) == list(range(10_000))
    assert rows[: len(rows) // 2] == sorted(rows[: len(rows) // 2])
