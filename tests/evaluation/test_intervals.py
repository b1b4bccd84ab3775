"""The variances against resampling by hand; how often the intervals hold the truth: `benchmarks/intervals.py`."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from nextreel.evaluation.estimates import Estimates
from nextreel.evaluation.intervals import LEAST, Clusters, Sums
from nextreel.metrics import impressions as metrics
from nextreel.metrics.ratios import Parts


def drawn(rng, n_users=50, n_videos=60, n=1500):
    """Rows of users and videos that are both unlike each other: user, video, value."""
    user, video = rng.integers(1, n_users + 1, n), 1 + (n_videos * rng.random(n) ** 2).astype(int)
    value = rng.normal(size=n_users + 1)[user] + rng.normal(size=n_videos + 1)[video] + rng.normal(size=n)
    return user, video, value


def resampled(metric, cluster, n_resamples, rng):
    """The standard error of a metric of row numbers, by resampling clusters."""
    rows = [np.flatnonzero(cluster == x) for x in np.unique(cluster)]
    draws = rng.integers(0, len(rows), (n_resamples, len(rows)))
    return np.std([metric(np.concatenate([rows[x] for x in draw])) for draw in draws])


@pytest.mark.parametrize("way", ["users", "videos", "both"])
@pytest.mark.parametrize("metric", ["mean", "auc"])
def test_each_way_is_the_bootstrap_over_it(way, metric):
    rng = np.random.default_rng(1)
    user, video, value = drawn(rng)
    label = value + rng.normal(size=len(value)) > 1
    estimate = Parts.of(value).estimate() if metric == "mean" else metrics.auc(label, value).estimate()
    sums = Clusters(user, video).sums(estimate)
    cluster = {"users": user, "videos": video, "both": user * 100 + video}[way]
    by_hand = {"mean": lambda at: value[at].mean(), "auc": lambda at: roc_auc_score(label[at], value[at])}[metric]
    expected = resampled(by_hand, cluster, 600, rng)
    assert np.sqrt((getattr(sums, way) ** 2).sum()) == pytest.approx(expected, rel=0.12)


def test_the_variance_is_that_of_both_ways_resampled_at_once():
    """The pigeonhole bootstrap (Owen, AoAS 2007) draws users and videos, and has what both hold three times instead of
    once."""
    rng = np.random.default_rng(2)
    user, video, value = drawn(rng)
    sums = Clusters(user, video).sums(Parts.of(value).estimate())
    means = []
    for _ in range(4000):
        of_user, of_video = (np.bincount(rng.integers(1, n + 1, n), minlength=n + 1) for n in (50, 60))
        times = of_user[user] * of_video[video]
        means.append(times @ value / times.sum())
    expected = np.var(means) - 2 * (sums.both**2).sum()
    assert sums.error()[0] ** 2 == pytest.approx(expected, rel=0.1)


def test_gauc_hangs_together_by_pairs_that_share_a_user_or_a_video():
    """Every two pairs of a positive and a negative that do, by hand: the dyadic variance (Aronow et al., PA 2015). The
    formula takes two pairs twice that share both videos, which no two users have here."""
    rng = np.random.default_rng(3)
    user, positive = np.repeat(np.arange(40), 4), np.arange(40) // 4 * 2  # two positives and two negatives each
    negative = 21 + (np.arange(40) // 4 + np.arange(40) % 4) % 10 * 2
    video = np.stack([1 + positive, 2 + positive, negative, 1 + negative], axis=1).ravel()
    label, score = np.tile([True, True, False, False], 40), rng.random(160) + rng.normal(size=41)[video]
    parts = metrics.grouped_auc(label, score, user, 40)
    found = parts.estimate(within_users=True)
    pairs = [(i, j) for i in np.flatnonzero(label) for j in np.flatnonzero(~label & (user == user[i]))]
    added = np.array([((score[i] > score[j]) - found.value) / 160 for i, j in pairs])
    of_user, of_pair = np.array([user[i] for i, _j in pairs]), [{video[i], video[j]} for i, j in pairs]
    expected = sum(
        added[a] * added[b] * (of_user[a] == of_user[b] or len(of_pair[a] & of_pair[b]))
        for a in range(len(pairs)) for b in range(len(pairs))
    )  # fmt: skip
    sums = Clusters(user, video).sums(found)
    assert (sums.videos**2).sum() > (sums.both**2).sum()
    assert sums.error()[0] ** 2 == pytest.approx(expected)


def test_ten_equal_cases_of_a_user_say_no_more_than_one():
    rng = np.random.default_rng(4)
    values, users = rng.normal(size=400), np.arange(400)
    one = Clusters(users).sums(Parts.of(values).estimate())
    ten = Clusters(np.repeat(users, 10)).sums(Parts.of(np.repeat(values, 10)).estimate())
    assert one.error() == pytest.approx(ten.error())
    assert one.error()[0] == pytest.approx(values.std() / 20)


def test_rows_without_a_video_have_their_own():
    """So only their users tell them apart: as if no video were asked for."""
    rng = np.random.default_rng(5)
    user, value = np.repeat(np.arange(40), 3), rng.normal(size=120)
    estimate = Parts.of(value).estimate()
    none = Clusters(user, np.zeros(120, int)).sums(estimate)
    assert none.videos.shape == none.both.shape == (120, 1)
    assert none.error() == Clusters(user).sums(estimate).error()


def test_what_videos_have_in_common_is_never_less_than_nothing():
    """Two rows of each video that say the opposite."""
    value = np.tile([1.0, -1.0], 50)
    sums = Clusters(np.arange(100), np.repeat(np.arange(1, 51), 2)).sums(Parts.of(value).estimate())
    assert (sums.videos**2).sum() < (sums.both**2).sum()
    assert sums.error()[0] == pytest.approx(0.1)  # that of the users


def test_degrees_of_freedom_count_those_that_weigh():
    enough = np.array([True])
    equal = Sums(np.ones((50, 1)), np.zeros((1, 1)), np.zeros((1, 1)), enough)
    few = Sums(np.append(np.ones(3), np.full(997, 1e-4))[:, None], np.zeros((1, 1)), np.zeros((1, 1)), enough)
    assert (equal.degrees()[0], few.degrees()[0]) == pytest.approx((50, 3), rel=1e-3)
    assert equal.reach(0.9) == pytest.approx(stats.t.ppf(0.95, 50) * np.sqrt(50))
    none = Sums(*np.zeros((3, 5, 1)), enough)
    assert (none.degrees().tolist(), none.reach(0.9).tolist()) == ([np.inf], [0])


def test_intervals_hold_the_truth_where_few_videos_hold_the_hits():
    """90 to 99 of 100 worlds; over users alone it is some 80. Truth: the mean of weight x rate over that of weight."""
    rate, draws = lambda log_weight, own: 1 / (1 + np.exp(3 - log_weight - own)), np.random.default_rng(0)
    z, own = draws.normal(size=(2, 1_000_000))
    truth = (np.exp(1.2 * z) * rate(1.2 * z, own)).sum() / np.exp(1.2 * z).sum()
    held = np.zeros(2)
    for world in range(300):
        rng = np.random.default_rng(world)
        z, own = rng.normal(size=(2, 2000))
        weight = np.exp(1.2 * z)
        video = rng.choice(2000, 1000, p=weight / weight.sum())
        hit = Parts.of((rng.random(1000) < rate(1.2 * z, own)[video]).astype(float)).estimate()
        ways = Clusters(np.arange(1000), 1 + video), Clusters(np.arange(1000))
        held += [abs(hit.value - truth) <= clusters.sums(hit).reach(0.95)[0] for clusters in ways]
    assert 0.92 <= held[0] / 300 <= 0.98
    assert held[1] / 300 < 0.88


# --- all at once ---


def stacked(values, user):
    clusters = Clusters(user)
    return Sums.stack([clusters.sums(Parts.of(column).estimate()) for column in values.T])


def test_simultaneous_intervals_hold_together():
    """Of 20 comparisons without a difference one by one some leave 0 out; all together hold it in some 95 of 100."""
    rng = np.random.default_rng(8)
    all_hold, single = 0, 0
    for _ in range(100):
        values = rng.normal(0, 1, (200, 20))
        sums = stacked(values, np.arange(200))
        single += (np.abs(values.mean(0)) <= sums.reach(0.95)).all()
        all_hold += (np.abs(values.mean(0)) <= sums.reach_together(0.95)).all()
    assert single < 60
    assert 88 <= all_hold <= 100


def test_simultaneous_intervals_of_equal_columns_are_those_of_one():
    """Comparisons that hang together cost nothing, which Bonferroni would not see."""
    values = np.random.default_rng(9).normal(size=500)
    sums = stacked(np.repeat(values[:, None], 10, axis=1), np.arange(500))
    assert sums.reach_together(0.95) == pytest.approx(sums.reach(0.95), rel=0.05)


def test_a_difference_that_never_varies_has_no_width():
    sums = stacked(np.random.default_rng(3).normal(size=(50, 1)).repeat(2, axis=1), np.arange(50))
    same = sums.differences(np.array([0, 1]), np.array([1, 0]))
    assert same.reach(0.9).tolist() == same.reach_together(0.9).tolist() == [0, 0]


@pytest.mark.filterwarnings("error")
def test_an_estimate_without_any_value_leaves_the_others_alone():
    """As the AUC of a log in which every row is a positive."""
    values = np.random.default_rng(3).normal(size=(200, 3))
    values[:, 2] = np.nan
    found, alone = stacked(values, np.arange(200)), stacked(values[:, :2], np.arange(200))
    assert found.reach_together(0.9)[:2].tolist() == alone.reach_together(0.9).tolist()
    assert np.isnan(found.reach_together(0.9)[2])
    assert np.isnan(stacked(values[:, 2:], np.arange(200)).reach_together(0.9)).all()


def test_a_paired_difference_is_that_of_the_differences():
    rng = np.random.default_rng(10)
    user, video, value = drawn(rng)
    other = value + rng.normal(size=len(value))
    clusters = Clusters(user, video)
    both = Sums.stack([clusters.sums(Parts.of(x).estimate()) for x in (value, other)])
    pair = both.differences(np.array([0]), np.array([1]))
    assert pair.error() == pytest.approx(clusters.sums(Parts.of(value - other).estimate()).error())


# --- too few ---


def estimates(n_users, n_known=None, n_videos=1000):
    """Of two models and two metrics, the second of which only some users have; two cases each."""
    rng = np.random.default_rng(0)
    user_idx = np.repeat(np.arange(n_users), 2)
    known = user_idx < (n_users if n_known is None else n_known)
    found = Estimates(Clusters(user_idx, 1 + np.arange(2 * n_users) % n_videos), 0.9, headline="all", lowest=0.0)
    for model in ("one", "other"):
        found.add(model, "all", Parts.of(rng.random(len(user_idx))).estimate())
        found.add(model, "some", Parts.of(np.where(known, rng.random(len(user_idx)), np.nan)).estimate())
        found.add(model, "number", 0.5)
    return found


@pytest.mark.parametrize(("n_users", "n_videos"), [(1, 99), (2, 99), (LEAST - 1, 99), (99, 1), (99, LEAST - 1)])
def test_too_few_users_or_videos_have_values_and_no_interval(n_users, n_videos):
    found = estimates(n_users, n_videos=n_videos)
    table, compared = found.table(), found.comparison
    assert np.isfinite(table["value"]).all()
    assert np.isfinite(compared["value"]).all()
    for bounds in (table["low"], table["high"], *(compared[x] for x in compared if x.startswith(("low", "high")))):
        assert np.isnan(bounds).all()
    assert np.isnan(found.of_model("one")["all_half_width"])


def test_enough_users_and_videos_have_an_interval():
    found = estimates(LEAST, n_videos=LEAST)
    table, compared = found.table(), found.comparison
    assert (table["low"] < table["high"])[table["metric"] != "number"].all()
    assert np.isnan(table["low"][table["metric"] == "number"]).all()  # what has no influence values
    assert np.isfinite(compared["low_corrected"][compared["minus"] != ""]).all()


def test_users_without_a_value_do_not_count():
    one = estimates(LEAST, n_known=LEAST - 1).of_model("one")
    assert one["all_half_width"] > 0
    assert np.isnan(one["some_half_width"])


def test_no_user_at_all_is_too_few():
    assert np.isnan(estimates(3, n_known=0).of_model("one")["some_half_width"])


def test_no_bound_is_below_what_a_metric_can_be_but_a_difference_may_be():
    found = Estimates(Clusters(np.arange(60)), 0.95, headline="hr", lowest=0.0)
    for name, hits in (("one", 1), ("other", 2)):
        found.add(name, "hr", Parts.of((np.arange(60) < hits).astype(float)).estimate())
    table = found.comparison
    assert (table["low"][:2] == 0).all()
    assert (table["low"][2:] < 0).all()
    assert found.of_model("one")["hr_half_width"] > 1 / 60
