"""Order by score, ties broken by a seeded hash of (case, video): never by popularity or file order, so that a constant
scorer gets what chance gives."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import ThreadpoolController

from nextreel.metrics.ranks import MISS

Tie = Callable[[np.ndarray, np.ndarray], np.ndarray]  # row and column [m] of entries -> uint64 [m]
Vectors = Callable[[slice | np.ndarray], np.ndarray]  # of columns [n] -> float32 [n, D]; NaN where there is no opinion

_COLUMNS = 512  # of a tile of scores; with a thousand rows it stays in a core's cache
_GROUP = 128  # columns counted together, in bytes
_PAIRS = 1 << 15  # scored at a time


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


def top_k(scores: np.ndarray, k: int, tie: Tie) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k best columns of each row of scores [B, N]; -inf means not to be listed, NaN is not allowed.

    Returns row, column and rank (from 1) of each entry [M], in order of (row, rank).
    """
    n = scores.shape[1]
    k = min(k, n)
    lowest = np.nextafter(np.array(-np.inf, scores.dtype), np.array(0, scores.dtype))
    floor = np.maximum(_floor(scores, k), lowest) if k else np.full((len(scores), 1), np.inf)
    row, column = _nonzero(scores >= floor)
    return order(row, column, scores[row, column], tie(row, column), k)


def highest(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of scores [N]: the k best and some more, in order; without those of -inf."""
    k = min(k, len(scores))
    return np.flatnonzero((scores >= _floor(scores[None], k)[0]) & (scores > -np.inf)) if k else np.zeros(0, np.int64)


def _floor(scores: np.ndarray, k: int) -> np.ndarray:
    """At most the k-th best of each row of scores [B, N] -> [B, 1]: the k-th best of the maxima of groups of columns,
    of which there are enough for some 1.1 k scores to reach it."""
    B, N = scores.shape
    size = max(1, N // (8 * k))
    n_groups = N // size
    best = scores[:, : size * n_groups].reshape(B, size, n_groups).max(1)
    return np.partition(best, n_groups - k, axis=1)[:, n_groups - k, None]


def _nonzero(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`np.nonzero` of a mask [B, N], several times as fast."""
    at = np.flatnonzero(mask)
    return at // mask.shape[1], at % mask.shape[1]


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


def target_ranks(scores: np.ndarray, row: np.ndarray, column: np.ndarray, tie: Tie) -> np.ndarray:
    """The rank [m], from 1, of the entries (row, column) [m] among all of their row's scores [B, N].

    NaN and -inf are no rivals.
    """
    score = scores[row, column][:, None]
    rivals = scores[row]
    better = (rivals > score).sum(1)
    entry, tied_column = _nonzero(rivals == score)
    ahead = tie(row[entry], tied_column) < tie(row, column)[entry]
    return np.asarray(1 + better + np.bincount(entry[ahead], minlength=len(row))).astype(np.int32)


def product_ranks(
    queries: np.ndarray,
    vectors: Vectors,
    n_columns: int,
    column: np.ndarray,
    seen: tuple[np.ndarray, np.ndarray],
    tie: Tie,
) -> np.ndarray:
    """`target_ranks` [B] of the entries (row, column [B]) of the scores queries [B, D] . vectors [N, D], one a row;
    MISS where there is no opinion. The entries `seen`, rows and columns [m], are no rivals.

    The scores are never held together: tiles of them are counted in cache. Whoever is so near to the target in its tile
    that rounding could decide is scored again like the target itself, pair by pair with the same sums, so that neither
    the tile nor the processor decides.
    """
    score = _pair_scores(queries, vectors(column))
    tiles = _Tiles(queries, vectors, n_columns, score, seen, tie, tie(np.arange(len(column)), column))
    starts = iter(range(0, n_columns, _COLUMNS))  # shared: each tile is one thread's
    blas = ThreadpoolController().select(user_api="blas")
    n_threads = max((library["num_threads"] for library in blas.info()), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(n_threads) as pool:
        ahead = sum(pool.map(tiles.ahead, [starts] * n_threads))
    return np.where(np.isnan(score), MISS, 1 + ahead).astype(np.int32)


def _pair_scores(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The scores [m] of pairs: both are [m, D]. The same bytes for a pair wherever it stands."""
    return np.asarray(np.einsum("md,md->m", np.ascontiguousarray(queries), np.ascontiguousarray(vectors)))


class _Tiles:
    """Counts who is ahead of each row's target, tile by tile.

    A tile is [C, n]: some columns of the catalogue by all rows, padded to a multiple of 8. It holds differences to the
    target, (score - target's score) / length of the query, so that one number, and not one a row, tells who is near.
    """

    def __init__(
        self,
        queries: np.ndarray,
        vectors: Vectors,
        n_columns: int,
        score: np.ndarray,
        seen: tuple[np.ndarray, np.ndarray],
        tie: Tie,
        own_tie: np.ndarray,
    ) -> None:
        if not np.isfinite(queries).all():
            raise ValueError("a query is not finite")
        B, D = queries.shape
        self.queries, self.vectors, self.n_columns = queries, vectors, n_columns
        self.score, self.tie, self.own_tie = score, tie, own_tie  # of the targets [B]
        self.n = -(-B // 8) * 8
        length = np.linalg.norm(queries.astype(np.float64), axis=1)
        length[length == 0] = 1
        self.against = np.zeros((self.n, D + 1), np.float32)  # the last column is against 1
        self.against[:B, :D] = queries / length[:, None]
        bar = score / length
        self.reach = np.fmax.reduce(np.abs(bar), initial=0)
        self.against[:, D] = -np.finfo(np.float32).max  # nobody comes near: no target
        self.against[:B, D][~np.isnan(bar)] = -bar[~np.isnan(bar)]
        row, column = seen
        self.seen = np.sort(column.astype(np.int64) * self.n + row)  # places in the transposed scores

    def ahead(self, starts: Iterator[int]) -> np.ndarray:
        """How many of the tiles' columns are ahead of each row's target [B]."""
        B, D = self.queries.shape
        vectors = np.ones((_COLUMNS, D + 1), np.float32)
        tile = np.empty((_COLUMNS, self.n), np.float32)
        over, above = np.empty((2, _COLUMNS, self.n), bool)
        ahead = np.zeros(self.n, np.int64)
        for start in starts:
            stop = min(start + _COLUMNS, self.n_columns)
            vectors[: stop - start, :D] = self.vectors(slice(start, stop))
            vectors[stop - start :, :D] = np.nan  # NaN is neither over nor under anything
            np.matmul(vectors, self.against.T, out=tile)
            first, last = np.searchsorted(self.seen, [start * self.n, stop * self.n])
            tile.ravel()[self.seen[first:last] - start * self.n] = np.nan
            margin = self._margin(vectors[:, :D])
            surely = _counts(np.greater(tile, margin, out=above))
            group, row = np.nonzero(_counts(np.greater_equal(tile, -margin, out=over)) != surely)
            ahead += surely.sum(0, dtype=np.int64)
            if len(row):
                column = group[:, None] * _GROUP + np.arange(_GROUP)
                near = np.abs(tile[column, row[:, None]]) <= margin
                which = np.nonzero(near)[0]
                ahead += self._settled(row[which], column[near], vectors[:, :D], start)
        return ahead[:B]

    def _margin(self, vectors: np.ndarray) -> np.float32:
        """What rounding can make of a difference in the tile and of two scores of pairs: each sum of D products is off
        by at most D / 2 epsilon times the lengths of both factors, whatever the order of its terms."""
        longest = np.sqrt(np.fmax.reduce(np.einsum("nd,nd->n", vectors, vectors)))
        margin = np.finfo(np.float32).eps * (vectors.shape[1] + 4) * (longest + self.reach)
        if np.isinf(margin):
            raise ValueError("a vector is not finite")
        return np.float32(margin)

    def _settled(self, row: np.ndarray, column: np.ndarray, vectors: np.ndarray, start: int) -> np.ndarray:
        """How many of the pairs (row, column of the tile) [m] are ahead of each row's target [n]."""
        ahead = np.zeros(self.n, np.int64)
        for first in range(0, len(row), _PAIRS):
            r, c = row[first : first + _PAIRS], column[first : first + _PAIRS]
            score = _pair_scores(self.queries[r], vectors[c])
            before = score > self.score[r]
            tied = np.flatnonzero(score == self.score[r])
            before[tied] = self.tie(r[tied], start + c[tied]) < self.own_tie[r[tied]]
            ahead += np.bincount(r[before], minlength=self.n)
        return ahead


def _counts(mask: np.ndarray) -> np.ndarray:
    """How many are True in each _GROUP of rows of a mask [C, n]: uint8 [C / _GROUP, n], added eight at a time."""
    eight = mask.view(np.uint64)
    return np.add.reduce(eight.reshape(-1, _GROUP, eight.shape[1]), axis=1).view(np.uint8)


def listed_rank(listed: Mapping[str, np.ndarray], case_id: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rank [n] of each case's target in its list, MISS where it is not listed. case_id [n] in order.

    listed: case_id, video_idx and rank of the entries of all lists.
    """
    row = np.searchsorted(case_id, listed["case_id"])
    is_target = listed["video_idx"] == target[row]
    rank = np.full(len(case_id), MISS, np.int32)
    rank[row[is_target]] = listed["rank"][is_target]
    return rank
