import math

import pytest
import torch
import torch.nn.functional as F

from nextreel.nn import objectives

POSITIVE = torch.tensor([0.5, -1.0], dtype=torch.float64)
NEGATIVE = torch.tensor([[0.2, -0.3, 1.0], [0.0, 2.0, -1.0]], dtype=torch.float64)
SAMPLED = {
    "bce": objectives.bce,
    "bpr": objectives.bpr,
    "gbce": lambda positive, negative: objectives.gbce(positive, negative, 0.3),
    "sampled_softmax": objectives.sampled_softmax,
}
each_loss = pytest.mark.parametrize("loss", SAMPLED.values(), ids=SAMPLED)

# Logits whose sigmoids and exponentials are plain: sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4, sigmoid(0) = 1/2.
LOG3 = math.log(3)
BY_HAND = {
    "bce": math.log(4 / 3) + math.log(2) + math.log(4),  # -log 3/4 - log(1 - 1/2) - log(1 - 3/4)
    "bpr": (math.log(4 / 3) + math.log(2)) / 2,  # -log sigmoid(log 3 - 0), -log sigmoid(log 3 - log 3)
    "gbce": 0.3 * math.log(4 / 3) + math.log(2) + math.log(4),  # the first to the power 0.3
    "sampled_softmax": math.log(7 / 3),  # 3 of 3 + 1 + 3
}


@pytest.mark.parametrize("name", SAMPLED)
def test_by_hand(name):
    positive, negative = torch.tensor([LOG3], dtype=torch.float64), torch.tensor([[0, LOG3]], dtype=torch.float64)
    assert SAMPLED[name](positive, negative).tolist() == pytest.approx([BY_HAND[name]], rel=1e-12)


def test_bce_is_torch_s_own():
    ones, zeros = torch.ones(2, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    theirs = F.binary_cross_entropy_with_logits(POSITIVE, ones)
    theirs = theirs + F.binary_cross_entropy_with_logits(NEGATIVE, zeros, reduction="sum") / 2
    assert objectives.bce(POSITIVE, NEGATIVE).mean().item() == pytest.approx(theirs.item())


def test_bpr_by_its_formula():
    expected = torch.log(torch.sigmoid(POSITIVE[:, None] - NEGATIVE)).neg().mean()
    assert objectives.bpr(POSITIVE, NEGATIVE).mean().item() == pytest.approx(expected.item())


def test_sampled_softmax_is_torch_s_cross_entropy():
    logits = torch.cat([POSITIVE[:, None], NEGATIVE], 1)
    theirs = F.cross_entropy(logits, torch.zeros(2, dtype=torch.int64))
    assert objectives.sampled_softmax(POSITIVE, NEGATIVE).mean().item() == pytest.approx(theirs.item())


# --- gBCE ---


@pytest.mark.parametrize(
    ("n", "n_items", "t", "power"),
    [
        (1, 5, 0, 1.0),  # plain bce
        (1, 5, 1, 0.25),  # alpha = 1 / 4
        (1, 5, 0.75, 0.4375),  # 1/4 (3/4 (1 - 4) + 4) = 1/4 (4 - 9/4) = 7/16
        (256, 1025, 0.75, 0.4375),  # the paper's k: alpha = 256 / 1,024
        (4, 5, 0.75, 1.0),  # every negative is drawn: nothing to correct
        (9, 5, 0.75, 1.0),  # and more than there are is no more than all
        (1, 1, 0.75, 1.0),
    ],
)
def test_the_power_of_gbce_by_hand(n, n_items, t, power):
    assert objectives.gbce_power(n, n_items, t) == pytest.approx(power, rel=1e-12)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.75, 1.0])
def test_the_power_of_gbce_is_the_paper_s_formula(t):
    alpha = 256 / (12_101 - 1)
    assert objectives.gbce_power(256, 12_101, t) == pytest.approx(alpha * (t * (1 - 1 / alpha) + 1 / alpha))


def test_gbce_raises_the_probability_of_the_positive():
    expected = -torch.log(torch.sigmoid(POSITIVE) ** 0.3) - torch.log1p(-torch.sigmoid(NEGATIVE)).sum(1)
    assert objectives.gbce(POSITIVE, NEGATIVE, 0.3).tolist() == pytest.approx(expected.tolist())
    assert torch.equal(objectives.gbce(POSITIVE, NEGATIVE, 1.0), objectives.bce(POSITIVE, NEGATIVE))


# --- a target that was drawn for itself, and extremes ---


@each_loss
def test_a_masked_negative_counts_for_nothing(loss):
    masked = torch.cat([NEGATIVE, torch.full((2, 1), objectives.HIT, dtype=torch.float64)], 1)
    masked.requires_grad_()
    value = loss(POSITIVE, masked)
    share = 3 / 4 if loss is objectives.bpr else 1  # a mean over four, of which one is nothing
    assert value.tolist() == pytest.approx((share * loss(POSITIVE, NEGATIVE)).tolist())
    value.sum().backward()
    assert torch.isfinite(masked.grad).all()
    assert (masked.grad[:, -1] == 0).all()


@each_loss
def test_a_row_whose_negatives_are_all_masked_learns_from_none(loss):
    positive = torch.tensor([2.0], requires_grad=True)
    negative = torch.full((1, 3), objectives.HIT, requires_grad=True)
    value = loss(positive, negative)
    value.sum().backward()
    assert value.item() == pytest.approx(loss(torch.tensor([2.0]), torch.full((1, 1), -torch.inf)).item())
    assert torch.isfinite(positive.grad).all()
    assert negative.grad.tolist() == [[0, 0, 0]]


@each_loss
@pytest.mark.parametrize("positive", [-1e4, -100.0, 0.0, 100.0, 1e4])
@pytest.mark.parametrize("negative", [-1e4, 0.0, 1e4])
def test_values_and_gradients_are_finite_at_extreme_logits(loss, positive, negative):
    logits = [
        torch.tensor([positive]),
        torch.tensor([[negative, objectives.HIT, 0.0]]),
    ]
    for each in logits:
        each.requires_grad_()
    value = loss(*logits)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert all(torch.isfinite(each.grad).all() for each in logits)


def test_the_gradient_of_gbce_is_no_zero_where_the_power_of_a_probability_is_one():
    """At a logit of 20 a float32 sigmoid is 1, its power 1 and the loss by them 0."""
    positive = torch.tensor([20.0], requires_grad=True)
    objectives.gbce(positive, torch.full((1, 1), objectives.HIT), 0.02).backward()
    assert positive.grad.item() == pytest.approx(-0.02 / (1 + math.exp(20)), rel=1e-5)
