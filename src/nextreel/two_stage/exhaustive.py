"""What the pool costs: the same scores over the whole catalogue, where that is small enough to be tried."""

from pathlib import Path

import numpy as np

from nextreel import arrays, files
from nextreel.cases.asked import Cases
from nextreel.contract import Factored, Judge, Sparse
from nextreel.progress import track
from nextreel.scoring.answers import LIST_SIZE, columns_of, ranked, write_answers
from nextreel.scoring.sets import EvalSet
from nextreel.two_stage.blend import Blend, Fits

MOST = 1 << 26  # scores of a part
_SCORES = 1 << 20  # at a time


def possible(blend: Blend, asked: EvalSet) -> bool:
    """Whether every video can be scored for every case of valid and test: few enough, and not pair by pair."""
    few = all(len(asked.of(part).cases) * len(asked.catalogue.of(part)) <= MOST for part in ("valid", "test"))
    return few and not isinstance(blend.ranker.of("valid"), Judge)


def write(blend: Blend, weight: float, asked: EvalSet, system: Path) -> None:
    """lists.parquet and ranks.parquet of the blend over the whole catalogue, seen videos left out, into a new folder
    `system`; nothing where that is not possible."""
    with files.replacing(system) as folder:
        folder.mkdir()
        if possible(blend, asked):
            _answer(blend, weight, asked, folder)


def _answer(blend: Blend, weight: float, asked: EvalSet, folder: Path) -> None:
    with arrays.Writer(folder / "lists.parquet") as lists, arrays.Writer(folder / "ranks.parquet") as ranks:
        for part in ("valid", "test"):
            catalogue, mine, reference = asked.catalogue.of(part), asked.of(part), blend.references(part, asked)
            size = max(1, _SCORES // max(len(catalogue), 1))
            for start in track(range(0, len(mine.cases), size), f"every video to every case of {part}"):
                block = slice(start, start + size)
                some = mine.where(block)
                unseen = ~_seen(some.cases, blend.ranker, catalogue)
                row, column = np.nonzero(unseen)
                score, exposed = (
                    _whole(fits, part, some.cases, catalogue)[unseen] for fits in (blend.ranker, blend.exposure)
                )
                terms = blend.blended(part, score, exposed, row, reference[block])
                found = ranked(some, catalogue, row, column, terms.score(weight), LIST_SIZE)
                write_answers(found, part, asked.seed, lists, ranks)


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
