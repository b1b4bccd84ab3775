"""From tables to columns of the store."""

from datetime import date

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from ibis import _

from nextreel.cases import columns
from nextreel.cases.columns import DECLARED, UNKNOWN, Declared
from nextreel.cases.store import Column, NamedColumns


@pytest.fixture
def events():
    """Out of order, with an unknown tab and an unknown label."""
    return pd.DataFrame(
        {
            "user_idx": np.array([2, 1, 1, 1], np.int32),
            "video_idx": np.array([3, 5, 2, 5], np.int32),
            "time_ms": [10, 20, 10, 20],
            "row": [0, 3, 2, 1],
            "positive": pd.array([True, False, True, None], "boolean"),
            "tab": pd.array([4, None, 0, 1], "Int16"),
            "like": pd.array([True, None, False, True], "boolean"),
            "comment": pd.array([True, None, None, False], "boolean"),
            "forward": pd.array([True, None, False, None], "boolean"),
            "wtr": [0.25, 1.0, None, 0.5],
            "wtg": [-1.0, 2.0, None, 0.0],
            "play_time_ms": pd.array([7_000, None, 0, 90], "Int64"),
        }
    )


def videos(tags, authors=None, durations=None, uploads=None):
    """Videos in reverse order of video_idx; all but tags: unknown unless given."""
    n = len(tags)
    table = {
        "video_idx": np.arange(n, 0, -1, dtype=np.int32),
        "video_id": np.arange(n, 0, -1) + 900,
        "author_id": pa.array((authors or [None] * n)[::-1], pa.int64()),
        "tags": pa.array(tags[::-1], pa.list_(pa.int32())),
        "duration_ms": pa.array((durations or [None] * n)[::-1], pa.int64()),
        "upload_date": pa.array((uploads or [None] * n)[::-1], pa.date32()),
    }
    return ibis.memtable(pa.table(table))


def test_events_are_in_order_of_user_time_and_file(events):
    found, about, _beside = columns.read(ibis.memtable(events), "events")
    assert isinstance(found, NamedColumns)
    assert found["video_idx"].tolist() == [2, 5, 5, 3]
    assert found["time_ms"].tolist() == [10, 20, 20, 10]
    assert found["positive"].tolist() == [1, UNKNOWN, 0, 1]
    assert found["tab"].tolist() == [0, 1, UNKNOWN, 4]
    assert found["feedback"].tolist() == [0, 1, UNKNOWN, 3]
    np.testing.assert_array_equal(found["wtr"], [np.nan, 0.5, 1.0, 0.25])
    np.testing.assert_array_equal(found["wtg"], [np.nan, 0.0, 2.0, -1.0])
    np.testing.assert_array_equal(found["play_time_ms"], [0, 90, np.nan, 7_000])
    assert about == {
        "events/video_idx": Column("id", 6),
        "events/time_ms": Column("number", 0),
        "events/positive": Column("id", 2),
        "events/tab": Column("id", 5),
        "events/feedback": Column("id", 4),
        "events/wtr": Column("number"),
        "events/wtg": Column("number"),
        "events/play_time_ms": Column("number"),
    }
    assert found["tab"].dtype == np.int16
    assert found["positive"].dtype == np.int8


def test_a_size_that_is_declared_does_not_hang_on_the_data(events):
    _found, about, _beside = columns.read(ibis.memtable(events.assign(positive=False)), "events")
    assert about["events/positive"] == Column("id", 2)


def test_a_column_that_nobody_knows_is_left_out(events):
    nobody = events.assign(tab=pd.array([None] * 4, "Int16"))
    found, about, _beside = columns.read(ibis.memtable(nobody), "events")
    assert "tab" not in found
    assert "events/tab" not in about


def test_of_no_rows_every_column_is_empty(events):
    found, about, _beside = columns.read(ibis.memtable(events).limit(0), "events")
    assert set(found) == set(DECLARED["events"])
    assert {len(values) for values in found.values()} == {0}
    assert about["events/video_idx"] == Column("id", 0)


def test_users_and_videos_begin_with_padding():
    users = {"user_idx": np.array([2, 1], np.int32), "user_id": [702, 701]}
    found, about, _beside = columns.read(ibis.memtable(pa.table(users)), "users")
    assert found["user_key"].tolist() == [0, 701, 702]
    assert about == {"users/user_key": Column("number", 0)}
    found, _about, _beside = columns.read(videos([[1], [2]]), "videos")
    assert found["video_key"].tolist() == [0, 901, 902]


def test_sets_are_distinct_ids_by_rank():
    """Of any ids: 12 < 65 < 900 are 0, 1 and 2. A set that is null, or empty, has none."""
    found, about, _beside = columns.read(videos([[65, 12, 65], None, [900], [], [12]]), "videos")
    tags = found["tags"]
    assert about["videos/tags"] == Column("set", 3)
    ids, _owner = tags.of(np.arange(6))
    assert ids.tolist() == [0, 1, 2, 0]
    assert tags.offsets.tolist() == [0, 0, 2, 2, 3, 3, 4]  # the first row is padding
    assert ids.dtype == np.int32
    for video_idx, expected in {0: [], 1: [0, 1], 2: [], 3: [2], 4: [], 5: [0]}.items():
        assert tags.of(np.array([video_idx]))[0].tolist() == expected


def test_sets_that_are_all_null_are_left_out():
    found, about, _beside = columns.read(videos([None, None]), "videos")
    assert set(found) == {"video_key"}
    assert set(about) == {"videos/video_key"}


def test_authors_are_numbered_by_rank():
    """Of any ids, in order of video_idx, behind the padding."""
    found, about, _beside = columns.read(videos([[1]] * 4, [2**40, None, 7, 2**40]), "videos")
    assert found["author"].tolist() == [0, 1, UNKNOWN, 0, 1]
    assert found["author"].dtype == np.int32
    assert about["videos/author"] == Column("id", 2)
    found, _about, _beside = columns.read(videos([[1]] * 4), "videos")
    assert "author" not in found


def test_durations_and_days_of_upload_are_measures():
    """Days are counted from 1970 on; what is unknown is NaN; a source without them has no such column."""
    found, about, _beside = columns.read(
        videos([[1]] * 3, durations=[20_000, None, 0], uploads=[date(1970, 1, 3), date(1969, 12, 31), None]), "videos"
    )
    assert found["duration_ms"] == pytest.approx([0, 20_000, np.nan, 0], nan_ok=True)
    assert found["upload_day"] == pytest.approx([0, 2, -1, np.nan], nan_ok=True)
    assert about["videos/duration_ms"] == about["videos/upload_day"] == Column("number")
    whole, _about, _beside = columns.read(videos([[1]], durations=[7]), "videos")
    assert whole["duration_ms"].tolist() == [0, 7]
    assert "upload_day" not in whole


def test_an_unknown_id_in_a_set_is_no_member():
    found, about, _beside = columns.read(videos([[65, None], [None], [12]]), "videos")
    assert about["videos/tags"] == Column("set", 2)
    assert [found["tags"].of(np.array([row]))[0].tolist() for row in (1, 2, 3)] == [[1], [], [0]]


def test_kinds_of_a_new_column(monkeypatch):
    """Unknown flags and ids are -1, unknown measures NaN; a column may be made of others."""
    new = {
        "flag": Declared(_.flag, "id", size=2),
        "level": Declared(_.level, "id"),
        "length": Declared(_.length / 2, "number"),
    }
    monkeypatch.setitem(DECLARED, "users", new)
    rows = pd.DataFrame(
        {
            "user_idx": [1, 2, 3],
            "flag": pd.array([True, None, False], "boolean"),
            "level": pd.array([7, None, 0], "Int32"),
            "length": [3.0, None, 1.0],
        }
    )
    found, about, _beside = columns.read(ibis.memtable(rows), "users")
    assert found["flag"].tolist() == [0, 1, UNKNOWN, 0]
    assert found["level"].tolist() == [0, 7, UNKNOWN, 0]
    assert found["length"] == pytest.approx([0, 1.5, np.nan, 0.5], nan_ok=True)
    assert about == {"users/flag": Column("id", 2), "users/level": Column("id", 8), "users/length": Column("number")}
