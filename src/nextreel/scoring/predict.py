"""What models answer: lists, target ranks and scores of what was shown; the two-stage system's; recommendations."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nextreel import arrays, files, models
from nextreel.cases.protocols import QUESTIONS, Cases
from nextreel.cases.store import Events
from nextreel.models import Model, Scorer
from nextreel.params import Section
from nextreel.progress import track
from nextreel.scoring.sets import Exam, Shown, blocks

LIST_SIZE = 500
_IMPRESSION_CASES_AT_A_TIME = 64  # there may be thousands of impressions a case


def examine(
    name: str,
    model: type[Model],
    params: Section,
    exam: Exam,
    shown: Shown,
    n_seeds: int,
    refit: str | None,
    data: Path,
    validated: Callable[[int], dict[str, Any]] = lambda seed: {},
) -> None:
    """Fit a model on train, once for each seed (`exam.seed`, the next one, ...), save the first and write the answers
    of all under the folder `data`:

    models/<name>/             the first seed's model, fitted on train (and on train and valid with `refit`)
    lists/<name>.parquet       seed, case_id, video_idx, score, rank: the first LIST_SIZE of every case
    ranks/<name>.parquet       seed, case_id, video_idx, rank: of every target, see `exam.Block`
    scores/<name>.parquet      seed, case_id, video_idx, score: of every video shown, -inf where it has no opinion

    A model that draws no random number is fitted once. `validated(seed)` is what a neural model's `fit` needs to choose
    its epoch. With `refit` train_valid the model is fitted once more on both, for as many epochs as were chosen, and
    that one answers what comes after valid.
    """
    lists, marks, scores = (data / kind / f"{name}.parquet" for kind in ("lists", "ranks", "scores"))
    with arrays.Writer(lists) as to_lists, arrays.Writer(marks) as to_marks, arrays.Writer(scores) as to_scores:
        for seed in range(exam.seed, exam.seed + n_seeds):
            fitted, random = _fit(model, params, exam, refit, seed, validated(seed))
            if seed == exam.seed:
                with files.replacing(data / "models" / name) as folder:
                    folder.mkdir()
                    for stretch, each in fitted.items():
                        each.save(folder / stretch)
            scorers = models.by_part(fitted)
            _answer(scorers, name, exam, seed, to_lists, to_marks)
            _score(scorers, name, shown, seed, to_scores)
            if not random:
                break


def _fit(
    model: type[Model], params: Section, exam: Exam, refit: str | None, seed: int, validated: dict[str, Any]
) -> tuple[dict[str, Model], bool]:
    """The model by what it was fitted on, and whether it drew random numbers."""
    rng = np.random.default_rng(seed)
    before = rng.bit_generator.state
    fitted = {"train": model.fit(exam.events.train(), exam.catalogue.n_videos, params, rng, **validated)}
    random = rng.bit_generator.state != before
    if refit == "train_valid":
        chosen = fitted["train"].params
        rng = np.random.default_rng(seed)
        fitted[refit] = model.fit(exam.events.train_valid(), exam.catalogue.n_videos, chosen, rng)
    return fitted, random


def write(scorers: Mapping[str, Scorer], name: str, exam: Exam, lists: Path, marks: Path) -> None:
    """Answer the cases of each part that has a scorer, as `examine` does: the tables `lists` and `marks`."""
    with arrays.Writer(lists) as to_lists, arrays.Writer(marks) as to_marks:
        _answer(scorers, name, exam, exam.seed, to_lists, to_marks)


def _answer(
    scorers: Mapping[str, Scorer], name: str, exam: Exam, seed: int, lists: arrays.Writer, marks: arrays.Writer
) -> None:
    for part in QUESTIONS:
        if part not in scorers:
            continue
        for block in blocks(scorers[part], exam, part, f"{name} answers {part}", LIST_SIZE):
            if part != "next":
                mark(marks, seed, block.exam, block.target_ranks())
            lists.add(seeded(seed, block.top_k(LIST_SIZE)))


def _score(scorers: Mapping[str, Scorer], name: str, shown: Shown, seed: int, scores: arrays.Writer) -> None:
    """Score what users were shown."""
    starts = np.searchsorted(shown.case_id, shown.cases.case_id)
    ends = np.searchsorted(shown.case_id, shown.cases.case_id, side="right")
    nothing = np.zeros(0, np.float32)
    scores.add(seeded(seed, {"case_id": shown.case_id[:0], "video_idx": shown.video_idx[:0], "score": nothing}))
    for part in ("valid", "test"):
        asked = np.flatnonzero(shown.cases.part == part)
        for first in track(range(0, len(asked), _IMPRESSION_CASES_AT_A_TIME), f"{name} scores impressions of {part}"):
            rows = asked[first : first + _IMPRESSION_CASES_AT_A_TIME]
            some = shown.cases.where(rows)
            length = ends[rows] - starts[rows]
            row = np.repeat(np.arange(len(rows)), length)
            at = np.repeat(starts[rows] - (length.cumsum() - length), length) + np.arange(len(row))
            video_idx = shown.video_idx[at]
            score = pair_scores(scorers[part], some, shown.events, row, video_idx)
            scores.add(seeded(seed, {"case_id": shown.case_id[at], "video_idx": video_idx, "score": score}))


def pair_scores(scorer: Scorer, cases: Cases, events: Events, row: np.ndarray, video_idx: np.ndarray) -> np.ndarray:
    """Scores [m] of pairs: row [m], in order, of the case and video."""
    length = np.bincount(row, minlength=len(cases))
    place = np.arange(len(row)) - np.repeat(length.cumsum() - length, length)
    padded = np.zeros((len(cases), int(length.max(initial=1))), np.int32)  # [B, C], 0 = padding
    padded[row, place] = video_idx
    return scorer.score(cases, cases.histories(events), padded)[row, place]


def seeded(seed: int, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"seed": np.full(len(columns["case_id"]), seed, np.int64), **columns}


def mark(writer: arrays.Writer, seed: int, exam: Exam, rank: np.ndarray) -> None:
    """Add the rank of each case's target."""
    writer.add(seeded(seed, {"case_id": exam.cases.case_id, "video_idx": exam.target, "rank": rank}))
