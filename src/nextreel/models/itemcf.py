"""Item-based collaborative filtering: videos watched one after the other are similar.

    w      = 1 for a positive, `passed_weight` for an event that is none: being shown together says something too
    c_ij   = sum over users and pairs of events i before j, at most `window` apart, of w_i w_j decay^(distance - 1)
    sim_ij = (c_ij + c_ji) / (sqrt(n_i n_j) + shrink)                n_i = sum of w over the events of i
    score(case, j) = sum over its events i, the p-th from the end, of w_i recency^p sim_ij

Sarwar et al., WWW 2001, with the recency weights that make it a strong baseline for sequences.
"""

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field
from scipy import sparse

from nextreel.cases import Cases
from nextreel.models import load_arrays, save_arrays
from nextreel.params import Float, NonNegativeFloat, PositiveInt, Section, Share
from nextreel.sequences import Histories

Decay = Annotated[Float, Field(gt=0, le=1)]


class Params(Section):
    window: PositiveInt  # events
    decay: Decay  # per step between the two of a pair
    recency: Decay  # per step from the end of the history
    shrink: NonNegativeFloat  # events; doubts similarities that rest on few
    neighbours: PositiveInt  # kept per video
    passed_weight: Share  # of an event that is no positive; 0 leaves them out


class Model:
    """Scores by similarity to what the history holds; no opinion on videos that it does not lead to."""

    def __init__(self, params: Params, similarity: sparse.csr_array) -> None:
        self.params = params
        self.similarity = similarity  # [n_videos + 1, n_videos + 1] float32, `neighbours` a row

    @classmethod
    def fit(cls, histories: Histories, n_videos: int, params: Params, rng: np.random.Generator) -> Self:
        video, owner, weight = _events(histories, params)
        size = n_videos + 1
        together = sparse.csr_array((size, size), dtype=np.float64)
        for distance in range(1, min(params.window, len(video) - 1) + 1):
            pair = (owner[distance:] == owner[:-distance]) & (video[distance:] != video[:-distance])
            before, after = video[:-distance][pair], video[distance:][pair]
            product = weight[:-distance][pair] * weight[distance:][pair] * params.decay ** (distance - 1)
            together += sparse.coo_array((product, (before, after)), shape=(size, size)).tocsr()
        both = (together + together.T).tocoo()
        n = np.bincount(video, weights=weight, minlength=size)
        similarity = both.data / (np.sqrt(n[both.row] * n[both.col]) + params.shrink)
        best = np.lexsort((both.col, -similarity, both.row))
        row = both.row[best]
        starts = np.searchsorted(row, np.arange(size))
        kept = best[np.arange(len(row)) - starts[row] < params.neighbours]
        pruned = sparse.coo_array((similarity[kept], (both.row[kept], both.col[kept])), shape=(size, size))
        return cls(params, pruned.tocsr().astype(np.float32))

    def score(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> np.ndarray:
        video, owner, weight = _events(histories, self.params)
        n = np.bincount(owner, minlength=len(cases))
        from_end = n.cumsum()[owner] - 1 - np.arange(len(owner))
        weight = (weight * self.params.recency**from_end).astype(np.float32)
        shape = (len(cases), self.similarity.shape[0])
        watched = sparse.coo_array((weight, (owner, video)), shape=shape).tocsr()
        scores = (watched @ self.similarity).toarray()
        scores[scores == 0] = -np.inf
        return scores[:, video_idx] if video_idx.ndim == 1 else np.take_along_axis(scores, video_idx, axis=1)

    def save(self, folder: Path) -> None:
        matrix = self.similarity
        save_arrays(folder, self.params, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr)

    @classmethod
    def load(cls, folder: Path) -> Self:
        params, arrays = load_arrays(folder, Params)
        size = len(arrays["indptr"]) - 1
        return cls(params, sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), (size, size)))


def _events(histories: Histories, params: Params) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Video, history and weight [m] of the events that count."""
    position, owner = histories.flat()
    weight = np.where(histories.events.positive[position], 1.0, params.passed_weight)
    counts = weight > 0
    return histories.events.video_idx[position[counts]], owner[counts], weight[counts]
