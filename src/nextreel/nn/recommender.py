"""The recommender around a network: its vocabulary, its training on histories, its scores, its files."""

import json
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from nextreel.cases.pairs import Pairs
from nextreel.cases.protocols import Cases
from nextreel.cases.store import Histories
from nextreel.contract import Training, product_scores
from nextreel.errors import UserError
from nextreel.nn import trainer
from nextreel.nn.batch import FIRST, UNKNOWN, Batch, Tokens
from nextreel.nn.features import TokenEmbedding
from nextreel.nn.objectives import SAMPLED_LOSSES
from nextreel.params import PositiveInt, Share

SOFTMAX_LIMIT = 50_000


class NeuralParams(trainer.Params):
    """What all neural models share; the section `model`."""

    width: PositiveInt  # D, of embeddings and states
    length: PositiveInt  # L, tokens that a model looks back on
    dropout: Share
    seeds: PositiveInt  # how many times the model is trained: with `seed`, `seed` + 1, ...
    history: Literal["all", "positives"]  # which events are tokens
    passed_weight: Share  # of a token that is no positive, as a target beside the positives; 0: it is none
    loss: Literal["bce", "bpr", "sampled_softmax", "softmax"]
    negatives: PositiveInt  # uniform ones: a target's own (bce, bpr) or a batch's (sampled_softmax); softmax takes all


class Recommender:
    """A `Model` whose network turns tokens into states: score = state at the last token . embedding of the video.

    A subclass names its `Network(n_rows, params)`: a torch Module with `tokens`, a TokenEmbedding, and
    `forward(batch) -> states [B, L, D]`. Videos that were no token of train have no embedding and get
    no opinion.
    """

    Network: ClassVar[type[torch.nn.Module]]
    Params: ClassVar[type[NeuralParams]]

    def __init__(self, params: NeuralParams, known: np.ndarray, n_videos: int) -> None:
        self.params = params
        self.known = known  # [V] video_idx with a row, in order; row FIRST + i is known[i]
        self.row_of = np.full(n_videos + 1, UNKNOWN, np.int32)  # video_idx -> token row
        self.row_of[known] = np.arange(FIRST, FIRST + len(known), dtype=np.int32)
        self.network = self.Network(FIRST + len(known), params)
        assert isinstance(self.network.tokens, TokenEmbedding)
        self.items = self.network.tokens.items  # tied: the same vectors are the input and the output

    @classmethod
    def columns(cls, params: NeuralParams) -> tuple[str, ...]:
        return ("events/positive", "events/time_ms")

    @classmethod
    def fit(cls, params: NeuralParams, training: Training) -> Self:
        """Train for as many epochs as the session finds best; the model's own `params` say how many.

        To fit again on more events, hand over those params and no session.
        """
        name = cls.__module__.rpartition(".")[2]  # a model's file names it
        # Users of later days must not change how many random numbers an epoch draws.
        histories, rng = training.histories, training.rng
        histories = histories.where(histories.length > 0)
        torch.manual_seed(int(rng.integers(2**31)))
        position, _owner = histories.positives() if params.history == "positives" else histories.flat()
        known = np.unique(training.store.events("video_idx")[position])
        if params.loss == "softmax" and len(known) > SOFTMAX_LIMIT:
            raise UserError(
                f"`model.loss` is 'softmax', which scores all {len(known)} videos of train for every target; above"
                f" {SOFTMAX_LIMIT} choose sampled_softmax, bce or bpr"
            )
        model = cls(params, known, training.store.n_videos)
        tokens = Tokens.of(histories, model.row_of, params.history == "positives", params.passed_weight)

        epochs = trainer.train(
            model.network,
            lambda: tokens.epoch(params.length, params.batch_size, rng),
            tokens.n_batches(params.length, params.batch_size),
            lambda batch: model.loss(batch, rng),
            params,
            name,
            trainer.watch(training.session, model, name) if training.session else None,
        )
        model.params = params.model_copy(update={"epochs": epochs})
        return model

    def loss(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """The mean loss, by weight, of a batch's targets against every video or a sample."""
        asked = batch.target != UNKNOWN
        states, target, weight = (
            self.network(batch)[asked],
            batch.target[asked],
            batch.weight[asked],
        )  # [M, D], [M], [M]
        items = self.items.weight
        if self.params.loss == "softmax":  # a slice of the table is a view: no gradient by index
            losses = F.cross_entropy(states @ items[FIRST:].T, target - FIRST, reduction="none")
        else:
            losses = self._sampled_losses(states, target, rng)
        return (weight * losses).sum() / weight.sum()

    def _sampled_losses(self, states: Tensor, target: Tensor, rng: np.random.Generator) -> Tensor:
        """Against uniform negatives: the batch's (sampled_softmax) or each target's own. A negative that is its row's
        target counts for nothing."""
        items = self.items.weight
        shared = self.params.loss == "sampled_softmax"
        n_rows = 1 if shared else len(target)
        drawn = torch.from_numpy(rng.integers(FIRST, len(items), (n_rows, self.params.negatives)))
        rivals = F.embedding(drawn, items)  # [1 or M, n, D]
        positive = (states * F.embedding(target, items)).sum(-1)
        negative = states @ rivals[0].T if shared else torch.einsum("md,mnd->mn", states, rivals)
        negative = negative.masked_fill(drawn == target[:, None], -torch.inf)  # [M, n]
        return SAMPLED_LOSSES[self.params.loss](positive, negative)

    @torch.no_grad()
    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        self.network.eval()
        return np.asarray(self._states(histories).numpy())

    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        rows = self.row_of[video_idx]
        vectors = self.items.weight.detach().numpy()[rows]
        vectors[rows == UNKNOWN] = np.nan
        return vectors

    def score(self, pairs: Pairs) -> np.ndarray:
        return product_scores(self, pairs)

    def _states(self, histories: Histories) -> Tensor:
        """The state [B, D] at each history's last token. Only the last events are looked at, where all are tokens."""
        only_positives = self.params.history == "positives"
        if not only_positives:
            start = np.maximum(histories.start, histories.stop - self.params.length)
            histories = Histories(histories.store, start, histories.stop)
        batch, last = Tokens.of(histories, self.row_of, only_positives).last(self.params.length)
        states: Tensor = self.network(batch)
        return states[torch.arange(len(last)), last]

    def save(self, folder: Path) -> None:
        folder.mkdir()
        save_file(self.network.state_dict(), folder / "weights.safetensors")
        np.save(folder / "known.npy", self.known)
        about = {"params": self.params.model_dump(), "n_videos": len(self.row_of) - 1}
        (folder / "model.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        known = np.load(folder / "known.npy", allow_pickle=False)
        model = cls(cls.Params.model_validate(about["params"]), known, about["n_videos"])
        model.network.load_state_dict(load_file(folder / "weights.safetensors"))
        return model
