"""Two models added up over the whole catalogue, the second with one weight: `beauty.py`, `chain_bias.py`.

    standardised:  (a - mean a) / std a  +  weight x (b - mean b) / std b      over the unseen videos of a case
    reciprocal:    1 / (60 + rank in a)  +  weight / (60 + rank in b)          Cormack et al., SIGIR 2009, with a weight

A video that the first model does not know has its lowest score, one that the second has no opinion on a score of 0, or
no rank.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nextreel.cases.store import Store
from nextreel.contract import Factored, Model, Sparse
from nextreel.metrics.ranks import MISS
from nextreel.progress import track
from nextreel.scoring.answers import columns_of
from nextreel.scoring.sets import EvalSet

DAMPING = 60.0
_CASES = 512  # scored at a time, each over the whole catalogue


class How(NamedTuple):
    """A way to add two models up."""

    form: str
    weight: float  # of the second

    def __str__(self) -> str:
        return f"{self.form}, weight {self.weight:.3g}"


WEIGHTS = {"standardised": 2.0 ** np.arange(-6, 4), "reciprocal": 2.0 ** np.arange(-3, 3)}
WAYS = [How(form, float(weight)) for form, weights in WEIGHTS.items() for weight in weights]


def target_ranks(
    first: Model, second: Model, store: Store, asked: EvalSet, part: str, ways: Sequence[How]
) -> list[np.ndarray]:
    """The rank [n] of the target of each of a part's cases, by way. The first is a product, the second has opinions on
    few videos."""
    assert isinstance(first, Factored)
    assert isinstance(second, Sparse)
    catalogue = asked.catalogue.of(part)
    vectors = first.vectors(catalogue)
    found: list[list[np.ndarray]] = [[] for _ in ways]
    for start in track(range(0, len(asked.cases), _CASES), f"adding up on {part}"):
        some = asked.where(slice(start, start + _CASES))
        histories = some.cases.histories(store)
        position, owner = histories.flat()
        column, listed = columns_of(catalogue, store.events("video_idx")[position])
        unseen = np.ones((len(some.cases), len(catalogue)), bool)
        unseen[owner[listed], column[listed]] = False
        scores = first.queries(some.cases, histories) @ vectors.T  # [B, N]
        opinions = second.opinions(some.cases, histories)[:, catalogue].toarray()
        terms = {form: _terms(form, scores, opinions, unseen) for form in {way.form for way in ways}}
        for way, ranks in zip(ways, found, strict=True):
            a, b = terms[way.form]
            ranks.append(target_rank(np.where(unseen, a + np.float32(way.weight) * b, -np.inf), some, catalogue))
    return [np.concatenate(ranks) for ranks in found]


def _terms(form: str, scores: np.ndarray, opinions: np.ndarray, unseen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is added up [B, N]."""
    scores = np.where(np.isnan(scores), np.nanmin(scores, axis=1, keepdims=True), scores)
    if form == "standardised":
        return _standardised(scores, unseen), _standardised(opinions, unseen)
    return _reciprocal(scores, unseen), _reciprocal(opinions, unseen & (opinions > 0))


def _standardised(score: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    mean, std = score.mean(1, where=unseen, keepdims=True), score.std(1, where=unseen, keepdims=True)
    return (score - mean) / np.where(std > 0, std, 1)


def _reciprocal(score: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """Of equal scores the one that stands first in the catalogue goes ahead."""
    order = np.argsort(np.where(ranked, -score, np.inf), axis=1, kind="stable")
    rank = np.empty(score.shape, np.float32)
    np.put_along_axis(rank, order, np.arange(1, score.shape[1] + 1, dtype=np.float32)[None], axis=1)
    return np.where(ranked, 1 / (DAMPING + rank), 0).astype(np.float32)


def target_rank(score: np.ndarray, asked: EvalSet, catalogue: np.ndarray) -> np.ndarray:
    """The rank [B] of each case's target by scores [B, N], -inf of what it has seen: one more than how many are ahead,
    ties by `EvalSet.tie_at`; MISS where the target is not in the catalogue."""
    target, there = columns_of(catalogue, asked.target)
    own = score[np.arange(len(score)), target]
    ahead = (score > own[:, None]).sum(1)
    case, column = np.nonzero(score == own[:, None])
    earlier = asked.tie_at(case, catalogue[column]) < asked.tie_at(case, asked.target[case])
    return np.where(there, 1 + ahead + np.bincount(case[earlier], minlength=len(score)), MISS)
