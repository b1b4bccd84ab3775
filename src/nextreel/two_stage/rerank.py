"""The blend orders the pool: what the two-stage system answers, to cases and to what was shown."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nextreel import arrays, files
from nextreel.cases.pairs import Pairs
from nextreel.parts import QUESTIONS
from nextreel.progress import track
from nextreel.scoring import order
from nextreel.scoring.answers import Retrieved, score_columns, write_answers
from nextreel.scoring.sets import EvalSet, ShownPairs
from nextreel.two_stage.blend import Blend, PairsOf, Terms

_CASES_AT_A_TIME = 512


class Pool(NamedTuple):
    """The candidates [m] of some cases."""

    asked: EvalSet
    place: slice  # of the cases among those of the part
    row: np.ndarray  # [m] of the case
    video_idx: np.ndarray  # [m]
    tie: np.ndarray  # [m] uint64: the pool's own order stands where scores are equal

    @property
    def pairs(self) -> PairsOf:
        return lambda store: Pairs.at_cases(store, self.asked.cases, self.row, self.video_idx)


def pools(candidates: Path, asked: EvalSet, part: str, doing: str) -> Iterator[Pool]:
    """The pools of a part's cases, some at a time."""
    asked = asked.of(part)
    for start in track(range(0, len(asked.cases), _CASES_AT_A_TIME), doing):
        place = slice(start, start + _CASES_AT_A_TIME)
        some = asked.where(place)
        ids = some.cases.case_id
        within: list[tuple[str, str, object]] = [("case_id", ">=", ids[0]), ("case_id", "<=", ids[-1])]
        pool = arrays.load(candidates, within, ["case_id", "video_idx", "rank"])
        row = np.searchsorted(ids, pool["case_id"])
        yield Pool(some, place, row, pool["video_idx"], pool["rank"].astype(np.uint64))


def rerank(blend: Blend, weight: float, asked: EvalSet, candidates: Path, system: Path) -> None:
    """Order each case's candidates; write lists.parquet and ranks.parquet of the whole system into the folder `system`,
    as `predict` does for a model. A target that is not among its case's candidates is a MISS."""
    with arrays.Writer(system / "lists.parquet") as lists, arrays.Writer(system / "ranks.parquet") as ranks:
        for part in QUESTIONS:
            reference = blend.references(part, asked)
            for pool in pools(candidates, asked, part, f"ranking the pools of {part}"):
                some, ids = pool.asked, pool.asked.cases.case_id
                score = blend.terms(part, pool.pairs, pool.row, reference[pool.place]).score(weight)
                by, rank = order.order(pool.row, score, pool.tie.__getitem__, len(score))
                listed = {"case_id": ids[pool.row[by]], "video_idx": pool.video_idx[by]}
                listed |= {"score": score[by], "rank": rank}
                target_rank = order.listed_rank(listed, ids, some.target)
                write_answers(Retrieved(some, target_rank, listed), part, asked.seed, lists, ranks)


def shown_terms(blend: Blend, part: str, shown: ShownPairs, asked: EvalSet) -> tuple[np.ndarray, Terms]:
    """Which impressions [m] are of the part's cases, and their terms."""
    mine = shown.cases.part == part
    reference = np.full(len(mine), np.nan)
    reference[mine] = blend.references(part, shown.asked(asked))
    at = np.flatnonzero(mine[shown.row])
    return at, blend.terms(part, lambda store: shown.pairs(store).where(at), shown.row[at], reference)


def score_shown(blend: Blend, weight: float, shown: ShownPairs, asked: EvalSet, systems: Path) -> None:
    """Write scores.parquet, of every row of impressions.parquet, into folders below `systems`: `two_stage`; and where
    trees stand beside the ranker `trees`, the log-odds of the trees alone, and `ranker`, the mean of both without
    exposure. Else these two are empty."""
    beside = len(blend.rankers) > 1
    with ExitStack() as stack:
        folders = {"two_stage": systems / "two_stage"}
        for name in ("trees", "ranker"):
            folders[name] = stack.enter_context(files.replacing(systems / name))
            folders[name].mkdir(parents=True)
        names = folders if beside else ["two_stage"]
        tables = {name: stack.enter_context(arrays.Writer(folders[name] / "scores.parquet")) for name in names}
        for part in ("valid", "test"):
            at, terms = shown_terms(blend, part, shown, asked)
            found = {"two_stage": terms.score(weight), "trees": terms.log_odds[-1], "ranker": terms.score(0.0)}
            for name, table in tables.items():
                table.add(score_columns(asked.seed, at, found[name].astype(np.float32)))
