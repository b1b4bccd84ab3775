"""Every line of a raw file is a row or stands in the quarantine, with its file, line, column, value and reason."""

import gzip
import hashlib
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextreel import arrays
from nextreel.errors import UserError
from nextreel.raw import filebytes, sources
from nextreel.raw.columns import EXACT, Column
from nextreel.raw.intake import Intake
from nextreel.schema import INT32, INT64

TWO = {"a": Column(), "b": Column()}
TEXT = {"a": Column(), "b": Column(reads="text")}


def read(con, paths, columns=TWO):
    paths = paths if isinstance(paths, list) else [paths]
    intake = Intake(con, paths[0].parent)
    return intake, intake.read(paths, columns)


def kept(rows):
    """The usable rows as tuples, `row` last."""
    return [tuple(row.values()) for row in rows.order_by("row").to_pyarrow().to_pylist()]


def rejected(intake):
    """The quarantine as tuples: file, line, column, value, reason."""
    rows = intake.quarantine().order_by("file", "line").to_pyarrow().to_pylist()
    return [tuple(row.values()) for row in rows]


def test_columns_are_found_by_name_and_rows_numbered(con, csv):
    intake, rows = read(con, csv("b,skip,a\n1,x,2\n3,y,4\n"))
    assert kept(rows) == [(2, 1, 1), (4, 3, 2)]
    assert (intake.files[0].n_rows, rejected(intake)) == (2, [])


def test_lines_that_do_not_parse_are_set_aside_with_their_number(con, csv):
    intake, rows = read(con, csv("a,b\n1,2\nx,2\n3\n5,6,7\n8,9\n"))
    assert intake.files[0].n_rows == 5
    assert rejected(intake) == [
        ("x.csv", 3, "a", "x", "not_a_number"),
        ("x.csv", 4, None, "3", "wrong_cells"),
        ("x.csv", 5, None, "5,6,7", "wrong_cells"),
    ]
    assert [(a, b) for a, b, _ in kept(rows)] == [(1, 2), (8, 9)]


def test_a_stray_quote_in_numbers_spoils_only_its_line(con, csv):
    intake, rows = read(con, csv('a,b\n1,2\n"3,4\n5,6\n'))
    assert rejected(intake) == [("x.csv", 3, "a", '"3', "not_a_number")]
    assert [a for a, _, _ in kept(rows)] == [1, 5]


def test_a_file_cut_in_mid_row_loses_that_row_alone(con, csv):
    intake, rows = read(con, csv("a,b\n1,2\n3,4\n5"))
    assert rejected(intake) == [("x.csv", 4, None, "5", "wrong_cells")]
    assert (len(kept(rows)), intake.files[0].n_rows) == (2, 3)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_last_line_counts_with_and_without_its_newline(con, csv, end):
    newline = end or "\n"
    intake, _ = read(con, csv(f"a,b{newline}1,2{newline}3,4{end}"))
    assert intake.files[0].n_rows == 2


def test_two_tables_are_read_by_one_intake(con, csv):
    first = csv("a,b\n1,x\n", "1.csv")
    intake = Intake(con, first.parent)
    intake.read([first], TWO)
    rows = intake.read([csv("a,b\n1,2\n3,4\n-5,6\n", "2.csv")], TWO)
    assert [(file, line) for file, line, *_ in rejected(intake)] == [("1.csv", 2), ("2.csv", 4)]
    assert kept(rows) == [(1, 2, 1), (3, 4, 2)]


@pytest.mark.parametrize(
    ("text", "columns"),
    [("a,b\n1,2\n\n3,4\n", TWO), ('a,b\n1,x\n\n2,"y\n3,z\n4,z"\n5,z\n', TEXT)],
    ids=["blank line", "blank line before a text of three lines"],
)
def test_lost_lines_stop_the_run(con, csv, text, columns):
    with pytest.raises(UserError, match=r"x\.csv: \d data lines, but \d were read and 0 rejected.*; line 3 is blank"):
        read(con, csv(text), columns)


@pytest.mark.parametrize("end", ["\n", "\n\n\n"])
def test_blank_lines_at_the_end_are_no_fault(con, csv, end):
    intake, rows = read(con, csv(f"a,b\n1,2\n3,4\n{end}"))
    assert ([a for a, *_ in kept(rows)], intake.files[0].n_rows) == ([1, 3], 2)


def test_lines_are_those_of_the_file_where_a_quote_stands_within_a_cell(connect, csv):
    intake, _rows = read(connect(), csv('a,b\n1,5" tv\nx,"p\nq\nr"\n3,6" tv\ny,z\n'), TEXT)
    assert [(line, value) for _, line, _, value, _ in rejected(intake)] == [(3, "x"), (7, "y")]
    intake, rows = read(connect(), csv('a,b\n1,5" tv\n3,"p\nq"\n4,"r\n",\n', "y.csv"), TEXT)
    assert len(kept(rows)) == 3


@pytest.mark.parametrize("mixed", ["a,b\r\n1,2\n3,4\r\n", "a,b\n1,2\r\n3,4\n", "a,b\n1\r,2\n"])
def test_a_line_that_ends_otherwise_is_named(connect, csv, mixed):
    with pytest.raises(UserError, match="line 2 ends otherwise than the first"):
        read(connect(), csv(mixed))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ('"a","b"\n1,2\n3,"4\n5,6\n', TWO),
        ("a,b\r\n1,2\n3,4\r\n", TWO),
        ("a,b\r1,2\r", TWO),
        ('a,b\n1,"x\n2,y\n3,z\n', TEXT),
        ('a,b\n1,"x"\n2,"cut', TEXT),
    ],
    ids=["stray quote", "mixed line ends", "CR alone", "stray quote in text", "text cut short"],
)
def test_a_file_that_cannot_be_read_is_a_user_error(con, csv, text, columns):
    with pytest.raises(UserError, match=r"x\.csv"):
        read(con, csv(text), columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"\n1,2\n", "is empty"),
        (gzip.compress(b"a,b\n1,2\n"), "gzip-compressed although its name ends in .csv"),
        (b"a,b,a\n1,2,3\n", "the header names a more than once"),
        (b"a,c\n1,2\n", "columns missing: b; the header has: a, c"),
    ],
    ids=["empty", "empty header", "gzip", "duplicate", "missing"],
)
def test_a_bad_header_is_named(con, csv, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read(con, csv(text))
    assert "x.csv" in str(caught.value)


def test_a_header_alone_is_no_row(con, csv):
    intake, rows = read(con, [csv("a,b\n", "1.csv"), csv("a,b", "2.csv"), csv("a,b\n-1,2\n", "3.csv")])
    assert (kept(rows), [file.n_rows for file in intake.files]) == ([], [0, 0, 1])
    assert rejected(intake) == [("3.csv", 2, "a", "-1", "out_of_range")]


def test_text_that_is_no_utf8_loses_its_row(con, csv):
    intake, rows = read(con, csv("a,b\n1,caf\xe9\n2,tea\n".encode("latin-1")), TEXT)
    assert kept(rows) == [(2, "tea", 1)]
    (found,) = rejected(intake)
    assert (found[1], found[2], found[4]) == (2, None, "wrong_cells")


def test_quotes_commas_and_line_breaks_within_quotes_are_text(con, csv):
    intake, rows = read(con, csv('a,b\n1,"x, ""y""\nz"\n2,p\n3,""\n4,\n'), TEXT)
    assert kept(rows) == [(1, 'x, "y"\nz', 1), (2, "p", 2), (3, None, 3), (4, None, 4)]
    assert intake.files[0].n_rows == 4


def test_lines_are_those_of_the_file_where_texts_have_line_breaks(con, csv):
    text = 'a,b\n1,"x\ny"\n-2,z\nq,"r\ns"\n3,"p\n\nq"\n-4,"k\nl"\n1,2,3\n-6,z\n'
    intake, rows = read(con, [csv("a,b\nx,y\n", "0.csv"), csv(text)], TEXT)
    assert [(file, line) for file, line, *_ in rejected(intake)] == [
        ("0.csv", 2),
        *[("x.csv", line) for line in (4, 5, 10, 12, 13)],
    ]
    assert [a for a, *_ in kept(rows)] == [1, 3]
    assert [file.n_rows for file in intake.files] == [1, 7]


@pytest.mark.parametrize("tail", ["", "3e2\n12.0\n1.5\n"], ids=["whole numbers alone", "floats too"])
def test_ids_are_exact_up_to_int64(con, csv, tail):
    ids = [2**53 + 1, INT64, INT64 + 1, -1, 2**64]
    intake, rows = read(con, csv("id\n" + "".join(f"{i}\n" for i in ids) + tail), {"id": Column(0, INT64, True)})
    assert [i for i, _ in kept(rows)] == [2**53 + 1, INT64, *([300, 12] if tail else [])]
    assert [row[1:] for row in rejected(intake)] == [
        *[(line, "id", str(i), "out_of_range") for line, i in zip((4, 5, 6), ids[2:], strict=True)],
        *([(9, "id", "1.5", "fraction")] if tail else []),
    ]


def test_files_are_known_by_their_bytes(con, csv):
    texts = ["a,b\n1,2\n", "a,b\n1,2", "a,b", "a,b\n", "a,b\n" + "3,4\n" * 300_000]  # the last more than a block
    paths = [csv(text, f"{i}.csv") for i, text in enumerate(texts)]
    found = [(file.path, file.n_bytes, file.sha256) for file in read(con, paths)[0].files]
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    assert found == [(path, len(text), known) for path, text, known in zip(paths, texts, hashes, strict=True)]


# --- times ---


def test_seconds_become_whole_milliseconds(con, csv):
    seconds = {"t": Column(10_000, 90_000, True, "seconds")}
    intake, rows = read(
        con, csv("t\n10\n12.3456\n9.9994\n9.9995\n90\n91\nx\n\n5e1\nnan\n".replace("\n\n", '\n""\n')), seconds
    )
    assert [t for t, _ in kept(rows)] == [10_000, 12_346, 10_000, 90_000, 50_000]
    assert [(line, value, reason) for _, line, _, value, reason in rejected(intake)] == [
        (4, "9.9994", "out_of_range"),
        (7, "91", "out_of_range"),
        (8, "x", "not_a_number"),
        (9, '""', "not_a_number"),
        (11, "nan", "out_of_range"),
    ]


def test_datetimes_are_utc_where_they_name_no_zone(con, csv, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    times = {"t": Column(0, INT64, True, "datetime"), "x": Column()}
    mixed = "t,x\n1970-01-02,1\n1970-01-02 00:00:01,1\n1970-01-02T00:00:01.5Z,1\n1970-01-02 08:00:00+08:00,1\n"
    bad = "soon,1\ninfinity,1\n1969-12-31,1\n,1\n"
    intake, rows = read(con, csv(mixed + bad), times)
    assert [t for t, *_ in kept(rows)] == [86_400_000, 86_401_000, 86_401_500, 86_400_000]
    assert [(line, value, reason) for _, line, _, value, reason in rejected(intake)] == [
        (6, "soon", "not_a_number"),
        (7, "infinity", "not_a_number"),
        (8, "1969-12-31", "out_of_range"),
        (9, None, "missing"),
    ]


def test_dates_alone_are_no_whole_numbers(con, csv):
    intake, rows = read(con, csv("t,x\n1970-01-02,1\n1970-01,1\n"), {"t": Column(0, INT64, True, "datetime")})
    assert kept(rows) == [(86_400_000, 1)]
    assert rejected(intake) == [("x.csv", 3, "t", "1970-01", "not_a_number")]


def test_the_first_of_a_key_is_kept_and_the_others_are_set_aside(con, csv):
    intake, rows = read(con, [csv("a,b\n1,2\n-1,2\n1,2\n1,3\n", "1.csv"), csv("a,b\n1,3\nx,1\n1,2\n,1\n,1\n", "2.csv")])
    first = intake.first_of(rows, ["a", "b"])
    assert [(a, b) for a, b, _ in kept(first)] == [(1, 2), (1, 3), (None, 1)]
    assert [(file, line, reason) for file, line, _, _, reason in rejected(intake)] == [
        *[("1.csv", 3, "out_of_range"), ("1.csv", 4, "repeated")],
        *[("2.csv", 2, "repeated"), ("2.csv", 3, "not_a_number"), ("2.csv", 4, "repeated"), ("2.csv", 6, "repeated")],
    ]


# --- Parquet ---


def test_parquet_files_are_judged_alike(con, tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"b": [1.0, 2.5, 3.0, math.nan, None], "a": pa.array(["1", "2", "x", "4", "5"])}), path)
    intake, rows = read(con, path)
    assert kept(rows) == [(1, 1, 1), (5, None, 5)]
    assert rejected(intake) == [
        ("x.parquet", 2, "b", "2.5", "fraction"),
        ("x.parquet", 3, "a", "x", "not_a_number"),
        ("x.parquet", 4, "b", "nan", "out_of_range"),
    ]
    assert intake.files[0].n_rows == 5


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_parquet_file_that_was_cut_is_a_user_error(con, tmp_path, share):
    path = tmp_path / "x.parquet"
    arrays.write({"a": np.arange(1_000), "b": np.arange(1_000)}, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match="x.parquet cannot be read as Parquet, perhaps it is cut short"):
        read(con, path)


def test_a_damaged_parquet_file_is_a_user_error(con, tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": np.arange(10_000), "b": np.arange(10_000)}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[4:500] = b"\xff" * 496  # the head of the first page
    path.write_bytes(content)
    for attempt in (read, lambda con, path: sources.time_range(con, [path], "a", Column(10, 100))):
        with pytest.raises(UserError, match="x.parquet cannot be read, perhaps for damage"):
            attempt(con, path)


# --- every line is accounted for ---

COLUMNS = {
    "id": Column(0, INT64, required=True),
    "n": Column(-5, INT32),
    "flag": Column(0, 1, required=True),
    "time": Column(1_000, EXACT, required=True),
}
HEADER = ["flag", "other", "id", "time", "n"]
WHOLE = [
    "0",
    "1",
    "1",
    "2",
    "1000",
    "1001",
    "-1",
    "-5",
    "-6",
    "-007",
    "1-2",
    "",
    str(INT32),
    str(INT32 + 1),
    str(EXACT + 2),
]
ANY = [*WHOLE, "1.0", "0.5", "-1.0", "nan", "inf", "abc", '"1', "1e3"]


def judged(cells, line):
    """None for a usable record, else (column, value, reason), by plain Python."""

    def number(cell):
        try:
            return float(cell)
        except ValueError:
            return None

    if len(cells) != len(HEADER):
        return None, line, "wrong_cells"
    of = dict(zip(HEADER, cells, strict=True))
    for name, column in COLUMNS.items():
        cell = of[name]
        if not cell:
            if column.required:
                return name, None, "missing"
            continue
        x = number(cell)
        if x is None:
            return name, cell, "not_a_number"
        if math.isfinite(x) and x != int(x):
            return name, cell, "fraction"
        if not column.low <= x <= column.high:
            return name, cell, "out_of_range"
    return None


def lines_of(cells):
    """Lists of lines: most of five cells, some of fewer or more."""
    good = st.tuples(*(st.sampled_from(x) for x in (["0", "1"], ["5"], ["3", "4"], ["1000", "2000"], ["7", "", "-5"])))
    odd = st.lists(st.sampled_from(cells), min_size=5, max_size=5)
    other = st.lists(st.sampled_from(cells), min_size=2, max_size=7)
    return st.lists(st.one_of(good, good, odd, other).map(",".join), max_size=30)


def expected(files):
    """The quarantine and the kept (id, n, flag, time) of files' lines."""
    bad, good = [], []
    for name, lines in files:
        for at, line in enumerate(lines, 2):
            cells = line.split(",")
            fault = judged(cells, line)
            if fault:
                bad.append((name, at, *fault))
            else:
                of = dict(zip(HEADER, cells, strict=True))
                good.append(tuple(int(float(of[c])) if of[c] else None for c in COLUMNS))
    return bad, good


def check_against_the_oracle(connect, folder, files):
    paths = [folder / name for name, _ in files]
    for path, (_, lines) in zip(paths, files, strict=True):
        path.write_text("\n".join([",".join(HEADER), *lines]) + "\n", encoding="utf-8")
    intake, rows = read(connect(), paths, COLUMNS)
    bad, good = expected(files)
    assert rejected(intake) == bad
    found = kept(rows)
    assert [row[:-1] for row in found] == good
    assert [row[-1] for row in found] == sorted({row[-1] for row in found})
    assert [file.n_rows for file in intake.files] == [len(lines) for _, lines in files]
    return intake


@settings(max_examples=20, deadline=None, derandomize=True)
@given(files=st.lists(st.one_of(lines_of(WHOLE), lines_of(ANY)), min_size=1, max_size=3))
def test_every_line_is_a_row_or_in_the_quarantine_with_what_is_wrong(tmp_path_factory, connect, files):
    named = [(f"{i}.csv", lines) for i, lines in enumerate(files)]
    check_against_the_oracle(connect, tmp_path_factory.mktemp("raw"), named)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(lines=lines_of(WHOLE))
def test_a_file_of_whole_numbers_is_read_as_any_other(tmp_path_factory, connect, lines):
    folder = tmp_path_factory.mktemp("raw")
    (folder / "plain").mkdir()
    (folder / "text").mkdir()
    (folder / "plain/x.csv").write_text("\n".join([",".join(HEADER), *lines]) + "\n")
    texts = [",".join(["note", *HEADER]), *(f"hello,{line}" for line in lines)]
    (folder / "text/x.csv").write_text("\n".join(texts) + "\n")
    found = []
    columns = COLUMNS | {"id": Column(0, EXACT, required=True)}
    for name in ("plain", "text"):
        intake, rows = read(connect(), folder / name / "x.csv", columns)
        digits = not lines or (name == "plain" and not any("-" in line for line in lines))
        assert filebytes.digest(folder / name / "x.csv").plain == digits
        bad = [(*row[:3], (row[3] or "").removeprefix("hello,"), row[4]) for row in rejected(intake)]
        found.append((bad, kept(rows)))
    (plain_bad, plain_kept), (bad, good) = found
    assert plain_bad == bad
    assert plain_kept == good


def test_lines_are_exact_in_a_file_read_by_several_threads(tmp_path, connect):
    """60 MB: DuckDB cuts a file into pieces of 32 MB or less, a thread each."""
    good = ["0,5,3,1000,7", "1,5,4,2000,"]
    n = 2_400_000
    lines = (good * (n // 2))[:n]
    lines = [f"{line[:-1]}{i}" if i % 2 == 0 else line + str(i) for i, line in enumerate(lines)]
    at = np.random.default_rng(0).choice(n, 40, replace=False)
    for i, line in zip(at, ["2,5,3,1000,7", "1,2", "x,5,3,1000,1", "1,5,,1000,1"] * 10, strict=True):
        lines[i] = line
    lines[-1] = "1,5,3,1000,abc"
    bad = {*at.tolist(), n - 1}
    path = tmp_path / "x.csv"
    path.write_text("\n".join([",".join(HEADER), *lines]) + "\n")
    assert path.stat().st_size > 2**25
    intake, rows = read(connect(), [path], COLUMNS)
    assert rejected(intake) == [("x.csv", i + 2, *judged(lines[i].split(","), lines[i])) for i in sorted(bad)]
    assert rows.n.sum().to_pyarrow().as_py() == sum(i for i in range(n) if i not in bad)
    number = rows.mutate(late=(rows.n.lag().over(order_by="row") >= rows.n).cast("int64")).late.sum()
    assert number.to_pyarrow().as_py() == 0  # `row` follows the file
    assert intake.files[0].n_rows == n
