"""Impressions judged by hand-computed values; the metrics themselves are tested in test_metrics.py."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from nextreel import arrays, evaluation
from nextreel.evaluation.calibration import Calibration
from nextreel.evaluation.impressions import ImpressionResults, Impressions, case_parts, per_case

SETTINGS = evaluation.Params(confidence=0.9)
DAY_MS = 86_400_000
# case, video, label, score, wtg: the first case is of valid, the second and third of test, the last of random
ROWS = [
    (0, 1, True, 0.9, 2.0),
    (0, 2, False, 0.2, -1.0),
    (0, 3, False, 0.1, -1.0),
    (1, 1, True, 0.9, 2.0),
    (1, 2, False, 0.2, 0.0),
    (1, 2, True, 0.2, 1.0),  # shown twice
    (2, 4, False, np.nan, np.nan),  # no opinion
    (3, 1, False, 0.9, 0.0),
    (3, 5, True, 0.5, 1.0),
    (3, 6, True, 0.3, 1.0),
]
CASE, VIDEO, LABEL, SCORE, WTG = (np.array(column) for column in zip(*ROWS, strict=True))


@pytest.fixture
def shown():
    day = np.array([0, 0, 0, 1, 1, 2, 1, 1, 1, 2])
    return Impressions(
        CASE, VIDEO, day * DAY_MS, LABEL, np.where(LABEL, 0.8, 0.1), WTG, np.arange(len(ROWS)).astype(np.uint64),
        known=VIDEO != 2,
        case_id=np.array([10, 11, 12, 13]), part=np.array(["valid", "test", "test", "random"]),
        user_idx=np.array([1, 1, 2, 3]),
    )  # fmt: skip


@pytest.fixture
def judged(shown):
    return ImpressionResults(shown, {"model": {42: SCORE}, "opposite": {42: -SCORE}}, SETTINGS)


def test_each_case_by_hand(shown):
    values = per_case(shown, case_parts(shown, shown.filled(SCORE)))
    assert values["gauc"] == pytest.approx([1, 0.75, np.nan, 0], nan_ok=True)
    # Case 1: gains at ranks 1 and 3 of 2 possible (the tie goes to the smaller hash, the row that is no positive).
    ideal = 1 + 1 / np.log2(3)
    assert values["ndcg@5"][:3] == pytest.approx([1, 1.5 / ideal, np.nan], nan_ok=True)
    assert values["ndcg@5_all_users"][2] == 0
    assert np.isnan(values["wtg@5"]).all()  # nobody has more than five


def test_parts_stay_apart(judged):
    headline = judged.headline("model", "test")
    assert headline.pop("ece") == {part: found.of_model("model") for part, found in judged.of.items()}["test"]["ece"]
    assert headline == pytest.approx(
        {"gauc": 0.75, "gauc_half_width": np.nan, "ndcg@5": 1.5 / (1 + 1 / np.log2(3)), "wtg@5": np.nan,
         "auc": 7 / 8, "no_opinion_share": 1 / 4, "rows": 4},
        nan_ok=True,
    )  # fmt: skip
    assert judged.headline("model", "random")["auc"] == 0
    assert judged.headline("opposite", "random")["auc"] == 1
    assert set(judged.of) == {"valid", "test", "random"}


def test_gauc_weighs_users_by_their_impressions(shown):
    """Five rows at AUC 1 and three at 0."""
    case = np.array([1, 1, 1, 1, 1, 2, 2, 2])
    label = np.array([True, False, False, False, False, True, False, False])
    score = np.array([9.0, 1, 1, 1, 1, 0, 1, 1])
    some = replace(
        shown, case=case, video_idx=np.arange(8), time_ms=np.zeros(8, int), label=label, wtr=np.ones(8),
        wtg=np.ones(8), tie=np.arange(8).astype(np.uint64), known=np.ones(8, bool),
    )  # fmt: skip
    found = ImpressionResults(some, {"model": {42: score}}, SETTINGS).headline("model", "test")
    assert found["gauc"] == pytest.approx(5 / 8)


def test_seeds_are_averaged(shown):
    found = ImpressionResults(shown, {"both": {42: SCORE, 43: -SCORE}}, SETTINGS).headline("both", "random")
    assert found["gauc"] == found["auc"] == 0.5


def test_known_and_new_videos_are_judged_apart(judged):
    """GAUC of test by hand, by pairs of a user's rows; video 2 is new."""
    table, shown = judged.by_video, judged.impressions
    assert table["videos"].tolist() == ["known"] * len(judged.scores) + ["new"] * len(judged.scores)
    for videos, model, value, n in zip(*(table[name] for name in ("videos", "model", "value", "n")), strict=True):
        rows = np.flatnonzero(shown.rows("test") & (shown.known == (videos == "known")))
        assert n == len(rows)
        score, users = judged.scores[model], []
        for case in np.unique(shown.case[rows]):
            mine = rows[shown.case[rows] == case]
            pairs = [(a, b) for a in mine for b in mine if shown.label[a] > shown.label[b]]
            if pairs:
                by_seed = [np.mean([(s[a] > s[b]) + (s[a] == s[b]) / 2 for a, b in pairs]) for s in score.values()]
                users.append((len(mine), np.mean(by_seed)))
        expected = np.average([auc for _n, auc in users], weights=[n for n, _auc in users]) if users else np.nan
        assert value == pytest.approx(expected, nan_ok=True)


def test_days_of_test_alone(judged):
    table = judged.by_day
    mine = table["model"] == "model"
    assert table["day"][mine].tolist() == ["1970-01-02", "1970-01-03"]
    assert table["value"][mine] == pytest.approx([1, np.nan], nan_ok=True)
    assert table["n"][mine].tolist() == [3, 1]


def test_what_is_fitted_is_fitted_on_valid_alone(shown):
    """Other labels and watch times in test and random move no probability."""
    on_valid = shown.rows("valid")
    other = replace(shown, label=np.where(on_valid, shown.label, ~shown.label), wtr=np.where(on_valid, shown.wtr, 0.5))
    tables = [ImpressionResults(some, {"model": {42: SCORE}}, SETTINGS).reliability for some in (shown, other)]
    assert (tables[0]["predicted"] == tables[1]["predicted"]).all()
    assert (tables[0]["observed"] != tables[1]["observed"]).any()


def test_calibration_by_hand():
    """Two positives of three at score 2, one of two at 1, none at 0."""
    score = np.array([2.0, 2, 2, 1, 1, 0])
    label = np.array([True, True, False, True, False, False])
    found = Calibration.fit(label, np.where(label, 1.0, np.nan), score)
    assert found.probability(np.array([5.0, 2, 1, -1])) == pytest.approx([2 / 3, 2 / 3, 1 / 2, 0])
    assert found.threshold == pytest.approx(1 / 2)  # precision 3/5, recall 1
    assert found.watch_ratio(np.array([1.0])) == pytest.approx([1])


def test_without_watch_times_there_is_no_error_of_them():
    found = Calibration.fit(np.array([True, False]), np.full(2, np.nan), np.array([1.0, 0]))
    assert np.isnan(found.watch_ratio(np.array([1.0]))).all()


def test_scores_find_their_rows(shown, tmp_path):
    """By the number of the row, in any order; null, or no row at all, is no opinion."""
    order = np.random.default_rng(0).permutation(len(ROWS) - 1)  # the last has no row
    score = pa.array(order * 10.0, mask=order == 4)
    for seed, name in ((42, "one"), (43, "other")):
        columns = {"seed": np.full(len(order), seed), "impression": order, "score": score}
        arrays.write(columns, tmp_path / f"{name}.parquet")
    both = [arrays.load(tmp_path / f"{name}.parquet") for name in ("one", "other")]
    both[1]["score"] = -both[1]["score"]
    together = {key: np.concatenate([table[key] for table in both]) for key in both[0]}
    arrays.write(together | {"score": pa.array(together["score"], from_pandas=True)}, tmp_path / "scores.parquet")
    found = shown.load_scores(tmp_path / "scores.parquet")
    expected = np.arange(len(ROWS)) * 10.0
    expected[[4, 9]] = np.nan
    assert found[42] == pytest.approx(expected, nan_ok=True)
    assert found[43] == pytest.approx(-expected, nan_ok=True)


def test_no_opinion_is_the_median_of_the_case(shown):
    """Of two the one between them; 0 where the case has none."""
    score = np.array([3.0, np.nan, 1, 5, np.nan, 9, np.nan, 4, 6, 7])
    assert shown.filled(score).tolist() == [3, 2, 1, 5, 7, 9, 0, 4, 6, 7]


def test_every_user_is_told(judged):
    rows = judged.per_user("model", 42)
    assert rows["part"].tolist() == ["valid", "test", "test", "random"]
    assert rows["rows"].tolist() == [3, 3, 1, 3]
    assert rows["auc"] == pytest.approx([1, 0.75, np.nan, 0], nan_ok=True)
