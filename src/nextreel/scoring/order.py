"""Order by score, ties broken by a seeded hash of (case, video): never by popularity or file order, so that a constant
scorer gets what chance gives."""

from collections.abc import Callable, Mapping

import numpy as np

from nextreel.metrics.ranks import MISS

Tie = Callable[[np.ndarray, np.ndarray], np.ndarray]  # row and column [m] of entries -> uint64 [m]


def case_key(user_id: np.ndarray, time_ms: np.ndarray, seed: int) -> np.ndarray:
    """A pseudo-random uint64 [n] for each case."""
    with np.errstate(over="ignore"):
        user = _mix(user_id.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15))
        return _mix(user + time_ms.astype(np.uint64))


def tie_hash(case_key: np.ndarray, video_id: np.ndarray) -> np.ndarray:
    """A pseudo-random uint64 for each (case, video); shapes broadcast. The smaller one goes first."""
    with np.errstate(over="ignore"):
        return _mix(case_key + video_id.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03))


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele et al., OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def order(
    row: np.ndarray, column: np.ndarray, score: np.ndarray, tie: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries [M] in order of (row, score down, tie up), the first k of each row: row, column and rank."""
    by = np.lexsort((tie, -score, row))
    row, column = row[by], column[by]
    new = np.diff(row, prepend=-1) != 0
    at = np.arange(len(row))
    rank = at - np.maximum.accumulate(np.where(new, at, 0)) + 1
    keep = rank <= k
    return row[keep], column[keep], rank[keep].astype(np.int32)


def listed_rank(listed: Mapping[str, np.ndarray], case_id: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rank [n] of each case's target in its list, MISS where it is not listed. case_id [n] in order.

    listed: case_id, video_idx and rank of the entries of all lists.
    """
    row = np.searchsorted(case_id, listed["case_id"])
    is_target = listed["video_idx"] == target[row]
    rank = np.full(len(case_id), MISS, np.int32)
    rank[row[is_target]] = listed["rank"][is_target]
    return rank
