"""What was answered: lists, the ranks of the targets and scores of what was shown, as every system writes them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from nextreel import arrays
from nextreel.metrics.ranks import MISS
from nextreel.scoring import order
from nextreel.scoring.sets import EvalSet

LIST_SIZE = 500


class Retrieved(NamedTuple):
    """Of B cases."""

    asked: EvalSet
    target_rank: np.ndarray  # [B], MISS where the list would never come to it
    listed: dict[str, np.ndarray]  # case_id, video_idx, score, rank


def ranked(
    asked: EvalSet, catalogue: np.ndarray, row: np.ndarray, column: np.ndarray, score: np.ndarray, k: int
) -> Retrieved:
    """From the scores of entries [m] of the cases [B] by the catalogue [N]: all that may be among the first k, or ahead
    of the target. A target that is no entry is a miss."""
    by, rank = order.order(row, score, lambda at: asked.tie_at(row[at], catalogue[column[at]]), len(catalogue))
    row, video_idx = row[by], catalogue[column[by]]
    target_rank = np.full(len(asked.cases), MISS, np.int32)
    found = np.flatnonzero(video_idx == asked.target[row])
    target_rank[row[found]] = rank[found]
    first = rank <= k
    listed = {"case_id": asked.cases.case_id[row], "video_idx": video_idx, "score": score[by], "rank": rank}
    return Retrieved(asked, target_rank, {name: values[first] for name, values in listed.items()})


def columns_of(catalogue: np.ndarray, video_idx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The position of each video in the sorted catalogue, and whether it is there at all."""
    if not len(catalogue):
        return np.zeros(len(video_idx), np.int64), np.zeros(len(video_idx), bool)
    column = np.searchsorted(catalogue, video_idx).clip(max=len(catalogue) - 1)
    return column, catalogue[column] == video_idx


def write_answers(found: Retrieved, part: str, seed: int, lists: arrays.Writer, ranks: arrays.Writer) -> None:
    """Add the lists of some cases and, where they have targets, the ranks of these."""
    lists.add(_seeded(seed, found.listed))
    if part != "next":
        asked = {"case_id": found.asked.cases.case_id, "video_idx": found.asked.target, "rank": found.target_rank}
        ranks.add(_seeded(seed, asked))


def score_columns(seed: int, impression: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    """The columns of data/scores; no opinion is null there."""
    nullable = pa.array(score, mask=score == -np.inf)
    return {"seed": np.full(len(impression), seed, np.int64), "impression": impression, "score": nullable}


def _seeded(seed: int, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"seed": np.full(len(columns["case_id"]), seed, np.int64), **columns}
