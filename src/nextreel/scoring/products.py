from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nextreel.metrics.ranks import MISS
from nextreel.scoring import order
from nextreel.scoring.order import Tie

Vectors = Callable[[slice | np.ndarray], np.ndarray]


class Found(NamedTuple):
    target_rank: np.ndarray
    row: np.ndarray
    column: np.ndarray
    score: np.ndarray
    rank: np.ndarray


def search(
    queries: np.ndarray,
    vectors: Vectors,
    n_columns: int,
    target: np.ndarray,
    seen: tuple[np.ndarray, np.ndarray],
    tie: Tie,
    k: int,
) -> Found:
    whole = vectors(slice(0, n_columns))
    rank = np.full(len(queries), MISS, np.int32)
    parts = []
    for row, query in enumerate(queries):
        score = np.einsum("md,md->m", np.ascontiguousarray(np.broadcast_to(query, whole.shape)), whole)
        score[seen[1][seen[0] == row]] = np.nan
        column = np.flatnonzero(~np.isnan(score))
        if target[row] >= 0 and not np.isnan(score[target[row]]) and not k:
            t = target[row]
            tied = np.flatnonzero(score == score[t])
            mine = tie(np.full(1, row), np.array([t]))[0]
            rank[row] = 1 + (score > score[t]).sum() + (tie(np.full(len(tied), row), tied) < mine).sum()
        if k:
            r, e, place = order.order(
                np.full(len(column), row),
                np.arange(len(column)),
                score[column],
                tie(np.full(len(column), row), column),
                len(column),
            )
            found = np.flatnonzero(column[e] == target[row])
            if len(found):
                rank[row] = place[found[0]]
            first = place <= k
            parts.append((r[first], column[e][first], score[column][e][first], place[first]))
    columns = [np.concatenate(x) for x in zip(*parts)] if parts else [np.zeros(0, int)] * 4
    return Found(rank, *columns)
