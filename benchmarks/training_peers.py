"""The peers' side of `training.py`; their environment runs it, which holds RecTools and not this project."""

import json
import sys
import time
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from rectools import Columns
from rectools.dataset import Dataset
from rectools.fast_transformers.net import FlatSASRecNet
from rectools.fast_transformers.preprocessing import build_sequences
from rectools.models import SASRecModel
from torch import Tensor, nn

WIDTH, BLOCKS, HEADS, DROPOUT, BATCH, LR = 64, 2, 2, 0.2, 128, 0.001


class Watch(pl.Callback):
    """When each epoch ends, and its loss. RecTools copies callbacks; what belongs to the class is not copied."""

    ends: ClassVar[list[tuple[float, float]]] = []
    losses: ClassVar[list[float]] = []

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.ends.append(now())
        self.losses.append(float(trainer.callback_metrics["train_loss"]))


def now() -> tuple[float, float]:
    """By the wall and by the processor, seconds."""
    return time.perf_counter(), time.process_time()


def sasrec_model(user: np.ndarray, item: np.ndarray, length: int, loss: str, epochs: int) -> tuple[Any, Any]:
    """RecTools' model as it comes; ends and losses of its epochs."""
    when = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(len(user)), unit="s")
    table = {Columns.User: user, Columns.Item: item, Columns.Weight: 1, Columns.Datetime: when}

    def trainer() -> Any:
        quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
        return pl.Trainer(accelerator="cpu", devices=1, max_epochs=epochs, callbacks=[Watch()], **quiet)

    SASRecModel(
        n_blocks=BLOCKS,
        n_heads=HEADS,
        n_factors=WIDTH,
        dropout_rate=DROPOUT,
        session_max_len=length,
        loss={"softmax": "softmax", "bce": "BCE"}[loss],
        n_negatives=1,
        lr=LR,
        batch_size=BATCH,
        epochs=epochs,
        get_trainer_func=trainer,
    ).fit(Dataset.construct(pd.DataFrame(table)))
    return Watch.ends, Watch.losses


def flat(user: np.ndarray, item: np.ndarray, length: int, loss: str, epochs: int) -> tuple[Any, Any]:
    """RecTools' flat network in the barest loop, its feed-forward 64 to 64 as the others'; ends and losses."""
    torch.manual_seed(0)
    x, y, known, _users = build_sequences(*(torch.from_numpy(a) for a in (user, item, np.arange(len(user)))), length)
    network = FlatSASRecNet(len(known), WIDTH, BLOCKS, HEADS, length, DROPOUT)
    for block in network.blocks:
        inner = [nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, WIDTH), nn.Dropout(DROPOUT)]
        block.ffn = nn.Sequential(*inner)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_normal_(parameter)
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    ends, losses = [], []
    for _ in range(epochs):
        of_epoch = []
        for rows in torch.randperm(len(x)).split(BATCH):
            batch = {"x": x[rows], "y": y[rows]}
            if loss == "bce":
                batch["negatives"] = torch.randint(1, len(known) + 1, (*batch["y"].shape, 1))
            optimizer.zero_grad()
            value = flat_loss(network(batch), batch["y"], loss)
            value.backward()
            optimizer.step()
            of_epoch.append(value.item())
        ends.append(now())
        losses.append(float(np.mean(of_epoch)))
    return ends, losses


def flat_loss(logits: Tensor, y: Tensor, loss: str) -> Tensor:
    """As RecTools computes it for the network's descendants: padding is masked out."""
    if loss == "softmax":
        return F.cross_entropy(logits.flatten(0, 1), y.flatten() - 1, ignore_index=-1)
    truth = torch.zeros_like(logits)
    truth[:, :, 0] = 1
    losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(-1) * (y != 0)
    return losses.sum() / (y != 0).sum()


def main() -> None:
    _train, path, system, length, loss, epochs, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    log = np.load(path)
    trained = {"SASRecModel": sasrec_model, "flat": flat}[system]
    ends, losses = trained(log["user"], log["item"], int(length), loss, int(epochs))
    targets = np.minimum(np.bincount(log["user"]) - 1, int(length)).sum()
    print(json.dumps({"targets": int(targets), "ends": ends, "losses": losses}))


main()
