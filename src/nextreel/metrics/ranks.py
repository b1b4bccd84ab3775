"""What a target's rank is worth: all that training selects an epoch by. Other metrics of ranks are in `next_item`.

A rank counts from 1; MISS (0) stands for a target that was never ranked.
"""

import numpy as np

MISS = 0  # the rank of a target outside the catalogue or pool, or of which the model has no opinion


def hit(rank: np.ndarray, k: int) -> np.ndarray:
    """HR@k of one target a case: 1 if it is among the first k. rank [n] -> [n]."""
    return ((rank >= 1) & (rank <= k)).astype(float)


def ndcg(rank: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of one target a case: 1 / log2(1 + rank) among the first k, else 0; the ideal is 1. rank [n] -> [n]."""
    return hit(rank, k) / np.log2(1.0 + np.maximum(rank, 1))
