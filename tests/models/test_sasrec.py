"""What SASRec's network promises, for both kinds of block."""

import pytest
import torch
import torch.nn.functional as F

from nextreel.models import sasrec
from nextreel.nn.batch import FIRST, VIDEO, Batch
from nextreel.nn.padding import Rectangle

WIDTH, LENGTH, N_ROWS = 8, 6, FIRST + 20
SETTINGS = {
    "lr": 0.01, "weight_decay": 0, "epochs": 1, "batch_size": 4, "patience": 0, "width": WIDTH, "length": LENGTH,
    "dropout": 0.2, "seeds": 1, "history": "all", "inputs": [], "passed_weight": 0, "loss": "softmax", "negatives": 1,
    "blocks": 2, "heads": 2,
}  # fmt: skip


@pytest.fixture(params=["standard", "gated"])
def network(request):
    torch.manual_seed(0)
    return sasrec.Network(N_ROWS, {}, sasrec.Params(**SETTINGS | {"block": request.param})).double()


def batch_of(videos, sizes):
    return Batch({VIDEO: torch.tensor(videos)}, torch.tensor([0, *sizes]).cumsum(0))


@pytest.mark.parametrize("changed", range(1, LENGTH))
def test_a_later_token_changes_no_earlier_state_and_its_own(network, changed):
    network.eval()
    videos = list(range(FIRST, FIRST + LENGTH))
    before = network(batch_of(videos, [LENGTH]))
    videos[changed] = N_ROWS - 1
    after = network(batch_of(videos, [LENGTH]))
    assert torch.equal(before[:changed], after[:changed])
    assert ((before[changed:] - after[changed:]).abs().amax(1) > 1e-6).all()


def test_dropout_is_for_training_alone(network):
    batch = batch_of([FIRST, FIRST + 1, FIRST], [2, 1])
    assert not torch.equal(network.train()(batch), network(batch))
    assert torch.equal(network.eval()(batch), network(batch))


def test_a_gate_that_is_shut_lets_nothing_through():
    block = sasrec.GatedBlock(sasrec.Params(**SETTINGS | {"block": "gated"})).eval()
    batch = batch_of([FIRST, FIRST + 1, FIRST], [2, 1])
    x = torch.randn(3, WIDTH)
    for gate in (block.gate_attention, block.gate_feed):
        gate.bias.data.fill_(-1e4)
    assert torch.equal(block(x, Rectangle.several(batch)), x)


def test_swiglu_by_hand():
    layer = sasrec.SwiGLU(1, 1, dropout=0.0)
    layer.enter.weight.data = torch.tensor([[2.0], [3.0]])
    layer.leave.weight.data = torch.tensor([[5.0]])
    x = torch.tensor([[1.0], [-1.0]])
    expected = 5 * F.silu(2 * x) * (3 * x)
    assert layer(x).flatten().tolist() == pytest.approx(expected.flatten().tolist())
    assert expected[0].item() == pytest.approx(5 * 2 / (1 + torch.tensor(-2.0).exp().item()) * 3)
