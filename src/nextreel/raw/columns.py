"""What a column of a raw file may hold, and the SQL that reads and judges it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from nextreel.schema import INT32

EXACT = 2**53  # a DOUBLE holds integers exactly up to here
Reads = Literal["integer", "flag", "seconds", "datetime", "text"]


@dataclass(frozen=True)
class Column:
    """What a raw column may hold. Whole numbers may be written as floats ("87433.0"); seconds (fractions allowed) and
    datetimes (UTC where they name no zone) become whole milliseconds, which `low` and `high` bound; a flag may also be
    written as true or false."""

    low: int = 0
    high: int = INT32
    required: bool = False
    reads: Reads = "integer"

    @property
    def stored(self) -> str:
        """The smallest SQL type that holds it."""
        if self.reads == "text":
            return "VARCHAR"
        if self.low >= 0 and self.high < 2**8:
            return "UTINYINT"
        sizes = {"SMALLINT": 2**15, "INTEGER": 2**31}
        return next((name for name, size in sizes.items() if -size <= self.low and self.high < size), "BIGINT")


Format = Mapping[str, Column]  # of a file: what each of its columns may hold

_INTEGERS = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG")} | {"INTEGER", "UINTEGER"}
_FLOATS = {"DOUBLE", "FLOAT"}


def csv_type(column: Column, plain: bool) -> str:
    """What a CSV reader should take a column for. 87433.6 would become 87434 without a word in an integer column; only
    a plain file, which holds nothing but whole numbers, is read as such: as BIGINT and not as it is stored, so that a
    number that is too large is judged in its turn, as in any other file."""
    if column.reads in ("text", "datetime"):
        return "VARCHAR"
    if plain:
        return "BIGINT"
    return "VARCHAR" if column.high > EXACT or column.reads == "flag" else "DOUBLE"


def judged(c: str, column: Column, type_: str) -> str:
    """A column of an SQL type as a number to be judged: whole milliseconds for times, else as it stands."""
    name = identifier(c)
    if column.reads == "datetime":
        time = name if type_.startswith("TIMESTAMP") or type_ == "DATE" else f"try_cast({name} AS TIMESTAMPTZ)"
        return f"epoch_ms(CAST({time} AS TIMESTAMPTZ))"
    number = name if type_ in _INTEGERS or type_ in _FLOATS else f"try_cast({name} AS DOUBLE)"
    if column.reads == "flag" and type_ == "VARCHAR":
        return f"coalesce({number}, CAST(try_cast({name} AS BOOLEAN) AS DOUBLE))"
    return f"round(1000 * {number})" if column.reads == "seconds" else number


def kept(c: str, column: Column, type_: str) -> str:
    """A column as it is stored; what cannot be is null, and its row is bad."""
    if column.reads == "text":
        return f"CAST({identifier(c)} AS VARCHAR)"
    exact = column.reads == "integer" and type_ == "VARCHAR"  # digits beyond what a DOUBLE holds
    return f"try_cast({identifier(c) if exact else judged(c, column, type_)} AS {column.stored})"


def bad_if(columns: Format, types: Mapping[str, str]) -> Iterable[str]:
    """Conditions of which one holds for a bad row and none for a usable one: cheaper than to look for its fault. A null
    is none of them. DuckDB takes NaN for the largest number, but not where a Parquet file's statistics leave it out."""
    for c, column in columns.items():
        number = judged(c, column, types[c])
        if column.required:
            yield f"{identifier(c)} IS NULL"
        if column.reads == "text":
            continue
        yield f"{number} < {column.low}"
        yield f"{number} > {column.high}"
        if types[c] in _FLOATS:
            yield f"isnan({identifier(c)})"
        if column.reads in ("integer", "flag") and types[c] not in _INTEGERS:
            yield f"{number} <> trunc({number})"
        if types[c] not in {*_INTEGERS, *_FLOATS} or column.high > EXACT:  # as a DOUBLE it may round down to the bound
            yield f"{identifier(c)} IS NOT NULL AND {kept(c, column, types[c])} IS NULL"


def faults_of(columns: Format, types: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(column, reason, condition) of everything that can be wrong with a value, in the order to look for it."""
    found = []
    for c, column in columns.items():
        name, number = identifier(c), judged(c, column, types[c])
        if column.required:
            found.append((c, "missing", f"{name} IS NULL"))
        if column.reads != "text":
            found.append((c, "not_a_number", f"{name} IS NOT NULL AND {number} IS NULL"))
            found.append((c, "fraction", f"isfinite({number}) AND {number} <> trunc({number})"))
            outside = f"NOT ({number} BETWEEN {column.low} AND {column.high})"
            if types[c] in _FLOATS:
                outside = f"({outside} OR isnan({name}))"
            if column.high > EXACT:
                outside = f"({outside} OR {kept(c, column, types[c])} IS NULL)"
            found.append((c, "out_of_range", f"{name} IS NOT NULL AND {outside}"))
    return found


def literal(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def identifier(column: str) -> str:
    """A column's name in SQL."""
    return '"' + column.replace('"', '""') + '"'


def array(items: Iterable[str]) -> str:
    """A list in SQL."""
    return f"[{', '.join(items)}]"
