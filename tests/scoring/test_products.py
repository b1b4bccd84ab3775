"""Ranks and lists searched in tiles of products, against a plain full sort of the scores of all pairs."""

import tracemalloc

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from nextreel.metrics.ranks import MISS
from nextreel.scoring import order, products

KINDS = ["plain", "no opinion", "copies", "near ties", "constant", "zero", "rising", "counts", "one long"]


def plain(queries, vectors, target, seen, tie, k):
    """The ranks, and (row, column, score, rank) of the lists."""
    B, N = len(queries), len(vectors)
    scores = np.array([np.einsum("nd,nd->n", np.broadcast_to(q, vectors.shape).copy(), vectors) for q in queries])
    scores = scores.reshape(B, N)
    listed = ~np.isnan(scores)
    listed[seen] = False
    ties = tie(np.repeat(np.arange(B), N), np.tile(np.arange(N), B)).reshape(B, N)
    ranks, lists = [], []
    for row in range(B):
        order = [int(c) for c in np.lexsort((ties[row], -scores[row])) if listed[row, c]]
        lists += [(row, c, float(scores[row, c]), rank) for rank, c in enumerate(order[:k], start=1)]
        ranks.append(1 + order.index(target[row]) if target[row] in order else MISS)
    return ranks, lists


def found(queries, vectors, target, seen, tie, k):
    out = products.search(queries, lambda at: vectors[at], len(vectors), target, seen, tie, k)
    assert [values.dtype for values in out] == [np.int32, np.int32, np.int32, np.float32, np.int32]
    return out.target_rank.tolist(), list(
        zip(out.row.tolist(), out.column.tolist(), out.score.tolist(), out.rank.tolist(), strict=True)
    )


def world(n_rows, n_columns, width, seed, kind):
    """Queries, vectors, targets (a third of the rows has none) and what is seen."""
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((n_rows, width), dtype=np.float32)
    vectors = rng.standard_normal((n_columns, width), dtype=np.float32)
    if kind == "no opinion":
        vectors[rng.random(n_columns) < 0.3] = np.nan
    elif kind == "copies":  # exact ties, in tiles far apart
        vectors = vectors[rng.integers(0, max(1, n_columns // 10), n_columns)]
    elif kind == "near ties":
        vectors = (vectors[:1] + rng.standard_normal(vectors.shape) * 1e-8).astype(np.float32)
    elif kind == "constant":
        vectors[:] = vectors[0]
    elif kind == "zero":
        vectors[:] = 0
        queries[::2] = 0
    elif kind == "rising":  # with the column, for all rows
        queries = np.abs(queries)
        vectors = np.sort(vectors, axis=0)
    elif kind == "counts":  # of a popularity
        queries[:], vectors[:] = 0, 0
        queries[:, 0], vectors[:, 0] = 1, rng.geometric(0.3, n_columns)
    elif kind == "one long":  # so long that rounding blurs its whole tile
        vectors[n_columns // 2] *= 1e6
    target = rng.integers(0, n_columns, n_rows)
    owner = np.repeat(np.arange(n_rows), 20)
    watched = rng.integers(0, n_columns, len(owner))
    unseen = watched != target[owner]
    seen = np.unique(np.stack([owner[unseen], watched[unseen]]), axis=1)
    target[1::3] = -1
    return queries, vectors, target, (seen[0], seen[1])


def tie(row, column):
    return order.tie_hash(row.astype(np.uint64), column)


@pytest.mark.parametrize("k", [0, 1, 7, 500])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 513, 3), (21, 3_000, 64), (64, 1_024, 5)])
def test_tiles_find_what_a_full_sort_finds(kind, shape, k):
    asked = world(*shape, seed=sum(shape), kind=kind)
    assert found(*asked, tie, k) == plain(*asked, tie, k)


@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_entries_may_be_dropped_after_every_tile(kind, k, monkeypatch):
    monkeypatch.setattr(products, "_ENTRIES", 0)
    monkeypatch.setattr(products, "_SAMPLE", 0)
    monkeypatch.setattr(products, "_PAIRS", 100)
    asked = world(9, 5_000, 16, seed=k, kind=kind)
    assert found(*asked, tie, k) == plain(*asked, tie, k)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("kind", ["plain", "copies", "rising"])
def test_threads_do_not_matter(kind, n_threads):
    asked = world(30, 20_000, 24, seed=0, kind=kind)
    with threadpool_limits(n_threads, user_api="blas"):
        assert found(*asked, tie, 50) == plain(*asked, tie, 50)


@pytest.mark.parametrize("kind", ["plain", "rising", "constant"])
def test_the_scores_are_never_held(kind, monkeypatch):
    """Not even where each tile is better than all before it, or all are tied."""
    monkeypatch.setattr(products, "_ENTRIES", 1 << 13)
    monkeypatch.setattr(products, "_in_no_order", lambda n_columns: range(0, n_columns, products._COLUMNS))
    asked = world(64, 100_000, 4, seed=0, kind=kind)
    tracemalloc.start()
    products.search(asked[0], lambda at: asked[1][at], len(asked[1]), *asked[2:], tie, 20)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 64 * 100_000 * 4 / 3


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize(("n_rows", "n_columns"), [(0, 0), (0, 700), (3, 0)])
def test_without_rows_or_columns_nothing_is_found(n_rows, n_columns, k):
    vectors, nothing = np.ones((n_columns, 2), np.float32), np.zeros(0, np.int64)
    asked = np.ones((n_rows, 2), np.float32), vectors, np.full(n_rows, -1), (nothing, nothing)
    assert found(*asked, tie, k) == ([MISS] * n_rows, [])


def test_the_seen_are_no_rivals_and_not_listed():
    """Everything but the target is seen."""
    queries, vectors = np.ones((2, 3), np.float32), np.arange(30, dtype=np.float32).reshape(10, 3)
    seen = np.repeat([0, 1], 9), np.tile(np.arange(1, 10), 2)
    assert found(queries, vectors, np.array([0, 0]), seen, tie, 5) == ([1, 1], [(0, 0, 3.0, 1), (1, 0, 3.0, 1)])


def test_a_list_ends_with_the_opinions():
    vectors = np.full((2_000, 1), np.nan, np.float32)
    vectors[[3, 700]] = [[1], [2]]
    nothing = np.zeros(0, np.int64)
    asked = np.ones((1, 1), np.float32), vectors, np.array([5]), (nothing, nothing)
    assert found(*asked, tie, 10) == ([MISS], [(0, 700, 2.0, 1), (0, 3, 1.0, 2)])


def test_what_is_not_finite_is_refused():
    ones, nothing = np.ones((1, 2), np.float32), np.zeros(0, np.int64)
    for queries, vectors in [(ones * np.nan, ones), (ones, ones * np.inf), (ones * 1e30, ones * 1e30)]:
        with pytest.raises(ValueError, match="finite"):
            found(queries, vectors, np.array([-1]), (nothing, nothing), tie, 1)


def test_a_constant_scorer_gets_chance():
    queries, vectors, target, seen = world(200, 2_000, 4, 0, "constant")
    ranks = np.array(found(queries, vectors, target, seen, tie, 0)[0])
    assert abs(ranks[target >= 0].mean() - 1_000) < 150
