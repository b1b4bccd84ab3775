"""Histories as packed tokens, one after the other without padding, and what is asked after them.

A history is a start token and its events in order. Training asks for each event after the token before it:

    tokens    start  a  b  c          inputs   start  a  b
                                      targets    a    b  c

A start token opens every history, so that an empty one can be asked too. Positives are targets of weight 1, other
events of a smaller weight or none; where nobody knows, none. An event that shares its time with the token before it is
no target, since rows of a user with one time do not see each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextreel.cases.store import Histories, Store

VIDEO = "video"  # the column of token rows; the others are event columns, by their names
UNKNOWN, START = 0, 1  # token rows: a video that train does not know; the start of a history
FIRST = 2  # row of the first known video
NOTHING = 0  # row of any other column: at the start, or a value that train does not know


class Batch(NamedTuple):
    """B histories, or windows of them, T tokens in all."""

    columns: dict[str, Tensor]  # [T] int64 each: rows of embedding tables
    offsets: Tensor  # [B + 1] int64: history b is the tokens offsets[b] to offsets[b + 1], never none

    @property
    def length(self) -> Tensor:
        """Tokens of each history [B]."""
        return self.offsets.diff()

    @property
    def place(self) -> Tensor:
        """The place of each token in its history [T], from 0."""
        start = self.offsets[:-1].repeat_interleave(self.length)
        return torch.arange(len(start), device=start.device) - start

    @property
    def last(self) -> Tensor:
        """The position of each history's last token [B]."""
        return self.offsets[1:] - 1


class Targets(NamedTuple):
    """M videos asked for."""

    at: Tensor  # [M] int64: the token after which each is asked
    video: Tensor  # [M] int64 token rows


class Example(NamedTuple):
    """What a step learns from. What came of the targets stands apart from them: no score is made from it."""

    batch: Batch
    targets: Targets
    weight: Tensor  # [M] float32


def pad(x: Tensor, batch: Batch) -> Tensor:
    """[T, D] -> [B, L, D] with zeros behind shorter histories, for what has no kernel for packed ones."""
    B, L = len(batch.length), int(batch.length.max())
    if len(x) == B * L:
        return x.unflatten(0, (B, L))
    return x.new_zeros(B * L, x.shape[1]).index_copy(0, _padded_place(batch, L), x).unflatten(0, (B, L))


def unpad(x: Tensor, batch: Batch) -> Tensor:
    """[B, L, D] -> [T, D], the inverse of `pad`."""
    flat = x.flatten(0, 1)
    return flat if len(flat) == int(batch.offsets[-1]) else flat.index_select(0, _padded_place(batch, x.shape[1]))


def _padded_place(batch: Batch, length: int) -> Tensor:
    """Where each token [T] stands among B histories of this length."""
    history = torch.arange(len(batch.length), device=batch.offsets.device).repeat_interleave(batch.length)
    return history * length + batch.place


@dataclass(frozen=True)
class Tokens:
    """Histories as one flat run of tokens; history i is start[i] to stop[i], its start token included."""

    columns: Mapping[str, np.ndarray]  # [T] rows each
    weight: np.ndarray  # [T] float32 as a target; 0 = none
    start: np.ndarray  # [n]
    stop: np.ndarray  # [n]

    @classmethod
    def of(
        cls,
        histories: Histories,
        row_of: np.ndarray,
        inputs: Mapping[str, int],
        only_positives: bool,
        passed_weight: float = 0.0,
    ) -> "Tokens":
        """row_of: video_idx -> token row. inputs: columns of the events -> how many values of each are known."""
        position, owner = histories.positives() if only_positives else histories.flat()
        length = np.bincount(owner, minlength=len(histories)) + 1
        stop = length.cumsum()
        start = stop - length
        place = np.arange(len(owner)) + owner + 1  # one start token before each history
        store = histories.store
        video = np.full(stop[-1] if len(stop) else 0, START, np.int32)
        video[place] = row_of[store.events("video_idx")[position]]
        columns = {VIDEO: video}
        for name, n_known in inputs.items():
            value = store.events(name)[position].astype(np.int32)
            columns[name] = np.full(len(video), NOTHING, np.int32)
            columns[name][place] = np.where(value < n_known, value + 1, NOTHING)
        time_ms = store.events("time_ms")[position]
        later = np.ones(len(owner), bool)
        later[1:] = (np.diff(owner) != 0) | (np.diff(time_ms) > 0)
        positive = store.events("positive")[position]
        weight = np.zeros(len(video), np.float32)
        worth = np.where(positive == 1, 1.0, np.where(positive == 0, passed_weight, 0.0))
        weight[place] = worth * (later & (video[place] >= FIRST))
        return cls(columns, weight, start, stop)

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

    def epoch(self, length: int, batch_size: int, rng: np.random.Generator) -> Iterator[Example]:
        """What an epoch learns from, in random order."""
        first, end = self.windows(length, rng)
        shuffled = rng.permutation(len(first))
        for rows in np.array_split(shuffled, max(1, round(len(first) / batch_size))):
            if len(rows):
                yield self.example(first[rows], end[rows])

    def n_batches(self, length: int, batch_size: int) -> int:
        """About how many batches: a random cut makes 1 + (n - 1) / length windows of n inputs, on average."""
        n_inputs = np.maximum(self.stop - self.start - 1, 0)
        n_windows = np.where(n_inputs > length, 1 + (n_inputs - 1) / length, n_inputs > 0)
        return max(1, round(n_windows.sum() / batch_size))

    def example(self, first: np.ndarray, end: np.ndarray) -> Example:
        """Windows of inputs [B], each of at least one token, with the targets after them."""
        token, batch = self._packed(first, end)
        following = self.weight[token + 1]
        at = np.flatnonzero(following > 0)
        video = self.columns[VIDEO][token[at] + 1].astype(np.int64)
        return Example(batch, Targets(torch.from_numpy(at), torch.from_numpy(video)), torch.from_numpy(following[at]))

    def last(self, length: int) -> Batch:
        """Each history's last tokens, at most `length`."""
        return self._packed(np.maximum(self.start, self.stop - length), self.stop)[1]

    def _packed(self, first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, Batch]:
        """Stretches of tokens: the position of each token [T], and the batch of them."""
        offsets = np.concatenate([[0], (end - first).cumsum()])
        token = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], np.diff(offsets))
        columns = {name: torch.from_numpy(rows[token].astype(np.int64)) for name, rows in self.columns.items()}
        return token, Batch(columns, torch.from_numpy(offsets))


def known_values(store: Store, position: np.ndarray, inputs: Sequence[str]) -> dict[str, int]:
    """How many values of each column the events at these positions show: 0 to the largest."""
    shown = {name: store.events(name)[position] for name in inputs}
    return {name: int(value.max()) + 1 if len(value) else 0 for name, value in shown.items()}
