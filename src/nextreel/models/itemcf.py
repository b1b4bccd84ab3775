"""Item-based collaborative filtering: videos liked one after the other are similar.

    c_ij   = sum over users and pairs of positives i before j, at most `window` apart, of decay^(distance - 1)
    sim_ij = (c_ij + c_ji) / (sqrt(n_i n_j) + shrink)                n_i: positives of i
    score(case, j) = sum over its positives i, the p-th from the end, of recency^p sim_ij

Sarwar et al., WWW 2001, with the recency weights that make it a strong baseline for sequences.
"""

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field
from scipy import sparse

from nextreel.cases import Cases
from nextreel.params import Float, NonNegativeFloat, PositiveInt, Section
from nextreel.sequences import Histories

Decay = Annotated[Float, Field(gt=0, le=1)]


class Params(Section):
    window: PositiveInt  # positives
    decay: Decay  # per step between the two of a pair
    recency: Decay  # per step from the end of the history
    shrink: NonNegativeFloat  # positives; doubts similarities that rest on few
    neighbours: PositiveInt  # kept per video


class Model:
    """Scores by similarity to what the history holds; no opinion on videos that it does not lead to."""

    def __init__(self, similarity: sparse.csr_array, recency: float) -> None:
        self.similarity = similarity  # [n_videos + 1, n_videos + 1] float32, `neighbours` a row
        self.recency = recency

    @classmethod
    def fit(cls, histories: Histories, n_videos: int, params: Params) -> Self:
        position, owner = histories.positives()
        video = histories.events.video_idx[position]
        size = n_videos + 1
        together = sparse.csr_array((size, size), dtype=np.float64)
        for distance in range(1, min(params.window, len(video) - 1) + 1):
            pair = (owner[distance:] == owner[:-distance]) & (video[distance:] != video[:-distance])
            before, after = video[:-distance][pair], video[distance:][pair]
            weight = np.full(len(before), params.decay ** (distance - 1))
            together += sparse.coo_array((weight, (before, after)), shape=(size, size)).tocsr()
        both = (together + together.T).tocoo()
        n = np.bincount(video, minlength=size)
        similarity = both.data / (np.sqrt(n[both.row].astype(float) * n[both.col]) + params.shrink)
        best = np.lexsort((both.col, -similarity, both.row))
        row = both.row[best]
        starts = np.searchsorted(row, np.arange(size))
        kept = best[np.arange(len(row)) - starts[row] < params.neighbours]
        pruned = sparse.coo_array((similarity[kept], (both.row[kept], both.col[kept])), shape=(size, size))
        return cls(pruned.tocsr().astype(np.float32), params.recency)

    def score(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> np.ndarray:
        position, owner = histories.positives()
        n = np.bincount(owner, minlength=len(cases))
        from_end = n.cumsum()[owner] - 1 - np.arange(len(owner))
        weight = (self.recency**from_end).astype(np.float32)
        shape = (len(cases), self.similarity.shape[0])
        liked = sparse.coo_array((weight, (owner, histories.events.video_idx[position])), shape=shape).tocsr()
        scores = (liked @ self.similarity).toarray()
        scores[scores == 0] = -np.inf
        return scores[:, video_idx] if video_idx.ndim == 1 else np.take_along_axis(scores, video_idx, axis=1)

    def save(self, folder: Path) -> None:
        folder.mkdir()
        sparse.save_npz(folder / "similarity.npz", self.similarity)
        np.save(folder / "recency.npy", self.recency)

    @classmethod
    def load(cls, folder: Path) -> Self:
        recency = float(np.load(folder / "recency.npy", allow_pickle=False))
        return cls(sparse.load_npz(folder / "similarity.npz"), recency)
