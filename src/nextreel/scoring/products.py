"""Lists and ranks where a score is a product of two vectors, in one pass over the catalogue; the scores are never held.

A thread takes a tile after the other: a few columns of the catalogue by all rows, small enough for a core's cache. A
tile tells who is surely ahead of a target, and who is surely not among the first k. Its sums are the processor's, in
any order; so whatever rounding could decide is scored again pair by pair, always with the same sums, and equal scores
go by the tie. What comes out hangs on neither the tiles nor the threads.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from nextreel.cases.pairs import product
from nextreel.metrics.ranks import MISS
from nextreel.scoring.order import Tie, order, sort_key, sorted_number

Vectors = Callable[[slice | np.ndarray], np.ndarray]  # of columns [n] -> float32 [n, D]; NaN where there is no opinion

_COLUMNS = 384  # of a tile; with a thousand rows it is 1.5 MB
_COUNTED = 128  # columns counted together, in bytes
_STRIP = 8  # columns compared together
_TOGETHER = 16  # columns of which only the best is held against the floor first
_SAMPLE = 8  # times k columns tell the first floors
_ENTRIES = 1 << 18  # kept, besides two lists of each row
_PAIRS = 1 << 12  # scored at a time: their vectors stay in a core's cache
_FLOAT = np.finfo(np.float32)


class Found(NamedTuple):
    """The targets' ranks, and the entries [M] of the lists in order of (row, rank)."""

    target_rank: np.ndarray  # int32 [B], from 1; MISS where a row has no target or the model no opinion of it
    row: np.ndarray  # int32 [M]
    column: np.ndarray  # int32 [M]
    score: np.ndarray  # float32 [M]
    rank: np.ndarray  # int32 [M], from 1


def search(
    queries: np.ndarray,
    vectors: Vectors,
    n_columns: int,
    target: np.ndarray,
    seen: tuple[np.ndarray, np.ndarray],
    tie: Tie,
    k: int,
) -> Found:
    """The exact rank of each row's target and the exact first k of each row, by the scores queries [B, D] . vectors.

    target: a column of each row [B], -1 where it has none. seen: rows and columns [m] of entries that are never listed
    and no rivals; a target among them is ranked all the same. A row with fewer than k opinions gets a shorter list.
    k = 0: ranks only.
    """
    asked = _Asked(queries, vectors, n_columns, seen, tie)
    targets, lists = _Targets(asked, target), _Lists(asked, k)
    starts = _in_no_order(n_columns)
    shared = iter(starts)  # each tile is one thread's
    blas = ThreadpoolController().select(user_api="blas")
    n_threads = max((library["num_threads"] for library in blas.info()), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(n_threads) as pool:
        if k:
            lists.sample(starts[: -(-_SAMPLE * k // _COLUMNS)])
        ahead = sum(pool.map(lambda _: _walk(asked, targets, lists, shared), range(n_threads)))
        parts = pool.map(lists.first, range(n_threads), [n_threads] * n_threads)
        row, column, score, rank = (np.concatenate(values) for values in zip(*parts, strict=True))
    target_rank = np.where(np.isnan(targets.score), MISS, 1 + ahead).astype(np.int32)
    return Found(target_rank[: len(queries)], row, column, score, rank)


def _in_no_order(n_columns: int) -> Sequence[int]:
    """Where tiles start, shuffled: catalogues are often sorted by age, and so by score, and then each tile would raise
    the floors a little; and the first few shall be a sample."""
    return np.random.default_rng(0).permutation(np.arange(0, n_columns, _COLUMNS)).tolist()


def _walk(asked: "_Asked", targets: "_Targets", lists: "_Lists", starts: Iterator[int]) -> np.ndarray:
    """Look through tiles, all that other threads leave: how many are ahead of each row's target [n]. What may be
    listed goes into the lists."""
    tile, ahead, candidates = _Tile(asked), _Ahead(asked, targets), _Candidates(lists)
    for start in starts:
        tile.fill(start)
        if targets.any:
            ahead.count(tile)
        if lists.k:
            candidates.collect(tile)
    if ahead.near:
        ahead.settle()
    if candidates.held:
        candidates.hand_over()
    return ahead.number


class _Asked:
    """The scores asked for: [n] rows, padded to a multiple of 8, by n_columns columns."""

    def __init__(
        self, queries: np.ndarray, vectors: Vectors, n_columns: int, seen: tuple[np.ndarray, np.ndarray], tie: Tie
    ) -> None:
        if not np.isfinite(queries).all():
            raise ValueError("a query is not finite")
        self.queries, self.vectors, self.n_columns, self.tie = queries, vectors, n_columns, tie
        self.n = -(-max(len(queries), 1) // 8) * 8
        self.transposed = np.zeros((queries.shape[1], self.n), np.float32)
        self.transposed[:, : len(queries)] = queries.T
        self.length = np.linalg.norm(self.transposed.astype(np.float64), axis=0)
        self.longest = self.length.max()
        row, column = seen
        self.seen = column.astype(np.int64) * self.n + row  # places in the transposed scores
        self.seen.sort()

    def pair_scores(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The scores of pairs [m]."""
        score = np.empty(len(row), np.float32)
        for first in range(0, len(row), _PAIRS):
            some = slice(first, first + _PAIRS)
            score[some] = product(self.queries.take(row[some], axis=0), self.vectors(column[some]))
        return score


class _Tile:
    """Some columns of the catalogue and their scores by all rows, filled again and again."""

    def __init__(self, asked: _Asked) -> None:
        self.asked = asked
        self.vectors = np.empty((_COLUMNS, asked.queries.shape[1]), np.float32)
        self.scores = np.empty((_COLUMNS, asked.n), np.float32)  # NaN where seen, no opinion or no column
        self.above, self.over = np.empty((2, _COLUMNS, asked.n), bool)  # room to compare in

    def fill(self, start: int) -> None:
        """With the columns from `start` on."""
        asked = self.asked
        self.start, stop = start, min(start + _COLUMNS, asked.n_columns)
        self.vectors[: stop - start] = asked.vectors(slice(start, stop))
        self.vectors[stop - start :] = np.nan
        self.margin = self._margin()
        np.matmul(self.vectors, asked.transposed, out=self.scores)
        first, last = np.searchsorted(asked.seen, [start * asked.n, stop * asked.n])
        self.scores.ravel()[asked.seen[first:last] - start * asked.n] = np.nan

    def _margin(self) -> np.ndarray:
        """How far a score in the tile can be from that of its pair, for each row [n]: each sum of D products is off by
        at most D / 2 epsilon times the lengths of both factors, whatever the order of its terms. The rest is for the
        roundings of what is compared, and for products too small to have all digits."""
        longest = np.sqrt(np.fmax.reduce(np.einsum("nd,nd->n", self.vectors, self.vectors), initial=0))
        if not (np.isfinite(longest) and longest * self.asked.longest < _FLOAT.max):
            raise ValueError("a score may not be finite")
        share = _FLOAT.eps * (self.vectors.shape[1] + 4)
        return (share * longest * self.asked.length + _FLOAT.tiny).astype(np.float32)


class _Targets:
    """Each row's target: score and tie [n]; NaN where there is none, as nobody is over or under NaN."""

    def __init__(self, asked: _Asked, target: np.ndarray) -> None:
        row = np.flatnonzero(target >= 0)
        self.any = len(row) > 0
        self.score, self.tie = np.full(asked.n, np.nan, np.float32), np.zeros(asked.n, np.uint64)
        self.score[row] = asked.pair_scores(row, target[row])
        self.tie[row] = asked.tie(row, target[row])


class _Ahead:
    """Counts who is ahead of each row's target, of the tiles that one thread looks through."""

    def __init__(self, asked: _Asked, targets: _Targets) -> None:
        self.asked, self.targets = asked, targets
        self.number = np.zeros(asked.n, np.int64)
        self.near: list[tuple[np.ndarray, np.ndarray]] = []  # rows and columns that rounding could decide
        self.n_near = 0

    def count(self, tile: _Tile) -> None:
        lower, upper = self.targets.score - tile.margin, self.targets.score + tile.margin
        # Against several columns in one go, as numpy begins anew for each row of what it compares.
        strips = (-1, _STRIP * self.asked.n)
        np.greater(tile.scores.reshape(strips), np.tile(upper, _STRIP), out=tile.above.reshape(strips))
        np.greater_equal(tile.scores.reshape(strips), np.tile(lower, _STRIP), out=tile.over.reshape(strips))
        surely, maybe = _counts(tile.above), _counts(tile.over)
        self.number += surely.sum(0, dtype=np.int64)
        group, row = np.nonzero(maybe != surely)
        scores = tile.scores.reshape(-1, _COUNTED, self.asked.n)[group, :, row]
        entry, within = np.nonzero((scores >= lower[row, None]) & (scores <= upper[row, None]))
        self.near.append((row[entry], tile.start + group[entry] * _COUNTED + within))
        self.n_near += len(entry)
        if self.n_near >= _PAIRS:
            self.settle()

    def settle(self) -> None:
        """Count those that are near."""
        row, column = (np.concatenate(values) for values in zip(*self.near, strict=True))
        score, bar = self.asked.pair_scores(row, column), self.targets.score[row]
        ahead = score > bar
        tied = np.flatnonzero(score == bar)
        ahead[tied] = self.asked.tie(row[tied], column[tied]) < self.targets.tie[row[tied]]
        self.number += np.bincount(row[ahead], minlength=self.asked.n)
        self.near, self.n_near = [], 0


def _counts(mask: np.ndarray) -> np.ndarray:
    """How many are True in each _COUNTED of rows of a mask [C, n]: uint8 [C / _COUNTED, n], added eight at a time."""
    eight = mask.view(np.uint64)
    return np.add.reduce(eight.reshape(-1, _COUNTED, eight.shape[1]), axis=1).view(np.uint8)


class _Entries(NamedTuple):
    """Entries [m] of the scores that may be listed; the score of the pair is between low and high."""

    row: np.ndarray  # int32
    column: np.ndarray  # int32
    low: np.ndarray  # float32
    high: np.ndarray  # float32

    def at(self, position: np.ndarray) -> "_Entries":
        return _Entries(*(values[position] for values in self))


class _Lists:
    """The entries that may be among the first k of their rows, of all that the threads have handed over."""

    def __init__(self, asked: _Asked, k: int) -> None:
        self.asked, self.k = asked, k
        self.room = _ENTRIES + 2 * k * len(asked.queries)
        self.floor = np.full(asked.n, -np.inf, np.float32)  # at most the k-th best score of each row
        self.floor[len(asked.queries) :] = np.inf
        self.kept = _Entries(*(np.zeros(0, kind) for kind in (np.int32, np.int32, np.float32, np.float32)))
        self.lock = Lock()

    def sample(self, starts: Sequence[int]) -> None:
        """Start the floors with the k-th best of some tiles, or their first columns would all be kept."""
        tile = _Tile(self.asked)
        scores = np.full((self.asked.n, max(self.k, _COLUMNS * len(starts))), -np.inf, np.float32)
        margin = np.zeros(self.asked.n, np.float32)
        for at, start in enumerate(starts):
            tile.fill(start)
            np.fmax(tile.scores.T, -np.inf, out=scores[:, at * _COLUMNS : (at + 1) * _COLUMNS])
            np.maximum(margin, tile.margin, out=margin)
        kth = scores.shape[1] - self.k
        scores.partition(kth, axis=1)
        self.floor = np.maximum(self.floor, scores[:, kth] - margin)

    def add(self, held: list[_Entries]) -> None:
        """Take in what a thread held, raise the floors, and drop whoever is under them. Where more are left than there
        is room for, near each other or tied, their pairs decide."""
        with self.lock:
            entries = _Entries(*(np.concatenate(values) for values in zip(self.kept, *held, strict=True)))
            self.floor = np.maximum(self.floor, self._floor(entries))
            entries = entries.at(np.flatnonzero(entries.high >= self.floor[entries.row]))
            if len(entries.row) > self.room:
                entries = entries.at(self._ordered(entries)[0])
            self.kept = entries

    def _floor(self, entries: _Entries) -> np.ndarray:
        """The k-th best low of each row [n], -inf where there are fewer."""
        key = sort_key(entries.row, entries.low)
        key.sort()
        count = np.bincount(entries.row, minlength=self.asked.n)
        full = count >= self.k
        floor = np.full(self.asked.n, -np.inf, np.float32)
        floor[full] = sorted_number(key[np.cumsum(count)[full] - self.k])
        return floor

    def first(self, part: int, n_parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The lists of a part of the rows, once all is handed over: row, column, score and rank."""
        size = -(-self.asked.n // n_parts)
        entries = self.kept.at(np.flatnonzero(self.kept.row // size == part))
        at, score, rank = self._ordered(entries)
        return entries.row[at], entries.column[at], score, rank

    def _ordered(self, entries: _Entries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The first k of each row by the scores of pairs, in order of (row, rank): position, score and rank."""
        score = self.asked.pair_scores(entries.row, entries.column)
        by, rank = order(entries.row, score, lambda at: self.asked.tie(entries.row[at], entries.column[at]), self.k)
        return by, score[by], rank


class _Candidates:
    """Collects the entries that may be listed, of the tiles that one thread looks through."""

    def __init__(self, lists: _Lists) -> None:
        self.lists = lists
        self.held: list[_Entries] = []
        self.n_held = 0

    def collect(self, tile: _Tile) -> None:
        n = tile.asked.n
        bar = self.lists.floor - tile.margin
        together = tile.scores.reshape(-1, _TOGETHER, n)
        at = np.flatnonzero(np.fmax.reduce(together, axis=1) >= bar)
        group, row = at // n, at % n
        scores = together[group, :, row]
        at = np.flatnonzero(scores >= bar[row, None])
        entry, within = at // _TOGETHER, at % _TOGETHER
        row, column = row[entry], tile.start + group[entry] * _TOGETHER + within
        score, margin = scores.ravel()[at], tile.margin[row]
        self.held.append(_Entries(row.astype(np.int32), column.astype(np.int32), score - margin, score + margin))
        self.n_held += len(row)
        if self.n_held > self.lists.room // 4:
            self.hand_over()

    def hand_over(self) -> None:
        self.lists.add(self.held)
        self.held, self.n_held = [], 0
