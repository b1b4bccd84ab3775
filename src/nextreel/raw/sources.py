"""Raw files as sources in SQL, what a column of them spans, and what to raise where one cannot be read."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from nextreel import engine
from nextreel.errors import UserError
from nextreel.raw import filebytes, listing
from nextreel.raw.columns import TEXT, Column, held, literal, value


def parquet(path: Path, schema: pa.Schema, null: Sequence[str]) -> str:
    """A Parquet file as a source in SQL, its columns called c0, c1, ... by their places, since names need not differ.
    Words for a missing value are null, in texts."""
    places = [f"c{at}" for at in range(len(schema))]
    cells = [_nulled(c, null) if held(field.type) == TEXT else c for c, field in zip(places, schema, strict=True)]
    return f"(SELECT {', '.join(cells)} FROM {engine.parquet([path])} AS raw({', '.join(places)}))"


def csv(path: Path, quote: str, types: Sequence[str], null: Sequence[str], options: str) -> str:
    """A CSV file as a source in SQL, its columns of the types called c0, c1, ..., as in `parquet`. Nothing is guessed
    from its bytes."""
    cells = ", ".join(_nulled(f"c{at}", null) if type_ == "VARCHAR" else f"c{at}" for at, type_ in enumerate(types))
    types = [*types, *["VARCHAR"] * filebytes.n_spare_cells(path)]
    columns = ", ".join(f"c{at}: {literal(type_)}" for at, type_ in enumerate(types))
    quote = literal(quote)
    compression = "gzip" if listing.compressed(path) else "none"
    source = (
        f"read_csv({literal(engine.plain(path))}, auto_detect=false, hive_partitioning=false, header=true, delim=',',"
        f" quote={quote}, escape={quote}, compression='{compression}', columns={{{columns}}}, {options})"
    )
    return source if len(null) == 1 else f"(SELECT {cells} FROM {source})"


def time_range(
    con: engine.Connection, paths: Sequence[Path], name: str, column: Column, quoted: bool = False
) -> tuple[int, int] | None:
    """The smallest and largest possible milliseconds in a column of some files, None where there is none.

    quoted: so may the cells of CSV files be, not only of those whose header is.
    """
    ends: list[int] = []
    for path in paths:
        if listing.form(path) == "parquet":
            schema = filebytes.schema(path)
            at, holds = schema.names.index(name), held(schema.field(name).type)
            source = parquet(path, schema, [""])
        else:
            header, quote = filebytes.header(path), '"' if quoted else filebytes.quote(path)
            at, holds = header.index(name), TEXT
            source = csv(path, quote, ["VARCHAR"] * len(header), [""], "ignore_errors=true")
        query = (
            f"SELECT min(x), max(x) FROM (SELECT {value(f'c{at}', column, holds)} AS x FROM {source})"
            f" WHERE x BETWEEN {column.low} AND {column.high}"
        )
        try:
            ends += [int(x) for x in con.raw_sql(query).fetchone() if x is not None]
        except duckdb.Error as error:
            raise unreadable(path, error) from None
    return (min(ends), max(ends)) if ends else None


def unreadable(path: Path, error: duckdb.Error) -> Exception:
    """What to raise where DuckDB cannot read a file: the error itself where the file is not to blame."""
    reason = str(error).splitlines()[0]
    if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException) and "GZIP" not in reason:
        return error
    if listing.compressed(path):
        return UserError(f"{path} cannot be read, perhaps for damage or for what follows the packed text: {reason}")
    if listing.form(path) == "parquet":
        return UserError(f"{path} cannot be read, perhaps for damage: {reason}")
    oddity = filebytes.oddity(path)
    return UserError(f"{path} cannot be read, perhaps for a stray quote or mixed line ends{oddity}: {reason}")


def _nulled(place: str, null: Sequence[str]) -> str:
    """A text, null where it is one of the words for a missing value."""
    return f"CASE WHEN {place} NOT IN ({', '.join(map(literal, null))}) THEN {place} END AS {place}"
