"""What the network of SASRec promises, for both kinds of block."""

import pytest
import torch
import torch.nn.functional as F

from nextreel.nn import self_attention
from nextreel.nn.batch import Batch
from nextreel.nn.padding import Rectangle
from tests.neural import PLAIN

WIDTH, LENGTH = 8, 6
SETTINGS = PLAIN | {"width": WIDTH, "length": LENGTH, "dropout": 0.2, "blocks": 2, "heads": 2}


@pytest.fixture(params=["standard", "gated"])
def encoder(request):
    torch.manual_seed(0)
    return self_attention.Encoder(self_attention.Params(**SETTINGS | {"block": request.param})).double()


def batch_of(sizes):
    return Batch({}, torch.tensor([0, *sizes]).cumsum(0))


def tokens_of(n):
    return torch.randn(n, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("changed", range(1, LENGTH))
def test_a_later_token_changes_no_earlier_state_and_its_own(encoder, changed):
    encoder.eval()
    tokens, batch = tokens_of(LENGTH), batch_of([LENGTH])
    before = encoder(tokens, batch)
    tokens[changed] = tokens_of(1)[0]
    after = encoder(tokens, batch)
    assert torch.equal(before[:changed], after[:changed])
    assert ((before[changed:] - after[changed:]).abs().amax(1) > 1e-6).all()


def test_dropout_is_for_training_alone(encoder):
    tokens, batch = tokens_of(3), batch_of([2, 1])
    assert not torch.equal(encoder.train()(tokens, batch), encoder(tokens, batch))
    assert torch.equal(encoder.eval()(tokens, batch), encoder(tokens, batch))


def test_a_gate_that_is_shut_lets_nothing_through():
    block = self_attention.GatedBlock(self_attention.Params(**SETTINGS | {"block": "gated"})).eval()
    batch = batch_of([2, 1])
    x = torch.randn(3, WIDTH)
    for gate in (block.gate_attention, block.gate_feed):
        gate.bias.data.fill_(-1e4)
    assert torch.equal(block(x, Rectangle.several(batch)), x)


def test_swiglu_by_hand():
    layer = self_attention.SwiGLU(1, 1, dropout=0.0)
    layer.enter.weight.data = torch.tensor([[2.0], [3.0]])
    layer.leave.weight.data = torch.tensor([[5.0]])
    x = torch.tensor([[1.0], [-1.0]])
    expected = 5 * F.silu(2 * x) * (3 * x)
    assert layer(x).flatten().tolist() == pytest.approx(expected.flatten().tolist())
    assert expected[0].item() == pytest.approx(5 * 2 / (1 + torch.tensor(-2.0).exp().item()) * 3)
