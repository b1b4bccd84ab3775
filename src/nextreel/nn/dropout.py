"""Dropout by masks out of a pool: drawing them takes a third of a step, if every mask is drawn anew."""

import torch
from torch import Tensor, nn

_USES = 32  # masks out of a pool, before it is drawn again
_SPARE = 2  # length of a pool, in masks


class Dropout(nn.Module):
    """`nn.Dropout` whose masks are stretches, begun at random places, of a pool of random numbers.

    All is drawn by torch's generator. `train()` drops the pool, so that an epoch depends on nothing but the state of
    the generator at its start.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share  # of the values that become 0; the others are divided by 1 - share
        self.pool = torch.empty(0)
        self.left = 0  # uses

    def train(self, mode: bool = True) -> "Dropout":
        self.left = 0
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        n = x.numel()
        if not self.left or 4 * n > 3 * len(self.pool):
            kept = 1 - self.share
            self.pool = x.new_empty(_SPARE * n).bernoulli_(kept).div_(kept or 1)
            self.left = _USES
        self.left -= 1
        begin = int(torch.randint(len(self.pool) - n + 1, ()))
        return x * self.pool[begin : begin + n].view_as(x)
