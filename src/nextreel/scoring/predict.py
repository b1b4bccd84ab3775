"""What models answer: lists, the ranks of the targets, and scores of what was shown."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nextreel import arrays, files
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Store
from nextreel.contract import Judge, Model, Scorer, Training
from nextreel.params import Section
from nextreel.parts import ANSWERED_BY, CUTS, QUESTIONS, answering
from nextreel.progress import track
from nextreel.scoring.answers import LIST_SIZE, score_columns, write_answers
from nextreel.scoring.retrieve import retrieve
from nextreel.scoring.sets import EvalSet, ShownPairs

_IMPRESSIONS = 1 << 18  # scored at a time


def fit_and_predict(
    name: str,
    model: type[Model],
    params: Section,
    store: Store,
    asked: EvalSet,
    shown: ShownPairs,
    n_seeds: int,
    data: Path,
    session: Callable[[int, str], Any] = lambda seed, cut: None,
) -> None:
    """Fit a model on every cut that its store holds, once for each seed (`asked.seed`, the next one, ...), save the
    first and write the answers of all under the folder `data`:

    models/<name>/<cut>        the first seed's model by the cut that it was fitted on
    lists/<name>.parquet       seed, case_id, video_idx, score, rank: the first LIST_SIZE of every case
    ranks/<name>.parquet       seed, case_id, video_idx, rank: of every target over the whole catalogue
    scores/<name>.parquet      seed, impression, score: of every row of impressions.parquet, null = no opinion; and what
                               the heads of a Judge say, a column each

    A model that draws no random number is fitted once. `session(seed, cut)` is how the fit of a neural model is watched
    and kept; in the one on train it chooses an epoch, and the others take as many. The first seed alone recommends, so
    it alone is fitted on `all`. `parts.answering` says which fit answers what; what none may answer is not asked.
    """
    to_lists, to_ranks, to_scores = (
        arrays.Writer(data / kind / f"{name}.parquet") for kind in ("lists", "ranks", "scores")
    )
    with to_lists, to_ranks, to_scores:
        for seed in range(asked.seed, asked.seed + n_seeds):
            cuts = [cut for cut in CUTS if cut in store.cuts and (cut != "all" or seed == asked.seed)]
            fitted, random = _fit(model, params, store, cuts, seed, partial(session, seed))
            if seed == asked.seed:
                with files.replacing(data / "models" / name) as folder:
                    folder.mkdir()
                    for cut, each in fitted.items():
                        each.save(folder / cut)
            for part in [part for part in QUESTIONS if not fitted.keys().isdisjoint(ANSWERED_BY[part])]:
                answers = retrieve(answering(part, fitted), store, asked, part, LIST_SIZE, f"{name} answers {part}")
                for found in answers:
                    write_answers(found, part, seed, to_lists, to_ranks)
            write_scores(fitted, name, store, shown, seed, to_scores)
            if not random:
                break


def _fit(
    model: type[Model], params: Section, store: Store, cuts: Iterable[str], seed: int, session: Callable[[str], Any]
) -> tuple[dict[str, Model], bool]:
    """The model by the cut that it was fitted on, and whether it drew random numbers."""
    rng = np.random.default_rng(seed)
    before = rng.bit_generator.state
    fitted = {"train": model.fit(params, Training(store.fitted_on("train"), rng, session("train")))}
    random = rng.bit_generator.state != before
    chosen = fitted["train"].params
    for cut in cuts:
        if cut != "train":
            training = Training(store.fitted_on(cut), np.random.default_rng(seed), session(cut))
            fitted[cut] = model.fit(chosen, training)
    return fitted, random


def write_scores(
    fitted: Mapping[str, Scorer], name: str, store: Store, shown: ShownPairs, seed: int, scores: arrays.Writer
) -> None:
    """Score what users were shown."""
    pairs = shown.pairs(store)
    for part in ("valid", "test"):
        asked = np.flatnonzero(shown.cases.part[shown.row] == part)
        scorer = answering(part, fitted)
        for start in track(range(0, max(len(asked), 1), _IMPRESSIONS), f"{name} scores impressions of {part}"):
            some = asked[start : start + _IMPRESSIONS]  # a table has columns, even without a row
            scores.add(_scored(scorer, pairs.where(some), some, seed))


def _scored(scorer: Scorer, pairs: Pairs, impression: np.ndarray, seed: int) -> dict[str, Any]:
    """The columns of data/scores."""
    if isinstance(scorer, Judge):
        said = scorer.predictions(pairs)
        return score_columns(seed, impression, scorer.read(said)) | said
    return score_columns(seed, impression, scorer.score(pairs))
