"""The ranker orders the pool: what the two-stage system answers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nextreel import arrays
from nextreel.cases.protocols import QUESTIONS
from nextreel.models import Scorer
from nextreel.params import PositiveInt, Section
from nextreel.progress import track
from nextreel.scoring import order
from nextreel.scoring.predict import mark, pair_scores, seeded
from nextreel.scoring.sets import Exam

_CASES_AT_A_TIME = 512  # in the ranker, which may hold an embedding for each candidate


class Params(Section):
    """The section `rank`."""

    model: str  # the ranker: one of the models under `recall` or `train`
    n_recommendations: PositiveInt  # a user, in data/recommendations.parquet


def rerank(scorers: Mapping[str, Scorer], name: str, exam: Exam, candidates: Path, lists: Path, marks: Path) -> None:
    """Order each case's candidates by score; write the same lists and ranks as `examine`, for the whole system.

    A target that is not among its case's candidates is a MISS. Where the model has no opinion the pool's own order
    stands.
    """
    with arrays.Writer(lists) as list_writer, arrays.Writer(marks) as mark_writer:
        for part in QUESTIONS:
            asked = exam.of(part)
            for start in track(range(0, len(asked.cases), _CASES_AT_A_TIME), f"{name} ranks the pools of {part}"):
                some = asked.where(slice(start, start + _CASES_AT_A_TIME))
                ids = some.cases.case_id
                pool = arrays.load(candidates, [("case_id", ">=", ids[0]), ("case_id", "<=", ids[-1])])
                row = np.searchsorted(ids, pool["case_id"])
                score = pair_scores(scorers[part], some.cases, exam.events, row, pool["video_idx"])
                tie = some.tie(pool["case_id"], pool["video_idx"])
                tie = np.where(score == -np.inf, pool["rank"].astype(np.uint64), tie)
                _row, entry, rank = order.order(row, np.arange(len(row)), score, tie, len(row))
                ranked = {"case_id": pool["case_id"][entry], "video_idx": pool["video_idx"][entry]}
                ranked |= {"score": score[entry], "rank": rank}
                list_writer.add(seeded(exam.seed, ranked))
                if part != "next":
                    mark(mark_writer, exam.seed, some, order.listed_rank(ranked, ids, some.target))
