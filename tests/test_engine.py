import gc

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextreel import arrays, engine
from nextreel.errors import UserError
from nextreel.params import Params


@pytest.fixture
def shuffled():
    """More rows than two row groups hold, in no order, with ties in `group`."""
    key = np.random.default_rng(0).permutation(2 * engine.ROW_GROUP + 10_000)
    return ibis.memtable(pa.table({"group": key // 1_000, "key": key, "value": key * 0.5}))


def test_rows_are_written_in_the_order_asked_for(shuffled, con, tmp_path):
    engine.write(con, shuffled, tmp_path / "up.parquet", ["group", "key"])
    engine.write(con, shuffled.mutate(key=-shuffled.key), tmp_path / "down.parquet", ["group", "key"])
    up, down = (pq.read_table(tmp_path / f"{name}.parquet")["key"].to_numpy() for name in ("up", "down"))
    assert (up == np.arange(len(up))).all()
    assert (-down[:1_000] == np.arange(999, -1, -1)).all()
    assert (np.diff(-down // 1_000) >= 0).all()


def test_bytes_do_not_depend_on_threads_or_row_order(shuffled, connect, tmp_path):
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
    with arrays.Writer(path) as writer:
        for start in (0, 3, 6):
            writer.add({"x": np.arange(start, min(start + 3, 7)), "y": np.zeros(min(3, 7 - start), np.float32)})
        assert not path.exists()
    loaded = arrays.load(path)
    assert loaded["x"].tolist() == list(range(7))
    assert loaded["y"].dtype == np.float32


def test_an_empty_batch_keeps_names_and_types(tmp_path):
    path = tmp_path / "t.parquet"
    arrays.write({"x": np.zeros(0, np.int32), "s": np.zeros(0, np.float32)}, path)
    loaded = arrays.load(path)
    assert {name: (len(column), column.dtype) for name, column in loaded.items()} == {
        "x": (0, np.dtype("int32")),
        "s": (0, np.dtype("float32")),
    }


@pytest.mark.parametrize("batches_before_the_error", [0, 1])
def test_a_writer_that_fails_leaves_nothing_new(tmp_path, batches_before_the_error):
    path = tmp_path / "t.parquet"
    arrays.write({"x": np.arange(3)}, path)
    old = path.read_bytes()

    def batches():
        with arrays.Writer(path) as writer:
            for _ in range(batches_before_the_error):
                writer.add({"x": np.arange(9)})
            raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas"):
        batches()
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_batch_of_other_types_is_refused(tmp_path):
    def batches():
        with arrays.Writer(tmp_path / "t.parquet") as writer:
            writer.add({"x": np.arange(3)})
            writer.add({"x": np.zeros(3)})

    with pytest.raises(ValueError, match="schema"):
        batches()
    assert list(tmp_path.iterdir()) == []


def test_load_keeps_rows_that_satisfy_all_comparisons(tmp_path):
    path = tmp_path / "t.parquet"
    arrays.write({"rank": np.array([3, 1, 2, 1]), "part": np.array(["a", "a", "a", "b"])}, path)
    loaded = arrays.load(path, where=[("rank", "<=", 2), ("part", "=", "a")])
    assert {name: column.tolist() for name, column in loaded.items()} == {"rank": [1, 2], "part": ["a", "a"]}
    assert arrays.load(path, where=[("rank", ">", 9)])["rank"].tolist() == []


def test_load_reads_only_the_columns_asked_for(tmp_path):
    path = tmp_path / "t.parquet"
    arrays.write({"a": np.arange(2), "b": np.arange(2)}, path)
    assert list(arrays.load(path, columns=["b"])) == ["b"]
    assert arrays.load(path, where=[("a", "=", 1)], columns=["b"])["b"].tolist() == [1]


def test_load_stacks_lists_of_one_length(tmp_path):
    rows = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]
    pq.write_table(pa.table({"i": [1, 2, 3], "v": rows}), tmp_path / "t.parquet")
    assert arrays.load(tmp_path / "t.parquet")["v"].tolist() == rows
    filtered = arrays.load(tmp_path / "t.parquet", where=[("i", ">", 1)])
    assert filtered["v"].tolist() == rows[1:]
    assert arrays.load(tmp_path / "t.parquet", where=[("i", ">", 9)])["v"].shape == (0, 0)


@pytest.mark.parametrize("limit", ["2GB", "512MB", "1.5 GiB"])
def test_memory_limits_are_what_duckdb_takes(limit, tmp_path):
    section = Params({"engine": {"memory_limit": limit}}).section("engine", engine.Params)
    assert engine.connect(section, 1, tmp_path).raw_sql("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("limit", ["2", "lots", "2 GX", "-1GB"])
def test_other_memory_limits_are_refused(limit):
    with pytest.raises(UserError, match=r"`engine\.memory_limit` is"):
        Params({"engine": {"memory_limit": limit}}).section("engine", engine.Params)


def test_connect_uses_the_threads_it_is_given(connect):
    for threads in (1, 2):
        assert connect(threads).raw_sql("SELECT current_setting('threads')").fetchone() == (threads,)


def test_scratch_lies_where_it_is_told_and_goes_with_the_connection(tmp_path):
    con = engine.connect(engine.Params(memory_limit="1GB"), 1, tmp_path / "new/scratch")
    folder = engine.scratch(con)
    assert folder.parent == tmp_path / "new/scratch"
    assert (folder / "tables.duckdb").exists()
    con.raw_sql("CREATE TABLE kept AS SELECT 1 AS x")
    table = con.table("kept")
    del con
    gc.collect()
    assert table.count().to_pyarrow().as_py() == 1  # a table keeps its engine
    del table
    gc.collect()
    assert not folder.exists()
