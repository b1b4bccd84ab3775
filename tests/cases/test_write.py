"""From rows with parts to cases, under both strategies."""

import ibis
import numpy as np
import pandas as pd
import pytest

from nextreel import arrays, labels, splits
from nextreel.cases import protocols
from nextreel.cases import write as cases_write
from nextreel.scoring.sets import Exam

N_USERS, N_EVENTS = 30, 12


@pytest.fixture
def interactions():
    """Users with 12 events of a video each; durations of two lengths, watch times that rise over the log."""
    rng = np.random.default_rng(0)
    n = N_USERS * N_EVENTS
    step = np.tile(np.arange(N_EVENTS), N_USERS)
    duration = rng.choice([10_000, 30_000], n)
    video = np.concatenate([rng.permutation(40)[:N_EVENTS] for _ in range(N_USERS)]) + 1
    return pd.DataFrame(
        {
            "user_idx": np.repeat(np.arange(1, N_USERS + 1), N_EVENTS).astype(np.int32),
            "video_idx": video.astype(np.int32),
            "time_ms": 10**12 + step * 1000,
            "row": np.arange(n),
            "tab": np.ones(n, np.int16),
            "click": False,
            "long_view": False,
            "play_time_ms": (duration * rng.random(n) * (0.3 + step / 20)).astype(np.int64),
            "duration_ms": duration,
        }
    )


@pytest.fixture
def settings(committed):
    return labels.Params(**committed["label"] | {"wtg_threshold": 0.5, "shrinkage": 0})


def write(con, parts, settings, data, leave_one_out):
    tables = data / "tables"
    arrays.write({"user_id": 700 + np.arange(1, N_USERS + 1)}, tables / "users.parquet")
    arrays.write({"video_id": 900 + np.arange(1, 41)}, tables / "videos.parquet")
    durations = cases_write.fit(parts, settings, leave_one_out)
    labelled = labels.label(parts, durations, settings)
    return labelled, cases_write.write(con, labelled, data, protocols.Params(targets="first"), leave_one_out)


def by_hand(frame, threshold):
    """Positives and WTG by z-score within each duration, watch time cut at the duration."""
    w = np.minimum(frame.play_time_ms, frame.duration_ms)
    group = w.groupby(frame.duration_ms)
    z = (w - group.transform("mean")) / group.transform("std")
    return z > threshold, z


def test_leave_one_out_keeps_the_positives_that_cut_the_log(con, interactions, settings, tmp_path):
    """Positives from buckets fitted on all rows; reported WTG from buckets fitted on train alone."""
    rows = ibis.memtable(interactions)
    parts = splits.leave_one_out(labels.label_all(rows, settings), rows.limit(0))
    labelled, questions = write(con, parts, settings, tmp_path, leave_one_out=True)
    found = labelled.order_by("row").to_pandas()
    positive, z_all = by_hand(interactions, 0.5)
    assert (found.positive == positive).all()
    train = found.part == "train"
    assert 0 < train.sum() < len(found)
    _positive, z_train = by_hand(interactions[train], 0.5)
    assert found.wtg[train].to_numpy() == pytest.approx(z_train.to_numpy())
    assert found.wtg[train].to_numpy() != pytest.approx(z_all[train].to_numpy())

    asked = questions.cases.where(questions.protocol == "next_item")
    last_two = interactions[positive].groupby("user_idx").tail(2)
    many = interactions[positive].groupby("user_idx").size().loc[lambda n: n >= 3].index
    expected = last_two[last_two.user_idx.isin(many)]
    targets = dict(zip(questions.target_case_id.tolist(), questions.target_video_idx.tolist(), strict=True))
    pairs = {(u, targets[c]) for u, c, p in zip(asked.user_idx, asked.case_id, asked.part, strict=True) if p != "next"}
    assert pairs == set(zip(expected.user_idx, expected.video_idx, strict=True))


def test_leave_one_out_recommends_any_video_and_asks_no_impressions(con, interactions, settings, tmp_path):
    rows = ibis.memtable(interactions)
    parts = splits.leave_one_out(labels.label_all(rows, settings), rows.limit(0))
    _labelled, questions = write(con, parts, settings, tmp_path, leave_one_out=True)
    assert set(questions.protocol) == {"next_item"}
    assert len(arrays.load(tmp_path / "impressions.parquet")["case_id"]) == 0
    exam = Exam.load(tmp_path, seed=42)
    everything = np.unique(interactions.video_idx)
    for part in ("valid", "test", "next"):
        assert exam.catalogue.of(part).tolist() == everything.tolist()
    test, valid = exam.of("test"), exam.of("valid")
    assert (test.cases.history_end > valid.cases.history_end).all()
    position, owner = test.cases.histories(exam.events).flat()  # the valid target is known by then
    for case in range(len(test.cases)):
        assert valid.target[case] in exam.events.video_idx[position[owner == case]]


def test_the_exam_knows_raw_ids(con, interactions, settings, tmp_path):
    cut = 10**12 + np.array([6, 9]) * 1000
    part = np.array(["train", "valid", "test"])[np.searchsorted(cut, interactions.time_ms, side="right")]
    write(con, ibis.memtable(interactions.assign(part=part)), settings, tmp_path, leave_one_out=False)
    exam = Exam.load(tmp_path, seed=42)
    assert (exam.user_id == exam.cases.user_idx + 700).all()
    assert exam.catalogue.video_id[1:].tolist() == list(range(901, 941))
    assert (exam.tie(exam.cases.case_id[:1], np.array([3])) != exam.tie(exam.cases.case_id[1:2], np.array([3]))).all()
