import numpy as np
import pytest

from nextreel.scoring import order


def ties(user_key, video_key, seed):
    """What breaks the ties of cases at one moment."""
    key = order.case_key(user_key, np.full(len(user_key), 10**12), seed)
    return lambda row, column: order.tie_hash(key[row], video_key[column])


def by_hand(scores, k, tie):
    """The order of each row, sorted entry by entry."""
    out = []
    for i, row in enumerate(scores):
        listed = [j for j in range(len(row)) if row[j] > -np.inf]
        keyed = [(-row[j], int(tie(np.array([i]), np.array([j]))[0]), j) for j in listed]
        out.append([j for _, _, j in sorted(keyed)][:k])
    return out


@pytest.mark.parametrize("k", [1, 3, 20, 50])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_entries_are_ordered_as_by_a_full_sort(k, dtype):
    """In whatever order they come, with many ties and rows without any entry."""
    rng = np.random.default_rng(k)
    scores = rng.integers(0, 4, (12, 20)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    scores[0] = -np.inf  # nothing to list
    tie = ties(np.arange(100, 112), rng.permutation(np.arange(1, 21)), seed=7)
    row, column = np.nonzero(scores > -np.inf)
    mixed = rng.permutation(len(row))
    row, column = row[mixed], column[mixed]
    entry_scores = scores[row, column].astype(dtype)
    by, rank = order.order(row, entry_scores, lambda at: tie(row[at], column[at]), k)
    row, column = row[by], column[by]
    expected = by_hand(scores, k, tie)
    assert [column[row == i].tolist() for i in range(12)] == expected
    assert [rank[row == i].tolist() for i in range(12)] == [list(range(1, 1 + len(e))) for e in expected]


def test_a_constant_scorer_gets_chance():
    n_cases, n_videos = 4000, 50
    target = np.random.default_rng(0).integers(0, n_videos, n_cases)
    tie = ties(np.arange(n_cases), np.arange(n_videos), seed=42)
    row, column = np.repeat(np.arange(n_cases), n_videos), np.tile(np.arange(n_videos), n_cases)
    by, rank = order.order(row, np.zeros(len(row), np.float32), lambda at: tie(row[at], column[at]), n_videos)
    row, column = row[by], column[by]
    counts = np.bincount(rank[column == target[row]], minlength=n_videos + 1)[1:]
    expected = n_cases / n_videos
    assert ((counts - expected) ** 2 / expected).sum() < 85.4  # chi-square, 49 degrees, 99.9 %


def test_the_rank_of_a_target_in_its_list_or_a_miss():
    listed = {"case_id": np.array([3, 3, 7]), "video_idx": np.array([5, 6, 5]), "rank": np.array([1, 2, 1])}
    found = order.listed_rank(listed, np.array([3, 7, 9]), np.array([6, 6, 5]))
    assert found.tolist() == [2, order.MISS, order.MISS]


def test_ties_depend_on_the_seed_the_user_and_the_moment():
    keys = [order.case_key(np.array([u]), np.array([t]), s) for u, t, s in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert len({tuple(np.argsort(order.tie_hash(key, np.arange(1, 40)))) for key in keys}) == 4
