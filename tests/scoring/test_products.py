"""Ranks counted in tiles of products, against the plain ones over all scores."""

import numpy as np
import pytest

from nextreel import models
from nextreel.scoring import order, sets


def plain(queries, vectors, column, seen, tie):
    """By the scores of all pairs."""
    scores = np.stack([np.einsum("nd,nd->n", np.broadcast_to(q, vectors.shape).copy(), vectors) for q in queries])
    miss = np.isnan(scores[np.arange(len(column)), column])
    scores[np.isnan(scores)] = -np.inf
    scores[seen] = np.nan
    rank = order.target_ranks(scores, np.arange(len(column)), column, tie)
    return np.where(miss, order.MISS, rank)


def world(n_rows, n_columns, width, seed, kind):
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
    column = rng.integers(0, n_columns, n_rows)
    owner = np.repeat(np.arange(n_rows), 20)
    watched = rng.integers(0, n_columns, len(owner))
    unseen = watched != column[owner]
    seen = np.unique(np.stack([owner[unseen], watched[unseen]]), axis=1)
    return queries, vectors, column, (seen[0], seen[1])


def tie(row, column):
    return order.tie_hash(row.astype(np.uint64), column)


@pytest.mark.parametrize("kind", ["plain", "no opinion", "copies", "near ties", "constant", "zero"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 513, 3), (21, 3_000, 64), (64, 1_024, 5)])
def test_tiles_count_like_all_scores(kind, shape):
    queries, vectors, column, seen = world(*shape, seed=sum(shape), kind=kind)
    found = order.product_ranks(queries, lambda at: vectors[at], len(vectors), column, seen, tie)
    assert found.tolist() == plain(queries, vectors, column, seen, tie).tolist()


def test_the_seen_are_no_rivals():
    """Everything but the target is seen."""
    queries, vectors = np.ones((2, 3), np.float32), np.arange(30, dtype=np.float32).reshape(10, 3)
    row, column = np.repeat([0, 1], 9), np.tile(np.arange(1, 10), 2)
    found = order.product_ranks(queries, lambda at: vectors[at], 10, np.array([0, 0]), (row, column), tie)
    assert found.tolist() == [1, 1]


def test_a_constant_scorer_gets_chance():
    queries, vectors, column, seen = world(200, 2_000, 4, 0, "constant")
    found = order.product_ranks(queries, lambda at: vectors[at], 2_000, column, seen, tie)
    assert abs(found.mean() - 1_000) < 150


@pytest.mark.parametrize("name", ["bpr_mf", "sasrec", "gru4rec"])
def test_a_factored_model_is_ranked_as_by_its_scores(name, cycle):
    """By its scores of all videos in blocks; near ties may round otherwise there."""
    module = models.module(name)
    neural = {
        "lr": 0.01, "weight_decay": 0, "epochs": 1, "batch_size": 32, "patience": 1, "width": 16, "length": 16,
        "dropout": 0.1, "seeds": 1, "history": "all", "passed_weight": 0.3, "loss": "softmax", "negatives": 8,
    }  # fmt: skip
    own = {
        "bpr_mf": {"factors": 4, "lr": 0.05, "regularization": 0.01, "iterations": 5, "threads": 1},
        "gru4rec": neural | {"layers": 1},
        "sasrec": neural | {"blocks": 1, "heads": 1},
    }
    model = module.Model.fit(
        cycle.events.train(), cycle.catalogue.n_videos, module.Params(**own[name]), np.random.default_rng(0)
    )
    assert isinstance(model, models.Factored)
    for part in ("valid", "test"):
        found = sets.target_ranks(model, cycle, part, "")
        blocks = np.concatenate([block.target_ranks() for block in sets.blocks(model, cycle, part, "")])
        assert (found == blocks).mean() > 0.99
        assert len(found) == len(cycle.of(part).target)


def test_other_scorers_are_ranked_by_blocks(cycle):
    module = models.module("most_popular")
    model = module.Model.fit(cycle.events.train(), cycle.catalogue.n_videos, module.Params(), np.random.default_rng(0))
    assert not isinstance(model, models.Factored)
    blocks = np.concatenate([block.target_ranks() for block in sets.blocks(model, cycle, "test", "")])
    assert (sets.target_ranks(model, cycle, "test", "") == blocks).all()
