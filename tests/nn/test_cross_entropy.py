"""The fused cross-entropy against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from nextreel.nn import cross_entropy as module
from nextreel.nn.cross_entropy import cross_entropy

D = 5


def made(n_targets, n_items, scale=1.0, dtype=torch.float64):
    g = torch.Generator().manual_seed(n_targets + n_items)
    queries = (scale * torch.randn(n_targets, D, generator=g, dtype=dtype)).requires_grad_()
    items = torch.randn(n_items, D, generator=g, dtype=dtype).requires_grad_()
    return queries, items, torch.randint(n_items, (n_targets,), generator=g), torch.rand(n_targets, generator=g)


def brute_force(queries, items, target, weight):
    losses = F.cross_entropy(queries @ items.T, target, reduction="none")
    weight = weight.to(losses.dtype)
    return (weight * losses).sum() / weight.sum()


def value_and_gradients(loss, queries, items, target, weight):
    value = loss(queries, items, target, weight)
    return value, *torch.autograd.grad(3 * value, (queries, items))


@pytest.mark.parametrize("n_targets", [1, 6, 7, 8, 15, 200])  # chunks of 7
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_value_and_gradients_are_torch_s_whatever_the_chunks(monkeypatch, n_targets, dtype, close):
    monkeypatch.setitem(module._CELLS, "cpu", 7 * 11)
    problem = made(n_targets, 11, dtype=dtype)
    for found, expected in zip(
        value_and_gradients(cross_entropy, *problem), value_and_gradients(brute_force, *problem), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=close, atol=close, check_dtype=False)


def test_by_hand():
    """Logits 0 and log 3: the probabilities are 1/4 and 3/4."""
    queries, items = torch.ones(2, 1), torch.tensor([[1.0], [3.0]]).log().requires_grad_()
    loss = cross_entropy(queries, items, torch.tensor([0, 1]), torch.tensor([3.0, 1.0]))
    quarter = torch.tensor([0.25, 0.75]).log()
    assert loss.item() == pytest.approx(-(3 * quarter[0] + quarter[1]).item() / 4)
    loss.backward()
    assert items.grad[:, 0].tolist() == pytest.approx([(3 * (0.25 - 1) + 0.25) / 4, (3 * 0.75 + 0.75 - 1) / 4])


def test_gradcheck(monkeypatch):
    monkeypatch.setitem(module._CELLS, "cpu", 4 * 6)
    queries, items, target, weight = made(9, 6)
    assert torch.autograd.gradcheck(lambda q, i: cross_entropy(q, i, target, weight), (queries, items))


def test_more_items_than_a_chunk_holds_cells(monkeypatch):
    monkeypatch.setitem(module._CELLS, "cpu", 3)
    problem = made(4, 11)
    torch.testing.assert_close(cross_entropy(*problem), brute_force(*problem), check_dtype=False)


def test_a_target_of_weight_0_counts_for_nothing():
    queries, items, target, weight = made(6, 11)
    weight[2] = 0
    value, of_queries, of_items = value_and_gradients(cross_entropy, queries, items, target, weight)
    others = torch.tensor([0, 1, 3, 4, 5])
    without = value_and_gradients(cross_entropy, queries[others], items, target[others], weight[others])
    torch.testing.assert_close(value, without[0])
    torch.testing.assert_close(of_items, without[2])
    assert (of_queries[2] == 0).all()


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
def test_extreme_logits_have_the_true_loss_and_finite_gradients(scale):
    problem = made(50, 30, scale, torch.float32)
    found, expected = value_and_gradients(cross_entropy, *problem), value_and_gradients(brute_force, *problem)
    assert torch.isfinite(found[0])
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_a_state_that_is_no_number_makes_the_loss_none():
    queries, items, target, weight = made(5, 4)
    queries.data[3, 0] = torch.nan
    assert torch.isnan(cross_entropy(queries, items, target, weight))


def test_two_runs_have_the_same_bytes():
    problem = made(3000, 700, dtype=torch.float32)
    for once, again in zip(*(value_and_gradients(cross_entropy, *problem) for _ in range(2)), strict=True):
        assert torch.equal(once, again)
