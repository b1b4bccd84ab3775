import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nextreel.nn.rowwise_adagrad import RowwiseAdagrad
from nextreel.nn.trainer import clip


def table(n=6, width=3, seed=0):
    return torch.nn.Parameter(torch.randn(n, width, generator=torch.Generator().manual_seed(seed)))


def sparse(rows, values, n=6):
    values = torch.tensor(values, dtype=torch.float32)
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, (n, values.shape[1]), check_invariants=True)


def test_two_steps_by_hand():
    """Row 1 is met twice in a step: its gradient is (3, 4), of mean square 12.5; then (0, 1), .5 more."""
    weight = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = RowwiseAdagrad([weight], lr=0.1)
    weight.grad = sparse([1, 2, 1], [[1, 4], [2, 0], [2, 0]], n=3)
    optimizer.step()
    root = 12.5**0.5
    expected = [[0, 0], [-0.3 / root, -0.4 / root], [-0.2 / 2**0.5, 0]]
    torch.testing.assert_close(weight.detach(), torch.tensor(expected))
    weight.grad = sparse([1], [[0, 1]], n=3)
    optimizer.step()
    expected[1][1] -= 0.1 / 13**0.5
    torch.testing.assert_close(weight.detach(), torch.tensor(expected))
    assert optimizer.state[weight]["sum"].tolist() == [0, 13, 2]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1 << 30), st.integers(1, 4), st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_sparse_and_dense_gradients_make_the_steps_of_a_loop(seed, width, sizes):
    """Steps of so many rows, with repeats. Rows without a gradient keep their bytes."""
    rng = np.random.default_rng(seed)
    one, other = table(width=width), table(width=width)
    expected, total = one.detach().double().numpy().copy(), np.zeros(6)
    optimizers = RowwiseAdagrad([one], lr=0.3), RowwiseAdagrad([other], lr=0.3)
    met = np.zeros(6, bool)
    for size in sizes:
        rows, values = rng.integers(0, 6, size), rng.normal(size=(size, width)).astype(np.float32)
        one.grad = sparse(rows.tolist(), values.reshape(size, width))
        other.grad = one.grad.to_dense()
        for optimizer in optimizers:
            optimizer.step()
        for row in range(6):
            gradient = values[rows == row].astype(float).sum(0)
            total[row] += (gradient**2).mean()
            expected[row] -= 0.3 * gradient / (total[row] ** 0.5 + 1e-8)
        met[rows] = True
    for weight, optimizer in zip((one, other), optimizers, strict=True):
        np.testing.assert_allclose(weight.detach(), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(optimizer.state[weight]["sum"], total, rtol=1e-4, atol=1e-6)
        assert torch.equal(weight[~met], table(width=width)[~met])


def test_a_table_without_a_gradient_stays():
    weight = table()
    RowwiseAdagrad([weight], lr=0.1).step()
    assert torch.equal(weight, table())


def test_its_state_comes_back():
    """And goes on with the same bytes."""
    gradients = [sparse([1, 4, 1], [[1, 2, 3], [0, 1, 0], [1, 1, 1]]), sparse([4, 5], [[1, 2, 3], [0, 1, 0]])]
    whole, first, second = table(), table(), table(seed=1)
    optimizer, before, after = (RowwiseAdagrad([each], lr=0.1) for each in (whole, first, second))
    for gradient in gradients:
        whole.grad = gradient
        optimizer.step()
    first.grad, second.grad = gradients
    before.step()
    second.data.copy_(first)
    after.load_state_dict(before.state_dict())
    after.step()
    assert torch.equal(second, whole)
    assert torch.equal(after.state[second]["sum"], optimizer.state[whole]["sum"])


@pytest.mark.parametrize("norm", [0.5, 100.0])
def test_sparse_gradients_are_clipped_as_dense_ones(norm):
    row = torch.tensor([1, 3, 1, 1, 5])

    def gradients(is_sparse):
        weight, bias, bag, plain = table(), table(width=1), table(), torch.nn.Parameter(torch.ones(2))
        loss = (F.embedding(row, weight, sparse=is_sparse) ** 3).sum() + (plain**2).sum()
        loss = loss + F.embedding(row, weight, sparse=is_sparse).sin().sum()
        loss = loss + F.embedding(row, bias, sparse=is_sparse).exp().sum()
        bags = F.embedding_bag(row[None], bag, mode="mean", padding_idx=3, sparse=is_sparse)
        (loss + bags.square().sum()).backward()
        return [weight, bias, bag, plain]

    one, other = gradients(True), gradients(False)
    clip(one, norm)
    torch.nn.utils.clip_grad_norm_(other, norm)
    assert [each.grad.is_sparse for each in one] == [True, True, True, False]
    for each, dense in zip(one, other, strict=True):
        torch.testing.assert_close(each.grad.to_dense(), dense.grad)
