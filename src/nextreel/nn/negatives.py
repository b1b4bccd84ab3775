"""Which videos stand against a target in a sampled loss, and how often each is expected among them.

uniform     any known video, with the same probability
popularity  a known video in proportion to its events in the fit
in_batch    the targets of the other rows of the batch
mixed       one half, rounded up, uniform; the other in-batch (Yang et al., WWW 2020)
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Source = Literal["uniform", "popularity", "in_batch", "mixed"]
FROM_BATCH: tuple[Source, ...] = ("in_batch", "mixed")


class Negatives:
    """Draws from N known videos, 0 to N - 1. A target may be drawn for itself: whoever scores masks it."""

    def __init__(self, source: Source, n: int, events: np.ndarray, targets: np.ndarray) -> None:
        """n: negatives of each draw. events [N], targets [N]: how often each video is an event of the fit, at least
        once, and how often a target."""
        self._n_batch = {"in_batch": n, "mixed": n // 2}.get(source, 0)
        self._n_drawn = n - self._n_batch
        self._n_videos = len(events)
        self._events_to = events.cumsum() if source == "popularity" else None
        share = events / events.sum() if source == "popularity" else np.full(len(events), 1 / len(events))
        # Expected numbers of each video [N]: among those drawn, and in a row of a batch.
        self._drawn = torch.from_numpy((self._n_drawn * share).astype(np.float32))
        self._a_row = torch.from_numpy((targets / max(1, targets.sum())).astype(np.float32))

    def own(self, n_rows: int, rng: np.random.Generator) -> Tensor:
        """Videos [n_rows, n], each row's own. Not from the batch."""
        assert not self._n_batch
        return torch.from_numpy(self._draw((n_rows, self._n_drawn), rng))

    def shared(self, target: Tensor, rng: np.random.Generator) -> Tensor:
        """Videos [n] for all rows of a batch with these targets [M]; fewer where so many are to come from fewer rows.

        From the batch come the targets of rows drawn without replacement; the row itself counts for nothing, as a
        video that is its own target.
        """
        drawn = self._draw((self._n_drawn,), rng)
        rows = rng.choice(len(target), self._rows(len(target)), replace=False, shuffle=False)
        return torch.cat([torch.from_numpy(drawn).to(target.device), target[torch.from_numpy(rows).to(target.device)]])

    def log_expected(self, video: Tensor, n_rows: int) -> Tensor:
        """The log of how often each video is expected among the `shared` negatives of a row of M whose target is
        another one. It is log Q, of the mixture where there is one, and the log of how many are drawn."""
        self._drawn, self._a_row = self._drawn.to(video.device), self._a_row.to(video.device)
        others = self._rows(n_rows) * (n_rows - 1) / n_rows  # as many rows of the batch, its own left out
        return (self._drawn[video] + others * self._a_row[video]).log()

    def _rows(self, n_rows: int) -> int:
        return min(self._n_batch, n_rows)

    def _draw(self, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
        if self._events_to is None:
            return rng.integers(0, self._n_videos, shape)
        event = rng.integers(0, self._events_to[-1], shape)  # any event of the fit, then its video
        return np.searchsorted(self._events_to, event, side="right")
