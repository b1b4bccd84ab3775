"""What a model in training is told about valid, and which files a fit has."""

from math import log2

import numpy as np
import pytest

from nextreel import arrays
from nextreel.scoring.validation import of_ranks, session, validate


class Guess:
    """Asks for the video after the last one, and knows a loss."""

    def __init__(self):
        self.asked = []

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
    assert found == {
        "loss": pytest.approx(valid.target.mean()), "hr@10": 1.0, "ndcg@10": 1.0
    }  # fmt: skip
    ((cases, video_idx),) = model.asked
    assert set(cases.part) == {"valid"}
    assert (video_idx == valid.target).all()


def test_the_fit_on_train_is_measured_and_the_first_seed_s_drawn(cycle, tmp_path):
    def made(seed, cut):
        paths = (tmp_path / name for name in ("curve.csv", "rates", "kept"))
        return session(cycle.store, cycle.asked, seed, cut, "key", *paths)

    first, second, refit = made(42, "train"), made(43, "train"), made(42, "train_valid")
    assert first.measure(Guess())["hr@10"] == 1
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
