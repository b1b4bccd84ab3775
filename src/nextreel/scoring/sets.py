"""Cases put to a model: its scores over the catalogue, with seen videos left out, and the rank of each target; or of
the videos really shown.

The model never sees the targets or what came of an impression; targets are only looked up in its scores.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from nextreel import arrays
from nextreel.cases.protocols import Cases, Catalogue
from nextreel.cases.store import Events
from nextreel.models import Bounded, Factored, Scorer
from nextreel.progress import track
from nextreel.scoring import order

_BLOCK = 1 << 24  # scores held at a time: 64 MB
_TRIED = 4  # times as many scores as the list is long, the highest bounds first, tell how low a bound may be
_CASES = 1024  # whose targets are ranked together by products


@dataclass(frozen=True)
class Exam:
    """Cases of the protocol `next_item`, and what is needed to put them to a model and to mark its answers."""

    cases: Cases
    user_id: np.ndarray  # [n] of each case: with the raw ids ties fall the same way whatever else the log holds
    events: Events
    catalogue: Catalogue
    target: np.ndarray  # [n] video_idx of each case's target, 0 where it has none
    seed: int  # of the ties

    @classmethod
    def load(cls, data: Path, seed: int) -> "Exam":
        """Read what `label` wrote."""
        cases, user_id = _load_cases(data, [("protocol", "=", "next_item")])
        targets = arrays.load(data / "targets.parquet")
        target = np.zeros(len(cases), np.int32)
        target[np.searchsorted(cases.case_id, targets["case_id"])] = targets["video_idx"]
        return cls(cases, user_id, Events.load(data / "sequences"), Catalogue.load(data), target, seed)

    def where(self, keep: np.ndarray | slice) -> "Exam":
        """Some of the cases, by mask, positions or slice."""
        return replace(self, cases=self.cases.where(keep), user_id=self.user_id[keep], target=self.target[keep])

    def of(self, part: str) -> "Exam":
        """The cases of one part."""
        return self.where(self.cases.part == part)

    @cached_property
    def _case_key(self) -> np.ndarray:
        return order.case_key(self.user_id, self.cases.time_ms, self.seed)

    def tie(self, case_id: np.ndarray, video_idx: np.ndarray) -> np.ndarray:
        """What breaks the ties of (case, video) entries [m]: a pseudo-random uint64 each; the smaller goes first."""
        return self.tie_at(np.searchsorted(self.cases.case_id, case_id), video_idx)

    def tie_at(self, row: np.ndarray, video_idx: np.ndarray) -> np.ndarray:
        """`tie` of the cases at these positions."""
        return order.tie_hash(self._case_key[row], self.catalogue.video_id[video_idx])


def _load_cases(data: Path, where: list[tuple[str, str, object]]) -> tuple[Cases, np.ndarray]:
    """Some of the cases that `label` wrote, and the user_id of each."""
    columns = arrays.load(data / "cases.parquet", where)
    user_id = columns.pop("user_id")
    del columns["protocol"]
    return Cases(**columns | {"part": columns["part"].astype(str)}), user_id


@dataclass(frozen=True)
class Shown:
    """What users were really shown: cases of the protocols `impressions` and `random`, and the videos of each."""

    cases: Cases  # in order of case_id
    user_id: np.ndarray  # [n]
    events: Events
    case_id: np.ndarray  # [m] of each (case, video) once, in order
    video_idx: np.ndarray  # [m]

    @classmethod
    def load(cls, data: Path) -> "Shown":
        """Read what `label` wrote, outcomes apart."""
        cases, user_id = _load_cases(data, [("protocol", "in", ["impressions", "random"])])
        shown = arrays.load(data / "impressions.parquet", columns=["case_id", "video_idx"])
        pair = np.unique(shown["case_id"].astype(np.int64) << 32 | shown["video_idx"])
        return cls(cases, user_id, Events.load(data / "sequences"), pair >> 32, (pair & (2**32 - 1)).astype(np.int32))


@dataclass(frozen=True)
class Block:
    """Some of a part's cases with their scores over its catalogue."""

    exam: Exam  # B cases
    catalogue: np.ndarray  # [N] video_idx, in order
    scores: np.ndarray  # [B, N] float32; -inf where seen or without an opinion

    def tie(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """What breaks the ties of entries [m] of the scores."""
        return self.exam.tie_at(row, self.catalogue[column])

    def target_ranks(self) -> np.ndarray:
        """The rank [B] of each case's target, MISS where the list would never come to it: outside the catalogue, or
        the model has no opinion."""
        column, listed = _columns(self.catalogue, self.exam.target)
        row = np.flatnonzero(listed)
        row = row[self.scores[row, column[row]] > -np.inf]
        rank = np.full(len(self.scores), order.MISS, np.int32)
        rank[row] = order.target_ranks(self.scores, row, column[row], self.tie)
        return rank

    def top_k(self, k: int) -> dict[str, np.ndarray]:
        """The first k of each case's list: case_id, video_idx, score, rank."""
        row, column, rank = order.top_k(self.scores, k, self.tie)
        video_idx = self.catalogue[column]
        return {
            "case_id": self.exam.cases.case_id[row],
            "video_idx": video_idx,
            "score": self.scores[row, column],
            "rank": rank,
        }


def blocks(model: Scorer, exam: Exam, part: str, doing: str, k: int = 0) -> Iterator[Block]:
    """Score a part's cases over its catalogue, block by block: all that the ranks of the targets and the first k hang
    on; where scores have bounds, the rest is -inf."""
    asked, catalogue = exam.of(part), exam.catalogue.of(part)
    size = max(1, _BLOCK // max(len(catalogue), 1))
    for start in track(range(0, len(asked.cases), size), doing):
        some = asked.where(slice(start, start + size))
        histories = some.cases.histories(exam.events)
        ask = model.bounds if isinstance(model, Bounded) else model.score
        scores = ask(some.cases, histories, catalogue)
        if np.isnan(scores.max(initial=-np.inf)):
            raise ValueError(f"{doing}: the model scores NaN")
        position, owner = histories.flat()
        column, listed = _columns(catalogue, exam.events.video_idx[position])
        scores[owner[listed], column[listed]] = -np.inf
        block = Block(some, catalogue, scores)
        if isinstance(model, Bounded):
            _settle(model, block, k)
        yield block


def _settle(model: Bounded, block: Block, k: int) -> None:
    """Put scores in the place of the bounds that may reach the target or the first k, and -inf in that of the rest."""
    target, listed = _columns(block.catalogue, block.exam.target)
    for row, bounds in enumerate(block.scores):
        case = block.exam.where(slice(row, row + 1))
        histories = case.cases.histories(case.events)
        tried = np.append(order.highest(bounds, _TRIED * k), target[row : row + 1][listed[row : row + 1]])
        found = model.score(case.cases, histories, block.catalogue[tried])[0]
        best = np.sort(found[: len(found) - listed[row]])[::-1][:k]
        floor = min(best[-1] if len(best) else np.inf, found[-1] if listed[row] else np.inf)
        reaching = np.flatnonzero((bounds >= floor) & (bounds > -np.inf))
        scores = model.score(case.cases, histories, block.catalogue[reaching])[0]
        bounds[:] = -np.inf
        bounds[reaching] = scores


def target_ranks(model: Scorer, exam: Exam, part: str, doing: str) -> np.ndarray:
    """The rank [n] of the target of each of a part's cases, see `Block.target_ranks`. Where scores are products, they
    are counted and not kept; near ones may then round otherwise than in a block."""
    if not isinstance(model, Factored):
        return np.concatenate([block.target_ranks() for block in blocks(model, exam, part, doing)])
    asked, catalogue = exam.of(part), exam.catalogue.of(part)
    column, listed = _columns(catalogue, asked.target)
    rank = np.full(len(asked.cases), order.MISS, np.int32)
    ranked = np.flatnonzero(listed)
    for start in track(range(0, len(ranked), _CASES), doing):
        rows = ranked[start : start + _CASES]
        some = asked.where(rows)
        rank[rows] = _product_ranks(model, some, catalogue, column[rows])
    return rank


def _product_ranks(model: Factored, exam: Exam, catalogue: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rank [B] of each case's target, a column of the catalogue [N]."""
    histories = exam.cases.histories(exam.events)
    position, owner = histories.flat()
    column, listed = _columns(catalogue, exam.events.video_idx[position])
    return order.product_ranks(
        model.queries(exam.cases, histories),
        lambda columns: model.vectors(catalogue[columns]),
        len(catalogue),
        target,
        (owner[listed], column[listed]),
        lambda row, columns: exam.tie_at(row, catalogue[columns]),
    )


def _columns(catalogue: np.ndarray, video_idx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The position of each video in the sorted catalogue, and whether it is there at all."""
    column = np.searchsorted(catalogue, video_idx).clip(max=len(catalogue) - 1)
    return column, catalogue[column] == video_idx
