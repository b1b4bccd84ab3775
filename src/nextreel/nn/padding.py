"""Packed histories as rectangles, for what has no kernel for packed ones."""

from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor

from nextreel.nn.batch import Batch

_TOGETHER = 16  # shorter histories to a rectangle


class Rectangle(NamedTuple):
    """B histories that stand next to each other in a batch, T tokens in all, padded to the longest of them, L."""

    shape: tuple[int, int]  # B, L
    at: Tensor  # [T] int64: where each token stands among the B * L places

    def pad(self, x: Tensor) -> Tensor:
        """[T, D] -> [B, L, D] with zeros behind shorter histories."""
        B, L = self.shape
        if len(x) < B * L:
            x = x.new_zeros(B * L, x.shape[1]).index_copy(0, self.at, x)
        return x.unflatten(0, self.shape)

    def unpad(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [T, D], the inverse of `pad`."""
        flat = x.flatten(0, 1)
        return flat if len(self.at) == len(flat) else flat.index_select(0, self.at)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """All of a batch."""
        return cls._between(batch, batch.place, 0, len(batch.length))

    @classmethod
    def several(cls, batch: Batch) -> list[Self]:
        """A batch in rectangles: a few histories each, and one from the first of the longest on. Little is padded
        where a batch begins with its shortest histories. On a GPU it is one: padding costs less than many small steps.
        """
        if batch.offsets.is_cuda:
            return [cls.of(batch)]
        place, n_shorter = batch.place, int(batch.length.argmax())
        starts = [*range(0, n_shorter, _TOGETHER), n_shorter, len(batch.length)]
        return [cls._between(batch, place, start, end) for start, end in pairwise(starts)]

    @classmethod
    def _between(cls, batch: Batch, place: Tensor, start: int, end: int) -> Self:
        length = batch.length[start:end]
        B, L = end - start, int(length.max())
        first, stop = int(batch.offsets[start]), int(batch.offsets[end])
        row = torch.arange(B, device=length.device).repeat_interleave(length)
        return cls((B, L), row * L + place[first:stop])
