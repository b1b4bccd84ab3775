"""What reads queries: a loss to train by."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nextreel.nn import objectives
from nextreel.nn.cross_entropy import cross_entropy


class Items(Protocol):
    """The known videos, 0 to N - 1, as vectors."""

    def __len__(self) -> int: ...

    def vectors(self, index: Tensor | None) -> Tensor:
        """[...] -> [..., D']; None: of all, [N, D']."""
        ...


class NextItem:
    """Which video comes next: score = query . vector of the video, by an objective over all videos or a sample."""

    def __init__(self, objective: str, n_negatives: int) -> None:
        self.objective = objective
        self.n_negatives = n_negatives

    def loss(self, queries: Tensor, target: Tensor, weight: Tensor, items: Items, rng: np.random.Generator) -> Tensor:
        """The mean loss of targets [M] by weight [M], from their queries [M, D']."""
        if self.objective == "softmax":
            return cross_entropy(queries, items.vectors(None), target, weight)
        return (weight * self._sampled(queries, target, items, rng)).sum() / weight.sum()

    def _sampled(self, queries: Tensor, target: Tensor, items: Items, rng: np.random.Generator) -> Tensor:
        """The loss [M] of each target against a sample."""
        shared = self.objective in objectives.SHARED
        n_rows = 1 if shared else len(queries)
        drawn = torch.from_numpy(rng.integers(0, len(items), (n_rows, self.n_negatives)))
        rivals = items.vectors(drawn)  # [1 or M, n, D']
        positive = (queries * items.vectors(target)).sum(-1)
        negative = queries @ rivals[0].T if shared else (queries[:, None] * rivals).sum(-1)
        negative = negative.masked_fill(drawn == target[:, None], -torch.inf)  # [M, n]
        return objectives.SAMPLED[self.objective](positive, negative)
