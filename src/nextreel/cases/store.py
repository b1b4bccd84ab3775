"""Every user's events as flat arrays, and the stretches of them that a model may see.

Stored once as .npy files and memory-mapped. All arrays follow the order (user, time, file order).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from nextreel.files import replacing


@dataclass(frozen=True)
class Events:
    """The standard events of all users. User u's are the positions offsets[u] to offsets[u + 1]."""

    offsets: np.ndarray  # [n_users + 2] int64; user_idx 0 is padding and has none
    train_start: np.ndarray  # [n_users + 1] int64: position where each user's train events begin
    train_end: np.ndarray  # [n_users + 1] int64: position where they end, and those of valid begin
    valid_end: np.ndarray  # [n_users + 1] int64
    video_idx: np.ndarray  # [E] int32
    time_ms: np.ndarray  # [E] int64
    positive: np.ndarray  # [E] bool

    def save(self, folder: Path) -> None:
        with replacing(folder) as temporary:
            temporary.mkdir()
            for name in self.__dataclass_fields__:
                np.save(temporary / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(**{
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in cls.__dataclass_fields__
        })  # fmt: skip

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 2

    def train(self) -> "Histories":
        """Each user's events in train, for `fit`."""
        return Histories(self, self.train_start, self.train_end)

    def train_valid(self) -> "Histories":
        """Each user's events in train and valid, for fitting again before test."""
        return Histories(self, self.train_start, self.valid_end)

    def until(self, user_idx: np.ndarray, history_end: np.ndarray) -> "Histories":
        """The first `history_end` [n] events of each user [n]."""
        start = self.offsets[user_idx]
        return Histories(self, start, start + history_end)


@dataclass(frozen=True)
class Histories:
    """n stretches of events: history i is the positions start[i] to stop[i]. Nothing may read beyond them."""

    events: Events
    start: np.ndarray  # [n]
    stop: np.ndarray  # [n]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def length(self) -> np.ndarray:
        return np.asarray(self.stop - self.start)

    def part(self, which: slice | np.ndarray) -> "Histories":
        """Some of the histories."""
        return Histories(self.events, self.start[which], self.stop[which])

    def flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions [m] of all events, history after history, and the history [m] each belongs to."""
        length = self.length
        owner = np.repeat(np.arange(len(self)), length)
        before = np.repeat(self.start - (length.cumsum() - length), length)
        return before + np.arange(len(owner)), owner

    def positives(self) -> tuple[np.ndarray, np.ndarray]:
        """Like `flat`, the positive events only."""
        position, owner = self.flat()
        keep = np.asarray(self.events.positive[position])
        return position[keep], owner[keep]
