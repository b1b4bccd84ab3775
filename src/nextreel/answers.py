"""What a model answers to the cases: its lists, and the rank of each target over the whole catalogue.

The model never sees the targets; they are only looked up in its scores. Seen videos are left out of both.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ibis import _

from nextreel import cases as cases_module
from nextreel import engine, files, ranking
from nextreel.cases import Cases
from nextreel.models import Scorer
from nextreel.params import PositiveInt, Section
from nextreel.progress import track
from nextreel.sequences import Events

LIST_SIZE = 500
_BLOCK = 1 << 24  # scores held at a time: 64 MB


class Params(Section):
    """The section `rank`."""

    model: str  # the ranker: one of the models under `recall` or `train`
    n_recommendations: PositiveInt  # a user, in data/recommendations.parquet


@dataclass(frozen=True)
class Exam:
    """Cases of the protocol `first`, and what is needed to put them to a model and to mark its answers."""

    cases: Cases
    events: Events
    catalogue: tuple[np.ndarray, np.ndarray]  # video_idx and first_part, see `Log.catalogue`
    target: np.ndarray  # video_idx of each case's target, 0 where it has none
    seed: int  # of the ties

    @property
    def n_videos(self) -> int:
        return int(self.catalogue[0].max(initial=0))

    @classmethod
    def load(cls, data: Path, seed: int) -> "Exam":
        """Read what `label` wrote."""
        columns = engine.load(data / "cases.parquet", where=[("protocol", "=", "first")])
        del columns["protocol"]
        cases = Cases(**columns | {"part": columns["part"].astype(str)})
        targets = engine.load(data / "targets.parquet")
        target = np.zeros(len(cases), np.int32)
        target[np.searchsorted(cases.case_id, targets["case_id"])] = targets["video_idx"]
        catalogue = engine.load(data / "catalogue.parquet")
        events = Events.load(data / "sequences")
        return cls(cases, events, (catalogue["video_idx"], catalogue["first_part"]), target, seed)

    def of(self, part: str) -> "Exam":
        """The cases of one part."""
        keep = self.cases.part == part
        return Exam(self.cases.where(keep), self.events, self.catalogue, self.target[keep], self.seed)

    def catalogue_of(self, part: str) -> np.ndarray:
        """The part's catalogue [N], in order of video_idx."""
        return cases_module.catalogue_of(*self.catalogue, part)


class Block(NamedTuple):
    """Some of a part's cases with their scores over its catalogue."""

    cases: Cases
    catalogue: np.ndarray  # [N]
    scores: np.ndarray  # [B, N] float32; NaN where seen
    target: np.ndarray  # [B], 0 = none


def blocks(model: Scorer, exam: Exam, part: str, doing: str) -> Iterator[Block]:
    """Score a part's cases over its catalogue, block by block."""
    asked = exam.of(part)
    catalogue = exam.catalogue_of(part)
    size = max(1, _BLOCK // max(len(catalogue), 1))
    for start in track(range(0, len(asked.cases), size), doing):
        rows = slice(start, start + size)
        cases = asked.cases.where(rows)
        histories = cases.histories(exam.events)
        scores = model.score(cases, histories, catalogue)
        if np.isnan(scores).any():
            raise ValueError(f"{doing}: the model scores NaN")  # below, NaN means seen
        position, owner = histories.flat()
        column, listed = _columns(catalogue, exam.events.video_idx[position])
        scores[owner[listed], column[listed]] = np.nan
        yield Block(cases, catalogue, scores, asked.target[rows])


def ranks(block: Block, seed: int) -> np.ndarray:
    """The rank [B] of each case's target over the catalogue, MISS where the list would never come to it."""
    column, listed = _columns(block.catalogue, block.target)
    row = np.flatnonzero(listed)
    rank = np.full(len(block.cases), ranking.MISS, np.int32)
    rank[row] = ranking.target_ranks(block.scores, block.cases.case_id, block.catalogue, row, column[row], seed)
    rank[row[block.scores[row, column[row]] == -np.inf]] = ranking.MISS  # no opinion: not in the list either
    return rank


def _columns(catalogue: np.ndarray, video_idx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The position of each video in the sorted catalogue, and whether it is there at all."""
    column = np.searchsorted(catalogue, video_idx).clip(max=len(catalogue) - 1)
    return column, catalogue[column] == video_idx


def write(
    model: Scorer,
    name: str,
    exam: Exam,
    lists: Path,
    marks: Path,
    parts: Sequence[str] = cases_module.QUESTIONS,
) -> None:
    """Answer the cases of `parts`: the table `lists` (case_id, video_idx, score, rank) and the table `marks` of
    target ranks (case_id, video_idx, rank; MISS where the target lies outside the catalogue)."""
    with engine.Writer(lists) as list_writer, engine.Writer(marks) as mark_writer:
        for part in parts:
            for block in blocks(model, exam, part, f"{name} answers {part}"):
                case_id, scores = block.cases.case_id, block.scores
                asked = block.target > 0
                if asked.any():
                    columns = {"case_id": case_id, "video_idx": block.target, "rank": ranks(block, exam.seed)}
                    mark_writer.add({key: column[asked] for key, column in columns.items()})
                scores[np.isnan(scores)] = -np.inf
                row, column, rank = ranking.top_k(scores, case_id, block.catalogue, LIST_SIZE, exam.seed)
                list_writer.add({
                    "case_id": case_id[row],
                    "video_idx": block.catalogue[column],
                    "score": scores[row, column],
                    "rank": rank,
                })  # fmt: skip


def forget_others(root: Path, names: Collection[str]) -> None:
    """Delete what models left that are not among `names`: DVC takes the folders of lists and ranks as they are."""
    for folder in ("data/models", "data/lists", "data/ranks", "plots/curves"):
        for path in sorted((root / folder).glob("*")):
            if path.name.split(".")[0] not in names:
                files.remove(path)


def rerank(model: Scorer, name: str, exam: Exam, candidates: Path, lists: Path, marks: Path) -> None:
    """Order each case's candidates by the model's score; write the same two tables as `write`, for the whole system.

    A target that is not among its case's candidates is a MISS.
    """
    size = max(1, _BLOCK // (LIST_SIZE * 64))  # the model may hold an embedding for each candidate
    with engine.Writer(lists) as list_writer, engine.Writer(marks) as mark_writer:
        for start in track(range(0, len(exam.cases), size), f"{name} ranks the candidates"):
            rows = slice(start, start + size)
            cases, target = exam.cases.where(rows), exam.target[rows]
            pool = engine.load(candidates, [("case_id", ">=", cases.case_id[0]), ("case_id", "<=", cases.case_id[-1])])
            row = np.searchsorted(cases.case_id, pool["case_id"])
            place = pool["rank"] - 1
            video_idx = np.zeros((len(cases), int(place.max(initial=0)) + 1), np.int32)  # [B, C], 0 = padding
            video_idx[row, place] = pool["video_idx"]
            score = model.score(cases, cases.histories(exam.events), video_idx)[row, place]
            # Where the model has no opinion the pool's own order stands.
            tie = ranking.tie_hash(pool["case_id"], pool["video_idx"], exam.seed)
            tie = np.where(score == -np.inf, pool["rank"].astype(np.uint64), tie)
            _row, entry, rank = ranking.order(row, np.arange(len(row)), score, tie, len(row))
            ranked = {"case_id": pool["case_id"][entry], "video_idx": pool["video_idx"][entry]}
            ranked |= {"score": score[entry], "rank": rank}
            list_writer.add(ranked)
            asked = target > 0
            mark = ranking.listed_rank(ranked, cases.case_id, target)
            mark_writer.add({"case_id": cases.case_id[asked], "video_idx": target[asked], "rank": mark[asked]})


def recommend(con: engine.Connection, data: Path, n_recommendations: int) -> None:
    """data/recommendations.parquet: user_id, video_id, score, rank of every user at the end of the log."""
    ranked, cases, users, videos = (
        engine.read(con, data / name)
        for name in (
            "two_stage/lists.parquet",
            "cases.parquet",
            "tables/users.parquet",
            "tables/videos.parquet",
        )
    )
    table = (
        ranked.filter(_.rank <= n_recommendations)
        .join(cases.filter(_.part == "next").select("case_id", "user_idx"), "case_id")
        .join(users.select("user_idx", "user_id"), "user_idx")
        .join(videos.select("video_idx", "video_id"), "video_idx")
        .select("user_id", "video_id", "score", "rank")
    )
    engine.write(con, table, data / "recommendations.parquet", ["user_id", "rank"])
