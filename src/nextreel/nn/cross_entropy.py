"""The softmax over all items as one step: loss and gradients chunk by chunk, so that no [M, N] is ever held.

A gradient of both factors is two products with the probabilities. They are made in the forward pass, while a chunk of
probabilities is still in the cache; autograd would write out all logits, read them back and make three more copies.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Of a chunk of logits: 623 targets at 1,682 items, while a processor's cache holds them; a GPU wants large products.
_CELLS = {"cpu": 1 << 20, "cuda": 1 << 25}
_SMALLEST = 1e-30  # a probability with an accurate logarithm


def cross_entropy(queries: Tensor, items: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The weighted mean of -log softmax(queries @ items.T)[target], a scalar.

    queries [M, D], items [N, D]; target [M] int64 rows of items; weight [M], not all 0. No gradient of the weight.
    """
    loss: Tensor = _CrossEntropy.apply(queries, items, target, weight)
    return loss


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        share = weight.to(queries.dtype)
        share = share / share.sum()
        of_queries, of_items = torch.empty_like(queries), torch.zeros_like(items)
        loss = queries.new_zeros(())
        rows = max(1, _CELLS[items.device.type] // len(items))
        for q, t, w, of_q in zip(*(x.split(rows) for x in (queries, target, share, of_queries)), strict=True):
            logits = q @ items.T
            p = logits.softmax(1)  # [m, N]
            at = torch.arange(len(t), device=t.device), t
            hit = p[at]
            losses = -hit.log()
            if hit.min() < _SMALLEST:
                losses = F.cross_entropy(logits, t, reduction="none")
            loss += w @ losses
            p[at] = hit - 1
            torch.mul(p @ items, w[:, None], out=of_q)
            of_items.addmm_(p.T, w[:, None] * q)
        ctx.save_for_backward(of_queries, of_items)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor) -> tuple[Tensor, Tensor, None, None]:
        of_queries, of_items = ctx.saved_tensors
        return of_queries * of_loss, of_items * of_loss, None, None
