"""Pure functions of ranks. A rank counts from 1; MISS (0) stands for a target that was never ranked."""

import numpy as np


def hit(rank: np.ndarray, k: int) -> np.ndarray:
    """HR@k of one target a case: 1 if it is among the first k. rank [n] -> [n]."""
    return ((rank >= 1) & (rank <= k)).astype(float)


def ndcg(rank: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k of one target a case: 1 / log2(1 + rank) among the first k, else 0; the ideal is 1. rank [n] -> [n]."""
    return hit(rank, k) / np.log2(1.0 + np.maximum(rank, 1))


def coverage(recommended: np.ndarray, n_catalogue: int) -> float:
    """The share of the catalogue that appears in any list. recommended [m] holds the videos of all lists."""
    return len(np.unique(recommended)) / max(n_catalogue, 1)


def reciprocal_rank(rank: np.ndarray, k: int) -> np.ndarray:
    """MRR@k of one target a case: 1 / rank among the first k, else 0. rank [n] -> [n]."""
    return hit(rank, k) / np.maximum(rank, 1)
