"""SASRec: self-attentive sequential recommendation (Kang & McAuley, ICDM 2018).

Causal self-attention over a user's last events; pre-norm blocks; learned positions; tied item embeddings.
"""

from typing import Self

import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from nextreel.nn import recommender
from nextreel.nn.batch import Batch, pad, unpad
from nextreel.nn.features import embedding
from nextreel.params import PositiveInt


class Params(recommender.NeuralParams):
    blocks: PositiveInt
    heads: PositiveInt

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"`heads` ({self.heads}) must divide `width` ({self.width})")
        return self


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.heads = params.heads
        self.project = nn.Linear(params.width, 3 * params.width)
        self.out = nn.Linear(params.width, params.width)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:  # [T, D]
        projected = pad(self.project(x), batch)  # [B, L, 3D]
        q, k, v = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, H, L, D/H] each
        # No dropout on the attention weights: on a processor it forfeits the fused kernel, a third of the step's time.
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(unpad(mixed.transpose(1, 2).flatten(2), batch))  # [T, D]


class Block(nn.Module):
    """Attention, then a position-wise layer, each behind a norm and beside a residual path."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        D = params.width
        self.norm_attention, self.attention = nn.LayerNorm(D), Attention(params)
        self.norm_feed, self.feed = (
            nn.LayerNorm(D),
            nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D)),
        )
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:  # [T, D]
        x = x + self.dropout(self.attention(self.norm_attention(x), batch))
        return x + self.dropout(self.feed(self.norm_feed(x)))


class Encoder(nn.Module):
    """Tokens -> states."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.scale = params.width**0.5
        self.positions = embedding(params.length, params.width)
        self.dropout = nn.Dropout(params.dropout)
        self.blocks = nn.ModuleList(Block(params) for _ in range(params.blocks))
        self.norm = nn.LayerNorm(params.width)

    def forward(self, tokens: Tensor, batch: Batch) -> Tensor:
        # Scaled as in the paper's own code: else the first block drowns the token, and training takes twice the epochs.
        x = self.dropout(tokens * self.scale + self.positions(batch.place))  # [T, D]
        for block in self.blocks:
            x = block(x, batch)
        return self.norm(x)  # [T, D]


class Model(recommender.Recommender):
    Encoder = Encoder
    Params = Params
