"""What the pool costs: the same scores over the whole catalogue, where that is small enough to be tried."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nextreel import arrays, files
from nextreel.cases.asked import Cases
from nextreel.contract import Factored, Judge, Sparse
from nextreel.progress import track
from nextreel.scoring.answers import LIST_SIZE, Retrieved, columns_of, ranked, write_answers
from nextreel.scoring.sets import EvalSet
from nextreel.two_stage.blend import Blend, Fits, Fitted

MOST = 1 << 26  # scores of a part
_SCORES = 1 << 20  # at a time


def possible(blend: Blend, asked: EvalSet) -> bool:
    """Whether every video can be scored for every case of valid and test: few enough, and not pair by pair."""
    few = all(len(asked.of(part).cases) * len(asked.catalogue.of(part)) <= MOST for part in ("valid", "test"))
    return few and all(_has_lists(ranker.fits.of("valid")) for ranker in blend.rankers)


def _has_lists(model: Fitted) -> bool:
    """Whether its score of every video can be had at once."""
    return isinstance(model, Factored | Sparse) and not isinstance(model, Judge)


def write(blend: Blend, weight: float, asked: EvalSet, system: Path) -> None:
    """lists.parquet and ranks.parquet of the blend over the whole catalogue, seen videos left out, into the folder
    `system`, which is left empty where that is not possible."""
    with files.replacing(system) as folder:
        folder.mkdir()
        if possible(blend, asked):
            with arrays.Writer(folder / "lists.parquet") as lists, arrays.Writer(folder / "ranks.parquet") as ranks:
                for part in ("valid", "test"):
                    for found in _answered(blend, weight, asked, part):
                        write_answers(found, part, asked.seed, lists, ranks)


def _answered(blend: Blend, weight: float, asked: EvalSet, part: str) -> Iterator[Retrieved]:
    """The answers to a part's cases, some at a time."""
    catalogue, mine, reference = asked.catalogue.of(part), asked.of(part), blend.references(part, asked)
    size = max(1, _SCORES // max(len(catalogue), 1))
    for start in track(range(0, len(mine.cases), size), f"every video to every case of {part}"):
        block = slice(start, start + size)
        some = mine.where(block)
        unseen = ~_seen(some.cases, blend.exposure, catalogue)
        row, column = np.nonzero(unseen)
        *scores, exposed = (
            _whole(fits, part, some.cases, catalogue)[unseen]
            for fits in (*(ranker.fits for ranker in blend.rankers), blend.exposure)
        )
        terms = blend.blended(part, scores, exposed, row, reference[block])
        yield ranked(some, catalogue, row, column, terms.score(weight), LIST_SIZE)


def _seen(cases: Cases, fits: Fits, catalogue: np.ndarray) -> np.ndarray:
    """[B, N] bool."""
    position, owner = cases.histories(fits.store).flat()
    column, listed = columns_of(catalogue, fits.store.events("video_idx")[position])
    seen = np.zeros((len(cases), len(catalogue)), bool)
    seen[owner[listed], column[listed]] = True
    return seen


def _whole(fits: Fits, part: str, cases: Cases, catalogue: np.ndarray) -> np.ndarray:
    """The scores [B, N] of every video of the catalogue for every case, NaN where there is no opinion."""
    model, histories = fits.of(part), cases.histories(fits.store)
    if isinstance(model, Factored):
        return (model.queries(cases, histories) @ model.vectors(catalogue).T).astype(float)
    assert isinstance(model, Sparse)
    opinions = model.opinions(cases, histories).tocsr()
    found = np.full((len(cases), len(catalogue)), np.nan)
    column, listed = columns_of(catalogue, opinions.indices)
    row = np.repeat(np.arange(len(cases)), np.diff(opinions.indptr))
    found[row[listed], column[listed]] = opinions.data[listed]
    return found
