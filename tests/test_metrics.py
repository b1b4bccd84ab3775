import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from nextreel import metrics


def test_known_answers():
    rank = np.array([1, 2, 10, 11, 0])  # 0 = never ranked
    assert metrics.hit(rank, 10).tolist() == [1, 1, 1, 0, 0]
    assert metrics.ndcg(rank, 10) == pytest.approx([1, 0.6309298, 0.2890648, 0, 0])


@pytest.mark.parametrize("k", [1, 5, 10])
def test_ndcg_agrees_with_scikit_learn(k):
    rng = np.random.default_rng(0)
    scores = rng.random((50, 30))
    target = rng.integers(0, 30, 50)
    rank = 1 + (scores > scores[np.arange(50), target, None]).sum(1)
    theirs = [ndcg_score(np.eye(30)[[t]], scores[[i]], k=k) for i, t in enumerate(target)]
    assert metrics.ndcg(rank, k) == pytest.approx(theirs)


def test_coverage_counts_each_video_once():
    assert metrics.coverage(np.array([3, 3, 7]), 8) == 0.25
