"""Every cell of a Parquet or CSV file is kept exactly or set aside with its reason, whatever Arrow type it has and
whatever it is read as. What is expected comes from Python's integers and decimals, not from the engine."""

import csv
import math
import re
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis import _

from nextreel.raw.columns import TEXT, Column, as_double, bad_if, faults, literal
from nextreel.raw.intake import Intake
from nextreel.schema import FIRST_MS, INT32, INT64, LAST_MS

USES = {
    "id": Column(0, INT64, required=True),
    "amount": Column(-5, INT32),
    "flag": Column(0, 1, reads="flag"),
    "milliseconds": Column(FIRST_MS, LAST_MS, True),
    "seconds": Column(FIRST_MS, LAST_MS, True, "seconds"),
    "watched seconds": Column(0, INT32, reads="seconds"),
    "datetime": Column(FIRST_MS, LAST_MS, True, "datetime"),
    "text": Column(required=True, reads="text"),
}
NOW = datetime(2022, 4, 24, 15, 5, 41, 436_999)
WHOLE = [0, 1, 2, 5, -1, -5, -6, 127, 2**31 - 1, 2**31, 2**32 - 1, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**64 - 1]
WHOLE += [1_650_812_741, 1_650_812_741_436, FIRST_MS // 1000, LAST_MS // 1000 + 1]
BITS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63, "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}
FRACTIONS = [0.5, 1.5, -0.5, 1.0004, 12.3456, 1_650_812_741.436, math.nan, math.inf, -math.inf, 1e300, 2.0**24, 2.0**11]
DECIMALS = [Decimal(x) for x in ("0", "1", "1.5", "-0.0005", "9007199254740993", "9007199254740992", "1650812741.4365")]
TEXTS = ["0", "1", "-1", "+5", " 7 ", "7.0", "7.", "7.5", ".5", "1e3", "1.5e0", "1.650812741436e12", "9e15", "1e16"]
TEXTS += ["9007199254740993", "9007199254740993.0", "9223372036854775808", "9" * 40, "00012", "0x1F", "1_000", "1,5"]
TEXTS += ["nan", "inf", "", "true", "False", "NULL", "0.99999999999999999999", "2022-04-24", "2022-04-24T15:05:41.436Z"]
TEXTS += ["1650812741.4365", "1650812741436", "soon", "caf\u00e9", "\u0663", "12345678901234567890123", "1e400", "-0"]
TEXTS += [
    "1e-400",
    "+-5",
    "1_0",
    "nan(1)",
    "9007199254740991.4",
    "4503599627370497.5",
    "40 000",
    "--1",
    "1e",
    "e3",
    ".",
]
MOMENTS = {  # as text: the number of milliseconds
    "2022-04-24": 1_650_758_400_000,
    "2022-04-24T15:05:41.436Z": 1_650_812_741_436,
    "2022-04-24 15:05:41": 1_650_812_741_000,
    "2022-04-24 15:05": 1_650_812_700_000,
    "2022-04-24 23:05:41.436999+08:00": 1_650_812_741_436,
    "2022-04-24 23:05:41 +0800": 1_650_812_741_000,
    "2022-04-24T10:05:41-05": 1_650_812_741_000,
    "2022-04-24 15:05:41 UTC": 1_650_812_741_000,
}
NO_MOMENTS = ["2022-04-24 15:05:41 Asia/Shanghai", "2022-04-24 15:05:41 CST", "2022-04-24 15:05:41+99:00", "2022-02-30"]
NO_MOMENTS += ["now", "today", "epoch", "infinity", "20220424", "15:05:41", "2022-04-24 25:00:00", "24.4.2022"]
TEXTS += [text for pair in zip(NO_MOMENTS, MOMENTS, strict=False) for text in pair] + NO_MOMENTS[len(MOMENTS) :]


def decimals(precision, scale):
    """Those that a type holds, and its largest and smallest."""
    most = [Decimal((sign, [9] * precision, -scale)) for sign in (0, 1)]
    return [*(x for x in DECIMALS if abs(x) <= most[0] and -x.as_tuple().exponent <= scale), *most]


def arrow_columns():
    """(a column of each Arrow type that Parquet holds, its cells as Python values)."""
    for name, bits in BITS.items():
        low = 0 if name.startswith("u") else -(2**bits)
        yield pa.type_for_alias(name), [x for x in WHOLE if low <= x < 2**bits]
    for name, type_ in (("float16", np.float16), ("float32", np.float32), ("float64", np.float64)):
        with np.errstate(over="ignore"):
            yield pa.type_for_alias(name), [type_(x) for x in [*FRACTIONS, *WHOLE]]
    for precision, scale in ((5, 0), (9, 2), (18, 3), (20, 0), (38, 0), (38, 10), (38, 30)):
        yield pa.decimal128(precision, scale), decimals(precision, scale)
    yield pa.decimal32(5, 1), [Decimal("1.0"), Decimal("1.5")]
    yield pa.decimal64(18, 0), [Decimal(1), Decimal(1_650_812_741_436)]
    yield pa.decimal256(76, 0), [Decimal(5), Decimal(2**53 + 1)]
    yield pa.bool_(), [True, False]
    for text in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        yield text, TEXTS
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "Asia/Shanghai"):
            moment = NOW if unit in ("us", "ns") else NOW.replace(microsecond=436_000 if unit == "ms" else 0)
            moments = [moment, datetime(1969, 12, 31, 23, 59, 59), datetime(2000, 1, 1)]
            yield pa.timestamp(unit, zone), [m if zone is None else m.replace(tzinfo=UTC) for m in moments]
    yield pa.date32(), [date(2022, 4, 24), date(1899, 12, 31)]
    yield pa.date64(), [date(2022, 4, 24), date(1899, 12, 31)]
    yield pa.time32("ms"), [time(12, 0)]
    yield pa.time64("us"), [time(12, 0)]
    for unit in ("s", "ms", "us", "ns"):
        yield pa.duration(unit), [timedelta(seconds=3)]
    yield pa.binary(), [b"12", b"\xff"]
    yield pa.large_binary(), [b"12"]
    yield pa.binary(2), [b"12"]
    yield pa.uuid(), [uuid.UUID(int=12), uuid.UUID(int=2**127 + 5)]
    yield pa.list_(pa.int64()), [[1], []]
    yield pa.struct([("x", pa.int64())]), [{"x": 1}]
    yield pa.map_(pa.string(), pa.int64()), [[("x", 1)]]
    yield pa.dictionary(pa.int8(), pa.int64()), [1, 2**53 + 1]
    yield pa.null(), []


COLUMNS = [(type_, [*cells, None]) for type_, cells in arrow_columns()]
MANTISSA = {"halffloat": 11, "float": 24, "double": 53}


def expected(type_, cell, column):
    """(value, None) of what is kept, (None, reason) of what is not."""
    value_type = type_.value_type if isinstance(type_, pa.DictionaryType) else type_
    if cell is None or cell == "":
        return (None, "missing") if column.required else (None, None)
    read = {"text": of_text_ids, "datetime": of_moments}.get(column.reads, of_numbers)
    with localcontext(prec=90):
        found = read(value_type, cell, column)
    if isinstance(found, str) and column.reads != "text":
        return None, found
    return found if isinstance(found, tuple) else (found, None)


def is_number(type_):
    return pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)


def is_text(type_):
    return str(type_) in ("string", "large_string", "string_view")


def of_numbers(type_, cell, column):
    """A number of milliseconds, or what is wrong."""
    floats = MANTISSA.get(str(type_))
    if str(type_).startswith("decimal256"):
        return "wrong_type"
    if is_text(type_):
        cell = cell.strip(" ")
        if column.reads == "flag" and cell.lower() in ("true", "false"):
            return int(cell.lower() == "true")
        if cell.lower() in ("nan", "inf", "infinity"):
            return "out_of_range"
        if not re.fullmatch(r"[+-]?[0-9]*\.?[0-9]*(e[+-]?[0-9]+)?", cell):
            return "not_a_number"
        try:
            number = Decimal(cell)
        except ArithmeticError:
            return "not_a_number"
        floats = 53 if "e" in cell.lower() else None
    elif pa.types.is_boolean(type_):
        return int(cell) if column.reads == "flag" else "wrong_type"
    elif not is_number(type_):
        return "wrong_type"
    elif floats:
        if not math.isfinite(cell):
            return "out_of_range"
        number = Decimal(float(cell))  # exactly
    else:
        number = Decimal(int(cell)) if pa.types.is_integer(type_) else cell
    if column.reads != "seconds" and number != int(number):
        return "fraction"
    scaled = number * 1000 if column.reads == "seconds" else number
    whole = int(scaled.to_integral_value(ROUND_HALF_UP))
    if not column.low <= whole <= column.high:
        return "out_of_range"
    if floats and abs(scaled) >= 2**floats:
        return "inexact"
    return whole


def of_moments(type_, cell, _column):
    if is_text(type_):
        return MOMENTS.get(cell, "not_a_number")
    if not (pa.types.is_timestamp(type_) or pa.types.is_date(type_)):
        return "wrong_type"
    moment = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)
    ms = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return ms if FIRST_MS <= ms <= LAST_MS else "out_of_range"


def of_text_ids(type_, cell, _column):
    if is_text(type_) or str(type_) == "extension<arrow.uuid>":
        return str(cell)
    if pa.types.is_boolean(type_):
        return str(cell).lower()
    if pa.types.is_integer(type_):
        return str(cell)
    if pa.types.is_decimal(type_) and type_.bit_width <= 128:
        return f"{cell.quantize(Decimal(1).scaleb(-type_.scale)) + 0:f}"
    if not pa.types.is_floating(type_):
        return None, "wrong_type"
    if math.isfinite(cell) and cell != int(cell):
        return None, "fraction"
    if not math.isfinite(cell) or not -(2**63) <= int(cell) < 2**63:
        return None, "out_of_range"
    return (None, "inexact") if abs(int(cell)) >= 2 ** MANTISSA[str(type_)] else str(int(cell))


def check(intake, name, type_, cells, column):
    """Read a file of that name, its only column of a type and these cells."""
    path, form = intake.folder / name, name.split(".")[1]
    if form == "parquet":
        pq.write_table(pa.table({"x": pa.array(cells, type_)}), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("x", "title"), *((cell, "a, b") for cell in cells)])
    rows = intake.read([path], {"x": column})
    kept = {row["row"]: row["x"] for row in rows.to_pyarrow().to_pylist()}
    rejected = intake.quarantine().filter(_.file == name).to_pyarrow().to_pylist()
    header = int(form == "csv")
    aside = {row["line"] - header: row["reason"] for row in rejected}
    found = [(kept.get(line), aside.get(line)) for line in range(1, len(cells) + 1)]
    assert sorted([*kept, *aside]) == list(range(1, len(cells) + 1))
    wanted = [expected(type_, cell, column) for cell in cells]
    wrong = [(cell, is_, not_) for cell, is_, not_ in zip(cells, found, wanted, strict=True) if is_ != not_]
    assert wrong == [], f"{type_} as {column}: (cell, found, expected)"


@pytest.mark.parametrize("use", USES)
def test_every_cell_is_kept_exactly_or_set_aside_with_its_reason(connect, tmp_path, use):
    intake = Intake(connect(), tmp_path)
    for number, (type_, cells) in enumerate(COLUMNS):
        check(intake, f"{number}.parquet", type_, cells, USES[use])


@pytest.mark.parametrize("use", USES)
def test_every_cell_of_a_csv_file_is_judged_alike(connect, tmp_path, use):
    check(Intake(connect(), tmp_path), "x.csv", pa.string(), [text for text in TEXTS if text != ""], USES[use])


def test_so_many_pairs_of_a_type_and_a_use_are_tried():
    assert len(COLUMNS) * len(USES) == 440


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(2**40), max_value=2**40).map(
        "{:f}".format
    ),
    st.sampled_from(TEXTS),
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(cells=st.lists(NUMBERS, min_size=1, max_size=20), use=st.sampled_from(["id", "amount", "seconds"]))
def test_numbers_as_text_are_what_their_digits_say(connect, tmp_path_factory, cells, use):
    intake = Intake(connect(), tmp_path_factory.mktemp("raw"))
    for name in ("x.parquet", "x.csv"):
        check(intake, name, pa.string(), cells, USES[use])


def cells_that_may_be_bad():
    return [*TEXTS, None, *(f"{i}{end}" for i in (-6, -5, 0, 1, 2, 2**31, 2**53) for end in ("", ".0", ".", "e0"))]


@pytest.mark.parametrize("use", USES)
def test_a_cell_is_bad_if_and_only_if_it_has_a_fault(connect, use):
    """What is quick to test, and what tells the reason, must agree."""
    con, column = connect(), USES[use]
    bad, fault = " OR ".join(bad_if("x", column, TEXT)), " OR ".join(faults("x", column, TEXT))
    values = ", ".join(f"({'NULL' if cell is None else literal(cell)})" for cell in cells_that_may_be_bad())
    cells = f"(SELECT x, try_cast(x AS DOUBLE) AS {as_double('x')} FROM (VALUES {values}) cells(x))"
    query = f"SELECT x, coalesce({bad or 'false'}, false), coalesce({fault}, false) FROM {cells}"
    assert [row for row in con.raw_sql(query).fetchall() if row[1] != row[2]] == []


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    cells=st.lists(st.integers(-(10**30), 10**30).map(lambda i: Decimal(i).scaleb(-3)), min_size=1, max_size=20),
    use=st.sampled_from(["id", "amount", "seconds", "milliseconds"]),
)
def test_decimals_are_never_rounded_to_floats(connect, tmp_path_factory, cells, use):
    intake = Intake(connect(), tmp_path_factory.mktemp("raw"))
    check(intake, "x.parquet", pa.decimal128(38, 3), cells, USES[use])
