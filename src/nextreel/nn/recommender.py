"""The recommender around a network: its vocabulary, its training on histories, its scores, its files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Histories
from nextreel.contract import Scale, Training, product_scores
from nextreel.errors import UserError
from nextreel.nn import device, trainer
from nextreel.nn.batch import FIRST, UNKNOWN, Batch, Example, Targets, Tokens, known_values
from nextreel.nn.features import TokenEmbedding
from nextreel.nn.heads import NextItem
from nextreel.params import Name, PositiveInt, Share

SOFTMAX_LIMIT = 50_000
_HISTORIES, _EVENTS = 1024, 1 << 20  # read together, at most


class NeuralParams(trainer.Params):
    """What all neural models share; the section `model`."""

    width: PositiveInt  # D, of embeddings and states
    length: PositiveInt  # L, tokens that a model looks back on
    dropout: Share
    seeds: PositiveInt  # how many times the model is trained: with `seed`, `seed` + 1, ...
    history: Literal["all", "positives"]  # which events are tokens
    inputs: list[Name]  # columns of the events that a token holds beside its video
    passed_weight: Share  # of a token that is no positive, as a target beside the positives; 0: it is none
    loss: Literal["bce", "bpr", "sampled_softmax", "softmax"]
    negatives: PositiveInt  # uniform ones: a target's own (bce, bpr) or a batch's (sampled_softmax); softmax takes all


class Recommender:
    """A `Model` whose network turns tokens into states: score = state at the last token . embedding of the video.

    A subclass names its `Network(n_rows, inputs, params)`: a torch Module with `tokens`, a TokenEmbedding, and
    `forward(batch) -> states [T, D]`. Videos that were no token of train have no embedding and get no opinion.
    """

    scale: ClassVar[Scale] = "log_share"
    Network: ClassVar[type[torch.nn.Module]]
    Params: ClassVar[type[NeuralParams]]

    def __init__(self, params: NeuralParams, known: np.ndarray, inputs: Mapping[str, int], n_videos: int) -> None:
        self.params = params
        self.known = known  # [V] video_idx with a row, in order; row FIRST + i is known[i]
        self.inputs = inputs  # columns of the events -> how many values of each have a row
        self.row_of = np.full(n_videos + 1, UNKNOWN, np.int32)  # video_idx -> token row
        self.row_of[known] = np.arange(FIRST, FIRST + len(known), dtype=np.int32)
        self.network = self.Network(FIRST + len(known), inputs, params)
        assert isinstance(self.network.tokens, TokenEmbedding)
        self.items = self.network.tokens.items  # tied: the same vectors are the input and the output
        self.head = NextItem(self.items, params.loss, params.negatives)

    @classmethod
    def columns(cls, params: NeuralParams) -> tuple[str, ...]:
        return tuple(sorted({"events/positive", "events/time_ms", *(f"events/{name}" for name in params.inputs)}))

    @classmethod
    def fit(cls, params: NeuralParams, training: Training) -> Self:
        """Train for as many epochs as the session finds best; the model's own `params` say how many.

        To fit again on more events, hand over those params and a session without a measure.
        """
        name = cls.__module__.rpartition(".")[2]  # a model's file names it
        # Users of later days must not change how many random numbers an epoch draws.
        histories, rng = training.histories, training.rng
        histories = histories.where(histories.length > 0)
        torch.manual_seed(int(rng.integers(2**31)))
        only_positives = params.history == "positives"
        position, _owner = histories.positives() if only_positives else histories.flat()
        known = np.unique(training.store.events("video_idx")[position])
        if params.loss == "softmax" and len(known) > SOFTMAX_LIMIT:
            raise UserError(
                f"`model.loss` is 'softmax', which scores all {len(known)} videos of train for every target; above"
                f" {SOFTMAX_LIMIT} choose sampled_softmax, bce or bpr"
            )
        model = cls(params, known, known_values(training.store, position, params.inputs), training.store.n_videos)
        tokens = Tokens.of(histories, model.row_of, model.inputs, only_positives, params.passed_weight)
        model.network.to(device.choose(params.device))
        optimizer = torch.optim.Adam(
            model.network.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True
        )
        task = trainer.Task(
            name,
            model.network,
            optimizer,
            epoch=lambda: tokens.epoch(params.length, params.batch_size, rng),
            n_batches=tokens.n_batches(params.length, params.batch_size),
            loss=lambda example: model.loss(device.moved(example, model.device), rng),
            n_targets=lambda example: len(example.weight),
            rng=rng,
        )
        epochs = trainer.train(task, params, training.session or trainer.Session(), model)
        model.params = params.model_copy(update={"epochs": epochs})
        return model

    @property
    def device(self) -> torch.device:
        return self.items.weight.device

    def loss(self, example: Example, rng: np.random.Generator) -> Tensor:
        """The mean loss of the targets, by weight."""
        losses = self.head.losses(self.network(example.batch), example.targets, rng)
        return (example.weight * losses).sum() / example.weight.sum()

    @torch.no_grad()
    def losses(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> np.ndarray:
        """The loss [n] that it is trained by, of the video [n] that each case with this history is to find; NaN where
        it does not know the video. Negatives, where there are any, are the same whenever it is asked."""
        self.network.eval()
        rng = np.random.default_rng(0)
        losses = np.full(len(cases), np.nan)
        for block in histories.blocks(_HISTORIES, _EVENTS):
            batch = device.moved(self._last(histories.where(block)), self.device)
            rows = self.row_of[video_idx[block]]
            known = np.flatnonzero(rows != UNKNOWN)
            targets = Targets(batch.last[known], torch.from_numpy(rows[known].astype(np.int64)).to(self.device))
            if len(known):
                losses[block.start + known] = self.head.losses(self.network(batch), targets, rng).cpu().numpy()
        return losses

    @torch.no_grad()
    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        self.network.eval()
        states = [torch.zeros(0, self.params.width)]
        for block in histories.blocks(_HISTORIES, _EVENTS):
            batch = device.moved(self._last(histories.where(block)), self.device)
            states.append(self.network(batch)[batch.last].cpu())
        return torch.cat(states).numpy()

    def _last(self, histories: Histories) -> Batch:
        """The last tokens of each history. Only the last events are looked at, where all are tokens."""
        only_positives = self.params.history == "positives"
        if not only_positives:
            start = np.maximum(histories.start, histories.stop - self.params.length)
            histories = Histories(histories.store, start, histories.stop)
        return Tokens.of(histories, self.row_of, self.inputs, only_positives).last(self.params.length)

    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        rows = self.row_of[video_idx]
        vectors = self.items.weight.detach().cpu().numpy()[rows]
        vectors[rows == UNKNOWN] = np.nan
        return vectors

    def score(self, pairs: Pairs) -> np.ndarray:
        return product_scores(self, pairs)

    def save(self, folder: Path) -> None:
        folder.mkdir()
        save_file(self.network.state_dict(), folder / "weights.safetensors")
        np.save(folder / "known.npy", self.known)
        about = {"params": self.params.model_dump(), "inputs": self.inputs, "n_videos": len(self.row_of) - 1}
        (folder / "model.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        known = np.load(folder / "known.npy", allow_pickle=False)
        model = cls(cls.Params.model_validate(about["params"]), known, about["inputs"], about["n_videos"])
        model.network.load_state_dict(load_file(folder / "weights.safetensors"))
        return model
