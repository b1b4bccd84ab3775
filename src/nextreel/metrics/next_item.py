"""Metrics of one target a case, from its rank: see `ranks`."""

import numpy as np

from nextreel.metrics.ranks import hit, ndcg

KS = (10, 50)


def reciprocal_rank(rank: np.ndarray, k: int) -> np.ndarray:
    """MRR@k of one target a case: 1 / rank among the first k, else 0. rank [n] -> [n]."""
    return hit(rank, k) / np.maximum(rank, 1)


def per_case(rank: np.ndarray) -> dict[str, np.ndarray]:
    """Each case's metrics from its target's rank; any shape. With one target, recall@k is HR@k."""
    values = {f"hr@{k}": hit(rank, k) for k in KS} | {f"ndcg@{k}": ndcg(rank, k) for k in KS}
    return values | {"mrr@10": reciprocal_rank(rank, 10)}
