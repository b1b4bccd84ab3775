"""Causal self-attention over a user's last events: pre-norm blocks, learned positions."""

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from nextreel.nn import recommender
from nextreel.nn.batch import Batch
from nextreel.nn.dropout import Dropout
from nextreel.nn.features import embedding
from nextreel.nn.padding import Rectangle
from nextreel.params import PositiveInt


class Params(recommender.NeuralParams):
    block: Literal["standard", "gated"]
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

    def forward(self, x: Tensor, rectangles: list[Rectangle]) -> Tensor:  # [T, D]
        parts = self.project(x).split([len(each.at) for each in rectangles])
        return self.out(torch.cat([self._mix(part, each) for part, each in zip(parts, rectangles, strict=True)]))

    def _mix(self, projected: Tensor, rectangle: Rectangle) -> Tensor:  # [T, 3D] -> [T, D]
        padded = rectangle.pad(projected)  # [B, L, 3D]
        q, k, v = padded.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, H, L, D/H] each
        # No dropout on the attention weights: on a processor it forfeits the fused kernel, a third of the step's time.
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return rectangle.unpad(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then a position-wise layer, each behind a norm and beside a residual path."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        D = params.width
        self.norm_attention, self.attention = nn.LayerNorm(D), Attention(params)
        self.norm_feed, self.feed = nn.LayerNorm(D), self._feed(params)
        self.dropout = Dropout(params.dropout)

    def _feed(self, params: Params) -> nn.Module:
        D = params.width
        return nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D))

    def forward(self, x: Tensor, rectangles: list[Rectangle]) -> Tensor:  # [T, D]
        x = x + self.dropout(self.attention(self.norm_attention(x), rectangles))
        return x + self.dropout(self.feed(self.norm_feed(x)))


class GatedBlock(Block):
    """A block whose input says how much of each layer's output is added, with a SwiGLU as the position-wise layer:
    LiGR (Borisyuk et al., 2025), as eSASRec has it (Tikhonovich et al., RecSys 2025)."""

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.gate_attention, self.gate_feed = (nn.Linear(params.width, params.width) for _ in range(2))

    def _feed(self, params: Params) -> nn.Module:
        return SwiGLU(params.width, 4 * params.width, params.dropout)

    def forward(self, x: Tensor, rectangles: list[Rectangle]) -> Tensor:  # [T, D]
        attended = self.dropout(self.attention(self.norm_attention(x), rectangles))
        x = x + self.gate_attention(x).sigmoid() * attended
        return x + self.gate_feed(x).sigmoid() * self.dropout(self.feed(self.norm_feed(x)))


class SwiGLU(nn.Module):
    """A position-wise layer that gates itself (Shazeer, 2020)."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 2 * hidden, bias=False)
        self.leave = nn.Linear(hidden, width, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:  # [T, D]
        gate, value = self.enter(x).chunk(2, dim=-1)
        return self.leave(self.dropout(F.silu(gate) * value))


BLOCKS = {"standard": Block, "gated": GatedBlock}


class Encoder(nn.Module):
    """Tokens -> states."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.scale = params.width**0.5
        self.positions = embedding(params.length, params.width)
        self.dropout = Dropout(params.dropout)
        self.blocks = nn.ModuleList(BLOCKS[params.block](params) for _ in range(params.blocks))
        self.norm = nn.LayerNorm(params.width)

    def forward(self, tokens: Tensor, batch: Batch) -> Tensor:
        # Scaled as in the paper's own code: else the first block drowns the token, and training takes twice the epochs.
        x = self.dropout(tokens * self.scale + self.positions(batch.place))  # [T, D]
        rectangles = Rectangle.several(batch)
        for block in self.blocks:
            x = block(x, rectangles)
        return self.norm(x)  # [T, D]
