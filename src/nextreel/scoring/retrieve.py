"""A model's first k videos of the whole catalogue for each case, and the rank of its target there. Videos that the user
has seen are neither listed nor rivals."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from nextreel.cases.store import Store
from nextreel.contract import Factored, Scorer, Sparse
from nextreel.progress import track
from nextreel.scoring import products
from nextreel.scoring.answers import Retrieved, columns_of, ranked
from nextreel.scoring.sets import EvalSet

_CASES = 1024  # whose queries are multiplied together
_SEEN = 1 << 22  # events of their histories, at most: 200 MB
_EVENTS = 1 << 15  # of histories whose opinions are held together


def retrieve(model: Scorer, store: Store, asked: EvalSet, part: str, k: int, doing: str) -> Iterator[Retrieved]:
    """The answers of a Factored or Sparse model to the cases of a part, some at a time."""
    asked, catalogue = asked.of(part), asked.catalogue.of(part)
    histories = asked.cases.histories(store)
    column_of = np.full(store.n_videos + 1, -1, np.int32)  # video_idx -> column of the catalogue, -1 outside
    column_of[catalogue] = np.arange(len(catalogue), dtype=np.int32)
    blocks = list(histories.blocks(_CASES, _SEEN if isinstance(model, Factored) else _EVENTS))
    for block in track(blocks, doing):
        some, seen = asked.where(block), histories.where(block)
        position, owner = seen.flat()
        column, listed = columns_of(catalogue, store.events("video_idx")[position])
        seen_entries = owner[listed], column[listed]
        if isinstance(model, Factored):
            yield _by_products(model, model.queries(some.cases, seen), some, catalogue, seen_entries, k)
        else:
            assert isinstance(model, Sparse)
            yield _by_opinions(model.opinions(some.cases, seen), some, catalogue, column_of, seen_entries, k)


def target_ranks(model: Scorer, store: Store, asked: EvalSet, part: str, doing: str) -> np.ndarray:
    """The rank [n] of the target of each of a part's cases."""
    return np.concatenate([found.target_rank for found in retrieve(model, store, asked, part, 0, doing)])


def _by_products(
    model: Factored,
    queries: np.ndarray,
    asked: EvalSet,
    catalogue: np.ndarray,
    seen: tuple[np.ndarray, np.ndarray],
    k: int,
) -> Retrieved:
    column, listed = columns_of(catalogue, asked.target)
    found = products.search(
        queries,
        lambda columns: model.vectors(catalogue[columns]),
        len(catalogue),
        np.where(listed, column, -1),
        seen,
        lambda row, columns: asked.tie_at(row, catalogue[columns]),
        k,
    )
    lists = {
        "case_id": asked.cases.case_id[found.row],
        "video_idx": catalogue[found.column],
        "score": found.score,
        "rank": found.rank,
    }
    return Retrieved(asked, found.target_rank, lists)


def _by_opinions(
    opinions: sparse.csr_array,
    asked: EvalSet,
    catalogue: np.ndarray,
    column_of: np.ndarray,
    seen: tuple[np.ndarray, np.ndarray],
    k: int,
) -> Retrieved:
    """From all opinions of the cases, those that no list and no target can hang on left out before they are ordered."""
    if np.isnan(opinions.data).any():
        raise ValueError("a score is NaN")
    is_seen = np.zeros(len(catalogue) + 1, bool)  # the last place is that of column -1
    seen_from = np.searchsorted(seen[0], np.arange(len(asked.cases) + 1))
    target = column_of[asked.target]
    entries = []
    for case in range(len(asked.cases)):  # each with thousands of opinions
        mine = slice(*opinions.indptr[case : case + 2])
        column, score = column_of[opinions.indices[mine]], opinions.data[mine]
        is_seen[seen[1][seen_from[case] : seen_from[case + 1]]] = True
        keep = (column >= 0) & ~is_seen[column]
        is_seen[seen[1][seen_from[case] : seen_from[case + 1]]] = False
        column, score = column[keep], score[keep]
        floor = score[column == target[case]].min(initial=np.inf)
        if k and len(score):
            floor = min(floor, np.partition(score, max(len(score) - k, 0))[max(len(score) - k, 0)])
        entries.append((column[score >= floor], score[score >= floor]))
    row = np.repeat(np.arange(len(entries)), [len(column) for column, _score in entries])
    column, score = (np.concatenate(values) for values in zip(*entries, strict=True))
    return ranked(asked, catalogue, row, column, score, k)
