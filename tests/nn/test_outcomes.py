"""Heads on what comes of a showing, against values by hand."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nextreel.nn.outcomes import BIN, CHOICES, OUTCOMES, Outcomes, Params, Weights, measures, pairwise
from nextreel.nn.watch_time import N_BINS

ALL = {
    "next_item": 1,
    "positive": 1,
    "pairwise": 0,
    "binary": 2,
    "linear": 3,
    "relevant": 4,
    "gain": 5,
    "watch_time": 1,
}
NAN = float("nan")


def params(score="positive", chosen_by="next_item", **weights):
    return Params(
        weights=Weights(**ALL | weights), hidden=8, wide=True, shown_id_dropout=0, score=score, chosen_by=chosen_by
    )


def heads(**weights):
    torch.manual_seed(0)
    return Outcomes(params(**weights), width=4, n_wide=3, dropout=0.0)


def drawn(n):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, width, generator=generator) for width in (4, 4, 3)]


def test_a_head_that_weighs_nothing_is_not_there():
    assert heads().names == ["positive", "binary", "linear", "relevant", "gain", "watch_time"]
    assert heads(binary=0, gain=0).names == ["positive", "linear", "relevant", "watch_time"]
    found = heads(binary=0, gain=0)(*drawn(5))
    shapes = {name: said.shape for name, said in found.items()}
    assert shapes == {"positive": (5, 1), "linear": (5, 1), "relevant": (5, 1), "watch_time": (5, N_BINS)}


def test_losses_weigh_what_their_heads_do():
    assert params(pairwise=0.5, binary=0).weights.of_losses == {
        "next_item": 1, "positive": 1, "pairwise": 0.5, "linear": 3, "relevant": 4, "gain": 5, "watch_time": 1
    }  # fmt: skip


def test_at_the_start_all_are_alike_and_every_head_can_learn():
    model = heads()
    found = model(*drawn(6))
    for said in found.values():
        assert (said == 0.5).all()
    sum(said[:, 0].sum() for said in found.values()).backward()
    assert (model.wide.weight.grad != 0).any(1).sum() == len(model.names)  # of each head, one row


def test_a_watch_time_ratio_is_not_below_zero():
    model = heads()
    torch.nn.init.normal_(model.wide.weight)
    found = model(*drawn(200))
    assert (found["linear"] >= 0).all()
    assert (found["linear"] > 0).any()
    assert (found["gain"] < 0).any()


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
    loss = OUTCOMES[name].loss(torch.tensor([[found]]), torch.tensor([value]))
    assert loss.tolist() == [pytest.approx(expected, rel=1e-5)]


def test_the_loss_of_watch_time_is_of_its_bin():
    found = torch.zeros(1, N_BINS)
    found[0, 3] = 2.0
    for value, logit in ((3.0, 2.0), (4.0, 0.0)):
        loss = OUTCOMES["watch_time"].loss(found, torch.tensor([value]))
        assert loss.item() == pytest.approx(math.log(N_BINS - 1 + math.exp(2)) - logit, rel=1e-5)


def test_losses_are_means_over_what_is_known():
    model = heads(binary=0, relevant=0, watch_time=0)
    found = {
        "positive": torch.tensor([[0.5], [-1.0], [2.0]]),
        "linear": torch.tensor([[0.2], [0.7], [0.1]]),
        "gain": torch.tensor([[1.0], [0.0], [2.0]]),
    }
    labels = {
        "positive": torch.tensor([1.0, 0.0, NAN]),
        "wtr": torch.tensor([0.3, NAN, 0.9]),
        "wtg": torch.tensor([NAN, NAN, NAN]),
    }
    positive = (math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(-1.0))) / 2
    linear = (0.5 * 0.1**2 + 0.5 * 0.8**2) / 2
    losses = {name: loss.item() for name, loss in model.losses(found, labels).items()}
    assert losses == {"positive": pytest.approx(positive), "linear": pytest.approx(linear), "gain": 0.0}


def test_what_nobody_knows_teaches_nothing():
    model = heads()
    torch.nn.init.normal_(model.wide.weight)
    state, video, wide = drawn(4)
    labels = {name: torch.full((4,), NAN) for name in ("positive", "wtr", "wtg", BIN)}
    labels["positive"][0] = 1.0
    wide.requires_grad_()
    sum(model.losses(model(state, video, wide), labels).values()).backward()
    assert (wide.grad[0] != 0).any()
    assert (wide.grad[1:] == 0).all()


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_head_can_learn_one_batch_by_heart(name):
    """To nearly no loss, from what tells nothing but which row it is."""
    model, rng = heads(), np.random.default_rng(2)
    column = OUTCOMES[name].column
    drawn_value = {"positive": rng.integers(0, 2, 24), "wtr": rng.random(24), "wtg": rng.normal(size=24)}
    value = drawn_value.get(column, rng.integers(0, N_BINS, 24))
    labels = {each: torch.full((24,), NAN) for each in ("positive", "wtr", "wtg", BIN)}
    labels[column] = torch.from_numpy(value.astype(np.float32))
    inputs, optimizer = drawn(24), torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(1500):
        optimizer.zero_grad()
        loss = model.losses(model(*inputs), labels)[name]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


def test_pairs_are_of_one_history_and_of_both_labels():
    """A pair's loss hangs on which is drawn, so each history has scores that tell its pairs from all others."""
    torch.manual_seed(0)
    score = torch.tensor([1.0, 3.0, 10.0, 10.5, 100.0])
    label = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])  # the last one is alone
    history = torch.tensor([1, 1, 2, 2, 5])
    behind, ahead = math.log(1 + math.exp(2.0)), math.log(1 + math.exp(-0.5))
    found = {round(pairwise(score, label, history).item(), 4) for _ in range(200)}
    # both rows of a history may draw the other, or itself: means of one or two losses of each, or no pair at all
    means = {0.0}
    for a in range(3):
        for b in range(3):
            if a + b:
                means.add(round((a * behind + b * ahead) / (a + b), 4))
    assert found == means


def test_unknown_labels_make_no_pair_and_no_gradient():
    torch.manual_seed(0)
    score = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for _ in range(20):
        pairwise(score, torch.tensor([NAN, NAN, 1.0]), torch.tensor([0, 0, 0])).backward()
    assert score.grad.tolist() == [0, 0, 0]
    assert pairwise(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.long)).item() == 0


def test_drawn_pairs_are_spread_over_the_history():
    torch.manual_seed(0)
    n = 50
    score, label = torch.zeros(n, requires_grad=True), torch.zeros(n)
    label[0] = 1.0
    for _ in range(400):
        pairwise(score, label, torch.full((n,), 7)).backward()
    assert (score.grad[1:] > 0).all()
    assert score.grad[1:].std() < 0.5 * score.grad[1:].mean()
    assert score.grad[0] < 0


@pytest.mark.parametrize(
    ("name", "found", "value", "expected"),
    [
        ("linear", [[0.5], [1.0]], [0.5, 0.0], {"rmse": math.sqrt(0.5)}),
        ("gain", [[-1.0]], [1.0], {"rmse": 2.0}),
        ("binary", [[1.0], [1.0], [-1.0], [-1.0]], [0.9, 0.1, 0.6, 0.2], {"f1": 2 / (2 + 2)}),
        ("relevant", [[-1.0]], [0.0], {"f1": NAN}),
        ("watch_time", [[0.0] * N_BINS], [3.0], {}),
        ("binary", [], [], {"f1": NAN}),
        ("gain", [], [], {"rmse": NAN}),
    ],
)
def test_measures_by_hand(name, found, value, expected):
    found = torch.tensor(found).reshape(len(value), OUTCOMES[name].size)
    assert measures(name, found, torch.tensor(value)) == pytest.approx(expected, nan_ok=True)


def test_an_epoch_can_be_chosen_by_every_head():
    assert list(CHOICES) == ["next_item", *OUTCOMES]
    assert CHOICES["linear"].worth({"linear": {"rmse": 0.3}}) == -0.3  # the lower, the better
    assert CHOICES["binary"].worth({"binary": {"f1": 0.5}}) == 0.5
    assert np.isnan(CHOICES["positive"].worth({"positive": {"loss": NAN}}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"score": "watch_time", "watch_time": 0},
            r"`score` asks for watch_time, but `weights.watch_time` is 0; choose more",
        ),
        ({"score": "relevant_gain", "gain": 0}, r"`weights.gain` is 0; choose more"),
        ({"score": "relevant_gain", "gain": 0, "relevant": 0}, r"`weights.relevant` and `weights.gain` are 0"),
        ({"chosen_by": "binary", "binary": 0}, r"`chosen_by` asks for binary, but `weights.binary` is 0; choose more"),
        ({"next_item": 0}, "`chosen_by` asks for next_item, but `weights.next_item` is 0"),
        (
            {"positive": 0, "pairwise": 1, "score": "gain"},
            "`weights.pairwise` asks for positive, but",
        ),
        ({"chosen_by": "gauc"}, "chosen_by"),
    ],
)
def test_a_head_that_is_asked_must_be_there(changes, message):
    with pytest.raises(ValidationError, match=message):
        params(**changes)
