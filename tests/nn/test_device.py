"""Devices, and what is moved there; `meta` stands for one that has no memory of its own."""

import numpy as np
import pytest
import torch

from nextreel.errors import UserError
from nextreel.nn import device
from nextreel.nn.batch import Batch, Example, Requests

META = torch.device("meta")


def test_the_processor_is_always_at_hand():
    assert device.choose("cpu") == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_told_with_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="`model.device` is 'cuda', .* set it to cpu, or install the driver"):
        device.choose("cuda")


def test_everything_in_an_example_is_moved():
    tensor, time_ms = torch.arange(3), np.arange(3)
    columns = {"gap": tensor}
    known = dict.fromkeys(Requests._fields, tensor) | {"time_ms": time_ms, "columns": columns}
    labels = {"wtr": torch.ones(3)}
    example = Example(Batch({"video": tensor}, tensor), Requests(**known), tensor, torch.ones(3), tensor, labels)
    found = device.moved(example, META)
    assert isinstance(found.batch, Batch)
    assert isinstance(found.requests, Requests)
    tensors = [found.batch.columns["video"], found.batch.offsets, found.requests.columns["gap"], found.labels["wtr"]]
    tensors += [found.video, found.weight, found.wide]
    tensors += [each for each in found.requests if isinstance(each, torch.Tensor)]
    assert {each.device for each in tensors} == {META}
    assert found.requests.time_ms is time_ms
    assert example.weight.device == torch.device("cpu")
    nothing = example._replace(requests=example.requests._replace(profile=None), wide=None)
    assert device.moved(nothing, META).requests.profile is None
    assert device.moved(nothing, META).wide is None


def test_what_is_no_tensor_stays():
    values = np.arange(3)
    assert device.moved((values, None, 3, [torch.ones(1)]), META)[0] is values


def test_nothing_is_copied_that_is_there():
    tensor = torch.arange(3)
    assert device.moved({"a": (tensor,)}, torch.device("cpu"))["a"][0] is tensor
