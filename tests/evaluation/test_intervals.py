import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nextreel import evaluation
from nextreel.evaluation.estimates import Estimates
from nextreel.evaluation.intervals import (
    LEAST_USERS,
    bootstrap_auc,
    bootstrap_means,
    interval,
    mean,
    simultaneous_interval,
)


def test_interval_of_a_mean_agrees_with_the_normal_one():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (2000, 1))
    low, high = interval(bootstrap_means(values, np.arange(2000), 1000, rng), 0.95)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert [low[0], high[0]] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.02)


def test_users_are_resampled_not_cases():
    """Ten equal cases a user say no more than one."""
    rng = np.random.default_rng(1)
    values, users = rng.normal(0, 1, 400), np.arange(400)
    one = bootstrap_means(values[:, None], users, 500, np.random.default_rng(2))
    ten = bootstrap_means(np.repeat(values, 10)[:, None], np.repeat(users, 10), 500, np.random.default_rng(2))
    assert one == pytest.approx(ten)


def test_columns_share_their_resamples():
    rng = np.random.default_rng(3)
    base = rng.normal(0, 1, 300)
    means = bootstrap_means(np.stack([base, base + 0.5], 1), np.arange(300), 200, rng)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.full(200, 0.5))


def test_weights_and_missing_values_by_hand():
    values = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]])
    assert mean(values, np.array([3.0, 1.0, 9.0])).tolist() == [1.5, 5.0]
    assert np.isnan(mean(values[[0, 2]])[1])
    one_user = bootstrap_means(values, np.zeros(3, int), 4, np.random.default_rng(0), np.array([3.0, 1.0, 9.0]))
    assert one_user.tolist() == [[1.5, 5.0]] * 4


def test_weighted_resamples_are_means_of_repeated_cases():
    """A case of weight 3 is three cases of its user."""
    rng = np.random.default_rng(4)
    values, weight = rng.random(50), rng.integers(1, 4, 50)
    weighted = bootstrap_means(values[:, None], np.arange(50), 100, np.random.default_rng(5), weight.astype(float))
    repeated = bootstrap_means(
        np.repeat(values, weight)[:, None], np.repeat(np.arange(50), weight), 100, np.random.default_rng(5)
    )
    assert weighted == pytest.approx(repeated)


def test_resampled_auc_is_the_auc_of_the_drawn_rows():
    rng = np.random.default_rng(6)
    user = rng.integers(0, 30, 400)
    label, score = rng.random(400) < 0.4, rng.integers(0, 9, 400).astype(float)
    score[:40] = -np.inf
    found = bootstrap_auc(label, score, user, 5, np.random.default_rng(7))
    again = np.random.default_rng(7)
    finite = np.maximum(score, -1)
    for value in found:
        drawn = np.concatenate([np.flatnonzero(user == u) for u in again.integers(0, 30, 30)])
        assert value == pytest.approx(roc_auc_score(label[drawn], finite[drawn]))


def test_simultaneous_intervals_hold_together():
    """Of 20 comparisons without a difference one by one some leave 0 out; all together hold it in some 95 of 100."""
    rng = np.random.default_rng(8)
    all_hold, single = 0, 0
    for _ in range(100):
        values = rng.normal(0, 1, (200, 20))
        means = bootstrap_means(values, np.arange(200), 300, rng)
        low, high = interval(means, 0.95)
        single += ((low <= 0) & (high >= 0)).all()
        low, high = simultaneous_interval(means, values.mean(0), 0.95)
        all_hold += ((low <= 0) & (high >= 0)).all()
    assert single < 60
    assert 88 <= all_hold <= 100


def test_simultaneous_intervals_of_equal_columns_are_those_of_one():
    """Comparisons that hang together cost nothing, which Bonferroni would not see."""
    rng = np.random.default_rng(9)
    one = bootstrap_means(rng.normal(0, 1, (500, 1)), np.arange(500), 2000, rng)
    low, high = simultaneous_interval(np.repeat(one, 10, axis=1), np.zeros(10), 0.95)
    assert high - low == pytest.approx(np.full(10, 2 * 1.96 * one.std()), rel=0.05)


def test_a_difference_that_never_varies_has_no_width():
    low, high = simultaneous_interval(np.zeros((50, 2)), np.zeros(2), 0.95)
    assert low.tolist() == high.tolist() == [0, 0]


@pytest.mark.filterwarnings("error")
def test_an_estimate_without_any_value_leaves_the_others_alone():
    """As the AUC of a log in which every row is a positive."""
    means = np.random.default_rng(3).normal(size=(200, 2))
    low, high = simultaneous_interval(np.column_stack([means, np.full(200, np.nan)]), np.array([0, 0, np.nan]), 0.9)
    alone = simultaneous_interval(means, np.zeros(2), 0.9)
    assert (low[:2] == alone[0]).all()
    assert (high[:2] == alone[1]).all()
    assert np.isnan([low[2], high[2]]).all()
    assert np.isnan(simultaneous_interval(np.full((5, 2), np.nan), np.full(2, np.nan), 0.9)).all()


# --- too few users ---


def estimates(n_users, n_known=None, cases=2):
    """Of two models and two metrics, the second of which only some users have."""
    rng = np.random.default_rng(0)
    user_idx = np.repeat(np.arange(n_users), cases)
    known = user_idx < (n_users if n_known is None else n_known)
    values = {
        model: {"all": rng.random(len(user_idx)), "some": np.where(known, rng.random(len(user_idx)), np.nan)}
        for model in ("one", "other")
    }
    return Estimates.of(values, user_idx, evaluation.Params(n_resamples=50, confidence=0.9), seed=1)


@pytest.mark.parametrize("n_users", [1, 2, LEAST_USERS - 1])
def test_too_few_users_have_values_and_no_interval(n_users):
    found = estimates(n_users)
    table, compared = found.table(), found.comparison("all", 0.9)
    assert np.isfinite(table["value"]).all()
    assert np.isfinite(compared["value"]).all()
    for bounds in (table["low"], table["high"], *(compared[x] for x in compared if x.startswith(("low", "high")))):
        assert np.isnan(bounds).all()
    assert np.isnan(found.of_model("one")["all_half_width"])


def test_enough_users_have_an_interval():
    found = estimates(LEAST_USERS)
    assert (found.table()["low"] < found.table()["high"]).all()
    compared = found.comparison("all", 0.9)
    assert np.isfinite(compared["low_corrected"][compared["minus"] != ""]).all()


def test_users_without_a_value_do_not_count():
    found = estimates(LEAST_USERS, n_known=LEAST_USERS - 1)
    one = found.of_model("one")
    assert one["all_half_width"] > 0
    assert np.isnan(one["some_half_width"])
    assert np.isnan(found.comparison("some", 0.9)["low"]).all()


def test_no_user_at_all_is_too_few():
    assert np.isnan(estimates(3, n_known=0).of_model("one")["some_half_width"])
