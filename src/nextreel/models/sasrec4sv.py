"""SASRec4SV: one sequence model of which video is shown next, and of what comes of a video once shown.

After the student model of that name (2023), which gave SASRec two heads on the watch-time ratio. The states of SASRec
are trained on the next video as ever, and, by `weights`, on outcomes: heads over the state before a showing, the video
(a row of ids, dropped at random in training, and content) and wide inputs, see `nn.outcomes` and `nn.wide`.

It answers two questions. Lists are by the next item's products, as SASRec's. The score of a pair is the log-odds that
the video is a positive, given that it is shown: what the ranking stage and tables on impressions ask. Every video has
one; what came of the showing itself is in no input.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import model_validator
from scipy.special import log_expit, logit
from torch import Tensor

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import UNKNOWN, Histories, Store
from nextreel.contract import Scale
from nextreel.nn import device, one_pass, outcomes, recommender, self_attention, trainer
from nextreel.nn.batch import Batch, Beside, Example, Requests
from nextreel.nn.heads import NEXT_ITEM
from nextreel.nn.outcomes import (
    BIN,
    CHOICES,
    GAIN,
    OUTCOMES,
    PAIRWISE,
    POSITIVE,
    RELEVANT,
    RELEVANT_GAIN,
    WATCH_TIME,
    Outcomes,
    measures,
    pairwise,
)
from nextreel.nn.vocabulary import Vocabulary
from nextreel.nn.watch_time import Quantiles
from nextreel.nn.wide import COLUMNS, Wide

PLAY_TIME = "play_time_ms"
READ_OFF = ("positive", "wtr", "wtg")  # what is expected of it follows from the bin of watch time
_PAIRS = 1 << 16  # scored at a time
_LEAST = 1e-6  # share, of which log-odds are taken


class Params(self_attention.Params, outcomes.Params):
    @model_validator(mode="after")
    def _learns_from_what_was_passed_over(self) -> Self:
        if self.history != "all":
            raise ValueError(f"`history` is {self.history!r}; what came of events is learnt from all; choose all")
        if not self.passed_weight:
            raise ValueError("`passed_weight` is 0, which leaves the heads nothing but positives; choose more")
        return self


class Model(recommender.Recommender):
    scale: Scale = "log_odds"
    Encoder = self_attention.Encoder
    Params = Params
    params: Any

    def __init__(self, params: Any, vocabulary: Vocabulary, wide: Wide | None, quantiles: Quantiles | None) -> None:
        """quantiles: of the head `watch_time`, None without one."""
        super().__init__(params, vocabulary)
        self.wide, self.quantiles = wide, quantiles
        self.outcomes = Outcomes(params, params.width, wide.n_inputs if wide else 0, params.dropout)
        self.network.add_module("outcomes", self.outcomes)
        self.scale = _scale(params)

    @classmethod
    def columns(cls, params: Any) -> tuple[str, ...]:
        told = {f"events/{name}" for name in _told(params)}
        duration = {"videos/duration_ms"} if params.weights.watch_time else set()
        counted = COLUMNS if params.wide else ()
        return tuple(sorted({*super().columns(params), *counted, *told, *duration}))

    @classmethod
    def loss_weights(cls, params: Any) -> dict[str, float]:
        return dict(params.weights.of_losses)

    @classmethod
    def choice(cls, params: outcomes.Params) -> trainer.Choice:
        return CHOICES[params.chosen_by]

    @classmethod
    def _begun(cls, params: Any, vocabulary: Vocabulary, histories: Histories) -> tuple[Self, Beside | None]:
        store, (position, _owner) = histories.store, histories.flat()
        wide, of_events = Wide.fit(histories) if params.wide else (None, _nothing(len(position)))
        told = {name: store.events(name)[position] for name in _told(params)}
        duration_ms = _durations(store, store.events("video_idx")[position])
        quantiles = _quantiles(duration_ms, told) if params.weights.watch_time else None
        model = cls(params, vocabulary, wide, quantiles)
        return model, Beside(of_events, model._labels(told, duration_ms))

    def _labels(self, told: Mapping[str, np.ndarray], duration_ms: np.ndarray) -> dict[str, np.ndarray]:
        """What the heads are held to, by column, float32 [m] each, NaN where nobody knows; of showings [m] of which is
        told what came of them, by column of the store's events."""
        columns = {OUTCOMES[name].column for name in self.outcomes.names}
        labels = {name: _known(told[name]).astype(np.float32) for name in sorted(columns - {BIN})}
        if self.quantiles is not None:
            labels[BIN] = self.quantiles.bin_of(duration_ms, told[PLAY_TIME])
        return labels

    def losses(self, example: Example, rng: np.random.Generator) -> dict[str, Tensor]:
        assert example.wide is not None
        assert example.labels is not None
        states, weights = self.network.states(example.batch, example.requests), self.params.weights
        losses = {NEXT_ITEM: self.next_item_loss(states, example, rng)} if weights.next_item else {}
        found = self._predicted(self._shown(states, example.requests), example.video, example.wide)
        losses |= self.outcomes.losses(found, example.labels)
        if weights.pairwise:
            history = torch.searchsorted(example.batch.offsets, example.requests.at, right=True)
            losses[PAIRWISE] = pairwise(found[POSITIVE][:, 0], example.labels["positive"], history)
        return losses

    def _shown(self, states: Tensor, requests: Requests) -> Tensor:
        """States [M, D] as of requests that say nothing of whether a positive is asked for."""
        return self.network.asked(states, requests._replace(liked=torch.zeros_like(requests.liked)))

    def _predicted(self, shown: Tensor, video: Tensor, wide: Tensor) -> dict[str, Tensor]:
        """What each head says [M, n] of videos [M]."""
        vector = self.items.of_videos(video, dropout=self.outcomes.id_dropout)[:, : self.params.width]
        return self.outcomes(shown, vector, wide)

    @torch.no_grad()
    def _said(self, pairs: Pairs) -> dict[str, Tensor]:
        """What each head says [m, n]."""
        self.network.eval()
        cases, which = pairs.asked()
        states = [torch.zeros(0, self.params.width)]
        for _block, batch, requests in self._asked_blocks(cases, cases.histories(pairs.store)):
            states.append(self._shown(self.network.states(batch, requests), requests).cpu())
        return self._of_states(pairs, torch.cat(states), which, Wide.of_pairs)

    @torch.no_grad()
    def _said_running(self, pairs: Pairs) -> dict[str, Tensor]:
        """`_said` as far as one pass over each user's longest history can tell, see `one_pass`."""
        self.network.eval()
        cases, which = pairs.asked()
        shown = torch.zeros(len(cases), self.params.width)
        for some, batch, requests in self._running_blocks(cases, pairs.store):
            shown[some] = self._shown(self.network.states(batch, requests), requests).cpu()
        return self._of_states(pairs, shown, which, Wide.running)

    def _running_blocks(self, cases: Cases, store: Store) -> Iterator[tuple[np.ndarray, Batch, Requests]]:
        """Positions of some of the cases and what they are read from: one pass where that can be, else each its own
        history."""
        next_event = one_pass.at_next_event(cases, store)
        together, alone = np.flatnonzero(next_event), np.flatnonzero(~next_event)
        rows, length = self.vocabulary.rows, self.params.length
        for some, batch, requests in one_pass.blocks(cases.where(together), store, rows, length):
            yield together[some], *device.moved((batch, requests), self.device)
        others = cases.where(alone)
        for block, batch, requests in self._asked_blocks(others, others.histories(store)):
            yield alone[block], batch, requests

    def _of_states(
        self, pairs: Pairs, shown: Tensor, which: np.ndarray, inputs: Callable[[Wide, Pairs], np.ndarray]
    ) -> dict[str, Tensor]:
        """What each head says [m, n] of pairs. shown [n, D]: states as asked; which [m]: each pair's."""
        found = []
        for start in range(0, max(len(pairs), 1), _PAIRS):
            some = slice(start, start + _PAIRS)
            mine = pairs.where(some)
            parts = shown[torch.from_numpy(which[some])], torch.from_numpy(mine.video_idx.astype(np.int64))
            wide = torch.from_numpy(inputs(self.wide, mine) if self.wide else _nothing(len(mine)))
            said = self._predicted(*(part.to(self.device) for part in (*parts, wide)))
            found.append({name: part.cpu() for name, part in said.items()})
        return {name: torch.cat([each[name] for each in found]) for name in self.outcomes.names}

    def predictions(self, pairs: Pairs) -> dict[str, np.ndarray]:
        """What each head says, see `nn.outcomes`; of the bins of watch time what is read off them: the median
        `watch_time_ms`, and after `watch_time_` what is expected of wtr and wtg, and how likely are complete and
        positive."""
        return self._by_name(self._said(pairs), pairs)

    def _by_name(self, said: Mapping[str, Tensor], pairs: Pairs) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for name, numbers in said.items():
            if name == WATCH_TIME:
                found |= self._read_off(numbers, pairs)
            else:
                found[name] = numbers[:, 0].numpy()
        return found

    def _read_off(self, said: Tensor, pairs: Pairs) -> dict[str, np.ndarray]:
        assert self.quantiles is not None
        duration_ms = _durations(pairs.store, pairs.video_idx)
        share = torch.softmax(said.double(), dim=1).numpy()
        found = {f"{WATCH_TIME}_ms": self.quantiles.median_ms(duration_ms, share)}
        found |= {
            f"{WATCH_TIME}_{name}": self.quantiles.expected(name, duration_ms, share) for name in self.quantiles.means
        }
        return {name: values.astype(np.float32) for name, values in found.items()}

    def judged(self, pairs: Pairs, told: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
        """Loss and measures of each head on pairs [m] of which is told what came of them, by column of the store's
        events [m]; NaN where nobody knows, and of a head where nobody knows anything."""
        labels, judged = self._labels(told, _durations(pairs.store, pairs.video_idx)), {}
        for name, said in self._said(pairs).items():
            value = torch.from_numpy(labels[OUTCOMES[name].column])
            known = ~value.isnan()
            said, value = said[known].double(), value[known].double()
            loss = OUTCOMES[name].loss(said, value).mean()
            judged[name] = {"loss": loss.item()} | measures(name, said, value)
        return judged

    def score(self, pairs: Pairs) -> np.ndarray:
        return self.read(self.predictions(pairs))

    def running_score(self, pairs: Pairs) -> np.ndarray:
        return self.read(self._by_name(self._said_running(pairs), pairs))

    def read(self, said: Mapping[str, np.ndarray]) -> np.ndarray:
        """The score [m] that `params.score` asks for, float32, from what `predictions` says."""
        return _score(self.params, said)

    def save(self, folder: Path) -> None:
        super().save(folder)
        if self.wide is not None:
            self.wide.save(folder / "wide")
        if self.quantiles is not None:
            self.quantiles.save(folder / WATCH_TIME)

    @classmethod
    def _empty(cls, params: Any, vocabulary: Vocabulary, folder: Path) -> Self:
        quantiles = Quantiles.load(folder / WATCH_TIME) if params.weights.watch_time else None
        return cls(params, vocabulary, Wide.load(folder / "wide") if params.wide else None, quantiles)


def _nothing(n: int) -> np.ndarray:
    """In place of wide inputs, where there are none [n, 0]."""
    return np.zeros((n, 0), np.float32)


def _scale(params: outcomes.Params) -> Scale:
    return "log_odds" if params.score in (POSITIVE, WATCH_TIME) else "log_share"


def _score(params: outcomes.Params, said: Mapping[str, np.ndarray]) -> np.ndarray:
    if params.score == WATCH_TIME:
        return logit(said[f"{WATCH_TIME}_positive"].clip(_LEAST, 1 - _LEAST)).astype(np.float32)
    if params.score == RELEVANT_GAIN:
        relevant, gain = (said[name].astype(float) for name in (RELEVANT, GAIN))
        return (log_expit(relevant) + np.log(np.logaddexp(0.0, gain))).astype(np.float32)
    return np.ascontiguousarray(said[params.score])


def _told(params: Any) -> list[str]:
    """The columns of the store's events that tell what came of them, as far as a fit asks."""
    columns = {OUTCOMES[name].column for name in params.weights.outcomes}
    return sorted(columns - {BIN} | {PLAY_TIME, *READ_OFF} if BIN in columns else columns)


def _known(values: np.ndarray) -> np.ndarray:
    """With NaN where an id is unknown."""
    return np.where(values == UNKNOWN, np.nan, values) if values.dtype.kind == "i" else values


def _durations(store: Store, video_idx: np.ndarray) -> np.ndarray:
    """Of the videos [m], float64, NaN where unknown."""
    if "duration_ms" not in store.tables["videos"]:
        return np.full(len(video_idx), np.nan)
    return np.asarray(store.tables["videos"]["duration_ms"], np.float64)[video_idx]


def _quantiles(duration_ms: np.ndarray, told: Mapping[str, np.ndarray]) -> Quantiles:
    means = {name: _known(told[name]) for name in READ_OFF}
    return Quantiles.fit(duration_ms, told[PLAY_TIME].astype(float), means)
