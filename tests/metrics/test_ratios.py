"""What rows add to the error of a metric, against what the metric does when a row counts a little more."""

import numpy as np
import pytest

from nextreel.metrics import impressions as metrics
from nextreel.metrics import ratios
from nextreel.metrics.ratios import Parts


def drawn(n=60, groups=4):
    rng = np.random.default_rng(0)
    label, group = rng.random(n) < 0.4, rng.integers(0, groups, n)
    score, wtr = rng.integers(0, 8, n) / 8, rng.integers(0, 6, n) / 5  # with ties in both
    return label, group, score, np.where(rng.random(n) < 0.1, np.nan, wtr)


def repeated(n, row):
    """Every row 200 times, one of them 201 times: it counts by 1/200 more."""
    return np.repeat(np.arange(n), np.where(np.arange(n) == row, 201, 200))


@pytest.mark.parametrize(
    "metric",
    [
        lambda label, score, wtr: metrics.auc(label, score).estimate(),
        lambda label, score, wtr: metrics.xauc(score, wtr).estimate(),
        lambda label, score, wtr: metrics.mse(score, wtr).estimate().root(),
        lambda label, score, wtr: metrics.mae(score, wtr).estimate(),
        lambda label, score, wtr: Parts.of(wtr).estimate(),
        *(
            lambda label, score, wtr, name=name: metrics.threshold_scores(label, score, 0.5)[name].estimate()
            for name in ("precision", "recall", "f1", "accuracy")
        ),
    ],
    ids=["auc", "xauc", "rmse", "mae", "mean", "precision", "recall", "f1", "accuracy"],
)
def test_a_row_moves_a_metric_by_its_influence(metric):
    label, _group, score, wtr = drawn()
    found = metric(label, score, wtr)
    same, base = repeated(60, -1), found.value
    assert metric(label[same], score[same], wtr[same]).value == pytest.approx(base)
    moved = []
    for row in range(60):
        more = repeated(60, row)
        moved.append((metric(label[more], score[more], wtr[more]).value - base) * 200)
    assert moved == pytest.approx(found.by_user, rel=0.02, abs=1e-4)
    assert (found.by_video == found.by_user).all()
    assert found.by_user.sum() == pytest.approx(0)


def test_a_user_moves_gauc_by_the_sum_of_its_rows():
    """Its pairs are all its own: what its rows say is said once, what the rows of a video say of each of them whole."""
    label, group, score, _wtr = drawn()
    size = np.bincount(group)[group].astype(float)
    parts = metrics.grouped_auc(label, score, group, 4)
    found = parts.estimate(size, within_users=True)
    auc, n = parts.by_group(group, 4), np.bincount(group)
    assert found.value == pytest.approx(np.average(auc, weights=n))
    assert np.bincount(group, found.by_user) == pytest.approx(n * (auc - found.value) / n.sum())
    assert found.by_video == pytest.approx(2 * found.by_user)


def test_the_influence_of_a_row_in_gauc_is_that_of_its_pairs():
    """Each pair of a positive and a negative of one user adds weight x (right - GAUC); a row has the sum of its own."""
    label, group, score, _wtr = drawn(30, 3)
    size = np.bincount(group)[group].astype(float)
    found = metrics.grouped_auc(label, score, group, 3).estimate(size, within_users=True)
    expected = np.zeros(30)
    for i in np.flatnonzero(label):
        for j in np.flatnonzero(~label & (group == group[i])):
            right = (score[i] > score[j]) + (score[i] == score[j]) / 2
            n_pairs = (label & (group == group[i])).sum() * (~label & (group == group[i])).sum()
            added = size[i] / n_pairs * (right - found.value) / 30
            expected[[i, j]] += added
    assert found.by_video == pytest.approx(expected)


@pytest.mark.parametrize("name", ["grouped_ndcg", "grouped_top_mean", "grouped_discounted_sum"])
def test_the_parts_of_a_group_are_its_value_and_its_shares_are_one(name):
    label, group, score, wtr = drawn()
    value = label if name == "grouped_ndcg" else wtr
    parts = getattr(metrics, name)(value, score, group, np.arange(60).astype(np.uint64), 4, 3)
    assert np.bincount(group, parts.share) == pytest.approx(np.ones(4))
    assert np.count_nonzero(parts.share) == 4 * 3
    assert parts.estimate().value == pytest.approx(parts.by_group(group, 4).mean())


def test_an_unknown_row_is_no_part_and_without_any_there_is_no_value():
    found = Parts.of(np.array([1.0, np.nan, 3.0])).estimate(np.array([3.0, 9.0, 1.0]))
    assert (found.value, found.by_user.tolist(), found.known.tolist()) == (1.5, [-0.375, 0, 0.375], [True, False, True])
    none = Parts.of(np.full(2, np.nan)).estimate()
    assert np.isnan(none.value)
    assert (none.by_user.tolist(), none.known.any()) == ([0, 0], False)
    assert Parts.of(np.zeros(3)).estimate().root().by_user.tolist() == [0, 0, 0]


def test_the_mean_of_seeds_has_the_mean_of_their_influences():
    one, other = (Parts.of(np.array(x)).estimate() for x in ([1.0, 0, 0, 1], [1.0, 1, 0, np.nan]))
    found = ratios.mean([one, other])
    assert found.value == pytest.approx((one.value + other.value) / 2)
    assert found.by_video == pytest.approx((one.by_video + other.by_video) / 2)
    assert found.known.all()
