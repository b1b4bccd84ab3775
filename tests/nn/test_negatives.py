import numpy as np
import pytest
import torch
from scipy import stats

from nextreel.nn.negatives import Negatives

EVENTS = np.array([50, 1, 20, 9, 20])
TARGETS = np.array([30, 0, 10, 5, 15])


def sampler(source, n):
    return Negatives(source, n, EVENTS, TARGETS)


def counted(video):
    return np.bincount(video.flatten().numpy(), minlength=len(EVENTS))


@pytest.mark.parametrize(("source", "share"), [("uniform", np.full(5, 0.2)), ("popularity", EVENTS / 100)])
def test_draws_are_of_their_distribution(source, share):
    rng = np.random.default_rng(3)
    own = sampler(source, 40).own(500, rng)
    assert own.shape == (500, 40)
    shared = torch.cat([sampler(source, 40).shared(torch.zeros(7, dtype=torch.int64), rng) for _ in range(500)])
    for drawn in (own, shared):
        assert stats.chisquare(counted(drawn), share * 20_000).pvalue > 0.01


def test_popularity_s_draws_are_events_in_proportion_by_hand():
    """Of 100 events numbered 0 to 99 the first 50 are video 0's, the next is video 1's and so on."""

    class Each:
        def integers(self, low, high, shape):
            assert (low, high) == (0, 100)
            return np.arange(100).reshape(shape)

    drawn = sampler("popularity", 100).own(1, Each())
    assert drawn[0].tolist() == np.repeat(np.arange(5), EVENTS).tolist()


def test_each_row_has_negatives_of_its_own():
    own = sampler("uniform", 30).own(2, np.random.default_rng(0))
    assert own[0].tolist() != own[1].tolist()


def test_in_batch_negatives_are_targets_of_the_batch_each_row_at_most_once():
    target = torch.tensor([4, 0, 0, 3, 2])
    assert sorted(sampler("in_batch", 9).shared(target, np.random.default_rng(0)).tolist()) == [0, 0, 2, 3, 4]
    rng, negatives = np.random.default_rng(0), sampler("in_batch", 3)
    drawn = torch.stack([negatives.shared(target, rng) for _ in range(4000)])
    assert drawn.shape == (4000, 3)
    assert ((drawn == 4).sum(1) <= 1).all()
    # Each row of the five is among the three 2,400 times.
    assert stats.chisquare(counted(drawn), np.array([2, 1e-9, 1, 1, 1]) * 2400).pvalue > 0.01


def test_mixed_is_half_uniform_and_half_in_batch():
    target = torch.full((50,), 3)
    rng, negatives = np.random.default_rng(0), sampler("mixed", 41)
    drawn = torch.stack([negatives.shared(target, rng) for _ in range(1000)])
    assert drawn.shape == (1000, 41)
    assert (drawn[:, 21:] == 3).all()  # 20, the half rounded down
    assert stats.chisquare(counted(drawn[:, :21]), np.full(5, 0.2 * 21_000)).pvalue > 0.01


def test_from_a_small_batch_come_fewer():
    target = torch.tensor([1, 2, 3])
    assert len(sampler("mixed", 40).shared(target, np.random.default_rng(0))) == 20 + 3
    assert len(sampler("in_batch", 40).shared(target, np.random.default_rng(0))) == 3


@pytest.mark.parametrize(
    ("source", "n", "n_rows", "expected"),
    [
        ("uniform", 10, 4, [2, 2, 2, 2, 2]),
        ("popularity", 10, 4, [5, 0.1, 2, 0.9, 2]),
        ("in_batch", 10, 41, [10 * 40 / 41 * share for share in (0.5, 0, 1 / 6, 1 / 12, 0.25)]),
        ("in_batch", 99, 25, [24 * share for share in (0.5, 0, 1 / 6, 1 / 12, 0.25)]),  # all other rows
        ("mixed", 11, 99, [1.2 + 5 * 98 / 99 * share for share in (0.5, 0, 1 / 6, 1 / 12, 0.25)]),  # 6 and 5
        ("in_batch", 9, 1, [0, 0, 0, 0, 0]),
    ],
)
def test_how_often_a_video_is_expected_by_hand(source, n, n_rows, expected):
    found = sampler(source, n).log_expected(torch.arange(5), n_rows).exp()
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("source", ["uniform", "popularity", "in_batch", "mixed"])
def test_what_is_expected_is_the_mean_of_what_is_drawn(source):
    """In batches of random targets, of which a row's own is none: video 0, the target of the first row."""
    rng, negatives, n_rows, n_batches = np.random.default_rng(1), sampler(source, 6), 8, 4000
    seen = np.zeros(5)
    for _ in range(n_batches):
        target = torch.from_numpy(rng.choice(5, n_rows, p=TARGETS / TARGETS.sum()))
        target[0] = 0
        seen += counted(negatives.shared(target, rng))
    expected = negatives.log_expected(torch.arange(5), n_rows).exp().numpy()
    np.testing.assert_allclose(seen[1:] / n_batches, expected[1:], rtol=0.05)
