"""Raw files, each read once: rows that can be used, and a quarantine of those that cannot.

Every line of a file is accounted for: it is a row, or stands in the quarantine with its file, line, column, value and
reason. DuckDB reads them, whatever engine runs the tables later: other engines know no order of lines.
"""

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
from nextreel.raw import filebytes
from nextreel.raw.columns import Column, Format, array, bad_if, csv_type, faults_of, identifier, judged, kept, literal
from nextreel.raw.filebytes import Digest

REASONS = (
    "wrong_cells",  # more or fewer cells than the header has, or a cell that is no UTF-8
    "not_a_number",  # or no date and time
    "missing",  # what may not be empty
    "fraction",  # of a whole number
    "out_of_range",
    "repeated",  # the key of an earlier row
)
_QUARANTINE, _PLACES, _BREAKS = "quarantine", "places", "breaks"  # tables of the engine, see Intake._place and _break
_FAULT = '"fault, beside columns of any name"'


@dataclass(frozen=True)
class File:
    """What is known of a file that was read."""

    path: Path
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

    def __init__(self, con: engine.Connection) -> None:
        self.con = con
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

        Raises UserError where a file is empty, compressed, has duplicate or missing columns, or where lines are lost
        (a stray quote can swallow many).
        """
        for path in paths:
            filebytes.check_header(path, columns)
        names = {c: (new_names or {}).get(c, c) for c in columns}
        rows = _Rows(self._new("rows"), columns, names)
        quoted = quoted or any(column.reads in ("text", "datetime") for column in columns.values())
        sizes = [path.stat().st_size for path in paths]
        with ThreadPoolExecutor(1) as ahead, bar("reading raw files", sum(sizes), "B") as shown:
            for path, size, digest in zip(
                paths, sizes, [ahead.submit(filebytes.digest, path) for path in paths], strict=True
            ):
                if path.suffix == ".parquet":
                    self.files.append(self._read_parquet(path, digest, rows))
                else:
                    quote = '"' if quoted else filebytes.quote(path)
                    self.files.append(self._read_csv(path, digest, rows, quote))
                shown.update(size)
        self._run(f"CREATE VIEW {rows.name} AS {rows.query()}")
        faults = faults_of(columns, dict.fromkeys(columns, ""))
        column, reason = (
            array(literal(x) for x in each) for each in zip(*((c, r) for c, r, _bad in faults), strict=True)
        )
        self._set_aside(
            rows.name,
            f"SELECT row, {column}[fault] AS \"column\", regexp_replace(value, '\\.0$', '') AS value,"
            f" {reason}[fault] AS reason FROM {rows.name} WHERE fault IS NOT NULL",
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

    def _read_csv(self, path: Path, digest: Future[Digest], rows: "_Rows", quote: str) -> File:
        has_text = any(column.reads == "text" for column in rows.columns.values())
        plain = not has_text and digest.result().plain  # else there is no need to wait
        types = {c: csv_type(column, plain) for c, column in rows.columns.items()}
        declared = ", ".join(f"{literal(c)}: {literal(kind)}" for c, kind in types.items())
        errors = self._new("errors")
        n_kept = self._store(
            _csv(path, quote, f"types={{{declared}}}, store_rejects=true, rejects_table='{errors}',"
                 f" rejects_scan='{errors}_scans', rejects_limit=0, null_padding=false"),
            path, types, rows,
        )  # fmt: skip
        sha256, n_lines, _plain = digest.result()
        lines = self._unread(errors)
        (n_rejected,) = self._run(f"SELECT count(*) FROM {lines}").fetchone()
        # The k-th row of a file is record k + 1, and one further down for each rejected one above it; the i-th of
        # those, from 0, has record - 2 - i rows above it.
        self._place(
            path, rows, n_kept,
            "SELECT 1, 1 UNION ALL SELECT above + 1, max(2 + i) FROM (SELECT i, record - 2 - i AS above FROM"
            f" (SELECT record, row_number() OVER (ORDER BY record) - 1 AS i FROM {lines})) GROUP BY above",
        )  # fmt: skip
        n_breaks = self._break(path) if quote and n_kept + n_rejected < n_lines else 0
        self._quarantine(
            f'SELECT {literal(path.name)} AS file, record, CASE WHEN is_cast THEN column_name END AS "column", value,'
            " CASE WHEN NOT is_cast THEN 'wrong_cells' WHEN try_cast(value AS DOUBLE) IS NULL THEN 'not_a_number'"
            f" ELSE 'out_of_range' END AS reason FROM {lines}"
        )
        if n_kept + n_rejected + n_breaks != n_lines:
            raise UserError(
                f"{path}: {n_lines} data lines, but {n_kept} were read and {n_rejected} rejected; a stray quote"
                " or a blank line makes the rest uncertain. Find and mend it, then run again"
            )
        return File(path, path.stat().st_size, sha256, n_kept + n_rejected)

    def _read_parquet(self, path: Path, digest: Future[Digest], rows: "_Rows") -> File:
        n_rows = self._store(f"read_parquet({literal(str(path))})", path, _types(self.con, path), rows)
        self._place(path, rows, n_rows, "SELECT 1, 0")
        return File(path, path.stat().st_size, digest.result().sha256, n_rows)

    def _store(self, source: str, path: Path, types: Mapping[str, str], rows: "_Rows") -> int:
        """Add the rows of a file and return their number; a bad one has the number of its first fault, see `faults_of`,
        and the value."""
        columns = rows.columns
        stored = ", ".join(
            f"{kept(c, column, types[c])} AS {identifier(rows.names[c])}" for c, column in columns.items()
        )
        bad = " OR ".join(bad_if(columns, types))
        faults = faults_of(columns, types)
        cases = " ".join(f"WHEN {found} THEN {at}" for at, (_c, _reason, found) in enumerate(faults, 1))
        values = array(f"CAST({identifier(c)} AS VARCHAR)" for c in columns)
        owner = array(str(1 + list(columns).index(c)) for c, _reason, _bad in faults)
        read = ", ".join(map(identifier, columns))
        part = engine.scratch(self.con) / f"{self._new(rows.name)}.parquet"
        try:
            self._run(
                f"COPY (SELECT {stored}, CAST({_FAULT} AS USMALLINT) AS fault, CASE WHEN {_FAULT} IS NOT NULL THEN"
                f" {values}[{owner}[{_FAULT}]] END AS value FROM (SELECT {read}, CASE WHEN {bad} THEN CASE {cases} END"
                f" END AS {_FAULT} FROM {source})) TO {literal(str(part))} (COMPRESSION snappy, PARQUET_VERSION V2)"
            )
        except duckdb.Error as error:
            raise _unreadable(path, error) from None
        return rows.add(part)

    def _unread(self, errors: str) -> str:
        """A table of the records that the reader itself rejected, each with its first error."""
        lines = self._new("lines")
        number = "regexp_extract(error_message, 'Could not convert string \"(.*)\" to ''', 1, 's')"
        self._run(
            f"CREATE TABLE {lines} AS SELECT line AS record, error_type = 'CAST' AS is_cast, column_name, csv_line,"
            f" CASE WHEN error_type = 'CAST' THEN {number} ELSE csv_line END AS value FROM {errors}"
            " QUALIFY row_number() OVER (PARTITION BY line ORDER BY column_idx) = 1"
        )
        return lines

    def _place(self, path: Path, rows: "_Rows", n_rows: int, query: str) -> None:
        """Note which records of a file its rows are, the last `n_rows` so far. The query: (k, records to add), for its
        rows from the k-th on."""
        before = rows.n - n_rows
        self._run(
            f"INSERT INTO {_PLACES} SELECT '{rows.name}', k + {before}, {literal(path.name)}, max(added) - {before}"
            f" FROM ({query}) found(k, added) WHERE k <= {n_rows} GROUP BY k"
        )

    def _break(self, path: Path) -> int:
        """Note the line breaks within quotes, which put the records below them further down; their number."""
        record, so_far = filebytes.breaks(path)
        found = {"file": pa.array([path.name] * len(record), pa.string()), "record": record, "so_far": so_far}
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
        self._parts: list[str] = []
        self._first: list[str] = []  # the number of each one's first row

    def add(self, part: Path) -> int:
        """Add a file, and return the number of its rows."""
        n_rows: int = pq.read_metadata(part).num_rows
        self._parts.append(literal(str(part)))
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
            f" FROM read_parquet({array(self._parts)}, file_row_number=true)"
        )


def time_range(
    con: engine.Connection, paths: Sequence[Path], name: str, column: Column, quoted: bool = False
) -> tuple[int, int] | None:
    """The smallest and largest possible milliseconds in a column of some files, None where there is none. quoted: see
    `Intake.read`."""
    ends: list[int] = []
    for path in paths:
        if path.suffix == ".parquet":
            source, type_ = f"read_parquet({literal(str(path))})", _types(con, path)[name]
        else:
            quote = '"' if quoted else filebytes.quote(path)
            source, type_ = _csv(path, quote, "all_varchar=true, ignore_errors=true"), "VARCHAR"
        number = judged(name, column, type_)
        query = (
            f"SELECT min(x), max(x) FROM (SELECT {number} AS x FROM {source}) WHERE x BETWEEN {column.low} AND"
            f" {column.high}"
        )
        try:
            ends += [int(x) for x in con.raw_sql(query).fetchone() if x is not None]
        except duckdb.Error as error:
            raise _unreadable(path, error) from None
    return (min(ends), max(ends)) if ends else None


def _types(con: engine.Connection, path: Path) -> dict[str, str]:
    """The SQL types of a Parquet file's columns."""
    query = f"SELECT column_name, column_type FROM (DESCRIBE FROM read_parquet({literal(str(path))}))"
    return dict(con.raw_sql(query).fetchall())


def _csv(path: Path, quote: str, options: str) -> str:
    """A CSV file as a source in SQL."""
    quote = literal(quote)
    return f"read_csv({literal(str(path))}, header=true, delim=',', quote={quote}, escape={quote}, {options})"


def _unreadable(path: Path, error: duckdb.Error) -> Exception:
    if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
        return error  # no fault of the file
    cause = "damage" if path.suffix == ".parquet" else "a stray quote or mixed line ends"
    return UserError(f"{path} cannot be read, perhaps for {cause}: {str(error).splitlines()[0]}")
