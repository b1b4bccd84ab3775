"""Item-based collaborative filtering: videos watched one after the other are similar.

    w      = 1 for a positive, `passed_weight` for an event that is none: being shown together says something too;
             0 where nobody knows
    c_ij   = sum over users and pairs of events i before j, at most `window` apart, of w_i w_j decay^(distance - 1)
    sim_ij = (c_ij + c_ji) / (sqrt(n_i n_j) + shrink)                n_i = sum of w over the events of i
    score(case, j) = sum over its events i, the p-th from the end, of w_i recency^p sim_ij

Sarwar et al., WWW 2001, with the recency weights that make it a strong baseline for sequences.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field
from scipy import sparse

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Histories
from nextreel.contract import Scale, Training
from nextreel.models import load_arrays, save_arrays
from nextreel.params import Float, NonNegativeFloat, PositiveInt, Section, Share
from nextreel.progress import track

_PAIRS = 1 << 22  # counted at a time, an event many times over: some 200 MB
_EVENTS = 1 << 15  # of histories scored at a time, each with the neighbours of its video: some 100 MB
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

    scale: Scale = "share"

    def __init__(self, params: Params, similarity: sparse.csr_array) -> None:
        self.params = params
        self.similarity = similarity  # [n_videos + 1, n_videos + 1] float32, `neighbours` a row

    @classmethod
    def columns(cls, params: Params) -> tuple[str, ...]:
        return ("events/positive",)

    @classmethod
    def fit(cls, params: Params, training: Training) -> Self:
        events = _Events.of(training.histories, params)
        size = training.store.n_videos + 1
        n = np.bincount(events.video, weights=events.weight, minlength=size)
        data, indices, lengths = [], [], []
        for rows in track(_blocks(events.video, size, params.window), "itemcf counts pairs"):
            position = np.flatnonzero((events.video >= rows.start) & (events.video < rows.stop))
            both = sum(_together(events, position, sign, rows, size, params) for sign in (1, -1))
            length = np.diff(both.indptr)
            row = np.repeat(np.arange(len(rows)), length)
            similarity = both.data / (np.sqrt(n[rows.start + row] * n[both.indices]) + params.shrink)
            kept = _best(similarity, row, length, params.neighbours)
            data.append(similarity[kept].astype(np.float32))
            indices.append(both.indices[kept])
            lengths.append(np.bincount(row[kept], minlength=len(rows)))
        starts = np.concatenate([[0], np.concatenate(lengths).cumsum()])
        starts = starts.astype(sparse.get_index_dtype(maxval=starts[-1]))
        return cls(params, sparse.csr_array((np.concatenate(data), np.concatenate(indices), starts), (size, size)))

    def opinions(self, cases: Cases, histories: Histories) -> sparse.csr_array:
        events = _Events.of(histories, self.params)
        n = np.bincount(events.owner, minlength=len(cases))
        from_end = n.cumsum()[events.owner] - 1 - np.arange(len(events.owner))
        weight = (events.weight * self.params.recency**from_end).astype(np.float32)
        shape = (len(cases), self.similarity.shape[0])
        watched = sparse.coo_array((weight, (events.owner, events.video)), shape=shape).tocsr()
        data, indices, starts = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)], [0]
        for case in range(len(cases)):  # scipy's product of two sparse matrices takes twice as long
            mine = slice(*watched.indptr[case : case + 2])
            scores = self.similarity[watched.indices[mine]].T @ watched.data[mine]  # [n_videos + 1]
            indices.append(np.flatnonzero(scores))
            data.append(scores[indices[-1]])
            starts.append(starts[-1] + len(indices[-1]))
        return sparse.csr_array((np.concatenate(data), np.concatenate(indices), np.array(starts)), shape)

    def score(self, pairs: Pairs) -> np.ndarray:
        cases, which = pairs.asked()
        histories = cases.histories(pairs.store)
        score = np.full(len(pairs), -np.inf, np.float32)
        for block in histories.blocks(len(histories), _EVENTS):
            scores = self.opinions(cases.where(block), histories.where(block))
            mine = slice(*np.searchsorted(which, [block.start, block.stop]))
            found = _entries(scores, which[mine] - block.start, pairs.video_idx[mine])
            score[mine] = np.where(found == 0, -np.inf, found)
        return score

    def save(self, folder: Path) -> None:
        matrix = self.similarity
        save_arrays(folder, self.params, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr)

    @classmethod
    def load(cls, folder: Path) -> Self:
        params, arrays = load_arrays(folder, Params)
        size = len(arrays["indptr"]) - 1
        return cls(params, sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), (size, size)))


@dataclass(frozen=True)
class _Events:
    """The events [m] that count, history after history."""

    video: np.ndarray
    owner: np.ndarray  # the history of each
    weight: np.ndarray

    @classmethod
    def of(cls, histories: Histories, params: Params) -> Self:
        position, owner = histories.judged()
        store = histories.store
        weight = np.where(store.events("positive")[position], 1.0, params.passed_weight)
        counts = weight > 0
        return cls(store.events("video_idx")[position[counts]], owner[counts], weight[counts])


def _blocks(video: np.ndarray, size: int, window: int) -> list[range]:
    """Rows of the similarity whose pairs are held together: one, or as many as have up to _PAIRS."""
    pairs = 2 * window * np.bincount(video, minlength=size).cumsum()
    ends = np.append(np.flatnonzero(np.diff(pairs // _PAIRS)) + 1, size)
    return [range(start, end) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]


def _together(
    events: _Events, position: np.ndarray, sign: int, rows: range, size: int, params: Params
) -> sparse.csr_array:
    """c_ij (sign 1) or c_ji (sign -1) [rows, size] of the videos i in `rows`, whose events are at these positions."""
    together = sparse.csr_array((len(rows), size), dtype=np.float64)
    for distance in range(1, params.window + 1):
        other = position + sign * distance
        inside = (other >= 0) & (other < len(events.video))
        one, other = position[inside], other[inside]
        pair = (events.owner[one] == events.owner[other]) & (events.video[one] != events.video[other])
        one, other = one[pair], other[pair]
        product = events.weight[one] * events.weight[other] * params.decay ** (distance - 1)
        at = (events.video[one] - np.int32(rows.start), events.video[other])
        together += sparse.coo_array((product, at), shape=together.shape).tocsr()
    return together


def _best(similarity: np.ndarray, row: np.ndarray, length: np.ndarray, k: int) -> np.ndarray:
    """Whether an entry [m] is among the k largest of its row; of equal ones the first. Rows in order."""
    kept = length[row] <= k
    rest = np.flatnonzero(~kept)
    rest = rest[np.lexsort((-similarity[rest], row[rest]))]
    starts = np.searchsorted(row[rest], row[rest])
    kept[rest[np.arange(len(rest)) - starts < k]] = True
    return kept


def _entries(matrix: sparse.csr_array, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The entries [m] of a matrix at these places, 0 where none is stored."""
    matrix.sort_indices()
    width = np.int64(matrix.shape[1])
    stored = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * width + matrix.indices
    wanted = row * width + column
    at = np.searchsorted(stored, wanted).clip(max=max(len(stored) - 1, 0))
    if not len(stored):
        return np.zeros(len(wanted), matrix.dtype)
    return np.where(stored[at] == wanted, matrix.data[at], 0)
