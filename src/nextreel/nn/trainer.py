"""Epochs, early stopping, best weights. Knows no model: it is handed a loss, batches and a measure."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from nextreel import files
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


class Session(NamedTuple):
    """How epochs are compared, and where that is written."""

    measure: Callable[[Any], dict[str, float]]  # metrics of what is trained on valid, SELECT_BY among them
    curve: Path | None  # CSV: model, epoch, loss and those metrics; whole after every epoch, so that it can be watched


def train(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: Callable[[], Iterator[B]],
    n_batches: int,
    loss: Callable[[B], Tensor],
    params: Params,
    name: str,
    after_epoch: Callable[[int, float], float] | None,
) -> int:
    """Train `network`; returns the number of epochs behind the weights that it is left with.

    `after_epoch(number, mean loss)` tells how good the epoch is: the weights are those of the best one, and training
    stops early. Without it they are the last. An epoch has about `n_batches` batches; only the bar needs to know.
    """
    best, best_epoch, best_weights = -np.inf, params.epochs, None
    with bar(f"{name} trains", total=params.epochs * n_batches) as steps:
        for number in range(1, params.epochs + 1):
            network.train()
            losses = []
            for batch in epoch():
                optimizer.zero_grad()
                value = loss(batch)
                if not torch.isfinite(value):
                    raise UserError(f"{name}: the loss is {value.item()} in epoch {number}; lower `model.lr`")
                value.backward()
                optimizer.step()
                losses.append(value.item())
                steps.update()
            if not losses:
                raise UserError(f"{name}: train has no target; raise `model.passed_weight` or lower the label's bar")
            network.eval()
            if after_epoch is None:
                continue
            goodness = after_epoch(number, float(np.mean(losses)))
            if goodness > best:
                best, best_epoch, best_weights = goodness, number, copy.deepcopy(network.state_dict())
            elif number - best_epoch > params.patience:
                break
    if best_weights is not None:
        network.load_state_dict(best_weights)
    return best_epoch


def watch(session: Session, model: Any, name: str) -> Callable[[int, float], float]:
    """What follows an epoch: the model's metrics on valid, added to the curve; returns the one to select by."""
    lines: list[dict[str, Any]] = []

    def after_epoch(number: int, loss: float) -> float:
        metrics = session.measure(model)
        lines.append({"model": name, "epoch": number, "loss": loss} | {f"valid_{key}": x for key, x in metrics.items()})
        if session.curve is not None:
            files.write_csv(session.curve, {key: np.array([line[key] for line in lines]) for key in lines[0]})
        return metrics[SELECT_BY]

    return after_epoch
