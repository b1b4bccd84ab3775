"""The ranker orders the pool: what the two-stage system answers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nextreel import arrays
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Store
from nextreel.contract import Scorer
from nextreel.params import Name, PositiveInt, Section
from nextreel.parts import QUESTIONS, answering
from nextreel.progress import track
from nextreel.scoring import order
from nextreel.scoring.answers import Retrieved, write_answers
from nextreel.scoring.sets import EvalSet

_CASES_AT_A_TIME = 512


class Params(Section):
    """The section `rank`."""

    model: Name  # the ranker: one of the models under `recall` or `train`
    n_recommendations: PositiveInt  # a user, in data/recommendations.parquet


def rerank(
    fitted: Mapping[str, Scorer], name: str, store: Store, asked: EvalSet, candidates: Path, system: Path
) -> None:
    """Order each case's candidates by the score of the ranker, by the cut it was fitted on; write lists.parquet and
    ranks.parquet of the whole system into the folder `system`, as `predict` does for a model.

    A target that is not among its case's candidates is a MISS. Where the model has no opinion the pool's own order
    stands.
    """
    with arrays.Writer(system / "lists.parquet") as lists, arrays.Writer(system / "ranks.parquet") as ranks:
        for part in QUESTIONS:
            mine = asked.of(part)
            for start in track(range(0, len(mine.cases), _CASES_AT_A_TIME), f"{name} ranks the pools of {part}"):
                some = mine.where(slice(start, start + _CASES_AT_A_TIME))
                ids = some.cases.case_id
                pool = arrays.load(candidates, [("case_id", ">=", ids[0]), ("case_id", "<=", ids[-1])])
                row = np.searchsorted(ids, pool["case_id"])
                score = answering(part, fitted).score(Pairs.at_cases(store, some.cases, row, pool["video_idx"]))
                tie = some.tie_at(row, pool["video_idx"])
                tie = np.where(score == -np.inf, pool["rank"].astype(np.uint64), tie)
                by, rank = order.order(row, score, tie.__getitem__, len(row))
                listed = {"case_id": pool["case_id"][by], "video_idx": pool["video_idx"][by]}
                listed |= {"score": score[by], "rank": rank}
                target_rank = order.listed_rank(listed, ids, some.target)
                write_answers(Retrieved(some, target_rank, listed), part, asked.seed, lists, ranks)
