"""The head's loss against a plain loop over targets."""

import numpy as np
import pytest
import torch

from nextreel.nn import objectives
from nextreel.nn.batch import FIRST, Targets
from nextreel.nn.heads import NextItem

N_ROWS, WIDTH = FIRST + 9, 4
TARGETS = Targets(torch.tensor([1, 4, 4, 6]), torch.tensor([FIRST, FIRST + 3, FIRST + 8, FIRST]))
WEIGHT = torch.tensor([1.0, 0.25, 0.5, 1.0])


@pytest.fixture
def items():
    torch.manual_seed(1)
    return torch.nn.Embedding(N_ROWS, WIDTH).double()


@pytest.fixture
def states():
    return torch.from_numpy(np.random.default_rng(2).standard_normal((7, WIDTH)))


def test_softmax_weighs_all_known_videos(items, states):
    found = NextItem(items, "softmax", 1).loss(states, TARGETS, WEIGHT, np.random.default_rng(0))
    expected = 0.0
    for weight, at, video in zip(WEIGHT, *TARGETS, strict=True):
        logits = torch.stack([states[at] @ items.weight[row] for row in range(FIRST, N_ROWS)])
        expected += (weight * (logits.logsumexp(0) - logits[video - FIRST])).item()
    assert found.item() == pytest.approx(expected / WEIGHT.sum().item())


@pytest.mark.parametrize("objective", ["bce", "bpr", "sampled_softmax"])
def test_a_sample_holds_known_videos_and_leaves_the_target_out(items, states, objective):
    n = 50  # far more than there are videos: the target is drawn
    found = NextItem(items, objective, n).loss(states, TARGETS, WEIGHT, np.random.default_rng(0))
    shared = objective == "sampled_softmax"
    drawn = np.random.default_rng(0).integers(FIRST, N_ROWS, (1 if shared else 4, n))
    expected = 0.0
    for row, (weight, at, video) in enumerate(zip(WEIGHT, *TARGETS, strict=True)):
        rivals = [int(r) for r in drawn[0 if shared else row]]
        assert int(video) in rivals
        logits = [states[at] @ items.weight[r] if r != video else torch.tensor(-torch.inf).double() for r in rivals]
        positive = (states[at] @ items.weight[video])[None]
        expected += (weight * objectives.SAMPLED[objective](positive, torch.stack(logits)[None])).item()
    assert found.item() == pytest.approx(expected / WEIGHT.sum().item())


def test_the_table_of_items_learns_and_the_other_states_do_not(items, states):
    states.requires_grad_()
    NextItem(items, "softmax", 1).loss(states, TARGETS, WEIGHT, np.random.default_rng(0)).backward()
    assert (items.weight.grad[FIRST:].abs().sum(1) > 0).all()
    assert (items.weight.grad[:FIRST] == 0).all()
    assert (states.grad.abs().sum(1) > 0).tolist() == [False, True, False, False, True, False, True]
