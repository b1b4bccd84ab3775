"""Traits of the real slice that made-up rows would not show: the reader survives them all, and so do the labels."""

import numpy as np
import pandas as pd
import pytest

from nextreel import clock, labels, splits
from nextreel.cases import write

KEY = ["user_id", "video_id", "time_ms"]


@pytest.fixture(scope="module")
def raw(real_data):
    (path,) = (real_data / "kuairand-pure-slice/data").glob("log_*.csv")
    return pd.read_csv(path)


@pytest.fixture(scope="module")
def rows(slice_source):
    """What was read, with the raw ids, in the order of the file."""
    tables = slice_source.tables
    users, videos = (tables[name].select(f"{name[:-1]}_idx", f"{name[:-1]}_id") for name in ("users", "videos"))
    return tables["interactions"].join(users, "user_idx").join(videos, "video_idx").order_by("row").to_pandas()


@pytest.fixture(scope="module")
def videos(slice_source):
    return slice_source.tables["videos"].order_by("video_idx").to_pandas()


@pytest.fixture(scope="module")
def users(slice_source):
    return slice_source.tables["users"].order_by("user_idx").to_pandas()


def test_every_row_is_kept_or_counted(slice_source, rows):
    assert slice_source.rows_read == 228_329 == len(rows) + sum(slice_source.rejected().values())
    assert sum(slice_source.rejected(logs=False).values()) == 0


def test_hour_and_date_disagree_with_the_time_and_are_not_read(raw, rows):
    shown = pd.to_datetime(raw.time_ms + clock.UTC8_MS, unit="ms")
    assert (raw.hourmin % 100 == 0).all()
    hour_later = raw.hourmin // 100 == (shown.dt.hour + 1) % 24
    date_later = raw.date != shown.dt.strftime("%Y%m%d").astype(int)
    assert hour_later.mean() == pytest.approx(0.175, abs=0.001)
    assert date_later.mean() == pytest.approx(0.009, abs=0.001)
    # A day is that of `time_ms`: rows whose date says 25 April were shown on the 24th.
    days = clock.days_of(rows.time_ms.to_numpy())
    assert days.min() == np.datetime64("2022-04-24")
    assert raw.date.min() == 20_220_425
    first = raw.drop_duplicates(KEY)
    assert (days == shown[first.index].to_numpy().astype("datetime64[D]")).all()


def test_a_split_by_date_cuts_by_the_time(slice_source, rows, committed):
    dates = {"by": "date", "valid_from": "2022-04-29", "test_from": "2022-05-04"}
    params = splits.Params(**committed["split"] | dates)
    tables = slice_source.tables
    bounds = splits.bounds(tables["interactions"], params)
    counts = splits.summary(splits.temporal(tables["interactions"], tables["random"], bounds), bounds, params)
    days = clock.days_of(rows.time_ms.to_numpy())
    assert counts["rows_train"] == (days < np.datetime64("2022-04-29")).sum()
    assert counts["rows_test"] == (days >= np.datetime64("2022-05-04")).sum()


def test_repeats(raw, rows, slice_source):
    assert raw.duplicated(KEY).sum() == slice_source.rejected()["repeated"] == 5_885
    assert raw.duplicated(KEY[:2]).sum() == 7_441
    first = raw.drop_duplicates(KEY)
    assert (rows[KEY].to_numpy() == first[KEY].to_numpy()).all()
    assert (rows.play_time_ms.to_numpy() == first.play_time_ms.to_numpy()).all()
    assert rows.duplicated(KEY[:2]).sum() == 7_441 - 5_885  # at another time: they stay
    lines = slice_source.intake.quarantine().order_by("line").to_pandas()
    assert lines.line.tolist() == (np.flatnonzero(raw.duplicated(KEY)) + 2).tolist()


def test_a_duration_of_zero_is_null_and_a_play_time_of_zero_stays(raw, rows, videos):
    first = raw.drop_duplicates(KEY)
    assert (raw.duration_ms == 0).mean() == pytest.approx(0.0156, abs=0.0001)
    assert (raw.play_time_ms == 0).mean() == pytest.approx(0.098, abs=0.0005)
    assert (rows.duration_ms.isna().to_numpy() == (first.duration_ms == 0).to_numpy()).all()
    assert (rows.play_time_ms == 0).sum() == (first.play_time_ms == 0).sum()
    assert rows.play_time_ms.notna().all()
    assert videos.duration_ms.isna().sum() == 239


def test_videos_are_watched_many_times_over(raw):
    known = raw[raw.duration_ms > 0]
    ratio = known.play_time_ms / known.duration_ms
    assert ratio.quantile([0.5, 0.75, 0.9, 0.99]).tolist() == pytest.approx([0.09, 0.55, 1.03, 2.03], abs=0.005)
    assert ratio.max() == pytest.approx(62.9, abs=0.05)


@pytest.mark.parametrize("positive", ["wtg", "wtr", "wtg_quantile"])
def test_a_row_without_duration_is_neither_positive_nor_negative_and_stays_in_the_history(
    slice_source, committed, positive
):
    interactions, random = slice_source.tables["interactions"], slice_source.tables["random"]
    parts = splits.temporal(interactions, random, splits.bounds(interactions, splits.Params(**committed["split"])))
    settings = labels.Params(**committed["label"] | {"positive": positive, "wtg_threshold": -9, "wtr_threshold": 0})
    found = labels.label(parts, write.fit(parts, settings, leave_one_out=False), settings)
    rows = found.select("duration_ms", "wtr", "wtg", "positive", "part").to_pandas()
    without = rows[rows.duration_ms.isna()]
    assert len(rows) == 222_444
    assert len(without) == 3_568
    assert without[["wtr", "wtg"]].isna().to_numpy().all()
    assert without.positive.isna().all()
    assert without.part.notna().all()
    known = rows[rows.duration_ms.notna()]
    assert known[["wtr", "wtg"]].notna().to_numpy().all()
    assert known.positive.notna().all()
    assert known.wtr.max() == 1.0


def test_integers_written_as_floats(real_data, videos):
    (path,) = (real_data / "kuairand-pure-slice/data").glob("video_features_basic_*.csv")
    text = pd.read_csv(path, dtype=str)
    assert text.video_duration.dropna().str.endswith(".0").all()
    known = text.set_index(text.video_id.astype(int)).video_duration.astype(float)
    ours = videos.set_index("video_id").duration_ms
    assert (known[known > 0] == ours[known.index[known > 0]].astype(float)).all()


def test_tags_are_one_two_or_none(real_data, videos):
    (path,) = (real_data / "kuairand-pure-slice/data").glob("video_features_basic_*.csv")
    text = pd.read_csv(path, dtype=str).set_index("video_id").tag
    ours = {str(v): None if tags is None else list(tags) for v, tags in zip(videos.video_id, videos.tags, strict=True)}
    theirs = {v: None if pd.isna(tag) else [int(part) for part in tag.split(",")] for v, tag in text.items()}
    assert ours == theirs
    assert sum(tags is None for tags in ours.values()) == 96
    assert any(tags == [12, 65] for tags in ours.values())
    assert videos.music_type.isna().sum() == 203


def test_users_have_empty_features_nine_degrees_and_the_mark_of_unknown(real_data, users):
    assert users.onehot_feat4.isna().sum() == 874
    assert [users[f"onehot_feat{i}"].isna().sum() for i in range(12, 18)] == [714] * 6
    assert users.user_active_degree.nunique() == 9
    (path,) = (real_data / "kuairand-pure-slice/data").glob("user_features_*.csv")
    raw = pd.read_csv(path, usecols=["user_id", "is_live_streamer"]).set_index("user_id").is_live_streamer
    assert set(raw) == {-124, 1}
    ours = users.set_index("user_id").is_live_streamer[raw.index]
    assert (ours.isna() == (raw == -124)).all()
    assert ours.dropna().astype(bool).all()


def test_sparse_ids_of_millions_become_a_dense_index(folder, frame):
    """As in the release with 32 million videos."""
    ids = [32_038_724, 5, 31_999_999, 17_000_001]
    folder.log(*({"video_id": video, "user_id": 10 * video} for video in ids))
    source = folder.read()
    videos = frame(source.tables["videos"], "videos")
    assert videos.video_id.tolist() == sorted(ids)
    assert videos.video_idx.tolist() == [1, 2, 3, 4]
    rows = source.tables["interactions"].order_by("row").to_pandas()
    assert rows.video_idx.tolist() == rows.user_idx.tolist() == [4, 1, 3, 2]
