"""Histories as batches of token rows.

A history is a start token and its events in order. Training predicts each event from the tokens before it:

    tokens    start  a  b  c          inputs   start  a  b
                                      targets    a    b  c

Positives are targets of weight 1, other events of a smaller weight or none. An event that shares its time with the
token before it is no target, since rows of a user with one time do not see each other. Padding stands at the end, where
causal attention never looks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextreel.cases.store import Histories

UNKNOWN, START = 0, 1  # token rows: padding or a video that train does not know; the start of a history
FIRST = 2  # row of the first known video
NO_REACTION, PASSED, LIKED = 0, 1, 2
N_REACTIONS = 3


class Batch(NamedTuple):
    """B windows of L tokens."""

    video: Tensor  # [B, L] int64 token rows
    reaction: Tensor  # [B, L] int64, what the user did with each
    target: Tensor  # [B, L] int64 token row to predict at each place; UNKNOWN = none
    weight: Tensor  # [B, L] float32 of each target


@dataclass(frozen=True)
class Tokens:
    """Histories as one flat run of tokens; history i is start[i] to stop[i], its start token included."""

    video: np.ndarray  # [T] int32 token rows
    reaction: np.ndarray  # [T] int8
    weight: np.ndarray  # [T] float32 as a target; 0 = none
    start: np.ndarray  # [n]
    stop: np.ndarray  # [n]

    @classmethod
    def of(cls, histories: Histories, row_of: np.ndarray, only_positives: bool, passed_weight: float = 0.0) -> "Tokens":
        """row_of maps video_idx to token rows."""
        position, owner = histories.positives() if only_positives else histories.flat()
        length = np.bincount(owner, minlength=len(histories)) + 1
        stop = length.cumsum()
        start = stop - length
        place = np.arange(len(owner)) + owner + 1  # one start token before each history
        store = histories.store
        video = np.full(stop[-1] if len(stop) else 0, START, np.int32)
        video[place] = row_of[store.events("video_idx")[position]]
        positive = store.events("positive")[position]
        reaction = np.full(len(video), NO_REACTION, np.int8)
        reaction[place] = np.where(positive, LIKED, PASSED)
        time_ms = store.events("time_ms")[position]
        later = np.ones(len(owner), bool)
        later[1:] = (np.diff(owner) != 0) | (np.diff(time_ms) > 0)
        weight = np.zeros(len(video), np.float32)
        weight[place] = np.where(positive, 1.0, passed_weight) * (later & (video[place] >= FIRST))
        return cls(video, reaction, weight, start, stop)

    def windows(self, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """First input and end of inputs [W] of windows that cover every history once, those without a target left out.

        Histories longer than a window are cut at a random place, so that epochs differ.
        """
        n_inputs = np.maximum(self.stop - self.start - 1, 0)
        shift = np.where(n_inputs > length, rng.integers(0, length, len(n_inputs)), 0)
        n_windows = -(-(n_inputs + shift) // length)
        owner = np.repeat(np.arange(len(n_inputs)), n_windows)
        number = np.arange(len(owner)) - np.repeat(n_windows.cumsum() - n_windows, n_windows)
        begin = self.start[owner] - shift[owner] + number * length
        first = np.maximum(begin, self.start[owner])
        end = np.minimum(begin + length, self.start[owner] + n_inputs[owner])
        targets_before = np.concatenate([[0], (self.weight > 0).cumsum()])
        has_target = targets_before[end + 1] > targets_before[first + 1]
        return first[has_target], end[has_target]

    def epoch(self, length: int, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Training batches in random order."""
        first, end = self.windows(length, rng)
        shuffled = rng.permutation(len(first))
        for rows in np.array_split(shuffled, max(1, round(len(first) / batch_size))):
            if len(rows):
                yield self._batch(first[rows], end[rows], length)

    def n_batches(self, length: int, batch_size: int) -> int:
        """About how many batches: a random cut makes 1 + (n - 1) / length windows of n inputs, on average."""
        n_inputs = np.maximum(self.stop - self.start - 1, 0)
        n_windows = np.where(n_inputs > length, 1 + (n_inputs - 1) / length, n_inputs > 0)
        return max(1, round(n_windows.sum() / batch_size))

    def last(self, length: int) -> tuple[Batch, Tensor]:
        """Each history's last tokens, and the place [n] of the last of them: the input to what comes next."""
        first = np.maximum(self.start, self.stop - length)
        return self._batch(first, self.stop, length), torch.from_numpy(self.stop - first - 1)

    def _batch(self, first: np.ndarray, end: np.ndarray, length: int) -> Batch:
        width = min(length, int((end - first).max(initial=1)))
        at = first[:, None] + np.arange(width)
        inside = at < end[:, None]
        at = np.where(inside, at, 0)
        following = np.minimum(at + 1, len(self.video) - 1)
        weight = np.where(inside, self.weight[following], np.float32(0))
        return Batch(
            torch.from_numpy(np.where(inside, self.video[at], UNKNOWN).astype(np.int64)),
            torch.from_numpy(np.where(inside, self.reaction[at], NO_REACTION).astype(np.int64)),
            torch.from_numpy(np.where(weight > 0, self.video[following], UNKNOWN).astype(np.int64)),
            torch.from_numpy(weight),
        )
