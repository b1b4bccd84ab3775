"""Order by score, ties broken by a seeded hash of (case, video): never by popularity or file order, so that a constant
scorer gets what chance gives."""

from collections.abc import Callable, Mapping

import numpy as np

from nextreel.metrics.ranks import MISS

Tie = Callable[[np.ndarray, np.ndarray], np.ndarray]  # row and column [m] of entries -> uint64 [m]


def case_key(user_key: np.ndarray, time_ms: np.ndarray, seed: int) -> np.ndarray:
    """A pseudo-random uint64 [n] for each case. user_key: see `cases.columns.key`."""
    with np.errstate(over="ignore"):
        user = _mix(user_key.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15))
        return _mix(user + time_ms.astype(np.uint64))


def tie_hash(case_key: np.ndarray, video_key: np.ndarray) -> np.ndarray:
    """A pseudo-random uint64 for each (case, video); shapes broadcast. The smaller one goes first."""
    with np.errstate(over="ignore"):
        return _mix(case_key + video_key.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03))


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele et al., OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def order(
    row: np.ndarray, score: np.ndarray, tie: Callable[[np.ndarray], np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Entries [M] in order of (row, score down, tie up), the first k of each row: their positions, and ranks from 1.

    tie: positions -> uint64; asked of equal scores alone.
    """
    if score.dtype == np.float32:
        key = sort_key(row, -score)
        by = np.argsort(key)
        same = key[by[1:]] == key[by[:-1]]
    else:
        by = np.lexsort((-score, row))
        same = (row[by[1:]] == row[by[:-1]]) & (score[by[1:]] == score[by[:-1]])
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(tied):
        run = np.cumsum(np.append(True, ~same))[tied]
        by[tied] = by[tied][np.lexsort((tie(by[tied]), run))]
    at = np.arange(len(by))
    new = np.diff(row[by], prepend=-1) != 0
    rank = at - np.maximum.accumulate(np.where(new, at, 0)) + 1
    listed = rank <= k
    return by[listed], rank[listed].astype(np.int32)


def sort_key(row: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Integers [m] in the order of (row, number), number float32: they sort ten times as fast as the two. Its bits in
    that order, from 0 to 2^32 - 1, are the lower half."""
    bits = (number + np.float32(0)).view(np.int32)  # 0 for -0, which is equal
    return row.astype(np.int64) << 32 | (_flipped(bits) + (np.int64(1) << 31))


def sorted_number(key: np.ndarray) -> np.ndarray:
    """The numbers of keys."""
    return _flipped(((key & 0xFFFFFFFF) - (1 << 31)).astype(np.int32)).view(np.float32)


def _flipped(bits: np.ndarray) -> np.ndarray:
    """The bits of floats in the order of the floats, as int32, and back: those below zero count the other way."""
    return bits ^ (bits >> 31 & 0x7FFFFFFF)


def listed_rank(listed: Mapping[str, np.ndarray], case_id: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rank [n] of each case's target in its list, MISS where it is not listed. case_id [n] in order.

    listed: case_id, video_idx and rank of the entries of all lists.
    """
    row = np.searchsorted(case_id, listed["case_id"])
    is_target = listed["video_idx"] == target[row]
    rank = np.full(len(case_id), MISS, np.int32)
    rank[row[is_target]] = listed["rank"][is_target]
    return rank
