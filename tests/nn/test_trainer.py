"""Epochs, early stopping and best weights, on a network of one number that every step moves by one."""

import csv

import pytest
import torch

from nextreel.errors import UserError
from nextreel.nn import trainer


class Counter(torch.nn.Module):
    """Its number is the steps made so far: the gradient of the loss is -1, the rate 1."""

    def __init__(self):
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(()))


def params(**changes):
    return trainer.Params(**{"lr": 1, "weight_decay": 0, "epochs": 6, "batch_size": 1, "patience": 1} | changes)


def train(goodness=None, loss=None, **changes):
    """The network, the epochs behind it, and the epochs that were measured. goodness: of each epoch in turn."""
    network, seen = Counter(), []

    def after_epoch(number, mean_loss):
        assert not network.training  # dropout is off when an epoch is measured
        seen.append((number, mean_loss))
        return goodness[number - 1]

    epochs = trainer.train(
        network,
        torch.optim.SGD(network.parameters(), lr=1.0),
        lambda: iter([1.0, 1.0]),
        2,
        loss or (lambda batch: -batch * network.number),
        params(**changes),
        "counter",
        after_epoch if goodness else None,
    )
    return network, epochs, seen


@pytest.mark.parametrize(
    ("goodness", "patience", "best", "measured"),
    [
        ([1, 2, 3, 4, 5, 6], 1, 6, 6),  # ever better: to the end
        ([1, 3, 2, 2, 9, 9], 1, 2, 4),  # a second epoch without a gain ends it, before the 9
        ([1, 3, 2, 2, 9, 9], 0, 2, 3),
        ([1, 3, 2, 2, 9, 9], 3, 5, 6),  # patience pays
        ([3, 3, 3, 3, 3, 3], 1, 1, 3),  # an equal epoch is no better one: the first stands
        ([0, -1, -2, -3, -4, -5], 5, 1, 6),
    ],
)
def test_the_best_epoch_s_weights_are_kept(goodness, patience, best, measured):
    network, epochs, seen = train(goodness, patience=patience)
    assert epochs == best
    assert network.number.item() == 2 * best  # two steps an epoch
    assert [number for number, _loss in seen] == list(range(1, measured + 1))


def test_without_a_measure_the_last_weights_stand():
    network, epochs, _seen = train()
    assert (network.number.item(), epochs) == (12, 6)


def test_the_loss_told_is_the_mean_over_the_epoch():
    _network, _epochs, seen = train([1, 1], epochs=2)
    assert seen[0] == (1, pytest.approx(-0.5))  # 0 before the first step, -1 before the second
    assert seen[1] == (2, pytest.approx(-2.5))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_the_epoch(bad):
    with pytest.raises(UserError, match=r"counter: the loss is (nan|inf) in epoch 1; lower `model\.lr`"):
        train([1] * 6, loss=lambda batch: torch.tensor(bad, requires_grad=True))


def test_an_epoch_without_a_batch_is_a_message():
    network = Counter()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    with pytest.raises(UserError, match="train has no target"):
        trainer.train(network, optimizer, lambda: iter([]), 0, lambda batch: batch, params(), "counter", None)


def test_the_curve_is_whole_after_every_epoch(tmp_path):
    measured = iter([{"ndcg@10": 0.1, "hr@10": 0.2}, {"ndcg@10": 0.3, "hr@10": 0.4}])
    after_epoch = trainer.watch(trainer.Session(lambda model: next(measured), tmp_path / "curve.csv"), None, "counter")
    for number, loss in ((1, 2.0), (2, 1.0)):
        assert after_epoch(number, loss) == pytest.approx((0.1, 0.3)[number - 1])
        with (tmp_path / "curve.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == number
    assert rows[1] == {
        "model": "counter", "epoch": "2", "loss": "1.00000", "valid_ndcg@10": "0.30000", "valid_hr@10": "0.40000",
    }  # fmt: skip
