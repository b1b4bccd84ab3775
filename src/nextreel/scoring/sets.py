"""What is asked of models: the cases of the next video, with their targets apart; the videos really shown.

The model never sees the targets or what came of an impression; targets are only looked up among its scores.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from nextreel import arrays
from nextreel.cases.asked import Cases, Catalogue
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Store, n_before
from nextreel.scoring import order

MOST_ROWS = 1 << 20


@dataclass(frozen=True)
class EvalSet:
    """Cases of the protocol `next_item`, and what is needed to rank their targets."""

    cases: Cases
    user_key: np.ndarray  # [n] of each case: made of the raw id, so that ties fall alike whatever else the log holds
    catalogue: Catalogue
    target: np.ndarray  # [n] video_idx of each case's target, 0 where it has none
    seed: int  # of the ties

    @classmethod
    def load(cls, data: Path, seed: int) -> "EvalSet":
        """Read what `label` wrote."""
        cases, user_key = _load_cases(data, [("protocol", "=", "next_item")])
        targets = arrays.load(data / "targets.parquet")
        target = np.zeros(len(cases), np.int32)
        target[np.searchsorted(cases.case_id, targets["case_id"])] = targets["video_idx"]
        return cls(cases, user_key, Catalogue.load(data), target, seed)

    def where(self, keep: np.ndarray | slice) -> "EvalSet":
        """Some of the cases, by mask, positions or slice."""
        return replace(self, cases=self.cases.where(keep), user_key=self.user_key[keep], target=self.target[keep])

    def of(self, part: str) -> "EvalSet":
        """The cases of one part."""
        return self.where(self.cases.part == part)

    @cached_property
    def _case_key(self) -> np.ndarray:
        return order.case_key(self.user_key, self.cases.time_ms, self.seed)

    def tie(self, case_id: np.ndarray, video_idx: np.ndarray) -> np.ndarray:
        """What breaks the ties of (case, video) entries [m]: a pseudo-random uint64 each; the smaller goes first."""
        return self.tie_at(np.searchsorted(self.cases.case_id, case_id), video_idx)

    def tie_at(self, row: np.ndarray, video_idx: np.ndarray) -> np.ndarray:
        """`tie` of the cases at these positions."""
        return order.tie_hash(self._case_key[row], self.catalogue.video_key[video_idx])


def _load_cases(data: Path, where: list[tuple[str, str, object]]) -> tuple[Cases, np.ndarray]:
    """Some of the cases that `label` wrote, and the user_key of each."""
    names = [field.name for field in fields(Cases)]
    columns = arrays.load(data / "cases.parquet", where, ["user_key", *names])
    user_key = columns.pop("user_key")
    return Cases(**columns | {"part": columns["part"].astype(str)}), user_key


@dataclass(frozen=True)
class ShownPairs:
    """What users were really shown: cases of the protocols `impressions` and `random`, and the rows of
    data/impressions.parquet, in its order."""

    cases: Cases  # [n], in order of case_id
    user_key: np.ndarray  # [n]
    row: np.ndarray  # [m] position of each impression's case
    video_idx: np.ndarray  # [m]
    time_ms: np.ndarray  # [m]
    tab: np.ndarray  # [m]

    @classmethod
    def load(cls, data: Path) -> "ShownPairs":
        """Read what `label` wrote, outcomes apart."""
        cases, user_key = _load_cases(data, [("protocol", "in", ["impressions", "random"])])
        shown = arrays.load(data / "impressions.parquet", columns=["case_id", "video_idx", "time_ms", "tab"])
        row = np.searchsorted(cases.case_id, shown.pop("case_id"))
        return cls(cases, user_key, row, **shown)

    def first(self, at: np.ndarray) -> np.ndarray:
        """Which of some impressions [m] are enough to choose by: whole cases from the first on, of at most MOST_ROWS
        rows together, the first one in any case."""
        n_rows = np.bincount(self.row[at], minlength=len(self.cases)).cumsum()[self.row[at]]
        of_first = int(n_rows.min()) if len(n_rows) else 0
        return np.asarray(n_rows <= max(MOST_ROWS, of_first))

    def asked(self, like: EvalSet) -> EvalSet:
        """The cases as if they were asked for the next video, without targets; catalogue and seed of another set."""
        return replace(like, cases=self.cases, user_key=self.user_key, target=np.zeros(len(self.cases), np.int32))

    def pairs(self, store: Store) -> Pairs:
        """An entry an impression; histories are frozen at their case."""
        return Pairs(
            store, self.cases, self.row, self.video_idx, self.cases.history_end[self.row], self.time_ms, self.tab
        )

    def as_of(self, store: Store) -> Pairs:
        """An entry an impression, each a case of its own: asked when and where it was shown, after all of the user's
        events strictly before. The store holds `events/time_ms`."""
        part, user_idx = self.cases.part[self.row], self.cases.user_idx[self.row]
        history_end = n_before(store.events("time_ms"), store.offsets, user_idx, self.time_ms)
        impression = np.arange(len(self.row))
        cases = Cases(impression, part, user_idx, self.time_ms, self.tab, history_end)
        return Pairs.at_cases(store, cases, impression, self.video_idx)
