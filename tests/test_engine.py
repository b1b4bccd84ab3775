import gzip

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextreel import engine
from nextreel.errors import UserError
from nextreel.params import Params

TYPES = {"a": "DOUBLE", "b": "DOUBLE"}


def connect(threads):
    return engine.connect(engine.Params(memory_limit="1GB"), threads)


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "x.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def shuffled():
    """More rows than two row groups hold, in no order, with ties in `group`."""
    key = np.random.default_rng(0).permutation(2 * engine.ROW_GROUP + 10_000)
    return ibis.memtable(pa.table({"group": key // 1_000, "key": key, "value": key * 0.5}))


def test_rows_are_written_in_the_order_asked_for(shuffled, tmp_path):
    con = connect(2)
    engine.write(con, shuffled, tmp_path / "up.parquet", ["group", "key"])
    engine.write(con, shuffled.mutate(key=-shuffled.key), tmp_path / "down.parquet", ["group", "key"])
    up, down = (pq.read_table(tmp_path / f"{name}.parquet")["key"].to_numpy() for name in ("up", "down"))
    assert (up == np.arange(len(up))).all()
    assert (-down[:1_000] == np.arange(999, -1, -1)).all()
    assert (np.diff(-down // 1_000) >= 0).all()


def test_bytes_do_not_depend_on_threads_or_row_order(shuffled, tmp_path):
    sorted_rows = ibis.memtable(shuffled.order_by("key").to_pyarrow())
    for name, threads, table in (("a", 1, shuffled), ("b", 2, shuffled), ("c", 2, sorted_rows)):
        engine.write(connect(threads), table, tmp_path / f"{name}.parquet", ["group", "key"])
    first, *others = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert others == [first, first]


def test_a_failing_write_leaves_the_old_table(con, tmp_path):
    path = tmp_path / "t.parquet"
    engine.write(con, ibis.memtable({"x": [1, 2]}), path, ["x"])
    old = path.read_bytes()
    broken = ibis.memtable({"x": ["1", "two"]}).mutate(x=ibis._.x.cast("int64"))
    with pytest.raises(Exception, match="two"):
        engine.write(con, broken, path, ["x"])
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_is_a_file_or_a_folder_of_files(con, tmp_path):
    engine.write(con, ibis.memtable({"x": [3]}), tmp_path / "one.parquet", ["x"])
    for name, values in (("part0", [1, 2]), ("part1", [3])):
        engine.write(con, ibis.memtable({"x": values}), tmp_path / "many" / f"{name}.parquet", ["x"])
    assert engine.read(con, tmp_path / "one.parquet").to_pyarrow().to_pydict() == {"x": [3]}
    assert sorted(engine.read(con, tmp_path / "many").x.to_pyarrow().to_pylist()) == [1, 2, 3]


def test_batches_become_one_table(tmp_path):
    path = tmp_path / "t.parquet"
    with engine.Writer(path) as writer:
        for start in (0, 3, 6):
            writer.add({"x": np.arange(start, min(start + 3, 7)), "y": np.zeros(min(3, 7 - start), np.float32)})
        assert not path.exists()
    loaded = engine.load(path)
    assert loaded["x"].tolist() == list(range(7))
    assert loaded["y"].dtype == np.float32


def test_an_empty_batch_keeps_names_and_types(tmp_path):
    path = tmp_path / "t.parquet"
    engine.write_arrays({"x": np.zeros(0, np.int32), "s": np.zeros(0, np.float32)}, path)
    loaded = engine.load(path)
    assert {name: (len(column), column.dtype) for name, column in loaded.items()} == {
        "x": (0, np.dtype("int32")),
        "s": (0, np.dtype("float32")),
    }


@pytest.mark.parametrize("batches_before_the_error", [0, 1])
def test_a_writer_that_fails_leaves_nothing_new(tmp_path, batches_before_the_error):
    path = tmp_path / "t.parquet"
    engine.write_arrays({"x": np.arange(3)}, path)
    old = path.read_bytes()

    def batches():
        with engine.Writer(path) as writer:
            for _ in range(batches_before_the_error):
                writer.add({"x": np.arange(9)})
            raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas"):
        batches()
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_batch_of_other_types_is_refused(tmp_path):
    def batches():
        with engine.Writer(tmp_path / "t.parquet") as writer:
            writer.add({"x": np.arange(3)})
            writer.add({"x": np.zeros(3)})

    with pytest.raises(ValueError, match="schema"):
        batches()
    assert list(tmp_path.iterdir()) == []


def test_load_keeps_rows_that_satisfy_all_comparisons(tmp_path):
    path = tmp_path / "t.parquet"
    engine.write_arrays({"rank": np.array([3, 1, 2, 1]), "part": np.array(["a", "a", "a", "b"])}, path)
    loaded = engine.load(path, where=[("rank", "<=", 2), ("part", "=", "a")])
    assert {name: column.tolist() for name, column in loaded.items()} == {"rank": [1, 2], "part": ["a", "a"]}
    assert engine.load(path, where=[("rank", ">", 9)])["rank"].tolist() == []


def test_load_reads_only_the_columns_asked_for(tmp_path):
    path = tmp_path / "t.parquet"
    engine.write_arrays({"a": np.arange(2), "b": np.arange(2)}, path)
    assert list(engine.load(path, columns=["b"])) == ["b"]
    assert engine.load(path, where=[("a", "=", 1)], columns=["b"])["b"].tolist() == [1]


def test_load_stacks_lists_of_one_length(tmp_path):
    rows = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]
    pq.write_table(pa.table({"i": [1, 2, 3], "v": rows}), tmp_path / "t.parquet")
    assert engine.load(tmp_path / "t.parquet")["v"].tolist() == rows
    filtered = engine.load(tmp_path / "t.parquet", where=[("i", ">", 1)])
    assert filtered["v"].tolist() == rows[1:]
    assert engine.load(tmp_path / "t.parquet", where=[("i", ">", 9)])["v"].shape == (0, 0)


def test_csv_columns_are_found_by_name_and_rows_numbered(con, csv):
    scan = engine.scan_csv(con, csv("b,skip,a\n1,x,2\n3,y,4\n"), TYPES, has_text=False)
    assert (scan.n_lines, scan.rejected) == (2, {})
    assert scan.table.order_by("row").to_pyarrow().to_pylist() == [
        {"a": 2.0, "b": 1.0, "row": 1},
        {"a": 4.0, "b": 3.0, "row": 2},
    ]


def test_lines_that_do_not_parse_are_set_aside_with_their_number(con, csv):
    scan = engine.scan_csv(con, csv("a,b\n1,2\nx,2\n3\n5,6,7\n8,9\n"), TYPES, has_text=False)
    assert scan.n_lines == 5
    assert list(scan.rejected) == [3, 4, 5]
    assert "x" in scan.rejected[3]
    assert sorted(scan.table.a.to_pyarrow().to_pylist()) == [1.0, 8.0]


def test_a_stray_quote_in_numbers_spoils_only_its_line(con, csv):
    scan = engine.scan_csv(con, csv('a,b\n1,2\n"3,4\n5,6\n'), TYPES, has_text=False)
    assert list(scan.rejected) == [3]
    assert sorted(scan.table.a.to_pyarrow().to_pylist()) == [1.0, 5.0]


def test_the_last_line_counts_with_and_without_its_newline(con, csv):
    assert engine.scan_csv(con, csv("a,b\n1,2\n3,4"), TYPES, has_text=False).n_lines == 2
    assert engine.scan_csv(con, csv("a,b\n1,2\n3,4\n"), TYPES, has_text=False).n_lines == 2


def test_two_files_are_read_by_one_engine(con, csv):
    first = engine.scan_csv(con, csv("a,b\n1,x\n"), TYPES, has_text=False)
    second = engine.scan_csv(con, csv("a,b\n1,2\n3,4\n"), TYPES, has_text=False)
    assert (len(first.rejected), len(second.rejected), second.table.count().execute()) == (1, 0, 2)


@pytest.mark.parametrize(
    ("text", "has_text"),
    [("a,b\n1,2\n\n3,4\n", False), ("a,b\n1,2\n\n", False), ('a,b\n1,"x\ny"\n', True)],
    ids=["blank line", "blank end", "line break within quotes"],
)
def test_lost_lines_stop_the_run(con, csv, text, has_text):
    types = TYPES | {"b": "VARCHAR"} if has_text else TYPES
    with pytest.raises(UserError, match=r"x\.csv: \d data lines, but \d were read and 0 rejected"):
        engine.scan_csv(con, csv(text), types, has_text)


@pytest.mark.parametrize(
    "text", ['"a","b"\n1,2\n3,"4\n5,6\n', "a,b\r\n1,2\n3,4\r\n"], ids=["stray quote", "mixed line ends"]
)
def test_a_file_that_cannot_be_sniffed_is_a_user_error(con, csv, text):
    with pytest.raises(UserError, match=r"x\.csv"):
        engine.scan_csv(con, csv(text), TYPES, has_text=False)


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
        engine.scan_csv(con, csv(text), TYPES, has_text=False)
    assert "x.csv" in str(caught.value)


def test_time_range_spans_files_and_skips_text(con, tmp_path):
    paths = [tmp_path / "1.csv", tmp_path / "2.csv"]
    paths[0].write_text("time_ms,x\n30,1\nlater,1\n20.0,1\n")
    paths[1].write_text("x,time_ms\n1,50\n999\n")
    assert engine.time_range(con, paths, "time_ms", (0, 100)) == (20, 50)


def test_time_range_of_no_rows_is_none(con, csv):
    assert engine.time_range(con, [csv("time_ms,x\n")], "time_ms", (0, 100)) is None


def test_time_range_understands_a_quoted_header(con, csv):
    assert engine.time_range(con, [csv('"time_ms","x"\n30,1\n')], "time_ms", (0, 100)) == (30, 30)


@pytest.mark.parametrize("limit", ["2GB", "512MB", "1.5 GiB"])
def test_memory_limits_are_what_duckdb_takes(limit):
    section = Params({"engine": {"memory_limit": limit}}).section("engine", engine.Params)
    assert engine.connect(section, 1).raw_sql("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("limit", ["2", "lots", "2 GX", "-1GB"])
def test_other_memory_limits_are_refused(limit):
    with pytest.raises(UserError, match=r"`engine\.memory_limit` is"):
        Params({"engine": {"memory_limit": limit}}).section("engine", engine.Params)


def test_connect_uses_the_threads_it_is_given():
    for threads in (1, 2):
        assert connect(threads).raw_sql("SELECT current_setting('threads')").fetchone() == (threads,)
