"""Tokens as vectors: what every network begins with."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nextreel.nn.batch import UNKNOWN, VIDEO, Batch


def embedding(n_rows: int, width: int) -> nn.Embedding:
    """A table [n_rows, D] of vectors of length about 1; a deviation of 0.02, as is common, takes twice the epochs to
    leave popularity."""
    table = nn.Embedding(n_rows, width)
    nn.init.normal_(table.weight, std=width**-0.5)
    return table


class TokenEmbedding(nn.Module):
    """The sum of the vectors of a token's video and of every input column."""

    def __init__(self, n_rows: int, inputs: Mapping[str, int], width: int) -> None:
        """n_rows: of videos. inputs: columns of the events -> how many values of each are known."""
        super().__init__()
        self.items = embedding(n_rows, width)
        self.items.padding_idx = UNKNOWN
        with torch.no_grad():
            self.items.weight[UNKNOWN].zero_()
        self.inputs = nn.ModuleDict({name: embedding(1 + n_known, width) for name, n_known in inputs.items()})

    def forward(self, batch: Batch) -> Tensor:
        x: Tensor = self.items(batch.columns[VIDEO])
        for name, table in self.inputs.items():
            x = x + table(batch.columns[name])
        return x  # [T, D]
