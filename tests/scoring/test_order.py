import numpy as np
import pytest

from nextreel.scoring import order


def ties(user_id, video_id, seed):
    """What breaks the ties of cases at one moment."""
    key = order.case_key(user_id, np.full(len(user_id), 10**12), seed)
    return lambda row, column: order.tie_hash(key[row], video_id[column])


def by_hand(scores, k, tie):
    """The order of each row, sorted entry by entry."""
    out = []
    for i, row in enumerate(scores):
        listed = [j for j in range(len(row)) if row[j] > -np.inf]
        keyed = [(-row[j], int(tie(np.array([i]), np.array([j]))[0]), j) for j in listed]
        out.append([j for _, _, j in sorted(keyed)][:k])
    return out


@pytest.mark.parametrize("k", [1, 3, 20, 50])
def test_top_k_is_the_full_sort(k):
    rng = np.random.default_rng(k)
    scores = rng.integers(0, 4, (12, 20)).astype(np.float32)  # many ties
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    scores[0] = -np.inf  # nothing to list
    tie = ties(np.arange(100, 112), rng.permutation(np.arange(1, 21)), seed=7)
    row, column, rank = order.top_k(scores, k, tie)
    expected = by_hand(scores, k, tie)
    assert [column[row == i].tolist() for i in range(12)] == expected
    assert [rank[row == i].tolist() for i in range(12)] == [list(range(1, 1 + len(e))) for e in expected]


def test_top_k_of_many_columns_is_the_full_sort():
    """So many that the floor comes from groups of columns, which a few ties at the k-th place may straddle."""
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 300, (4, 1_003)).astype(np.float32)
    scores[:, ::7] = -np.inf
    tie = ties(np.arange(4), rng.permutation(1_003), seed=7)
    row, column, _rank = order.top_k(scores, 9, tie)
    assert [column[row == i].tolist() for i in range(4)] == by_hand(scores, 9, tie)


def test_target_rank_is_its_place_in_the_list():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 3, (30, 25)).astype(np.float32)
    tie = ties(np.arange(30), np.arange(5, 30), seed=3)
    row, column, rank = order.top_k(scores, 25, tie)
    assert (order.target_ranks(scores, row, column, tie) == rank).all()


def test_seen_videos_are_no_rivals():
    scores = np.array([[5, -np.inf, 4, 4]], np.float32)
    tie = ties(np.array([0]), np.arange(1, 5), seed=0)
    rank = order.target_ranks(scores, np.array([0]), np.array([2]), tie)
    assert rank[0] in (2, 3)  # behind the 5, beside the other 4; the seen one does not count


def test_a_constant_scorer_gets_chance():
    n_cases, n_videos = 4000, 50
    target = np.random.default_rng(0).integers(0, n_videos, n_cases)
    scores = np.zeros((n_cases, n_videos), np.float32)
    tie = ties(np.arange(n_cases), np.arange(n_videos), seed=42)
    rank = order.target_ranks(scores, np.arange(n_cases), target, tie)
    counts = np.bincount(rank, minlength=n_videos + 1)[1:]
    expected = n_cases / n_videos
    assert ((counts - expected) ** 2 / expected).sum() < 85.4  # chi-square, 49 degrees, 99.9 %


def test_ties_depend_on_the_seed_the_user_and_the_moment():
    keys = [order.case_key(np.array([u]), np.array([t]), s) for u, t, s in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert len({tuple(np.argsort(order.tie_hash(key, np.arange(1, 40)))) for key in keys}) == 4
