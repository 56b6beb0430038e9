"""The DuckDB that works on one day: bounded memory, spilling to the scratch folder, and errors that name no value."""

from __future__ import annotations

import atexit
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TypeVar
from uuid import uuid4

import duckdb

from rs_cio_assets.errors import MismatchError, StoreRefused

_Result = TypeVar("_Result")
ENDING_S = 1.0  # for an interrupted statement to end
MEMORY_LIMIT = "192MB"
THREADS = 2
STREAM_BYTES = "16MB"  # encoded rows that wait to be fetched, so that encoding goes on meanwhile


@cache
def _instance() -> duckdb.DuckDBPyConnection:
    """One DuckDB for the process: starting one takes longer than a small day's work."""
    folder = tempfile.TemporaryDirectory(prefix="rs-cio-duckdb-")
    atexit.register(folder.cleanup)
    config = {"memory_limit": MEMORY_LIMIT, "threads": THREADS, "temp_directory": folder.name}
    instance = duckdb.connect(":memory:", config=config)
    # Within a day the order of rows means nothing; keeping it would cost a tenth of the speed, and memory.
    instance.execute("SET GLOBAL preserve_insertion_order = false")
    return instance


@contextmanager
def open_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A private in-memory database for the block. All of a process share the memory, and the folder that they spill to.

    Raises: StoreRefused when the temporary folder is full or memory runs out, MismatchError when staged files cannot be read.
    """
    name = f"day_{uuid4().hex}"
    with _instance().cursor() as database:
        database.execute(f"ATTACH ':memory:' AS {name}")
        database.execute(f"USE {name}")
        database.execute("SET enable_progress_bar = false")  # it would print into the run's output
        database.execute(f"SET streaming_buffer_size = '{STREAM_BYTES}'")
        try:
            yield database
        except (duckdb.OutOfMemoryException, duckdb.IOException, OSError) as error:
            if isinstance(error, OSError) and "Out of Memory" not in str(error):  # any error of DuckDB's, from an Arrow reader
                raise _unreadable(error) from None
            raise StoreRefused(
                f"the day does not fit into {MEMORY_LIMIT} of memory and the temporary folder ({type(error).__name__})",
                next_step="free space in the temporary folder (TMPDIR) and run it again",
            ) from None
        except duckdb.Error as error:
            raise _unreadable(error) from None
        finally:
            with suppress(duckdb.Error):  # a statement that is being interrupted still holds it
                database.execute("USE memory")
                database.execute(f"DETACH {name}")


def _unreadable(error: Exception) -> MismatchError:
    # DuckDB's own text may quote a row's value.
    return MismatchError(
        f"the staged rows cannot be read as the contract says ({type(error).__name__})",
        next_step="run the export of that day again",
    )


def interruptibly(database: duckdb.DuckDBPyConnection, call: Callable[[], _Result]) -> _Result:
    """What *call*, which works with *database*, returns; Ctrl-C ends it at once.

    DuckDB does not look for signals while a statement runs, and Python handles them in the main thread only: so another thread
    runs the statement, and this one waits.
    """
    outcome: list[_Result | BaseException] = []
    is_done = threading.Event()  # after an interrupted join, Python 3.11 takes a thread for ended

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, which raises it
            outcome.append(error)
        finally:
            is_done.set()

    threading.Thread(target=run, name="duckdb", daemon=True).start()
    try:
        is_done.wait()
    except BaseException:
        database.interrupt()
        is_done.wait(ENDING_S)
        raise
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result
