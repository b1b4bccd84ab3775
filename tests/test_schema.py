"""A written table is held against its schema: types, nulls, ranges, order and keys, in files of any cut."""

import ibis
import ibis.expr.datatypes as dt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextreel import schema

FIRST_MS = 1_650_812_741_436


def searches(n=9):
    """Good rows of a table: three a user, by time and row."""
    columns = {name: pa.nulls(n, kind) for name, kind in zip(*_fields("searches"), strict=True)}
    user = np.arange(n, dtype=np.int32) // 3 + 1
    return columns | {"user_idx": user, "time_ms": FIRST_MS + np.arange(n) % 3, "row": np.arange(n) + 1}


def interactions(n=9):
    columns = {name: pa.nulls(n, kind) for name, kind in zip(*_fields("interactions"), strict=True)}
    times = FIRST_MS + np.arange(n) % 3 // 2  # the first two rows of a user at one moment
    video = np.arange(n, dtype=np.int32) % 3 + 1
    users = np.arange(n, dtype=np.int32) // 3 + 1
    return columns | {"user_idx": users, "video_idx": video, "time_ms": times, "row": np.arange(n) + 1}


def _fields(name):
    fields = list(schema.TABLES[name].to_pyarrow())
    return [field.name for field in fields], [field.type for field in fields]


def changed(columns, column, at, value):
    """A column with one value changed."""
    values = pa.array(columns[column])
    listed = values.to_pylist()
    listed[at] = value
    return columns | {column: pa.array(listed, values.type)}


@pytest.fixture(params=["one file", "row groups", "a folder"])
def check(request, tmp_path, monkeypatch):
    """Write columns and check them; however they are cut, the same must be found. Batches of two rows."""
    whole = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda self, _size, columns: whole(self, 2, columns=columns))

    def run(name, columns):
        table, path = pa.table(dict(columns)), tmp_path / "t"
        if request.param == "a folder":
            path.mkdir()
            for i in range(0, max(len(table), 1), 4):
                pq.write_table(table[i : i + 4], path / f"part{i}.parquet")
        else:
            pq.write_table(table, path, row_group_size=4 if request.param == "row groups" else None)
        schema.check(path, name)

    return run


def test_good_tables_pass(check):
    check("searches", searches())


def test_rows_that_share_a_moment_pass(check):
    check("interactions", interactions())


def test_no_rows_pass(check):
    check("interactions", interactions(0))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: {k: v for k, v in c.items() if k != "source"},
        lambda c: c | {"extra": np.zeros(9)},
        lambda c: c | {"n_clicks": pa.nulls(9, pa.int64())},
        lambda c: c | {"user_idx": pa.array(c["user_idx"]).cast(pa.int64())},
        lambda c: c | {"keywords": pa.nulls(9, pa.list_(pa.int64()))},
    ],
    ids=["missing", "extra", "wider", "wider key", "list of another type"],
)
def test_other_columns_or_types_are_found(check, spoil):
    with pytest.raises(ValueError, match="differ from the schema"):
        check("searches", spoil(searches()))


@pytest.mark.parametrize("at", [0, 5, 8])
@pytest.mark.parametrize("column", ["user_idx", "time_ms", "row"])
def test_a_null_is_found(check, column, at):
    with pytest.raises(ValueError, match=f"searches: {column} must not be null; 1 rows are"):
        check("searches", changed(searches(), column, at, None))


@pytest.mark.parametrize("at", [0, 5, 8])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        *[("user_idx", 0), ("video_idx", 0), ("time_ms", FIRST_MS // 1000), ("time_ms", FIRST_MS * 1000), ("row", 0)],
        *[("duration_ms", 0), ("duration_ms", 2**31), ("play_time_ms", -1), ("tab", -1), ("comment_stay_ms", -1)],
    ],
)
def test_a_value_out_of_range_is_found(check, column, value, at):
    with pytest.raises(ValueError, match=f"{column} goes from .*{value}.*; allowed is"):
        check("interactions", changed(interactions(), column, at, value))


@pytest.mark.parametrize("at", range(8))
def test_two_rows_in_the_wrong_order_are_found(check, at):
    columns = searches()
    order = np.arange(9)
    order[[at, at + 1]] = at + 1, at
    swapped = {name: pa.array(values).take(pa.array(order)) for name, values in columns.items()}
    with pytest.raises(ValueError, match="searches: rows are not in order of user_idx, time_ms, row"):
        check("searches", swapped)


@pytest.mark.parametrize("at", range(8))
def test_a_row_given_twice_is_found(check, at):
    twice = {name: pa.array(values).take(pa.array(sorted([*range(9), at]))) for name, values in searches().items()}
    with pytest.raises(ValueError, match="or two are alike in it"):
        check("searches", twice)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_two_rows_with_the_key_of_an_event_are_found(check, at):
    columns = interactions()
    with pytest.raises(ValueError, match="interactions: two rows share user_idx, time_ms, video_idx"):
        check("interactions", changed(columns, "video_idx", at + 1, int(columns["video_idx"][at])))


def test_a_long_moment_of_many_videos_passes(check):
    """All rows of one user at one moment: more than a batch, a row group and a file."""
    n = 9
    columns = interactions(n) | {"user_idx": np.ones(n, np.int32), "time_ms": np.full(n, FIRST_MS)}
    columns["video_idx"] = np.arange(1, n + 1, dtype=np.int32)
    check("interactions", columns)


def test_the_first_and_last_of_a_long_moment_may_not_share_a_video(check):
    n = 9
    columns = interactions(n) | {"user_idx": np.ones(n, np.int32), "time_ms": np.full(n, FIRST_MS)}
    columns["video_idx"] = np.array([*range(1, n), 1], np.int32)
    with pytest.raises(ValueError, match="two rows share user_idx, time_ms, video_idx"):
        check("interactions", columns)


def exposures(*topics):
    """The truth of random videos that a user is shown on one millisecond."""
    n = len(topics)
    moment = {"user_idx": np.ones(n, np.int32), "time_ms": np.full(n, FIRST_MS), "day": np.full(n, 3, np.int32)}
    return moment | {"topic_before": np.array(topics, np.int16)}


def test_exposures_on_one_millisecond_pass(check):
    check("truth_events", exposures(-1, -1, 2, 2))


def test_exposures_in_the_wrong_order_are_found(check):
    with pytest.raises(ValueError, match="not in order"):
        check("truth_events", exposures(-1, -1, 2, 1))


# --- raw ids, which may be text ---


def people(ids, kind=None):
    """Users of these raw ids."""
    names, kinds = _fields("users")
    columns = {name: pa.nulls(len(ids), of) for name, of in zip(names, kinds, strict=True)}
    return columns | {"user_idx": np.arange(1, len(ids) + 1, dtype=np.int32), "user_id": pa.array(ids, kind)}


@pytest.mark.parametrize("ids", [[5, 7, 9], ["", "00012", "12", "Zoë"], []], ids=["numbers", "texts", "none"])
def test_ids_may_be_numbers_or_texts(check, ids):
    check("users", people(ids, None if ids else pa.string()))


@pytest.mark.parametrize("kind", [pa.int32(), pa.uint64(), pa.float64(), pa.binary(), pa.bool_()], ids=str)
def test_ids_of_any_other_type_are_found(check, kind):
    with pytest.raises(ValueError, match="users: columns .* differ from the schema"):
        check("users", people(pa.array([1, 0, 1]).cast(pa.string() if kind == pa.binary() else kind), kind))


def test_only_raw_ids_may_be_text(check):
    with pytest.raises(ValueError, match="differ from the schema"):
        check("users", people([1, 2, 3]) | {"user_idx": ["1", "2", "3"]})


def test_an_id_out_of_range_is_found(check):
    with pytest.raises(ValueError, match="user_id goes from -1 to 9; allowed is"):
        check("users", people([5, 9, -1]))


@pytest.mark.parametrize("ids", [[5, None, 9], ["a", None, "b"]], ids=["numbers", "texts"])
def test_an_id_that_is_null_is_found(check, ids):
    with pytest.raises(ValueError, match="users: user_id must not be null; 1 rows are"):
        check("users", people(ids))


def test_conforming_keeps_ids_that_are_text_and_nothing_else():
    ids = ibis.memtable(pa.table({"video_idx": [1, 2], "video_id": ["00012", "12"], "author_id": ["7", None]}))
    found = schema.conform(ids, schema.VIDEOS)
    assert found.video_id.to_pyarrow().to_pylist() == ["00012", "12"]
    assert found.author_id.to_pyarrow().to_pylist() == [7, None]
    assert found.schema()["video_id"] == dt.String(nullable=False)
    assert {name: kind for name, kind in found.schema().items() if name != "video_id"} == {
        name: kind for name, kind in schema.VIDEOS.items() if name != "video_id"
    }


def test_conforming_widens_ids_that_are_numbers():
    ids = pa.table({"user_idx": [1], "user_id": pa.array([7], pa.int32())})
    found = schema.conform(ibis.memtable(ids), schema.USERS)
    assert found.schema() == schema.USERS
