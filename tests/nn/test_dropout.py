import torch
from torch import nn

from nextreel.nn import dropout
from nextreel.nn.dropout import Dropout


def outputs(module, shapes):
    return [module(torch.ones(shape)) for shape in shapes]


def test_values_are_zeroed_or_scaled_and_the_mean_stays():
    torch.manual_seed(0)
    out = Dropout(0.3)(torch.ones(1000, 64))
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    assert abs((out == 0).float().mean() - 0.3) < 0.01
    assert abs(out.mean() - 1) < 0.01


def test_a_gradient_passes_where_the_value_does():
    x = torch.ones(50, 8, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out)


def test_it_is_off_in_evaluation_and_with_a_share_of_0():
    x = torch.randn(5, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_a_share_of_1_leaves_nothing():
    assert (Dropout(1.0)(torch.ones(5, 3)) == 0).all()


def test_masks_differ_and_no_element_is_favoured():
    torch.manual_seed(0)
    module = Dropout(0.5)
    kept = torch.stack(outputs(module, [(20, 10)] * 400)) > 0
    assert len({tuple(mask.flatten().tolist()) for mask in kept}) > 300
    assert (kept.float().mean(0) - 0.5).abs().max() < 0.25


def test_the_generator_at_the_start_of_an_epoch_says_all():
    shapes = [(30, 8), (31, 8), (90, 8)] + [(30, 8)] * (dropout._USES + 1)
    module = Dropout(0.3)
    torch.manual_seed(1)
    outputs(module, shapes)  # leaves a half used pool behind
    state = torch.get_rng_state()
    module.train()
    found = outputs(module, shapes)
    torch.set_rng_state(state)
    resumed = Dropout(0.3)
    for one, other in zip(found, outputs(resumed.train(), shapes), strict=True):
        assert torch.equal(one, other)


def test_it_is_handed_down_by_a_parent_and_holds_no_weights():
    parent = nn.Sequential(Dropout(0.3))
    outputs(parent, [(4, 4)])
    parent.train()
    assert parent[0].left == 0
    assert parent.state_dict() == {}
