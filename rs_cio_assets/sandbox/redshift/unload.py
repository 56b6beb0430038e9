"""UNLOAD as written -> what is asked for. Every word is understood or refused; none is passed over.

Source: AWS Redshift developer guide, UNLOAD (r_UNLOAD), read 2026-11-26.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rs_cio_assets.sandbox.redshift import dialect
from rs_cio_assets.sandbox.redshift.statement import Refusal, Statement, not_emulated, place, role_of

MB = 1024 * 1024
ROW_GROUP_MB = 32  # MAXFILESIZE is rounded down to a multiple of it
SMALLEST_FILE_MB, LARGEST_FILE_MB = 5.0, 6.2 * 1024
_LIMIT = re.compile(r"[()]|\bLIMIT\b", re.IGNORECASE)


@dataclass(frozen=True)
class Unload:
    """*query* goes to objects of *bucket* whose keys begin with *prefix*, as Parquet; *max_file_bytes* is a multiple of 32 MB."""

    query: str
    bucket: str
    prefix: str
    role: str
    has_manifest: bool = False
    is_verbose: bool = False
    is_parallel: bool = True
    max_file_bytes: int = int(LARGEST_FILE_MB // ROW_GROUP_MB * ROW_GROUP_MB) * MB
    kms_key_id: str | None = None
    may_overwrite: bool = False
    cleans_path: bool = False
    extension: str = "parquet"

    def key(self, slice_number: int, part: int) -> str:
        """The key of a file: `<prefix><slice>_part_<part>.parquet`, or `<prefix><part>.parquet` with PARALLEL OFF."""
        name = f"{slice_number:04d}_part_{part:02d}" if self.is_parallel else f"{part:03d}"
        return f"{self.prefix}{name}.{self.extension}"

    @property
    def manifest_key(self) -> str:
        """The key of the manifest; nothing is put between prefix and name."""
        return f"{self.prefix}manifest"


def parse_unload(sql: str) -> Unload:
    """The UNLOAD in *sql*. Raises: Refusal as Redshift words it, or where this stand-in does not emulate an option."""
    statement = Statement(sql)
    statement.expect("UNLOAD", "(")
    query = statement.string().strip().rstrip(";")
    statement.expect(")", "TO")
    bucket, prefix = place(statement.string())
    given: dict[str, Any] = {}
    while not statement.is_at_end:
        for name, value in _option(statement).items():
            if name in given:
                raise Refusal("conflicting or redundant options", "42601")
            given[name] = value
    _require_sense(query, given)
    return Unload(query, bucket, prefix, **{name: value for name, value in given.items() if name not in _WITHOUT_EFFECT})


# Checked, and without effect on what the stand-in writes.
_WITHOUT_EFFECT = frozenset({"format", "is_encrypted", "is_auto", "row_group_mb", "region"})


def _option(statement: Statement) -> dict[str, Any]:
    """The option that comes next."""
    for word, read in _OPTIONS.items():
        if statement.has(word):
            return read(statement)
    raise not_emulated("UNLOAD", statement)


def _parallel(statement: Statement) -> dict[str, Any]:
    is_off = statement.has("OFF") or statement.has("FALSE")
    _ = is_off or statement.has("ON") or statement.has("TRUE")
    return {"is_parallel": not is_off}


def _format(statement: Statement) -> dict[str, Any]:
    if not _after_as(statement).has("PARQUET"):
        raise not_emulated("UNLOAD", statement)
    return {"format": "PARQUET"}


_OPTIONS: Mapping[str, Callable[[Statement], dict[str, Any]]] = {
    "IAM_ROLE": lambda s: {"role": role_of(s)},
    "FORMAT": _format,
    "PARQUET": lambda _: {"format": "PARQUET"},
    "MANIFEST": lambda s: {"has_manifest": True, "is_verbose": s.has("VERBOSE")},
    "MAXFILESIZE": lambda s: {"max_file_bytes": _file_bytes(_megabytes(s))},
    "ROWGROUPSIZE": lambda s: {"row_group_mb": _row_group_mb(_megabytes(s))},
    "PARALLEL": _parallel,
    "ENCRYPTED": lambda s: {"is_encrypted": True, "is_auto": s.has("AUTO")},
    "KMS_KEY_ID": lambda s: {"kms_key_id": s.string()},
    "ALLOWOVERWRITE": lambda _: {"may_overwrite": True},
    "CLEANPATH": lambda _: {"cleans_path": True},
    "REGION": lambda s: {"region": _after_as(s).string()},
    "EXTENSION": lambda s: {"extension": s.string().removeprefix(".")},
}


def _require_sense(query: str, given: Mapping[str, Any]) -> None:
    if "role" not in given:
        raise Refusal("UNLOAD requires IAM_ROLE or credentials", "42601")
    if "format" not in given:
        raise Refusal("UNLOAD without FORMAT PARQUET is not supported by the Redshift stand-in", "0A000")
    if "kms_key_id" in given and (not given.get("is_encrypted") or given.get("is_auto")):
        raise Refusal("KMS_KEY_ID needs ENCRYPTED without AUTO", "42601")
    if given.get("is_encrypted") and not given.get("is_auto") and "kms_key_id" not in given:
        raise Refusal("ENCRYPTED with PARQUET needs KMS_KEY_ID", "0A000")
    if given.get("cleans_path") and given.get("may_overwrite"):
        raise Refusal("CLEANPATH and ALLOWOVERWRITE cannot be specified together", "42601")
    depth = 0
    for found in _LIMIT.finditer(dialect.mask(query)):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth == 0 and found[0].upper() == "LIMIT":
            raise Refusal("Limit clause is not supported", "0A000")


def _after_as(statement: Statement) -> Statement:
    statement.has("AS")
    return statement


def _megabytes(statement: Statement) -> float:
    size = _after_as(statement).number()
    if statement.has("GB"):
        return size * 1024
    statement.has("MB")
    return size


def _file_bytes(megabytes: float) -> int:
    if not SMALLEST_FILE_MB <= megabytes <= LARGEST_FILE_MB:
        raise Refusal("MAXFILESIZE must be between 5 MB and 6.2 GB", "22023")
    # What becomes of less than one row group is not documented; here it is one.
    return max(1, int(megabytes // ROW_GROUP_MB)) * ROW_GROUP_MB * MB


def _row_group_mb(megabytes: float) -> int:
    if not ROW_GROUP_MB <= megabytes <= 4 * ROW_GROUP_MB or megabytes % 1:
        raise Refusal("ROWGROUPSIZE must be between 32 MB and 128 MB", "22023")
    return int(megabytes)
