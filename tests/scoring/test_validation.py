"""What a model in training is told about valid, and which files a fit has."""

import numpy as np
import pytest

from nextreel.scoring.validation import session, validate


class Guess:
    """Asks for the video after the last one, and knows the loss of the first forty."""

    def __init__(self):
        self.asked = []

    def losses(self, cases, histories, video_idx):
        assert (histories.length == cases.history_end).all()
        self.asked.append((cases, video_idx))
        return np.where(video_idx <= 40, video_idx, np.nan)

    def queries(self, cases, histories):
        last = histories.store.events("video_idx")[histories.stop - 1]
        return np.eye(60, dtype=np.float32)[last % 60]

    def vectors(self, video_idx):
        return np.eye(60, dtype=np.float32)[video_idx - 1]

    def score(self, pairs):
        raise AssertionError("valid is ranked by products")


def test_the_loss_is_of_the_targets_of_valid_that_are_known(cycle):
    model = Guess()
    valid = cycle.asked.of("valid")
    found = validate(model, cycle.store, cycle.asked)
    assert found == {
        "loss": pytest.approx(valid.target[valid.target <= 40].mean()), "hr@10": 1.0, "ndcg@10": 1.0
    }  # fmt: skip
    ((cases, video_idx),) = model.asked
    assert set(cases.part) == {"valid"}
    assert (video_idx == valid.target).all()


def test_without_a_known_target_there_is_no_loss(cycle, monkeypatch):
    monkeypatch.setattr(Guess, "losses", lambda self, cases, histories, video_idx: np.full(len(cases), np.nan))
    assert np.isnan(validate(Guess(), cycle.store, cycle.asked)["loss"])


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
