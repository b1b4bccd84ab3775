"""Adagrad with one accumulator a row: for tables of which a step touches a few rows."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_EPS = 1e-8  # beside the root of an accumulator, as in FBGEMM


class RowwiseAdagrad(torch.optim.Optimizer):
    """Of tables [n, D]: a row's accumulator grows by the mean square of its gradient, and the row moves by lr x
    gradient / root of the accumulator (DLRM: Naumov et al., 2019; FBGEMM's EXACT_ROWWISE_ADAGRAD).

    A sparse gradient costs as much as it has rows, however many the table has; a dense one makes the same step. Its
    state is `sum`, the accumulators [n] of each table.
    """

    def __init__(self, tables: Iterable[Tensor], lr: float) -> None:
        super().__init__(tables, {"lr": lr})

    # Ignored: torch declares overloads of `step`, one of them with a closure that returns a loss; here there is none.
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    state = self.state[table]
                    if not state:
                        state["sum"] = table.new_zeros(len(table))
                    _move(table, state["sum"], table.grad, group["lr"])


def _move(table: Tensor, total: Tensor, gradient: Tensor, lr: float) -> None:
    if not gradient.is_sparse:
        total += gradient.square().mean(1)
        table -= lr * gradient / (total.sqrt() + _EPS)[:, None]
        return
    gradient = gradient.coalesce()  # each row once, in order
    row, values = gradient.indices()[0], gradient.values()
    of_row = total.index_select(0, row) + values.square().mean(1)
    total.index_copy_(0, row, of_row)
    table.index_copy_(0, row, table.index_select(0, row) - values * (lr / (of_row.sqrt() + _EPS))[:, None])
