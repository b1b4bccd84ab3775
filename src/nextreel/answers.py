"""What models answer: their lists and target ranks, the two-stage system's, and recommendations for everybody."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ibis import _

from nextreel import engine, files, models, ranking
from nextreel.cases import QUESTIONS
from nextreel.exam import Exam, blocks
from nextreel.models import Model, Scorer
from nextreel.params import PositiveInt, Section
from nextreel.progress import track

LIST_SIZE = 500
_CASES_AT_A_TIME = 512  # in the ranker, which may hold an embedding for each candidate


class Params(Section):
    """The section `rank`."""

    model: str  # the ranker: one of the models under `recall` or `train`
    n_recommendations: PositiveInt  # a user, in data/recommendations.parquet


def examine(
    name: str, model: type[Model], params: Section, exam: Exam, refit: str | None, data: Path, **validated: Any
) -> None:
    """Fit a model on train, save it and write its answers to all cases under the folder `data`.

    `validated` is what a neural model's `fit` needs to choose its epoch. With `refit` train_valid the model is fitted
    once more on both, for as many epochs as were chosen, and that one answers what comes after valid.
    """
    n_videos = exam.catalogue.n_videos
    chosen = model.fit(exam.events.train(), n_videos, params, np.random.default_rng(exam.seed), **validated)
    fitted = {"train": chosen}
    if refit == "train_valid":
        rng = np.random.default_rng(exam.seed)
        fitted[refit] = model.fit(exam.events.train_valid(), n_videos, chosen.params, rng)
    with files.replacing(data / "models" / name) as folder:
        folder.mkdir()
        for stretch, each in fitted.items():
            each.save(folder / stretch)
    lists, marks = (data / kind / f"{name}.parquet" for kind in ("lists", "ranks"))
    write(models.by_part(fitted), name, exam, lists, marks)


def write(scorers: Mapping[str, Scorer], name: str, exam: Exam, lists: Path, marks: Path) -> None:
    """Answer the cases of each part that has a scorer: the table `lists` (case_id, video_idx, score, rank) and the
    table `marks` of target ranks (case_id, video_idx, rank), see `exam.Block`."""
    with engine.Writer(lists) as list_writer, engine.Writer(marks) as mark_writer:
        for part in QUESTIONS:
            if part not in scorers:
                continue
            for block in blocks(scorers[part], exam, part, f"{name} answers {part}"):
                if part != "next":
                    _mark(mark_writer, block.exam, block.target_ranks())
                list_writer.add(block.top_k(LIST_SIZE))


def _mark(writer: engine.Writer, exam: Exam, rank: np.ndarray) -> None:
    """Add the rank of each case's target."""
    writer.add({"case_id": exam.cases.case_id, "video_idx": exam.target, "rank": rank})


def forget_others(root: Path, names: Collection[str]) -> None:
    """Delete what models left that are not among `names`: DVC takes the folders of lists and ranks as they are."""
    for folder in ("data/models", "data/lists", "data/ranks", "plots/curves"):
        for path in sorted((root / folder).glob("*")):
            if path.name.split(".")[0] not in names:
                files.remove(path)


def rerank(scorers: Mapping[str, Scorer], name: str, exam: Exam, candidates: Path, lists: Path, marks: Path) -> None:
    """Order each case's candidates by score; write the same two tables as `write`, for the whole system.

    A target that is not among its case's candidates is a MISS. Where the model has no opinion the pool's own order
    stands.
    """
    with engine.Writer(lists) as list_writer, engine.Writer(marks) as mark_writer:
        for part in QUESTIONS:
            asked = exam.of(part)
            for start in track(range(0, len(asked.cases), _CASES_AT_A_TIME), f"{name} ranks the pools of {part}"):
                some = asked.where(slice(start, start + _CASES_AT_A_TIME))
                ids = some.cases.case_id
                pool = engine.load(candidates, [("case_id", ">=", ids[0]), ("case_id", "<=", ids[-1])])
                row, place = np.searchsorted(ids, pool["case_id"]), pool["rank"] - 1
                video_idx = np.zeros((len(ids), int(place.max(initial=0)) + 1), np.int32)  # [B, C], 0 = padding
                video_idx[row, place] = pool["video_idx"]
                score = scorers[part].score(some.cases, some.cases.histories(exam.events), video_idx)[row, place]
                tie = some.tie(pool["case_id"], pool["video_idx"])
                tie = np.where(score == -np.inf, pool["rank"].astype(np.uint64), tie)
                _row, entry, rank = ranking.order(row, np.arange(len(row)), score, tie, len(row))
                ranked = {"case_id": pool["case_id"][entry], "video_idx": pool["video_idx"][entry]}
                ranked |= {"score": score[entry], "rank": rank}
                list_writer.add(ranked)
                if part != "next":
                    _mark(mark_writer, some, ranking.listed_rank(ranked, ids, some.target))


def recommend(con: engine.Connection, data: Path, n_recommendations: int) -> None:
    """data/recommendations.parquet: user_id, video_id, score, rank of every user at the end of the log."""
    ranked, cases, videos = (
        engine.read(con, data / name) for name in ("two_stage/lists.parquet", "cases.parquet", "catalogue.parquet")
    )
    table = (
        ranked.filter(_.rank <= n_recommendations)
        .join(cases.filter(_.part == "next").select("case_id", "user_id"), "case_id")
        .join(videos, "video_idx")
        .select("user_id", "video_id", "score", "rank")
    )
    engine.write(con, table, data / "recommendations.parquet", ["user_id", "rank"])
