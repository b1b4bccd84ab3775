import pytest
import torch
import torch.nn.functional as F

from nextreel.nn import objectives

POSITIVE = torch.tensor([0.5, -1.0], dtype=torch.float64)
NEGATIVE = torch.tensor([[0.2, -0.3, 1.0], [0.0, 2.0, -1.0]], dtype=torch.float64)


def test_bce_is_torch_s_own():
    ones, zeros = torch.ones(2, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    theirs = F.binary_cross_entropy_with_logits(POSITIVE, ones)
    theirs = theirs + F.binary_cross_entropy_with_logits(NEGATIVE, zeros, reduction="sum") / 2
    assert objectives.bce(POSITIVE, NEGATIVE).mean().item() == pytest.approx(theirs.item())


def test_bpr_by_hand():
    expected = torch.log(torch.sigmoid(POSITIVE[:, None] - NEGATIVE)).neg().mean()
    assert objectives.bpr(POSITIVE, NEGATIVE).mean().item() == pytest.approx(expected.item())


def test_sampled_softmax_is_torch_s_cross_entropy():
    logits = torch.cat([POSITIVE[:, None], NEGATIVE], 1)
    theirs = F.cross_entropy(logits, torch.zeros(2, dtype=torch.int64))
    assert objectives.sampled_softmax(POSITIVE, NEGATIVE).mean().item() == pytest.approx(theirs.item())


@pytest.mark.parametrize("loss", [objectives.bce, objectives.sampled_softmax])
def test_a_masked_negative_counts_for_nothing(loss):
    masked = torch.cat([NEGATIVE, torch.full((2, 1), -torch.inf, dtype=torch.float64)], 1)
    masked.requires_grad_()
    value = loss(POSITIVE, masked)
    assert value.tolist() == pytest.approx(loss(POSITIVE, NEGATIVE).tolist())
    value.sum().backward()
    assert torch.isfinite(masked.grad).all()
    assert (masked.grad[:, -1] == 0).all()
