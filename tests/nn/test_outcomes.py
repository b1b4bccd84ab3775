"""Heads on what comes of a showing, against values by hand."""

import math

import pytest
import torch

from nextreel.nn.outcomes import OUTCOMES, Outcomes, Params, Weights

ALL = {"next_item": 1, "positive": 1, "binary": 2, "linear": 3, "relevant": 4, "gain": 5}


def heads(**weights):
    torch.manual_seed(0)
    return Outcomes(Params(weights=Weights(**ALL | weights), hidden=8), width=4, n_wide=3, dropout=0.0)


def drawn(n):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, width, generator=generator) for width in (4, 4, 3)]


def test_a_head_that_weighs_nothing_is_not_there():
    assert heads().names == ["positive", "binary", "linear", "relevant", "gain"]
    assert heads(binary=0, gain=0).names == ["positive", "linear", "relevant"]
    assert heads(binary=0, gain=0)(*drawn(5)).shape == (5, 3)


def test_at_the_start_the_wide_inputs_speak_alone():
    model = heads(linear=0)
    state, video, wide = drawn(6)
    one, other = model(state, video, wide), model(state * 2, video - 1, wide)
    torch.testing.assert_close(one, other)
    assert not torch.equal(one, model(state, video, wide + 1))


def test_a_watch_time_ratio_is_not_below_zero():
    model = heads()
    found = model(*drawn(200))[:, model.names.index("linear")]
    assert (found >= 0).all()
    assert (found > 0).any()
    assert (model(*drawn(200))[:, model.names.index("gain")] < 0).any()


@pytest.mark.parametrize(
    ("name", "found", "value", "expected"),
    [
        ("positive", 0.3, 1.0, math.log(1 + math.exp(-0.3))),
        ("positive", 0.3, 0.0, math.log(1 + math.exp(0.3))),
        ("binary", -2.0, 0.5, math.log(1 + math.exp(-2.0))),  # .5 is not above .5
        ("binary", -2.0, 0.51, math.log(1 + math.exp(2.0))),
        ("linear", 0.9, 0.5, 0.5 * 0.4**2),
        ("relevant", 1.0, 1.5, math.log(1 + math.exp(-1.0))),
        ("gain", 3.0, -1.0, 4 - 0.5),  # far away, Huber is the distance less a half
    ],
)
def test_each_loss_by_hand(name, found, value, expected):
    loss = OUTCOMES[name].loss(torch.tensor([found]), torch.tensor([value]))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_the_sum_of_means_by_weight_over_what_is_known():
    model = heads(binary=0, relevant=0)
    found = torch.tensor([[0.5, 0.2, 1.0], [-1.0, 0.7, 0.0], [2.0, 0.1, 2.0]])
    nan = float("nan")
    labels = {
        "positive": torch.tensor([1.0, 0.0, nan]),
        "wtr": torch.tensor([0.3, nan, 0.9]),
        "wtg": torch.tensor([nan, nan, nan]),
    }
    positive = (math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(-1.0))) / 2
    linear = (0.5 * 0.1**2 + 0.5 * 0.8**2) / 2
    assert model.loss(found, labels).item() == pytest.approx(positive + 3 * linear, rel=1e-5)


def test_what_nobody_knows_teaches_nothing():
    model = heads()
    state, video, wide = drawn(4)
    labels = {name: torch.full((4,), float("nan")) for name in ("positive", "wtr", "wtg")}
    labels["positive"][0] = 1.0
    wide.requires_grad_()
    model.loss(model(state, video, wide), labels).backward()
    assert (wide.grad[0] != 0).any()
    assert (wide.grad[1:] == 0).all()
