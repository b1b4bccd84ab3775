"""SASRec4SV: one sequence model of which video is shown next, and of what comes of a video once shown.

After the student model of that name (2023), which gave SASRec two heads on the watch-time ratio. The states of SASRec
are trained on the next video as ever, and, by `weights`, on outcomes: heads over the state before a showing, the video
(a row of ids, dropped at random in training, and content) and wide inputs, see `nn.outcomes` and `nn.wide`.

It answers two questions. Lists are by the next item's products, as SASRec's. The score of a pair is the log-odds that
the video is a positive, given that it is shown: what the ranking stage and tables on impressions ask. Every video has
one; what came of the showing itself is in no input.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import UNKNOWN, Histories, Store
from nextreel.contract import Scale
from nextreel.nn import device, one_pass, outcomes, recommender, self_attention
from nextreel.nn.batch import Batch, Beside, Example, Requests
from nextreel.nn.outcomes import OUTCOMES, Outcomes
from nextreel.nn.vocabulary import Vocabulary
from nextreel.nn.wide import COLUMNS, Wide

_PAIRS = 1 << 16  # scored at a time


class Params(self_attention.Params, outcomes.Params):
    @model_validator(mode="after")
    def _learns_from_what_was_passed_over(self) -> Self:
        if self.history != "all":
            raise ValueError(f"`history` is {self.history!r}; what came of events is learnt from all; choose all")
        if not self.passed_weight:
            raise ValueError("`passed_weight` is 0, which leaves the heads nothing but positives; choose more")
        return self


class Model(recommender.Recommender):
    scale: ClassVar[Scale] = "log_odds"
    Encoder = self_attention.Encoder
    Params = Params
    params: Any

    def __init__(self, params: Any, vocabulary: Vocabulary, wide: Wide) -> None:
        super().__init__(params, vocabulary)
        self.wide = wide
        self.outcomes = Outcomes(params, params.width, wide.n_inputs, params.dropout)
        self.network.add_module("outcomes", self.outcomes)

    @classmethod
    def columns(cls, params: Any) -> tuple[str, ...]:
        told = {f"events/{OUTCOMES[name].column}" for name in params.weights.outcomes}
        return tuple(sorted({*super().columns(params), *COLUMNS, *told}))

    @classmethod
    def _begun(cls, params: Any, vocabulary: Vocabulary, histories: Histories) -> tuple[Self, Beside | None]:
        wide, of_events = Wide.fit(histories)
        position, _owner = histories.flat()
        told = {OUTCOMES[name].column for name in params.weights.outcomes}
        labels = {name: histories.store.events(name)[position].astype(np.float32) for name in sorted(told)}
        labels["positive"][labels["positive"] == UNKNOWN] = np.nan
        return cls(params, vocabulary, wide), Beside(of_events, labels)

    def loss(self, example: Example, rng: np.random.Generator) -> Tensor:
        assert example.wide is not None
        assert example.labels is not None
        states = self.network.states(example.batch, example.requests)
        next_item = self.next_item_loss(states, example, rng)
        found = self._predicted(self._shown(states, example.requests), example.video, example.wide)
        total: Tensor = self.params.weights.next_item * next_item + self.outcomes.loss(found, example.labels)
        return total

    def _shown(self, states: Tensor, requests: Requests) -> Tensor:
        """States [M, D] as of requests that say nothing of whether a positive is asked for."""
        return self.network.asked(states, requests._replace(liked=torch.zeros_like(requests.liked)))

    def _predicted(self, shown: Tensor, video: Tensor, wide: Tensor) -> Tensor:
        """What each head says [M, heads] of videos [M]."""
        found: Tensor = self.outcomes(shown, self.items.of_videos(video)[:, : self.params.width], wide)
        return found

    @torch.no_grad()
    def predictions(self, pairs: Pairs) -> np.ndarray:
        """What each head says, float32 [m, heads], in order of `params.weights.outcomes`."""
        self.network.eval()
        cases, which = pairs.asked()
        states = [torch.zeros(0, self.params.width)]
        for _block, batch, requests in self._asked_blocks(cases, cases.histories(pairs.store)):
            states.append(self._shown(self.network.states(batch, requests), requests).cpu())
        return self._judged(pairs, torch.cat(states), which, self.wide.of_pairs)

    def score(self, pairs: Pairs) -> np.ndarray:
        return self._positive(self.predictions(pairs))

    @torch.no_grad()
    def running_score(self, pairs: Pairs) -> np.ndarray:
        self.network.eval()
        cases, which = pairs.asked()
        shown = torch.zeros(len(cases), self.params.width)
        for some, batch, requests in self._running_blocks(cases, pairs.store):
            shown[some] = self._shown(self.network.states(batch, requests), requests).cpu()
        return self._positive(self._judged(pairs, shown, which, self.wide.running))

    def _running_blocks(self, cases: Cases, store: Store) -> Iterator[tuple[np.ndarray, Batch, Requests]]:
        """Positions of some of the cases and what they are read from: one pass where that can be, see `one_pass`, else
        each its own history."""
        next_event = one_pass.at_next_event(cases, store)
        together, alone = np.flatnonzero(next_event), np.flatnonzero(~next_event)
        rows, length = self.vocabulary.rows, self.params.length
        for some, batch, requests in one_pass.blocks(cases.where(together), store, rows, length):
            yield together[some], *device.moved((batch, requests), self.device)
        others = cases.where(alone)
        for block, batch, requests in self._asked_blocks(others, others.histories(store)):
            yield alone[block], batch, requests

    def _judged(
        self, pairs: Pairs, shown: Tensor, which: np.ndarray, wide_of: Callable[[Pairs], np.ndarray]
    ) -> np.ndarray:
        """What each head says [m, heads] of pairs. shown [n, D]: states as asked; which [m]: each pair's."""
        found = [torch.zeros(0, len(self.outcomes.names))]
        for start in range(0, len(pairs), _PAIRS):
            some = slice(start, start + _PAIRS)
            mine = pairs.where(some)
            parts = shown[torch.from_numpy(which[some])], torch.from_numpy(mine.video_idx.astype(np.int64))
            wide = torch.from_numpy(wide_of(mine))
            found.append(self._predicted(*(part.to(self.device) for part in (*parts, wide))).cpu())
        return torch.cat(found).numpy()

    def _positive(self, predictions: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(predictions[:, self.outcomes.names.index("positive")])

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.wide.save(folder / "wide")

    @classmethod
    def _empty(cls, params: Any, vocabulary: Vocabulary, folder: Path) -> Self:
        return cls(params, vocabulary, Wide.load(folder / "wide"))
