"""The recommender around a network: its vocabulary, its training on histories, its scores, its files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Histories
from nextreel.contract import Scale, Training, product_scores
from nextreel.errors import UserError
from nextreel.nn import device, heads, inputs, trainer
from nextreel.nn.batch import VIDEO, Batch, Beside, Example, Lessons, Requests, Tokens, tensors
from nextreel.nn.features import OWN, Items, RequestHead, embedding, ids
from nextreel.nn.rowwise_adagrad import RowwiseAdagrad
from nextreel.nn.vocabulary import Names, Vocabulary
from nextreel.params import Name, NonNegativeInt, PositiveFloat, PositiveInt, Share

SOFTMAX_LIMIT = 50_000
_HISTORIES, _EVENTS = 1024, 1 << 20  # read together, at most


class NeuralParams(trainer.Params, heads.Params):
    """What all neural models share; the section `model`."""

    width: PositiveInt  # D, of embeddings and states
    length: PositiveInt  # L, tokens that a model looks back on
    dropout: Share
    seeds: PositiveInt  # how many times the model is trained: with `seed`, `seed` + 1, ...
    history: Literal["all", "positives"]  # which events are tokens
    inputs: list[Name]  # what a token holds beside its video, see `nn.inputs`
    request: list[Name]  # what the head between states and videos reads of a request; none: there is no head
    videos: list[Name]  # what is known of videos beside their ids
    id_dropout: Share  # of id rows, zeroed in training
    tied: bool  # the same table of ids at input and output
    temperature: PositiveFloat | None  # scores are cosines / temperature; none: products
    own_row_from: PositiveInt  # events that give a video an id row of its own
    hashed_rows: NonNegativeInt  # that the others share
    # Of the tables that grow with the catalogue: adam moves every row in each step, rowwise_adagrad those of the batch
    table_optimizer: Literal["adam", "rowwise_adagrad"]
    table_lr: PositiveFloat  # of rowwise_adagrad; adam's is `lr`
    passed_weight: Share  # of a token that is no positive, as a target beside the positives; 0: it is none

    @property
    def names(self) -> Names:
        return Names(self.inputs, self.request, self.videos)

    @model_validator(mode="after")
    def _tables_are_sparse(self) -> Self:
        if self.table_optimizer == "rowwise_adagrad":
            if self.loss == "softmax":
                raise ValueError(
                    "`table_optimizer` is 'rowwise_adagrad', which is for a few rows a step, but `loss` is 'softmax',"
                    " which moves all; choose adam, or sampled_softmax, gbce, bce or bpr"
                )
            if self.weight_decay:
                raise ValueError(
                    f"`weight_decay` is {self.weight_decay:g}, but `table_optimizer` is 'rowwise_adagrad', which leaves"
                    " most rows alone; set `weight_decay` to 0 or choose adam"
                )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if wrong := sorted({*self.request} - {*inputs.REQUEST}):
            raise ValueError(f"`request` has {', '.join(wrong)}; allowed: {', '.join(inputs.REQUEST)}")
        return self


class Network(nn.Module):
    """Tokens and requests to queries, and videos to vectors, around an encoder of one model."""

    def __init__(self, encoder: nn.Module, vocabulary: Vocabulary, params: NeuralParams) -> None:
        """encoder: (tokens [T, D], batch) -> states [T, D], each of its own and earlier tokens of its history."""
        super().__init__()
        self.items = Items(
            vocabulary, params.width, bias=inputs.BIAS in params.videos, tied=params.tied,
            dropout=params.id_dropout, temperature=params.temperature,
            sparse=params.table_optimizer == "rowwise_adagrad",
        )  # fmt: skip
        rows = vocabulary.rows
        self.inputs = nn.ModuleDict(
            {
                name: ids(1 + n, params.width, OWN) if name == inputs.USER else embedding(1 + n, params.width)
                for name, n in rows.inputs.items()
            }
        )
        self.encoder = encoder
        self.head = None
        if params.request:
            n_profile = 2 * rows.profile.n_tags if rows.profile else 0
            self.head = RequestHead(rows.request, n_profile, params.width)

    def forward(self, batch: Batch, requests: Requests) -> Tensor:
        """The queries [M, D'] of requests."""
        return self.items.queries(self.asked(self.states(batch, requests), requests), requests)

    def states(self, batch: Batch, requests: Requests) -> Tensor:
        """Of the tokens after which is asked [M, D]."""
        return self.encoder(self.tokens(batch), batch).index_select(0, requests.at)

    def asked(self, states: Tensor, requests: Requests) -> Tensor:
        """States [M, D] with what their requests say."""
        return states if self.head is None else self.head(states, requests)

    def tokens(self, batch: Batch) -> Tensor:
        """The sum [T, D] of the vectors of a token's video and of every input of its event."""
        x = self.items.at_input(batch.columns[VIDEO])
        for name, table in self.inputs.items():
            x = x + table(batch.columns[name])
        return x


class Recommender:
    """A `Model` around an encoder: score = query at the request . vector of the video.

    A subclass names its `Encoder(params)`, see `Network`. Videos of which the fit knows nothing get no opinion.
    """

    scale: Scale = "log_share"
    Encoder: ClassVar[type[nn.Module]]
    Params: ClassVar[type[NeuralParams]]
    head: heads.NextItem  # what it is trained by; a model that was loaded has none

    def __init__(self, params: NeuralParams, vocabulary: Vocabulary) -> None:
        self.params, self.vocabulary = params, vocabulary
        self.network = Network(self.Encoder(params), vocabulary, params)
        self.items = self.network.items

    @classmethod
    def columns(cls, params: NeuralParams) -> tuple[str, ...]:
        needed = inputs.columns(*params.names) | {"events/positive"}
        return tuple(sorted(needed | ({"videos/video_key"} if params.hashed_rows else set())))

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
        vocabulary, counts = Vocabulary.fit(
            histories, params.names, only_positives, params.own_row_from, params.hashed_rows
        )
        if params.loss == "softmax" and cls.makes_lists(params) and len(vocabulary.known) > SOFTMAX_LIMIT:
            raise UserError(
                f"`model.loss` is 'softmax', which scores all {len(vocabulary.known)} videos of train for every target;"
                f" above {SOFTMAX_LIMIT} choose sampled_softmax, gbce, bce or bpr"
            )
        model, beside = cls._begun(params, vocabulary, histories)
        model.items.start_bias(counts.log_rates)
        lessons = Lessons(histories, vocabulary.rows, only_positives, params.passed_weight, beside)
        model.head = heads.NextItem(params, counts.events, lessons.n_targets(vocabulary.known))
        model.network.to(device.choose(params.device))
        task = trainer.Task(
            name,
            model.network,
            model._optimizers(),
            epoch=lambda: lessons.epoch(params.length, params.batch_size, rng),
            n_batches=lessons.n_batches(params.length, params.batch_size),
            losses=lambda example: model.losses(device.moved(example, model.device), rng),
            weights=cls.loss_weights(params),
            choice=cls.choice(params),
            n_targets=lambda example: len(example.weight),
            rng=rng,
        )
        epochs = trainer.train(task, params, training.session or trainer.Session(), model)
        model.params = params.model_copy(update={"epochs": epochs})
        return model

    @classmethod
    def loss_weights(cls, params: Any) -> dict[str, float]:
        """Of each head in the sum that training makes smaller."""
        return {heads.NEXT_ITEM: 1.0}

    @classmethod
    def makes_lists(cls, params: Any) -> bool:
        """Whether it is trained on what is shown next."""
        return heads.NEXT_ITEM in cls.loss_weights(params)

    @classmethod
    def choice(cls, params: Any) -> trainer.Choice:
        """What its epoch is chosen by."""
        return heads.BY_LISTS

    @classmethod
    def _begun(cls, params: Any, vocabulary: Vocabulary, histories: Histories) -> tuple[Self, Beside | None]:
        """A model to be trained, and what it learns from beside tokens."""
        return cls(params, vocabulary), None

    @classmethod
    def _empty(cls, params: Any, vocabulary: Vocabulary, folder: Path) -> Self:
        """A model whose weights are to be read from a folder."""
        return cls(params, vocabulary)

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        params, tables = self.params, self.items.tables
        others: list[nn.Parameter] = list(self.network.parameters())
        found: list[torch.optim.Optimizer] = []
        if params.table_optimizer == "rowwise_adagrad":
            others = [each for each in others if not any(each is table for table in tables)]
            found = [RowwiseAdagrad(tables, params.table_lr)]
        return [torch.optim.Adam(others, lr=params.lr, weight_decay=params.weight_decay, fused=True), *found]

    @property
    def device(self) -> torch.device:
        return self.items.ids.weight.device

    def losses(self, example: Example, rng: np.random.Generator) -> dict[str, Tensor]:
        """The mean loss of each head."""
        states = self.network.states(example.batch, example.requests)
        return {heads.NEXT_ITEM: self.next_item_loss(states, example, rng)}

    def next_item_loss(self, states: Tensor, example: Example, rng: np.random.Generator) -> Tensor:
        """The mean loss of the targets, by weight, from the states [M, D] after which they are asked."""
        queries = self.items.queries(self.network.asked(states, example.requests), example.requests)
        return self.head.loss(queries, self.items.place[example.video], example.weight, self.items, rng)

    @torch.no_grad()
    def mean_loss(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> float:
        """The loss of the next item that it is trained by, of the video [n] that each case with this history is to
        find: the mean over those of the fit; NaN if there is none. Negatives are the same whenever it is asked."""
        self.network.eval()
        rng, known = np.random.default_rng(0), self.vocabulary.index[video_idx] >= 0
        total, n = 0.0, int(known.sum())
        cases, histories, video_idx = cases.where(known), histories.where(known), video_idx[known]
        for block, batch, requests in self._asked_blocks(cases, histories):
            video = torch.from_numpy(video_idx[block].astype(np.int64))
            example = Example(batch, requests, video, torch.ones(len(video)))
            states = self.network.states(batch, requests)
            total += self.next_item_loss(states, device.moved(example, self.device), rng).item() * len(video)
        return total / n if n else np.nan

    @torch.no_grad()
    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        self.network.eval()
        found = [torch.zeros(0, self.vectors(np.zeros(0, np.int32)).shape[1])]
        for _block, batch, requests in self._asked_blocks(cases, histories):
            found.append(self.network(batch, requests).cpu())
        return torch.cat(found).numpy()

    def _asked_blocks(self, cases: Cases, histories: Histories) -> Iterator[tuple[slice, Batch, Requests]]:
        """What `_asked` tells of some cases at a time, on the device of the network."""
        for block in histories.blocks(_HISTORIES, _EVENTS):
            yield block, *device.moved(self._asked(cases.where(block), histories.where(block)), self.device)

    def _asked(self, cases: Cases, histories: Histories) -> tuple[Batch, Requests]:
        """The last tokens of each history, and what its case asks after them. Where all events are tokens, only those
        are looked at, and the one before, from which the first one's gap runs."""
        only_positives, rows = self.params.history == "positives", self.vocabulary.rows
        store, profile = histories.store, None
        if rows.profile is not None:
            position, owner = histories.positives() if only_positives else histories.flat()
            video, positive = store.events("video_idx")[position], store.events("positive")[position]
            profile = torch.from_numpy(rows.profile.of_histories(video, positive, owner, len(histories)))
        if not only_positives:
            start = np.maximum(histories.start, histories.stop - self.params.length - 1)
            histories = Histories(store, start, histories.stop)
        tokens = Tokens.of(histories, rows, only_positives, cases.time_ms)
        batch = tokens.last(self.params.length)
        columns = rows.of_requests(tokens.last_ms, cases.time_ms, cases.tab)
        return batch, Requests(batch.last, cases.time_ms, tensors(columns), profile, torch.ones(len(cases)))

    @torch.no_grad()
    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        self.network.eval()
        vectors = self.items.of_videos(torch.from_numpy(video_idx.astype(np.int64)).to(self.device)).cpu().numpy()
        vectors[~self.vocabulary.has_opinion(video_idx)] = np.nan
        return vectors

    def score(self, pairs: Pairs) -> np.ndarray:
        return product_scores(self, pairs)

    def save(self, folder: Path) -> None:
        folder.mkdir()
        save_file(self.network.state_dict(), folder / "weights.safetensors")
        self.vocabulary.save(folder / "vocabulary")
        (folder / "params.json").write_text(self.params.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        params = cls.Params.model_validate_json((folder / "params.json").read_text(encoding="utf-8"))
        model = cls._empty(params, Vocabulary.load(folder / "vocabulary"), folder)
        model.network.load_state_dict(load_file(folder / "weights.safetensors"))
        return model
