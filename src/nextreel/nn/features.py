"""Tokens as vectors: what every network begins with."""

import torch
from torch import Tensor, nn

from nextreel.nn.batch import N_REACTIONS, UNKNOWN, Batch


def embedding(n_rows: int, width: int) -> nn.Embedding:
    """A table [n_rows, D] of vectors of length about 1; a deviation of 0.02, as is common, takes twice the epochs to
    leave popularity."""
    table = nn.Embedding(n_rows, width)
    nn.init.normal_(table.weight, std=width**-0.5)
    return table


class TokenEmbedding(nn.Module):
    """The video of a token and what the user did with it."""

    def __init__(self, n_rows: int, width: int) -> None:
        super().__init__()
        self.items = embedding(n_rows, width)
        self.items.padding_idx = UNKNOWN
        with torch.no_grad():
            self.items.weight[UNKNOWN].zero_()
        self.reactions = embedding(N_REACTIONS, width)

    def forward(self, batch: Batch) -> Tensor:
        x: Tensor = self.items(batch.video) + self.reactions(batch.reaction)  # [B, L, D]
        return x
