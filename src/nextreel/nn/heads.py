"""What reads a network's states: a loss to train by."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextreel.nn import objectives
from nextreel.nn.batch import FIRST, Targets


class NextItem:
    """Which video comes next: score = state . vector of the video, by an objective over all videos or a sample."""

    def __init__(self, items: nn.Embedding, objective: str, n_negatives: int) -> None:
        self.items = items
        self.objective = objective
        self.n_negatives = n_negatives

    def losses(self, states: Tensor, targets: Targets, rng: np.random.Generator) -> Tensor:
        """The loss [M] of each target from the states of all tokens [T, D]."""
        asked, items = states[targets.at], self.items.weight  # [M, D], [N, D]
        if self.objective == "softmax":  # a slice of the table is a view: no gradient by index
            return objectives.softmax(asked, targets.video - FIRST, items[FIRST:])
        shared = self.objective in objectives.SHARED
        n_rows = 1 if shared else len(asked)
        drawn = torch.from_numpy(rng.integers(FIRST, len(items), (n_rows, self.n_negatives))).to(asked.device)
        rivals = F.embedding(drawn, items)  # [1 or M, n, D]
        positive = (asked * F.embedding(targets.video, items)).sum(-1)
        negative = asked @ rivals[0].T if shared else torch.einsum("md,mnd->mn", asked, rivals)
        negative = negative.masked_fill(drawn == targets.video[:, None], -torch.inf)  # [M, n]
        return objectives.SAMPLED[self.objective](positive, negative)
