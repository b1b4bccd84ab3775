"""From rows with parts to cases, under both strategies."""

from dataclasses import replace

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nextreel import arrays, engine, evaluation, labels, splits
from nextreel.cases import protocols
from nextreel.cases import write as cases_write
from nextreel.cases.store import UNKNOWN, Store
from nextreel.evaluation.impressions import ImpressionResults, Impressions
from nextreel.scoring.sets import EvalSet, ShownPairs

N_USERS, N_EVENTS = 30, 12
SETTINGS = evaluation.Params(confidence=0.9)


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
            **dict.fromkeys(["click", "long_view", "like", "comment", "forward"], False),
            "play_time_ms": (duration * rng.random(n) * (0.3 + step / 20)).astype(np.int64),
            "duration_ms": duration,
        }
    )


@pytest.fixture
def settings(committed):
    own = {"positive": "wtg", "wtg_threshold": 0.5, "bucket": "width", "truncate": True, "shrinkage": 0}
    return labels.Params(**committed["label"] | own)


OUTCOMES = ["label", "wtr", "wtg", "z", "duration_ms", "bucket", "play_time_ms"]


def write(con, parts, settings, data, leave_one_out):
    tables = data / "tables"
    users, videos = (np.arange(1, n + 1, dtype=np.int32) for n in (N_USERS, 40))
    arrays.write({"user_idx": users, "user_id": users + 700}, tables / "users.parquet")
    unknown = {"author_id": pa.nulls(40, pa.int64()), "tags": pa.nulls(40, pa.list_(pa.int64()))}
    unknown |= {"duration_ms": pa.nulls(40, pa.int64()), "upload_date": pa.nulls(40, pa.date32())}
    arrays.write({"video_idx": videos, "video_id": videos + 900, **unknown}, tables / "videos.parquet")
    durations = cases_write.fit(parts, settings, leave_one_out)
    labelled = labels.label(parts, durations, settings)
    return labelled, cases_write.write(con, labelled, data, protocols.Params(targets="first"), leave_one_out)


def by_hand(frame, threshold):
    """Positives and gains by z-score within each duration, watch time cut at the duration."""
    w = np.minimum(frame.play_time_ms, frame.duration_ms)
    group = w.groupby(frame.duration_ms)
    z = (w - group.transform("mean")) / group.transform("std")
    return z > threshold, z


def test_leave_one_out_keeps_the_positives_that_cut_the_log(con, interactions, settings, tmp_path):
    """Positives from buckets fitted on all rows; reported gains from buckets fitted on train alone."""
    rows = ibis.memtable(interactions)
    parts = splits.leave_one_out(labels.label_all(rows, settings), rows.limit(0))
    labelled, questions = write(con, parts, settings, tmp_path, leave_one_out=True)
    found = labelled.order_by("row").to_pandas()
    positive, z_all = by_hand(interactions, 0.5)
    assert (found.positive == positive).all()
    train = found.part == "train"
    assert 0 < train.sum() < len(found)
    _positive, z_train = by_hand(interactions[train], 0.5)
    assert found.z[train].to_numpy() == pytest.approx(z_train.to_numpy())
    assert found.z[train].to_numpy() != pytest.approx(z_all[train].to_numpy())

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
    asked, store = EvalSet.load(tmp_path, seed=42), Store.load(tmp_path / "store")
    everything = np.unique(interactions.video_idx)
    for part in ("valid", "test", "next"):
        assert asked.catalogue.of(part).tolist() == everything.tolist()
    test, valid = asked.of("test"), asked.of("valid")
    assert (test.cases.history_end > valid.cases.history_end).all()
    position, owner = test.cases.histories(store).flat()  # the valid target is known by then
    for case in range(len(test.cases)):
        assert valid.target[case] in store.events("video_idx")[position[owner == case]]


def test_the_cases_know_the_keys_of_raw_ids(con, interactions, settings, tmp_path):
    cut = 10**12 + np.array([6, 9]) * 1000
    part = np.array(["train", "valid", "test"])[np.searchsorted(cut, interactions.time_ms, side="right")]
    write(con, ibis.memtable(interactions.assign(part=part)), settings, tmp_path, leave_one_out=False)
    asked = EvalSet.load(tmp_path, seed=42)
    assert (asked.user_key == asked.cases.user_idx + 700).all()
    assert asked.catalogue.video_key[1:].tolist() == list(range(901, 941))
    one, other = (asked.tie(asked.cases.case_id[i : i + 1], np.array([3])) for i in (0, 1))
    assert (one != other).all()


@pytest.fixture
def temporal(interactions):
    """Parts of a temporal split, and some rows shown at random in the time of test."""
    cut = 10**12 + np.array([6, 9]) * 1000
    part = np.array(["train", "valid", "test"])[np.searchsorted(cut, interactions.time_ms, side="right")]
    random = interactions.groupby("user_idx").tail(2).assign(part="random", row=lambda rows: rows.row + 10_000)
    random["video_idx"] = (random.video_idx % 40 + 1).astype(np.int32)
    random["time_ms"] += 500
    return pd.concat([interactions.assign(part=part), random], ignore_index=True)


def test_the_store_says_of_every_event_what_the_log_says(con, temporal, settings, tmp_path):
    labelled, _questions = write(con, ibis.memtable(temporal), settings, tmp_path, leave_one_out=False)
    store = Store.load(tmp_path / "store")
    rows = labelled.filter(labelled.part != "random").order_by("user_idx", "time_ms", "row").to_pandas()
    assert set(store.columns) == {
        *(f"events/{name}" for name in ("video_idx", "time_ms", "positive", "tab", "feedback")),
        *(f"events/{name}" for name in ("wtr", "wtg", "play_time_ms")),
        *("videos/video_key", "users/user_key"),
    }
    for name in store.tables["events"]:
        assert (store.events(name) == rows.get(name, 0)).all()
    assert (np.repeat(np.arange(N_USERS + 1), np.diff(store.offsets)) == rows.user_idx).all()
    assert (store.users("user_key")[1:] == 700 + np.arange(1, N_USERS + 1)).all()
    assert (store.n_users, store.n_videos) == (N_USERS, 40)
    assert store.columns["events/video_idx"] == ("id", 41)
    position, _owner = store.fitted_on("train").flat()
    assert (rows.part.to_numpy()[position] == "train").all()
    assert len(position) == (rows.part == "train").sum()


def test_impressions_are_the_rows_shown_each_once_and_outcomes_stand_apart(con, temporal, settings, tmp_path):
    """Numbered in order of (case, time, file order); what came of a row is in outcomes.parquet alone."""
    temporal.loc[temporal.index[temporal.part == "test"][:5], "video_idx"] = np.int32(7)  # one user sees it again
    labelled, questions = write(con, ibis.memtable(temporal), settings, tmp_path, leave_one_out=False)
    shown, outcomes = (pd.DataFrame(arrays.load(tmp_path / f"{kind}.parquet")) for kind in ("impressions", "outcomes"))
    assert list(shown) == ["impression", "case_id", "video_idx", "track", "time_ms", "tab"]
    assert list(outcomes) == ["impression", *OUTCOMES]
    assert shown.impression.tolist() == outcomes.impression.tolist() == list(range(len(shown)))
    assert (np.diff(shown.case_id) >= 0).all()
    assert (shown.groupby("case_id").time_ms.diff().dropna() >= 0).all()
    rows = labelled.filter(labelled.part != "train").to_pandas()
    assert len(shown) == len(rows)
    user_of = pd.Series(questions.cases.user_idx, questions.cases.case_id)
    both = shown.assign(user_idx=shown.case_id.map(user_of), is_random=shown.track == "random").merge(outcomes)
    keys = ["user_idx", "time_ms", "video_idx", "is_random"]
    found = both.sort_values(keys).reset_index(drop=True)
    expected = rows.assign(is_random=rows.part == "random").sort_values(keys).reset_index(drop=True)
    for name in keys:
        assert (found[name] == expected[name]).all()
    for name in OUTCOMES:
        column = expected["positive" if name == "label" else name]
        assert found[name].to_numpy(float) == pytest.approx(column.to_numpy(float), nan_ok=True)
    on_valid = pd.DataFrame(arrays.load(tmp_path / "valid_outcomes.parquet"))
    part = shown.case_id.map(pd.Series(questions.cases.part, questions.cases.case_id))
    pd.testing.assert_frame_equal(on_valid[list(outcomes)], outcomes[part == "valid"].reset_index(drop=True))


@pytest.fixture
def half_known(temporal):
    """Every third row lacks its duration: under a rule that needs one nobody knows whether it is positive."""
    unknown = np.arange(len(temporal)) % 3 == 0
    return temporal.assign(duration_ms=temporal.duration_ms.astype("Int64").mask(unknown))


def test_an_unknown_label_is_told_apart_from_no_positive(con, half_known, settings, tmp_path):
    """In the store, among the outcomes and in the summary; nobody is asked for it."""
    labelled, questions = write(con, ibis.memtable(half_known), settings, tmp_path, leave_one_out=False)
    store, frame = Store.load(tmp_path / "store"), labelled.order_by("user_idx", "time_ms", "row").to_pandas()
    standard = frame[frame.part != "random"]
    assert store.events("positive").tolist() == standard.positive.astype(float).fillna(UNKNOWN).tolist()
    assert {-1, 0, 1} == set(store.events("positive").tolist())
    outcomes = arrays.load(tmp_path / "outcomes.parquet")
    lacking = np.isnan(outcomes["duration_ms"])
    assert lacking.any()
    assert np.isnan(outcomes["label"].astype(float)).tolist() == lacking.tolist()
    for name in ("wtr", "wtg", "z", "bucket"):
        assert np.isnan(outcomes[name].astype(float)).tolist() == lacking.tolist()
    asked = EvalSet.load(tmp_path, seed=42)
    positive = set(zip(standard.user_idx, standard.video_idx, standard.positive.eq(True), strict=True))
    targets = zip(asked.cases.user_idx, asked.target, strict=True)
    assert {(user, video, True) for user, video in targets if video} <= positive
    by_duration = labels.share_by_duration(labelled)
    found = cases_write.summary(labelled, questions, by_duration, "wtg", leave_one_out=False)
    assert found["unknown_label_share"] == pytest.approx(1 / 3, abs=0.01)
    train = frame[frame.part == "train"].positive.dropna().astype(float)
    assert found["positive_share_train"] == pytest.approx(train.mean())
    assert by_duration["rows"].sum() == frame.positive.notna().sum()


def test_unknown_labels_are_not_judged(con, half_known, settings, tmp_path):
    """The rows that are known score as if the others had never been shown; the ruler of the others is not there."""
    write(con, ibis.memtable(half_known), settings, tmp_path, leave_one_out=False)
    shown = Impressions.load(tmp_path, seed=42)
    score = np.random.default_rng(1).random(len(shown.case))
    known = shown.label != UNKNOWN
    assert 0 < known.mean() < 1
    judged, alone = (
        ImpressionResults(some, {"model": {42: x}}, SETTINGS)
        for some, x in ((shown, score), (shown.where(known), score[known]))
    )
    for part in ("valid", "test", "random"):
        found = judged.headline("model", part)
        assert found == pytest.approx(alone.headline("model", part), nan_ok=True)
        assert found["rows"] == (known & (shown.part == part)[shown.case]).sum()
    assert (judged.per_user("model", 42)["rows"] == alone.per_user("model", 42)["rows"]).all()
    spoilt = replace(shown, wtr=np.where(known, shown.wtr, 9.0), wtg=np.where(known, shown.wtg, 9.0))
    again = ImpressionResults(spoilt, {"model": {42: score}}, SETTINGS)
    for name, column in judged.table().items():
        other = again.table()[name]
        assert (column == other).all() if column.dtype.kind in "US" else column == pytest.approx(other, nan_ok=True)


def test_metrics_of_watch_time_do_not_hang_on_the_label(con, temporal, settings, tmp_path):
    """Two labels, the same scores: another AUC, the same WTG@K, DCWTG@K and errors of WTR."""
    part = np.array(["train", "valid", "test"])[np.digitize(temporal.time_ms, 10**12 + np.array([3, 5]) * 1000)]
    temporal = temporal.assign(part=part)[temporal.part != "random"]  # 7 rows of test a user
    rules = {"one": settings, "other": settings.model_copy(update={"positive": "wtr", "wtr_threshold": 0.3})}
    metrics = {}
    for name, rule in rules.items():
        con_ = con if name == "one" else engine.connect(engine.Params(memory_limit="1GB"), 2, tmp_path)
        (tmp_path / name).mkdir()
        write(con_, ibis.memtable(temporal), rule, tmp_path / name, leave_one_out=False)
        shown = Impressions.load(tmp_path / name, seed=42)
        score = np.random.default_rng(2).random(len(shown.case))
        table = pd.DataFrame(ImpressionResults(shown, {"model": {42: score}}, SETTINGS).table())
        metrics[name] = table.set_index(["part", "metric"]).value
    one, other = metrics["one"], metrics["other"]
    ruler = [key for key in one.index if key[1].startswith(("wtg@", "dcwtg@", "wtr_"))]
    assert {metric for _part, metric in ruler} == {
        *("wtg@5", "wtg@10", "dcwtg@5", "dcwtg@10"),
        *("wtr_rmse", "wtr_mae", "wtr_xauc"),
    }
    assert one[[("test", "wtg@5"), ("test", "dcwtg@5"), ("test", "wtr_rmse"), ("test", "wtr_xauc")]].notna().all()
    pd.testing.assert_series_equal(one[ruler], other[ruler], check_exact=True)
    assert one["test", "auc"] != other["test", "auc"]


def test_shown_pairs_have_an_entry_a_row_with_its_own_moment(con, temporal, settings, tmp_path):
    _labelled, _questions = write(con, ibis.memtable(temporal), settings, tmp_path, leave_one_out=False)
    store, shown = Store.load(tmp_path / "store"), ShownPairs.load(tmp_path)
    table = arrays.load(tmp_path / "impressions.parquet")
    pairs = shown.pairs(store)
    assert len(pairs) == len(table["impression"])
    assert (shown.cases.case_id[pairs.row] == table["case_id"]).all()
    for name in ("video_idx", "time_ms", "tab"):
        assert (getattr(pairs, name) == table[name]).all()
    assert (pairs.history_end == shown.cases.history_end[pairs.row]).all()
    assert (pairs.time_ms >= shown.cases.time_ms[pairs.row]).all()
    assert (shown.user_key == shown.cases.user_idx + 700).all()
