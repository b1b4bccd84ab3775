"""What models are asked: users at a moment, and the catalogue that they choose from. `protocols` says which."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import numpy as np

from nextreel import arrays
from nextreel.cases.store import Histories, Store
from nextreel.parts import PARTS

NO_TAB = -1


@dataclass(frozen=True)
class Cases:
    """n cases [n] with what a model may know of each."""

    case_id: np.ndarray  # int64
    part: np.ndarray  # str: valid, test or next
    user_idx: np.ndarray  # int32
    time_ms: np.ndarray  # int64
    tab: np.ndarray  # int16, NO_TAB where unknown
    history_end: np.ndarray  # int64: how many of the user's events lie strictly before

    def __len__(self) -> int:
        return len(self.case_id)

    def columns(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def where(self, keep: np.ndarray | slice) -> "Cases":
        """Some of the cases, by mask, positions or slice."""
        return Cases(**{name: column[keep] for name, column in self.columns().items()})

    def until(self, history_end: np.ndarray) -> "Cases":
        """The same cases with histories of these lengths [n]."""
        return replace(self, history_end=history_end)

    def histories(self, store: Store) -> Histories:
        return store.until(self.user_idx, self.history_end)

    def longest(self, store: Store) -> tuple[Histories, np.ndarray]:
        """The longest history of each user asked, in order of user_idx, and which of them [n] each case's begins."""
        user_idx, which = np.unique(self.user_idx, return_inverse=True)
        history_end = np.zeros(len(user_idx), np.int64)
        np.maximum.at(history_end, which, self.history_end)
        return store.until(user_idx, history_end), which


@dataclass(frozen=True)
class Catalogue:
    """What may be recommended when, by video_idx [n_videos + 1]; 0 is padding."""

    first_part: np.ndarray  # int8: the earliest part with an event of the video, a position in PARTS; len(PARTS) = none
    video_key: np.ndarray  # see `columns.key`

    @classmethod
    def load(cls, data: Path) -> Self:
        """Read what `label` wrote, a row a video."""
        columns = arrays.load(data / "catalogue.parquet", columns=["first_part", "video_key"])
        first_part, video_key = np.insert(columns["first_part"], 0, len(PARTS)), np.insert(columns["video_key"], 0, 0)
        return cls(first_part, video_key)

    @property
    def n_videos(self) -> int:
        return len(self.first_part) - 1

    def of(self, part: str) -> np.ndarray:
        """The catalogue [N] of a part, in order of video_idx: videos with an event in an earlier one."""
        begins = len(PARTS) if part == "next" else PARTS.index(part)
        return np.flatnonzero(self.first_part < begins).astype(np.int32)
