"""The one place that knows which engine runs the tables: DuckDB, embedded, streaming, spilling to disk."""

import atexit
import csv
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import duckdb
import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend
from pydantic import Field

from nextreel.errors import UserError
from nextreel.files import replacing
from nextreel.params import Section

ROW_GROUP = 122_880  # DuckDB's own default


Connection: TypeAlias = Backend  # what the rest of the house calls it


class Params(Section):
    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?[KMGT]i?B$")]  # for tables; more spills to disk


def connect(params: Params, threads: int) -> Connection:
    """A fresh engine. Same threads, same bytes out."""
    spill = tempfile.mkdtemp(prefix="nextreel-")
    atexit.register(shutil.rmtree, spill, ignore_errors=True)
    return ibis.duckdb.connect(threads=threads, memory_limit=params.memory_limit, temp_directory=spill)


def read(con: Connection, path: Path) -> ir.Table:
    """A table written by `write` or `Writer`, read lazily. A table may be a file or a folder of files."""
    return con.read_parquet(str(path / "*.parquet" if path.is_dir() else path))


def write(con: Connection, table: ir.Table, path: Path, order: Sequence[str]) -> None:
    """Stream a table to Parquet, its rows in a total `order`, since row order is part of the bytes."""
    with replacing(path) as temporary:
        con.to_parquet(table.order_by(*order), str(temporary), compression="zstd", row_group_size=ROW_GROUP)


def write_arrays(columns: Mapping[str, np.ndarray], path: Path) -> None:
    """Write equally long numpy arrays as the columns of a table."""
    with Writer(path) as writer:
        writer.add(columns)


class Writer:
    """A table written batch by batch from numpy columns, whole or absent.

    Used as a context manager; every batch has the same columns and types. At least one batch, empty or not.
    """

    def __init__(self, path: Path) -> None:
        self._replacing = replacing(path)

    def __enter__(self) -> "Writer":
        self._temporary = self._replacing.__enter__()
        self._file: pq.ParquetWriter | None = None
        return self

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        batch = pa.table(dict(columns))
        if self._file is None:
            self._file = pq.ParquetWriter(self._temporary, batch.schema, compression="zstd")
        self._file.write_table(batch)

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
        self._replacing.__exit__(*error)  # type: ignore[arg-type]


def load(
    path: Path, where: list[tuple[str, str, object]] | None = None, columns: list[str] | None = None
) -> dict[str, np.ndarray]:
    """A table that fits in memory as numpy columns, in its own row order; lists of one length become 2-D.

    `where` keeps the rows that satisfy all of its comparisons, such as ("rank", "<=", 10).
    """
    table = pq.read_table(path, filters=where, columns=columns)
    return {name: _numpy(table[name].combine_chunks()) for name in table.column_names}


def _numpy(column: pa.Array) -> np.ndarray:
    if not pa.types.is_list(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(column), -1 if len(column) else 0))


@dataclass(frozen=True)
class Scan:
    """One CSV file, read once: `table` has its columns and `row`, 1 for the first data row kept."""

    path: Path
    table: ir.Table
    n_lines: int  # data lines in the file
    rejected: dict[int, str]  # line number in the file, in order -> why the reader could not parse it

    def line_of(self, row: int) -> int:
        """The line in the file of a kept row."""
        line = row + 1
        for rejected in self.rejected:
            line += rejected <= line
        return line


def scan_csv(con: Connection, path: Path, types: Mapping[str, str], has_text: bool) -> Scan:
    """Read the columns named in `types` from a CSV file, by name, in one physical scan.

    Quotes are understood where the file `has_text` or quotes its header; elsewhere they are no part of a number, and
    a stray one spoils its own line only.

    Lines that do not parse are set aside in `rejected`. A float in an integer column would be rounded without a word,
    so declare numbers DOUBLE and check them afterwards.

    Raises UserError where the file is empty, compressed, has duplicate or missing columns, or where lines are lost
    (a stray quote can swallow many).
    """
    check_header(path, types)
    quote = '"' if has_text else _quote(path)
    name = f"csv_{len(con.list_tables())}"
    header = ", ".join(f"{_text(c)}: {_text(t)}" for c, t in types.items())
    columns = ", ".join(f'"{c}"' for c in types)
    query = (
        f"CREATE TEMP TABLE {name} AS SELECT {columns}, row_number() OVER () AS row FROM read_csv({_text(str(path))},"
        f" header=true, delim=',', quote={_text(quote)}, escape={_text(quote)}, types={{{header}}}, store_rejects=true,"
        f" rejects_table='{name}_errors', rejects_scan='{name}_scans', rejects_limit=0, null_padding=false)"
    )
    try:
        con.raw_sql(query)
    except duckdb.Error as error:
        raise _unreadable(path, error) from None
    found = con.raw_sql(f"SELECT line, first(error_message) FROM {name}_errors GROUP BY line ORDER BY line").fetchall()
    rejected = {int(line): str(message).splitlines()[0] for line, message in found}
    table = con.table(name)
    n_lines, n_kept = _count_lines(path) - 1, table.count().execute()
    if n_kept + len(rejected) != n_lines:
        raise UserError(
            f"{path}: {n_lines} data lines, but {n_kept} were read and {len(rejected)} rejected; a stray quote or a"
            " blank line makes the rest uncertain. Find and mend it, then run again"
        )
    return Scan(path, table, n_lines, rejected)


def check_header(path: Path, columns: Iterable[str]) -> None:
    """Raise UserError where a CSV file is empty, compressed, or lacks one of `columns` or has one twice."""
    with path.open("rb") as file:
        start = file.readline()
    if start.startswith(b"\x1f\x8b"):
        raise UserError(f"{path} is gzip-compressed although its name ends in .csv; decompress it first (gunzip)")
    if not start.strip():
        raise UserError(f"{path} is empty; a header line and data rows are expected")
    header: Sequence[str] = next(csv.reader([start.decode("utf-8-sig", errors="replace").strip()]))
    twice = sorted({c for c in header if header.count(c) > 1})
    if twice:
        raise UserError(f"{path}: the header names {', '.join(twice)} more than once; rename or drop the copies")
    missing = [c for c in columns if c not in header]
    if missing:
        raise UserError(f"{path}: columns missing: {', '.join(missing)}; the header has: {', '.join(header)}")


def time_range(
    con: Connection, paths: Sequence[Path], column: str, plausible: tuple[int, int]
) -> tuple[int, int] | None:
    """The smallest and largest plausible number in a column of CSV files, None where there is none."""
    ends: list[int] = []
    for path in paths:
        query = (
            f'SELECT min(x), max(x) FROM (SELECT try_cast("{column}" AS DOUBLE) AS x FROM read_csv({_text(str(path))},'
            f" header=true, delim=',', quote={_text(_quote(path))}, escape='', all_varchar=true, ignore_errors=true))"
            f" WHERE x BETWEEN {plausible[0]} AND {plausible[1]}"
        )
        try:
            ends += [int(x) for x in con.raw_sql(query).fetchone() if x is not None]
        except duckdb.Error as error:
            raise _unreadable(path, error) from None
    return (min(ends), max(ends)) if ends else None


def _quote(path: Path) -> str:
    """The quote of a file of numbers: one only if the header has it."""
    with path.open("rb") as file:
        return '"' if b'"' in file.readline() else ""


def _unreadable(path: Path, error: duckdb.Error) -> Exception:
    if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
        return error  # no fault of the file
    reason = str(error).splitlines()[0]
    return UserError(f"{path} cannot be read as CSV, perhaps for a stray quote or mixed line ends: {reason}")


def _count_lines(path: Path) -> int:
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            count += block.count(b"\n")
            last = block
    return count + (not last.endswith(b"\n"))


def _text(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"
