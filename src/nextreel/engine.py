"""The one place that knows which engine runs the tables: DuckDB, embedded, streaming, spilling to disk."""

import errno
import os
import re
import sys
import weakref
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, TypeAlias

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend
from pydantic import Field

from nextreel.errors import UserError
from nextreel.files import replacing, working_folder
from nextreel.params import Section

ROW_GROUP = 122_880  # DuckDB's own default
# Level 1 takes two thirds of the time of the default, 3, and saves as much on such tables. Version 2 packs integers by
# their differences: tables are written a sixth and read twice as fast.
_PARQUET = {"compression": "zstd", "compression_level": 1, "parquet_version": "V2", "row_group_size": ROW_GROUP}


Connection: TypeAlias = Backend  # what the rest of the house calls it


class Params(Section):
    # For tables; more spills to disk.
    memory_limit: Annotated[
        str, Field(pattern=r"^\d{1,5}(\.\d{1,5})? ?[KMGT]i?B$", description="a number with its unit, such as 4GB")
    ]


def connect(params: Params, threads: int, scratch: Path) -> Connection:
    """A fresh engine. Same threads, same bytes out. Its own tables lie compressed in a folder of its own in `scratch`,
    so that memory holds only what is being worked on. The folder goes with the engine; if the process is killed, when
    the next engine comes."""
    held = ExitStack()
    folder = held.enter_context(working_folder(scratch, "engine"))
    con = ibis.duckdb.connect(
        str(folder / "tables.duckdb"), threads=threads, memory_limit=params.memory_limit, temp_directory=str(folder)
    )
    held.callback(con.con.interrupt)  # else a query that Ctrl-C has left in a thread is waited for at the exit
    weakref.finalize(con, held.close)
    con.raw_sql("SET TimeZone = 'UTC'")  # of times that name no zone, wherever the machine stands
    if sys.stdout.isatty():  # a long query shows how far it is, and the time left
        con.raw_sql("SET enable_progress_bar = true; SET progress_bar_time = 10_000")
    return con


def scratch(con: Connection) -> Path:
    """A folder for what need not outlive the process."""
    return Path(con.raw_sql("SELECT current_setting('temp_directory')").fetchone()[0])


def plain(path: Path) -> str:
    """A path of which nothing is a pattern: DuckDB looks for files that match it, and takes the one of that very name
    only where none does. Raises UserError where that cannot be said."""
    name = str(path.absolute())
    if "\\" in name and any(mark in name for mark in "*?["):  # it parts a pattern like a slash
        raise UserError(f"{path}: a backslash beside one of * ? [ in a path cannot be read; rename the file or folder")
    return re.sub(r"[*?[]", r"[\g<0>]", name)


def parquet(paths: Iterable[Path], options: str = "") -> str:
    """Parquet files as one source in SQL. Nothing of a path is data: DuckDB would make `key=value` in it a column."""
    quoted = ", ".join("'" + plain(path).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{quoted}], hive_partitioning=false{options})"


def read(con: Connection, path: Path) -> ir.Table:
    """A table written by `write` or `arrays`, read lazily. A table may be a file or a folder of files."""
    if not path.exists():  # DuckDB would take its name for a pattern then
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    files = sorted(file for file in path.iterdir() if file.suffix == ".parquet") if path.is_dir() else [path]
    return con.read_parquet([plain(file) for file in files], hive_partitioning=False)


def write(con: Connection, table: ir.Table, path: Path, order: Sequence[str]) -> None:
    """Stream a table to Parquet, its rows in a total `order`, since row order is part of the bytes."""
    with replacing(path) as temporary:
        con.to_parquet(table.order_by(*order), str(temporary), **_PARQUET)
