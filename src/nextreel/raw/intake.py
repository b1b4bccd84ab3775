"""Raw files, each read once: rows that can be used, and a quarantine of those that cannot.

Every line of a file is accounted for: it is a row, or stands in the quarantine with its file, line, column, value and
reason. DuckDB reads them, whatever engine runs the tables later: other engines know no order of lines.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from nextreel import engine
from nextreel.errors import UserError
from nextreel.progress import bar
from nextreel.raw import filebytes, listing, sources
from nextreel.raw.columns import (
    FAULTS,
    TEXT,
    Format,
    Held,
    array,
    as_double,
    bad_if,
    faults,
    held,
    held_in_csv,
    identifier,
    kept,
    literal,
    shown,
)
from nextreel.raw.filebytes import Digest

REASONS = (
    "wrong_cells",  # more or fewer cells than the header has, or a cell that is no UTF-8
    *FAULTS,
    "repeated",  # the key of an earlier row
)
_OF_A_FILE = ("st_ino", "st_size", "st_mtime_ns")  # what tells whether it is still the same
_QUARANTINE, _PLACES, _BREAKS = "quarantine", "places", "breaks"  # tables of the engine, see Intake._place and _break


@dataclass(frozen=True)
class File:
    """What is known of a file that was read."""

    path: Path
    name: str  # its path within the folder that was named
    n_bytes: int
    sha256: str
    n_rows: int  # data lines


@dataclass(frozen=True)
class Rejects:
    """Rejected rows of a file that share column and reason."""

    file: str
    column: str | None  # None: the line as a whole
    reason: str
    n: int
    line: int  # of the first
    value: str | None  # of the first


class Intake:
    """Reads files into tables of an engine and keeps aside what cannot be used. One for an engine.

    What is read of a file goes into a Parquet file in the engine's scratch folder, which takes two thirds of the time
    of a table in its database. `row` numbers the rows of one `read` through all its files, in their order, from 1: a
    Parquet file knows the number of a row, while a window over the raw file would hold DuckDB to one thread.
    """

    def __init__(self, con: engine.Connection, folder: Path, null: Sequence[str] = ()) -> None:
        """folder: files are called by their path in it. null: words for a missing value, beside the empty one."""
        self.con = con
        self.folder = folder
        self.null = ("", *null)
        self.files: list[File] = []
        self._n_tables = 0
        self._run(
            f'CREATE TABLE {_QUARANTINE} (file VARCHAR, line BIGINT, "column" VARCHAR, value VARCHAR, reason VARCHAR)'
        )
        self._run(f"CREATE TABLE {_PLACES} (owner VARCHAR, from_row BIGINT, file VARCHAR, record_less_row BIGINT)")
        self._run(f"CREATE TABLE {_BREAKS} (file VARCHAR, record BIGINT, so_far BIGINT)")

    def read(
        self, paths: Sequence[Path], columns: Format, new_names: Mapping[str, str] | None = None, quoted: bool = False
    ) -> ir.Table:
        """The usable rows of CSV or Parquet files of one kind: the columns, found by name, and `row`.

        Columns may get new names, and must where they are any that a user chose: some are taken here.

        Quotes are understood in a CSV file that has text among its columns, quotes its header or is `quoted`, since
        columns that are not read hold text; elsewhere they are no part of a number, and a stray one spoils its own line
        only.

        Raises UserError where a file cannot be read, changes meanwhile, lacks one of the columns or has it twice, or
        where lines are lost (a stray quote can swallow many).
        """
        for path in paths:
            filebytes.check_header(path, columns)
        names = {c: (new_names or {}).get(c, c) for c in columns}
        rows = _Rows(self._new("rows"), columns, names)
        quoted = quoted or any(column.reads in ("text", "datetime") for column in columns.values())
        stats = [path.stat() for path in paths]
        with ThreadPoolExecutor(1) as ahead, bar("reading raw files", sum(s.st_size for s in stats), "B") as shown:
            for path, before, digest in zip(
                paths, stats, [ahead.submit(filebytes.digest, path) for path in paths], strict=True
            ):
                try:
                    if listing.form(path) == "parquet":
                        n_rows = self._read_parquet(path, rows)
                    else:
                        n_rows = self._read_csv(path, digest, rows, '"' if quoted else filebytes.quote(path))
                    sha256 = digest.result().sha256
                finally:
                    _check_unchanged(path, before)  # the reason for whatever else went wrong
                self.files.append(File(path, self._name(path), before.st_size, sha256, n_rows))
                shown.update(before.st_size)
        self._run(f"CREATE VIEW {rows.name} AS {rows.query()}")
        column, reason = array(map(literal, columns)), array(map(literal, FAULTS))
        self._set_aside(
            rows.name,
            f'SELECT row, {column}[1 + (fault - 1) // {len(FAULTS)}] AS "column",'
            f" value, {reason}[1 + (fault - 1) % {len(FAULTS)}] AS reason"
            f" FROM {rows.name} WHERE fault IS NOT NULL",
        )
        usable = ", ".join(map(identifier, names.values()))
        self._run(f"CREATE VIEW usable_{rows.name} AS SELECT {usable}, row FROM {rows.name} WHERE fault IS NULL")
        return self.con.table(f"usable_{rows.name}")

    def repeats(self, rows: ir.Table, key: Sequence[str]) -> ir.Table:
        """Set aside what `read` returned and repeats the key of an earlier row: a table of `row`.

        Only keys whose hash occurs twice are compared: a small part of the rows.
        """
        source, repeated, columns = rows.get_name(), self._new("repeated"), ", ".join(map(identifier, key))
        self._run(
            f"CREATE TABLE {repeated} AS SELECT row FROM (SELECT {columns}, row FROM {source} WHERE hash({columns}) IN"
            f" (SELECT hash({columns}) AS h FROM {source} GROUP BY h HAVING count(*) > 1))"
            f" QUALIFY row_number() OVER (PARTITION BY {columns} ORDER BY row) > 1"
        )
        self._set_aside(
            source.removeprefix("usable_"),
            f"SELECT row, NULL AS \"column\", NULL AS value, 'repeated' AS reason FROM {repeated}",
        )
        return self.con.table(repeated)

    def first_of(self, rows: ir.Table, key: Sequence[str]) -> ir.Table:
        """What `read` returned without the rows that repeat the key of an earlier one; those are set aside."""
        return rows.anti_join(self.repeats(rows, key), "row")

    def quarantine(self) -> ir.Table:
        """Every rejected row: file, line, column (null: the line as a whole), value and reason, one of `REASONS`."""
        return self.con.table(_QUARANTINE)

    def rejects(self) -> list[Rejects]:
        """The quarantine counted by file, column and reason, the most frequent first."""
        found = self._run(
            f'SELECT file, "column", reason, count(*), min(line), arg_min(value, line) FROM {_QUARANTINE}'
            ' GROUP BY ALL ORDER BY file, count(*) DESC, "column", reason'
        )
        return [Rejects(*row) for row in found.fetchall()]

    def _run(self, query: str) -> Any:
        return self.con.raw_sql(query)

    def _new(self, kind: str) -> str:
        self._n_tables += 1
        return f"{kind}_{self._n_tables}"

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _read_csv(self, path: Path, digest: Future[Digest], rows: "_Rows", quote: str) -> int:
        columns, header = rows.columns, filebytes.header(path)
        has_text = any(column.reads == "text" for column in columns.values())
        plain = not has_text and len(self.null) == 1 and digest.result().plain  # else there is no need to wait
        read = {header.index(c): held_in_csv(column, plain) for c, column in columns.items()}
        errors = self._new("errors")
        source = sources.csv(
            path, quote, [read[at][0] if at in read else "VARCHAR" for at in range(len(header))],
            self.null, f"store_rejects=true, rejects_table='{errors}',"
            f" rejects_scan='{errors}_scans', rejects_limit=0, null_padding=false",
        )  # fmt: skip
        n_kept = self._store(source, path, {at: holds for at, (_type, holds) in read.items()}, rows)
        _sha256, n_lines, _plain, n_quotes = digest.result()
        lines = self._unread(errors, header)
        (n_rejected,) = self._run(f"SELECT count(*) FROM {lines}").fetchone()
        # The k-th row of a file is record k + 1, and one further down for each rejected one above it; the i-th of
        # those, from 0, has record - 2 - i rows above it.
        self._place(
            path, rows, n_kept,
            "SELECT 1, 1 UNION ALL SELECT above + 1, max(2 + i) FROM (SELECT i, record - 2 - i AS above FROM"
            f" (SELECT record, row_number() OVER (ORDER BY record) - 1 AS i FROM {lines})) GROUP BY above",
        )  # fmt: skip
        n_breaks = self._break(path) if quote and (n_kept + n_rejected < n_lines or n_quotes % 2) else 0
        self._quarantine(
            f'SELECT {literal(self._name(path))} AS file, record, CASE WHEN is_cast THEN column_name END AS "column",'
            " value, CASE WHEN NOT is_cast THEN 'wrong_cells' WHEN try_cast(value AS DOUBLE) IS NULL THEN"
            f" 'not_a_number' ELSE 'out_of_range' END AS reason FROM {lines}"
        )
        if n_kept + n_rejected + n_breaks != n_lines:
            raise UserError(
                f"{path}: {n_lines} data lines, but {n_kept} were read and {n_rejected} rejected; a stray quote"
                f" or a blank line makes the rest uncertain{filebytes.oddity(path)}. Mend it, then run again"
            )
        return n_kept + n_rejected

    def _read_parquet(self, path: Path, rows: "_Rows") -> int:
        schema = filebytes.schema(path)
        read = {schema.names.index(c): held(schema.field(c).type) for c in rows.columns}
        n_rows = self._store(sources.parquet(path, schema, self.null), path, read, rows)
        self._place(path, rows, n_rows, "SELECT 1, 0")
        return n_rows

    def _store(self, source: str, path: Path, read: Mapping[int, Held], rows: "_Rows") -> int:
        """Add the rows of a file and return their number. A bad one has the value of its first fault and its number:
        that of its column times that of `FAULTS`, plus its place in them, from 1.

        read: the place of each column in the file, and what it holds.
        """
        columns = rows.columns
        about = [(f"c{at}", column, holds) for (at, holds), column in zip(read.items(), columns.values(), strict=True)]
        stored = ", ".join(
            f"{kept(*each)} AS {identifier(rows.names[c])}" for c, each in zip(columns, about, strict=True)
        )
        bad = " OR ".join(condition for each in about for condition in bad_if(*each)) or "false"
        found = [fault for each in about for fault in faults(*each)]
        cases = " ".join(f"WHEN {fault} THEN {at}" for at, fault in enumerate(found, 1) if fault != "false")
        values = array(shown(cell, holds) for cell, _column, holds in about)
        cells = ", ".join(cell for cell, *_ in about)
        doubles = "".join(
            f", try_cast({cell} AS DOUBLE) AS {as_double(cell)}" for cell, _column, holds in about if holds == TEXT
        )
        part = engine.scratch(self.con) / f"{self._new(rows.name)}.parquet"
        try:
            self._run(
                f"COPY (SELECT {stored}, CAST(fault AS USMALLINT) AS fault, CASE WHEN fault IS NOT NULL THEN"
                f" {values}[1 + (fault - 1) // {len(FAULTS)}] END AS value FROM (SELECT *, CASE WHEN {bad} THEN"
                f" CASE {cases} END END AS fault FROM (SELECT {cells}{doubles} FROM {source}))) TO {literal(str(part))}"
                " (COMPRESSION snappy, PARQUET_VERSION V2)"
            )
        except duckdb.Error as error:
            raise sources.unreadable(path, error) from None
        return rows.add(part)

    def _unread(self, errors: str, header: Sequence[str]) -> str:
        """A table of the records that the reader itself rejected, each with its first error."""
        lines = self._new("lines")
        number = "regexp_extract(error_message, 'Could not convert string \"(.*)\" to ''', 1, 's')"
        self._run(
            f"CREATE TABLE {lines} AS SELECT line AS record, error_type = 'CAST' AS is_cast,"
            f" {array(map(literal, header))}[CAST(column_idx AS BIGINT)] AS column_name,"
            f" CASE WHEN error_type = 'CAST' THEN {number} ELSE csv_line END AS value FROM {errors}"
            " QUALIFY row_number() OVER (PARTITION BY line ORDER BY error_type = 'CAST', column_idx) = 1"
        )
        return lines

    def _place(self, path: Path, rows: "_Rows", n_rows: int, query: str) -> None:
        """Note which records of a file its rows are, the last `n_rows` so far. The query: (k, records to add), for its
        rows from the k-th on."""
        before = rows.n - n_rows
        self._run(
            f"INSERT INTO {_PLACES} SELECT '{rows.name}', k + {before}, {literal(self._name(path))},"
            f" max(added) - {before} FROM ({query}) found(k, added) WHERE k <= {n_rows} GROUP BY k"
        )

    def _break(self, path: Path) -> int:
        """Note the line breaks within quotes, which put the records below them further down; their number."""
        record, so_far, closed = filebytes.breaks(path)
        if not closed:
            raise UserError(f"{path}: the last text opens a quote and does not close it; is the file cut short?")
        found = {"file": pa.array([self._name(path)] * len(record), pa.string()), "record": record, "so_far": so_far}
        self.con.insert(_BREAKS, ibis.memtable(pa.table(found)))
        return int(so_far.max(initial=0))

    def _set_aside(self, rows: str, query: str) -> None:
        """Put rows of one `read` (row, column, value, reason) into quarantine."""
        self._quarantine(
            f'SELECT file, row + record_less_row AS record, "column", value, reason FROM ({query}) bad'
            f" ASOF JOIN (FROM {_PLACES} WHERE owner = '{rows}') place ON bad.row >= place.from_row"
        )

    def _quarantine(self, query: str) -> None:
        """Put records (file, record, column, value, reason) into quarantine, each with the line that it begins on."""
        self._run(
            f'INSERT INTO {_QUARANTINE} SELECT bad.file, bad.record + coalesce(so_far, 0), "column", value, reason'
            f" FROM ({query}) bad ASOF LEFT JOIN {_BREAKS} above ON bad.file = above.file AND bad.record > above.record"
        )


class _Rows:
    """The rows of one `read`, each file's stored in a Parquet file of its own."""

    def __init__(self, name: str, columns: Format, names: Mapping[str, str]) -> None:
        self.name = name
        self.columns = columns
        self.names = names  # what the columns are called here
        self.n = 0
        self._parts: list[Path] = []
        self._first: list[str] = []  # the number of each one's first row

    def add(self, part: Path) -> int:
        """Add a file, and return the number of its rows."""
        n_rows: int = pq.read_metadata(part).num_rows
        self._parts.append(part)
        self._first.append(str(1 + self.n))
        self.n += n_rows
        return n_rows

    def query(self) -> str:
        """All of them: the columns, `fault`, `value`, `row`."""
        if not self._parts:
            nulls = ", ".join(
                f"CAST(NULL AS {column.stored}) AS {identifier(self.names[c])}" for c, column in self.columns.items()
            )
            return f"SELECT {nulls}, NULL AS fault, NULL AS value, NULL AS row LIMIT 0"
        # One scan of all of them: a union of scans is grouped half as fast.
        return (
            "SELECT * EXCLUDE file_row_number,"
            f" file_row_number + {array(self._first)}[1 + CAST(file_index AS INTEGER)] AS row"
            f" FROM {engine.parquet(self._parts, ', file_row_number=true')}"
        )


def _check_unchanged(path: Path, before: os.stat_result) -> None:
    """Raise UserError where a file is another one than before it was read."""
    after = path.stat() if path.exists() else None
    same = [after is not None and getattr(after, each) == getattr(before, each) for each in _OF_A_FILE]
    if not all(same):
        now = f"{after.st_size} now" if after else "it is gone now"
        raise UserError(
            f"{path} changed while it was read ({before.st_size} bytes before, {now}): wait until it is whole, or read"
            " a copy, and run again"
        )
