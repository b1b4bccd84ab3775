"""Videos to be scored for cases, an entry each: pools, impressions, tests of a single video."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from nextreel.cases.asked import Cases
from nextreel.cases.store import Store


@dataclass(frozen=True)
class Pairs:
    """m entries. A video shown twice is two of them; a frozen and a running history differ in `history_end` alone."""

    store: Store
    cases: Cases  # [B]
    row: np.ndarray  # [m] of the case
    video_idx: np.ndarray  # [m] int32
    history_end: np.ndarray  # [m] how many of the user's events may be read
    time_ms: np.ndarray  # [m] when it is shown
    tab: np.ndarray  # [m] where, NO_TAB if unknown

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def at_cases(cls, store: Store, cases: Cases, row: np.ndarray, video_idx: np.ndarray) -> Self:
        """Videos shown at the moment and place of their case."""
        return cls(store, cases, row, video_idx, cases.history_end[row], cases.time_ms[row], cases.tab[row])

    def where(self, keep: np.ndarray | slice) -> "Pairs":
        """Some of the entries, by mask, positions or slice; the cases stay."""
        flat = {field.name: getattr(self, field.name)[keep] for field in fields(self)[2:]}
        return Pairs(self.store, self.cases, **flat)

    def asked(self) -> tuple[Cases, np.ndarray]:
        """The distinct (case, history) as cases [n], and which of them [m] each entry has: a history is read once."""
        new = np.ones(len(self), bool)  # entries mostly lie together by case
        new[1:] = (np.diff(self.row) != 0) | (np.diff(self.history_end) != 0)
        first = np.flatnonzero(new)
        return self.cases.where(self.row[first]).until(self.history_end[first]), new.cumsum() - 1


def product(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The products [m] of pairs of rows, both [m, D]. The same bytes for a pair wherever it stands."""
    return np.asarray(np.einsum("md,md->m", np.ascontiguousarray(queries), np.ascontiguousarray(vectors)))
