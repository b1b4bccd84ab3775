"""Histories as packed tokens, one after the other without padding, and what is asked after them.

A history is a start token and its events in order. Training asks for each event after the last token of an earlier
time, since rows of a user with one time do not see each other; mostly it is the token before it:

    tokens    start  a  b  c          inputs   start  a  b
                                      targets    a    b  c

A start token opens every history, so that an empty one can be asked too. Positives are targets of weight 1, other
events of a smaller weight or none; where nobody knows, none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextreel.cases.store import UNKNOWN, Histories
from nextreel.nn import inputs
from nextreel.nn.inputs import Events
from nextreel.nn.profile import Ledger
from nextreel.nn.vocabulary import NOTHING, Rows

VIDEO = "video"  # the column of video_idx; the others are rows of tables, by their names
START = 0  # the video of a start token


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


class Requests(NamedTuple):
    """M moments at which a video is asked for, with what is known then."""

    at: Tensor  # [M] int64: the token after which each is asked
    time_ms: np.ndarray  # [M]
    columns: dict[str, Tensor]  # [M] int64 each: rows of tables
    profile: Tensor | None  # [M, 2 n_tags] float32, see `profile`
    liked: Tensor  # [M] float32: 1, a video is asked for that will be a positive; 0, one that will be passed over


class Example(NamedTuple):
    """What a step learns from. What came of the targets stands apart from them: no score is made from it."""

    batch: Batch
    requests: Requests
    video: Tensor  # [M] int64: the video_idx that each request was answered by
    weight: Tensor  # [M] float32
    wide: Tensor | None = None  # [M, K] float32, what else is known of each showing beforehand, see `wide`
    labels: dict[str, Tensor] | None = None  # [M] float32 each: what came of it, NaN where nobody knows


class Beside(NamedTuple):
    """What examples hold beside tokens, of E events in order of `Histories.flat`."""

    wide: np.ndarray  # [E, K] float32
    labels: Mapping[str, np.ndarray]  # [E] float32 each


@dataclass(frozen=True)
class Tokens:
    """Histories as one flat run of tokens; history i is start[i] to stop[i], its start token included."""

    columns: Mapping[str, np.ndarray]  # [T] rows each, and VIDEO
    time_ms: np.ndarray  # [T], NEVER_MS at the start
    positive: np.ndarray  # [T] int8, UNKNOWN at the start
    tab: np.ndarray | None  # [T], UNKNOWN at the start; None: no request says it
    start: np.ndarray  # [n]
    stop: np.ndarray  # [n]

    @classmethod
    def of(cls, histories: Histories, rows: Rows, only_positives: bool, asked_ms: np.ndarray) -> "Tokens":
        """asked_ms [n]: when each history is asked for a video, NEVER_MS if nobody asks."""
        position, owner = histories.positives() if only_positives else histories.flat()
        length = np.bincount(owner, minlength=len(histories)) + 1  # one start token before each history
        stop = length.cumsum()
        place, store = np.arange(len(owner)) + owner + 1, histories.store

        def placed(values: np.ndarray, at_start: int) -> np.ndarray:
            tokens = np.full(len(owner) + len(histories), at_start, values.dtype)
            tokens[place] = values
            return tokens

        columns = {VIDEO: placed(store.events("video_idx")[position], START)}
        of_events = rows.of_events(Events.of(histories, position, owner, asked_ms))
        columns |= {name: placed(row, NOTHING) for name, row in of_events.items()}
        time_ms = placed(store.events("time_ms")[position], inputs.NEVER_MS)
        positive = placed(store.events("positive")[position].astype(np.int8), UNKNOWN)
        tab = placed(store.events("tab")[position], UNKNOWN) if "tab" in rows.request else None
        return cls(columns, time_ms, positive, tab, stop - length, stop)

    @property
    def last_ms(self) -> np.ndarray:
        """When each history ends [n], NEVER_MS if it has no event."""
        return self.time_ms[self.stop - 1]

    def last(self, length: int) -> Batch:
        """Each history's last tokens, at most `length`."""
        return packed(self.columns, np.maximum(self.start, self.stop - length), self.stop)[1]


def packed(columns: Mapping[str, np.ndarray], first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, Batch]:
    """Stretches of tokens: the position of each token [T], and the batch of them."""
    offsets = np.concatenate([[0], (end - first).cumsum()])
    token = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], np.diff(offsets))
    taken = {name: torch.from_numpy(rows[token].astype(np.int64)) for name, rows in columns.items()}
    return token, Batch(taken, torch.from_numpy(offsets))


class Lessons:
    """What training draws its examples from: tokens, and each of them as a target of some weight."""

    def __init__(
        self,
        histories: Histories,
        rows: Rows,
        only_positives: bool,
        passed_weight: float,
        beside: Beside | None = None,
    ) -> None:
        """passed_weight: of a target that is no positive. beside: where all events are tokens."""
        self.rows, self.beside = rows, beside
        self.tokens = Tokens.of(histories, rows, only_positives, np.full(len(histories), inputs.NEVER_MS))
        positive, time_ms, start = self.tokens.positive, self.tokens.time_ms, self.tokens.start
        self.weight = np.where(positive == 1, 1.0, np.where(positive == 0, passed_weight, 0.0)).astype(np.float32)
        later = np.ones(len(time_ms), bool)  # than the token before it
        later[1:] = np.diff(time_ms) != 0
        later[start] = True
        # [T] after which token each is asked as a target
        self.at = np.maximum.accumulate(np.where(later, np.arange(len(time_ms)) - 1, -1))
        self.begins = np.repeat(start, self.tokens.stop - start)  # [T] the start token of each one's history
        self.ledger = Ledger(rows.profile, self.tokens.columns[VIDEO], positive) if rows.profile else None

    def windows(self, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """First input and end of inputs [W] of windows that cover every history once, those without a target left out.

        Histories longer than a window are cut at a random place, so that epochs differ.
        """
        start, stop = self.tokens.start, self.tokens.stop
        n_inputs = np.maximum(stop - start - 1, 0)
        shift = np.where(n_inputs > length, rng.integers(0, length, len(n_inputs)), 0)
        n_windows = -(-(n_inputs + shift) // length)
        owner = np.repeat(np.arange(len(n_inputs)), n_windows)
        number = np.arange(len(owner)) - np.repeat(n_windows.cumsum() - n_windows, n_windows)
        begin = start[owner] - shift[owner] + number * length
        first = np.maximum(begin, start[owner])
        end = np.minimum(begin + length, start[owner] + n_inputs[owner])
        targets_before = np.concatenate([[0], (self.weight > 0).cumsum()])
        has_target = targets_before[end + 1] > targets_before[first + 1]
        return first[has_target], end[has_target]

    def epoch(self, length: int, batch_size: int, rng: np.random.Generator) -> Iterator[Example]:
        """What an epoch learns from, in random order."""
        first, end = self.windows(length, rng)
        shuffled = rng.permutation(len(first))
        for some in np.array_split(shuffled, max(1, round(len(first) / batch_size))):
            if len(some):
                some = some[np.argsort((end - first)[some], kind="stable")]  # `padding` has little to do
                example = self.example(first[some], end[some])
                if len(example.video):
                    yield example

    def n_batches(self, length: int, batch_size: int) -> int:
        """About how many batches: a random cut makes 1 + (n - 1) / length windows of n inputs, on average."""
        n_inputs = np.maximum(self.tokens.stop - self.tokens.start - 1, 0)
        n_windows = np.where(n_inputs > length, 1 + (n_inputs - 1) / length, n_inputs > 0)
        return max(1, round(n_windows.sum() / batch_size))

    def n_targets(self, video_idx: np.ndarray) -> np.ndarray:
        """How often each of these videos [V] is a target."""
        return np.bincount(self.tokens.columns[VIDEO][self.weight > 0], minlength=1 + int(video_idx.max()))[video_idx]

    def example(self, first: np.ndarray, end: np.ndarray) -> Example:
        """Windows of inputs [B], each of at least one token, with the targets after them. A target that was asked
        before its window begins, as it shares its time with the window's first, is left to another epoch."""
        token, batch = packed(self.tokens.columns, first, end)
        length = np.diff(batch.offsets.numpy())
        window = np.repeat(np.arange(len(first)), length)
        asked = np.flatnonzero((self.weight[token + 1] > 0) & (self.at[token + 1] >= first[window]))
        target, at = token[asked] + 1, self.at[token[asked] + 1]
        within = at - token[asked] + asked  # among the tokens of the batch
        tokens = self.tokens
        tab = tokens.tab[target] if tokens.tab is not None else None
        columns = self.rows.of_requests(tokens.time_ms[at], tokens.time_ms[target], tab)
        profile = None
        if self.ledger:
            found = self.ledger.profiles(self.begins[first], first, end, within)
            profile = torch.from_numpy(found)
        liked = torch.from_numpy((tokens.positive[target] == 1).astype(np.float32))
        requests = Requests(torch.from_numpy(within), tokens.time_ms[target], tensors(columns), profile, liked)
        video = self.tokens.columns[VIDEO][target].astype(np.int64)
        wide, labels = None, None
        if self.beside is not None:
            event = target - np.searchsorted(tokens.start, target, side="right")  # a start token before each history
            wide = torch.from_numpy(self.beside.wide[event])
            labels = {name: torch.from_numpy(values[event]) for name, values in self.beside.labels.items()}
        weight = torch.from_numpy(self.weight[target])
        return Example(batch, requests, torch.from_numpy(video), weight, wide, labels)


def tensors(columns: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(rows.astype(np.int64)) for name, rows in columns.items()}
