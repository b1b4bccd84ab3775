"""What a model in training is told about valid, and which files a fit has."""

from math import log2

import numpy as np
import pyarrow as pa
import pytest

from nextreel import arrays
from nextreel.cases.pairs import Pairs
from nextreel.scoring.sets import ShownPairs
from nextreel.scoring.validation import Showings, of_ranks, session, validate


class Guess:
    """Asks for the video after the last one, and knows a loss."""

    params = None

    def __init__(self, lists=True):
        self.asked, self.lists = [], lists

    def makes_lists(self, _params):
        return self.lists

    def mean_loss(self, cases, histories, video_idx):
        assert (histories.length == cases.history_end).all()
        self.asked.append((cases, video_idx))
        return float(video_idx.mean())

    def queries(self, cases, histories):
        last = histories.store.events("video_idx")[histories.stop - 1]
        return np.eye(60, dtype=np.float32)[last % 60]

    def vectors(self, video_idx):
        return np.eye(60, dtype=np.float32)[video_idx - 1]

    def score(self, pairs):
        raise AssertionError("valid is ranked by products")


def test_the_loss_is_of_the_targets_of_valid(cycle):
    model = Guess()
    valid = cycle.asked.of("valid")
    found = validate(model, cycle.store, cycle.asked)
    assert found == {"next_item": {"loss": pytest.approx(valid.target.mean()), "hr@10": 1.0, "ndcg@10": 1.0}}
    ((cases, video_idx),) = model.asked
    assert set(cases.part) == {"valid"}
    assert (video_idx == valid.target).all()


def test_the_fit_on_train_is_measured_and_the_first_seed_s_drawn(cycle, tmp_path):
    showings = Showings(Pairs.at_cases(cycle.store, cycle.asked.cases, np.zeros(0, int), np.zeros(0, np.int32)), {})

    def made(seed, cut):
        paths = (tmp_path / name for name in ("curve.csv", "rates", "kept"))
        return session(cycle.store, cycle.asked, showings, seed, cut, "key", *paths)

    first, second, refit = made(42, "train"), made(43, "train"), made(42, "train_valid")
    assert first.measure(Guess())["next_item"]["hr@10"] == 1
    assert (first.curve, second.curve, refit.curve) == (tmp_path / "curve.csv", None, None)
    assert (second.measure is None, refit.measure is None) == (False, True)
    assert refit.rates == tmp_path / "rates" / "42-train_valid.csv"
    assert len({each.checkpoint.path for each in (first, second, refit)}) == 3
    assert len({each.checkpoint.key for each in (first, second, refit)}) == 3


def test_ranks_of_valid_are_averaged_over_seeds(cycle, tmp_path):
    """Ranks 1 and 3 with one seed, 11 and a miss with the other; cases of other parts do not count."""
    asked = cycle.asked
    valid, test = asked.of("valid").cases.case_id[:2], asked.of("test").cases.case_id[:1]
    case_id = np.tile(np.concatenate([valid, test]), 2)
    table = {"seed": np.repeat([42, 43], 3), "case_id": case_id, "rank": np.array([1, 3, 1, 11, 0, 1])}
    arrays.write(table, tmp_path / "ranks.parquet")
    found = of_ranks(tmp_path / "ranks.parquet", asked)
    assert found == {"valid_hr@10": 2 / 4, "valid_ndcg@10": pytest.approx((1 + 1 / log2(4)) / 4)}


class Critic(Guess):
    """A judge that repeats what it is told."""

    def predictions(self, pairs):
        raise AssertionError("nothing but `judged` is asked")

    read = predictions

    def judged(self, pairs, told):
        return {"positive": {"loss": float(len(pairs)), **{name: float(values.sum()) for name, values in told.items()}}}


def test_a_judge_is_measured_on_showings(cycle):
    pairs = Pairs.at_cases(cycle.store, cycle.asked.cases, np.arange(4), np.arange(4, dtype=np.int32))
    found = validate(Critic(), cycle.store, cycle.asked, Showings(pairs, {"wtr": np.array([0.5, 0.5, 1.0, 0.0])}))
    assert found["positive"] == {"loss": 4.0, "wtr": 2.0}
    assert found["next_item"]["hr@10"] == 1.0
    assert set(validate(Critic(), cycle.store, cycle.asked)) == {"next_item"}
    alone = Critic(lists=False)
    assert set(validate(alone, cycle.store, cycle.asked, Showings(pairs, {}))) == {"positive"}
    assert alone.asked == []  # neither a loss nor a rank of the next video


def test_showings_are_of_valid_alone(tmp_path, cycle):
    """In the order of valid_outcomes.parquet; an unknown label is NaN."""
    cases = cycle.asked.cases
    row, video = np.array([0, 1, 1, 2]), np.array([5, 6, 7, 8], np.int32)
    shown = ShownPairs(cases, cases.case_id, row, video, cases.time_ms[row] + 1, cases.tab[row])
    outcomes = {"impression": np.array([1, 3]), "label": pa.array([True, None]), "wtr": np.array([0.5, np.nan])}
    arrays.write(outcomes, tmp_path / "valid_outcomes.parquet")
    found = Showings.load(tmp_path, cycle.store, shown)
    assert found.pairs.video_idx.tolist() == [6, 8]
    np.testing.assert_array_equal(found.told["positive"], [1.0, np.nan])
    np.testing.assert_array_equal(found.told["wtr"], [0.5, np.nan])
    assert set(found.told) == {"positive", "wtr"}
