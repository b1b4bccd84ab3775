"""Epochs, early stopping, best weights. Knows no model: it is handed a loss, batches and a validation."""

import copy
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from nextreel.errors import UserError
from nextreel.params import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Section
from nextreel.progress import bar

B = TypeVar("B")
SELECT_BY = "ndcg@10"  # of the valid part


class Params(Section):
    """How a neural model is optimised."""

    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    epochs: PositiveInt
    batch_size: PositiveInt
    patience: NonNegativeInt  # epochs without a better valid metric before training stops


def train(
    network: torch.nn.Module,
    epoch: Callable[[], Iterator[B]],
    n_batches: int,
    loss: Callable[[B], Tensor],
    validate: Callable[[], dict[str, float]],
    params: Params,
    curve: Path,
    name: str,
) -> None:
    """Train `network` with Adam and leave it with the weights of its best epoch by SELECT_BY.

    An epoch has about `n_batches` batches; only the progress bar needs to know.

    Each epoch adds a line to the CSV `curve` (epoch, loss, valid metrics), flushed at once, so that it can be watched.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True)
    best, best_weights, waited = -1.0, copy.deepcopy(network.state_dict()), 0
    curve.parent.mkdir(parents=True, exist_ok=True)
    steps = bar(f"{name} trains", total=params.epochs * n_batches)
    with curve.open("w", newline="", encoding="utf-8") as file, steps:
        writer = csv.writer(file, lineterminator="\n")
        for number in range(1, params.epochs + 1):
            network.train()
            total, count = 0.0, 0
            for batch in epoch():
                optimizer.zero_grad()
                value = loss(batch)
                if not torch.isfinite(value):
                    raise UserError(f"{name}: the loss is {value.item()} in epoch {number}; lower `model.lr`")
                value.backward()
                optimizer.step()
                total, count = total + value.item(), count + 1
                steps.update()
            network.eval()
            metrics = validate()
            if number == 1:
                writer.writerow(["epoch", "loss", *(f"valid_{key}" for key in metrics)])
            writer.writerow([number, *(f"{x:.5f}" for x in (total / max(count, 1), *metrics.values()))])
            file.flush()
            if metrics[SELECT_BY] > best:
                best, best_weights, waited = metrics[SELECT_BY], copy.deepcopy(network.state_dict()), 0
            else:
                waited += 1
                if waited > params.patience:
                    break
    network.load_state_dict(best_weights)
