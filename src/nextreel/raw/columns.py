"""What a column of a raw file may hold, what it holds, and the SQL that reads and judges it.

A cell is kept exactly as it is meant, or is a fault with its reason. Nothing that is exact passes through a type that
is not: whole numbers and decimals are never read as floats, digits only where they are too few to lose any, and a float
is taken for a number only where no other number of the file's own precision could have become it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from nextreel.schema import INT32

EXACT = 2**53  # a DOUBLE holds whole numbers exactly below it, and numbers of up to 15 digits as they are written
Reads = Literal["integer", "flag", "seconds", "datetime", "text"]
FAULTS = (  # of a cell, in the order to look for them
    "missing",  # what may not be empty
    "wrong_type",  # a Parquet column of a type that says something else: a list as an id, a number as a datetime
    "not_a_number",  # or no date and time
    "fraction",  # of a whole number
    "out_of_range",
    "inexact",  # a float so large that the number it stands for is uncertain
)


@dataclass(frozen=True)
class Column:
    """What a raw column may hold. Whole numbers may be written as floats ("87433.0"); seconds (fractions allowed) and
    datetimes (UTC where they name no zone) become whole milliseconds, which `low` and `high` bound; a flag may also be
    written as true or false; text may be any but the empty one."""

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


@dataclass(frozen=True)
class Held:
    """What a column of a file holds."""

    kind: Literal["whole", "float", "decimal", "boolean", "moment", "text", "uuid", "other"]
    bits: int = 0  # of a float: it holds whole numbers exactly below 2^bits


DIGITS, TEXT, OTHER = Held("whole"), Held("text"), Held("other")
_FLOAT_BITS = {"halffloat": 11, "float": 24, "double": 53}
_MOST_DIGITS = 38  # of a decimal; one of more is read as a DOUBLE
_READ_FROM: dict[Reads, set[str]] = {
    "integer": {"whole", "float", "decimal", "text"},
    "flag": {"whole", "float", "decimal", "text", "boolean"},
    "seconds": {"whole", "float", "decimal", "text"},
    "datetime": {"moment", "text"},
    "text": {"whole", "float", "decimal", "text", "boolean", "uuid"},
}


def held(type_: pa.DataType) -> Held:
    """What a Parquet column holds. Arrow's type tells more than SQL's: a duration is stored as a bare number."""
    if isinstance(type_, pa.DictionaryType):
        return held(type_.value_type)
    if isinstance(type_, pa.UuidType):
        return Held("uuid")
    if pa.types.is_integer(type_):
        return DIGITS
    if pa.types.is_floating(type_):
        return Held("float", _FLOAT_BITS[str(type_)])
    if pa.types.is_decimal(type_):
        return Held("decimal") if type_.precision <= _MOST_DIGITS else OTHER
    if pa.types.is_boolean(type_):
        return Held("boolean")
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        return Held("moment")
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return TEXT if any(is_text(type_) for is_text in texts) else OTHER


def held_in_csv(column: Column, plain: bool) -> tuple[str, Held]:
    """The SQL type that a CSV reader should take a column for. 87433.6 would become 87434 without a word in an integer
    column, and 1_0 would become 10; only a plain file, which holds nothing but whole numbers, is read as such: as
    BIGINT and not as it is stored, so that a number that is too large is judged in its turn, as in any other file."""
    return ("BIGINT", DIGITS) if plain and column.reads not in ("text", "datetime") else ("VARCHAR", TEXT)


# What a text must look like to be a number or a datetime. An engine takes more: 0x1F, 1_000, +-5; names of zones, of
# which some mean several, and it goes on with the zone in the cells that follow (DuckDB 1.5).
_FRACTION = r"\s*[+-]?\d*\.\d*[1-9]\d*\s*"
_ANY = r"\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)\s*"
_MOMENT = r"\s*\d{4}-\d\d?-\d\d?([ T]\d\d?:\d\d(:\d\d(\.\d+)?)?( *(Z|UTC|GMT|[+-](0\d|1[0-5])(:?\d\d)?))?)?\s*"
_DECIMAL = "DECIMAL(25, 3)"  # seconds to the millisecond, with room for a thousand times as many


def value(x: str, column: Column, held: Held) -> str:
    """A cell `x`, an SQL expression, as what it means: a BIGINT, of milliseconds for times, or a text; null where it
    cannot be read as such."""
    if held.kind not in _READ_FROM[column.reads]:
        return f"CAST(NULL AS {column.stored})"
    if column.reads == "datetime":
        moment = f"try_cast({_plain_moment(x) if held.kind == 'text' else x} AS TIMESTAMPTZ)"
        return f"epoch_ms({moment})"
    if column.reads == "seconds":
        exact = f"CAST({x} AS DOUBLE)" if held.kind == "float" else x
        return f"try_cast(1000 * try_cast({exact} AS {_DECIMAL}) AS BIGINT)"
    if held.kind == "float":
        number = f"try_cast(trunc({x}) AS BIGINT)"
        return f"CAST({number} AS VARCHAR)" if column.reads == "text" else number
    if column.reads == "text":
        return f"CAST({x} AS VARCHAR)"
    if held.kind == "decimal":
        return f"try_cast(trunc({x}) AS BIGINT)"
    if column.reads == "flag" and held.kind in ("text", "boolean"):
        return f"coalesce(try_cast({x} AS BIGINT), CAST(try_cast({x} AS BOOLEAN) AS BIGINT))"
    return x if held.kind == "whole" else f"try_cast({x} AS BIGINT)"


def as_double(x: str) -> str:
    """What a text cell `x` is called as a DOUBLE: `kept` and `bad_if` want it beside the cell, read once."""
    return f"{x}_double"


def kept(x: str, column: Column, held: Held) -> str:
    """A cell as it is stored; what cannot be is null, and its row is bad."""
    exact = f"try_cast({value(x, column, held)} AS {column.stored})"
    if held.kind == "text" and column.reads == "integer":  # most are short, and a DOUBLE is read and cast faster
        return f"CASE WHEN {_short(x)} THEN try_cast({as_double(x)} AS {column.stored}) ELSE {exact} END"
    return exact


def shown(x: str, held: Held) -> str:
    """A cell as the quarantine shows it: as it stands in the file, a float that is whole without its .0."""
    text = f"CAST({x} AS VARCHAR)"
    return f"regexp_replace({text}, '\\.0$', '')" if held.kind == "float" else text


def faults(x: str, column: Column, held: Held) -> list[str]:
    """For each of `FAULTS` the condition that a cell has it, where it has none of those before."""
    found = dict.fromkeys(FAULTS, "false") | ({"missing": f"{x} IS NULL"} if column.required else {})
    if held.kind not in _READ_FROM[column.reads]:
        return list((found | {"wrong_type": f"{x} IS NOT NULL"}).values())
    number = value(x, column, held)
    whole = column.reads in ("integer", "flag") or (column.reads == "text" and held.kind == "float")
    float_ = x if held.kind == "float" else f"try_cast({x} AS DOUBLE)"
    thousandfold = "1000 * " if column.reads == "seconds" else ""
    if held.kind == "text" and column.reads == "datetime":
        found["not_a_number"] = f"{x} IS NOT NULL AND {number} IS NULL"
    elif held.kind == "text" and column.reads != "text":
        is_word = f" AND try_cast({x} AS BOOLEAN) IS NULL" if column.reads == "flag" else ""
        found["not_a_number"] = f"NOT {_looks(x, _ANY)}{is_word}"
        found["inexact"] = f"{_has_exponent(x)} AND abs({thousandfold}{float_}) >= {EXACT}"
        too_small = f"{float_} = 0 AND regexp_matches({x}, '[1-9].*e', 'i')"
        fraction = f"isfinite({float_}) AND ({float_} <> trunc({float_}) OR {too_small})"
        found["fraction"] = f"CASE WHEN {_has_exponent(x)} THEN {fraction} ELSE {_looks(x, _FRACTION)} END"
    elif held.kind == "float":
        found["inexact"] = f"abs({thousandfold}CAST({x} AS DOUBLE)) >= {2**held.bits}"
        found["fraction"] = f"isfinite({x}) AND {x} <> trunc({x})"
    elif held.kind == "decimal":
        found["fraction"] = f"{x} <> trunc({x})"
    if not whole:
        found["fraction"] = "false"
    if column.reads != "text":
        inside = f"{number} BETWEEN {column.low} AND {column.high}"
        found["out_of_range"] = f"{x} IS NOT NULL AND ({inside}) IS NOT TRUE"
    elif held.kind == "float":
        found["out_of_range"] = f"{x} IS NOT NULL AND {number} IS NULL"
    return list(found.values())


def bad_if(x: str, column: Column, held: Held) -> Iterator[str]:
    """Conditions of which one holds for a cell that has a fault and none for any other: those of the types that most
    cells have are cheaper than to look for the fault."""
    if held.kind == "whole" and column.reads in ("integer", "flag"):
        yield from [f"{x} IS NULL"] if column.required else []
        yield f"{x} < {column.low}"
        yield f"{x} > {column.high}"
    elif held.kind == "float" and column.reads in ("integer", "flag"):
        yield from [f"{x} IS NULL"] if column.required else []
        yield f"{x} < {max(column.low, 1 - 2**held.bits)}"
        yield f"{x} > {min(column.high, 2**held.bits - 1)}"
        yield f"{x} <> trunc({x})"
        # DuckDB takes NaN for the largest number, but not where a Parquet file's statistics leave it out.
        yield f"isnan({x})"
    elif held.kind == "text" and column.reads in ("integer", "flag"):
        # Most are digits, or such with .0 behind them.
        number, low, high = as_double(x), max(column.low, 1 - EXACT), min(column.high, EXACT - 1)
        digits = f"({number} <> 0 OR {x} IN ('0', '0.0')) AND NOT contains({x}, '_') AND {x} >= '-' AND {_short(x)}"
        good = f"{number} = trunc({number}) AND {number} BETWEEN {low} AND {high} AND {digits}"
        null = str(column.required).lower()
        slow = " OR ".join(f"({fault})" for fault in faults(x, column, held) if fault != "false")
        yield f"CASE WHEN {x} IS NULL THEN {null} WHEN {good} THEN false ELSE {slow} END"
    else:
        yield from (fault for fault in faults(x, column, held) if fault != "false")


def _plain_moment(x: str) -> str:
    """A text as the engine reads a moment in UTC or at an offset; null where it looks otherwise."""
    offset = f"regexp_replace(regexp_replace({x}, ' *(UTC|GMT|Z) *$', '+00', 'i'), ' +([+-])', '\\1')"
    return f"CASE WHEN {_looks(x, _MOMENT)} THEN {offset} END"


def _looks(x: str, pattern: str) -> str:
    return f"regexp_full_match({x}, {literal(pattern)}, 'i')"


def _short(x: str) -> str:
    """Whether a text has no more digits than a DOUBLE keeps."""
    return f"strlen({x}) <= 15"


def _has_exponent(x: str) -> str:
    return f"contains(lower({x}), 'e')"


def literal(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def identifier(column: str) -> str:
    """A column's name in SQL."""
    return '"' + column.replace('"', '""') + '"'


def array(items: Iterable[str]) -> str:
    """A list in SQL."""
    return f"[{', '.join(items)}]"
