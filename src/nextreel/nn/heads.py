"""What reads a network's states: a loss to train by."""

from typing import Literal, Protocol, Self

import numpy as np
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor

from nextreel.nn import objectives
from nextreel.nn.cross_entropy import cross_entropy
from nextreel.nn.negatives import FROM_BATCH, Negatives, Source
from nextreel.nn.trainer import Choice
from nextreel.params import PositiveInt, Section, Share


class Params(Section):
    """What a next-item head is trained by."""

    loss: Literal["softmax", "sampled_softmax", "bce", "bpr", "gbce"]
    negatives: PositiveInt  # a batch's (sampled_softmax) or a target's own (bce, bpr, gbce); softmax takes all videos
    negatives_from: Source
    # Which logits of sampled_softmax the log of their sampling probability is taken from: `all`, the target's too
    # (Bengio & Senecal, 2008; Yi et al., RecSys 2019), or the `negatives`', which alone are sampled (Khrylchenko et
    # al., RecSys 2025)
    logq: Literal["all", "negatives"] | None
    gbce_t: Share  # how far gbce undoes what few negatives inflate; 0: bce

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        sampled, source = self.loss == "sampled_softmax", self.negatives_from
        if self.logq and not sampled:
            raise ValueError(
                f"`logq` is {self.logq!r}, but `loss` is {self.loss!r}; only sampled_softmax is corrected; choose none"
            )
        if self.logq == "all" and source == "uniform":
            raise ValueError(
                "`logq` is 'all', but `negatives_from` is 'uniform', whose correction is the same for all and changes"
                " nothing; choose `logq` negatives or none"
            )
        if self.loss == "softmax" and source != "uniform":
            raise ValueError(f"`negatives_from` is {source!r}, but softmax draws none; leave it at uniform")
        if source in FROM_BATCH and not sampled:
            raise ValueError(
                f"`negatives_from` is {source!r}, but `loss` is {self.loss!r}; only sampled_softmax takes negatives"
                " from the batch"
            )
        if self.loss == "gbce" and source != "uniform":
            raise ValueError(f"`negatives_from` is {source!r}, but gbce reckons with uniform ones; leave it at uniform")
        if source == "mixed" and self.negatives < 2:
            raise ValueError("`negatives` is 1, which `negatives_from` mixed cannot halve; allowed: at least 2")
        return self


class Items(Protocol):
    """The vectors of N known videos, 0 to N - 1."""

    def __len__(self) -> int: ...

    def vectors(self, index: Tensor | None) -> Tensor:
        """[..., D] of an index of any shape [...]; None: of all videos in order, [N, D]."""


NEXT_ITEM = "next_item"  # the name of this head in losses and curves
BY_LISTS = Choice(NEXT_ITEM, "ndcg@10")


class NextItem:
    """Which video comes next: score = query . vector of the video, by a loss over all videos or a sample."""

    def __init__(self, params: Params, events: np.ndarray, targets: np.ndarray) -> None:
        """events [N], targets [N]: how often each video is an event and a target of the fit, see `Negatives`."""
        self.params = params
        self.negatives = Negatives(params.negatives_from, params.negatives, events, targets)

    def loss(self, queries: Tensor, target: Tensor, weight: Tensor, items: Items, rng: np.random.Generator) -> Tensor:
        """The mean loss of targets [M], 0 to N - 1, by weight [M], each asked by its query [M, D]."""
        if self.params.loss == "softmax":
            return cross_entropy(queries, items.vectors(None), target, weight)
        return (weight * self._sampled(queries, target, items, rng)).sum() / weight.sum()

    def _sampled(self, queries: Tensor, target: Tensor, items: Items, rng: np.random.Generator) -> Tensor:
        """The loss [M] of each target against a sample."""
        positive = (queries * items.vectors(target)).sum(-1)
        if self.params.loss == "sampled_softmax":
            return self._sampled_softmax(queries, positive, target, items, rng)
        drawn = self.negatives.own(len(target), rng).to(target.device)  # [M, n]
        negative = (queries[:, None] * items.vectors(drawn)).sum(-1)
        negative = negative.masked_fill_(drawn == target[:, None], objectives.HIT)
        if self.params.loss == "gbce":
            power = objectives.gbce_power(self.params.negatives, len(items), self.params.gbce_t)
            return objectives.gbce(positive, negative, power)
        return {"bce": objectives.bce, "bpr": objectives.bpr}[self.params.loss](positive, negative)

    def _sampled_softmax(
        self, queries: Tensor, positive: Tensor, target: Tensor, items: Items, rng: np.random.Generator
    ) -> Tensor:
        """By negatives of the batch, with the correction that `logq` names.

        Of `negatives`, the paper weighs log(sum of the negatives' exp) - positive by stop_grad(1 - P(positive)), P
        estimated from the same sample. That is the derivative of `objectives.sampled_softmax`, so the gradient is the
        paper's; the value is near the full softmax's instead. For that, logits are corrected by how often a video is
        expected, not by its share: its sum then estimates that over all videos.
        """
        drawn = self.negatives.shared(target, rng)  # [n]
        correction = None
        if self.params.logq:
            correction = -self.negatives.log_expected(drawn, len(target)).to(queries.dtype)
        if self.params.logq == "all":
            positive = positive - self.negatives.log_expected(target, len(target))
        negative = F.linear(queries, items.vectors(drawn), correction)  # [M, n]
        negative = negative.masked_fill_(drawn == target[:, None], objectives.HIT)
        return objectives.sampled_softmax(positive, negative)
