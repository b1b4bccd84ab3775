from itertools import combinations

import numpy as np
import pytest
from scipy import sparse

from nextreel.metrics import lists as list_metrics

# Two lists: videos 1, 2, 3 and 1, 4; the third is empty.
VIDEO, LIST = np.array([1, 2, 3, 1, 4]), np.array([0, 0, 0, 1, 1])
COUNT = np.array([0, 6, 2, 1, 1, 0])  # video 5 has no interaction


def test_coverage_by_hand():
    assert list_metrics.coverage(VIDEO, 8) == 0.5
    assert list_metrics.coverage(VIDEO[:0], 8) == 0


def test_gini_by_hand():
    """Counts 2, 1, 1, 1, 0 of five: the mean absolute difference over twice the mean."""
    count = np.array([2, 1, 1, 1, 0])
    expected = np.abs(count[:, None] - count).mean() / (2 * count.mean())
    assert list_metrics.gini(VIDEO, np.array([1, 2, 3, 4, 5])) == pytest.approx(expected)
    assert list_metrics.gini(np.array([1, 2, 3]), np.array([1, 2, 3])) == pytest.approx(0)
    assert list_metrics.gini(np.array([2, 2]), np.array([1, 2, 3, 4])) == pytest.approx(3 / 4)


def test_the_short_head_holds_its_share():
    assert np.flatnonzero(list_metrics.short_head(COUNT)).tolist() == [1, 2]  # 8 of 10
    assert np.flatnonzero(list_metrics.short_head(COUNT, 0.81)).tolist() == [1, 2, 3]  # 3 before 4
    assert not list_metrics.short_head(np.zeros(3, int)).any()


def test_means_by_list_by_hand():
    head = list_metrics.short_head(COUNT)
    assert list_metrics.popularity(VIDEO, LIST, 3, COUNT) == pytest.approx([3, 3.5, np.nan], nan_ok=True)
    assert list_metrics.long_tail_share(VIDEO, LIST, 3, head) == pytest.approx([1 / 3, 1 / 2, np.nan], nan_ok=True)
    bits = -np.log2(np.array([7, 3, 2]) / 15)
    found = list_metrics.novelty(VIDEO, LIST, 3, COUNT)
    assert found == pytest.approx([bits.mean(), (bits[0] + bits[2]) / 2, np.nan], nan_ok=True)
    assert np.isfinite(list_metrics.novelty(np.array([5]), np.array([0]), 1, COUNT)).all()


def test_tag_diversity_is_the_count_over_all_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    tags = rng.random((30, 6)) < 0.3
    video = np.concatenate([rng.choice(30, size, replace=False) for size in (7, 1, 4, 10)])
    owner = np.repeat([2, 0, 1, 3], [7, 1, 4, 10])
    expected = []
    for one in range(4):
        distance = []
        for a, b in combinations(video[owner == one], 2):
            either = (tags[a] | tags[b]).sum()
            distance.append(1 - (tags[a] & tags[b]).sum() / either if either else 0)
        expected.append(np.mean(distance) if distance else np.nan)
    shuffled = rng.permutation(len(video))
    monkeypatch.setattr(list_metrics, "_PAIRS", 5)
    found = list_metrics.tag_diversity(video[shuffled], owner[shuffled], 4, sparse.csr_array(tags.astype(float)))
    assert found == pytest.approx(expected, nan_ok=True)
