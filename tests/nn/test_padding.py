import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nextreel.nn import padding
from nextreel.nn.batch import Batch
from nextreel.nn.padding import Rectangle


def batch_of(sizes):
    return Batch({}, torch.tensor([0, *sizes]).cumsum(0))


def test_shorter_histories_have_zeros_behind_them():
    rectangle = Rectangle.of(batch_of([3, 1, 2]))
    x = torch.arange(1.0, 13).reshape(6, 2)
    padded = rectangle.pad(x)
    assert padded[0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert padded[1].tolist() == [[7, 8], [0, 0], [0, 0]]
    assert padded[2].tolist() == [[9, 10], [11, 12], [0, 0]]
    assert torch.equal(rectangle.unpad(padded), x)


def test_even_histories_are_not_copied():
    rectangle = Rectangle.of(batch_of([4, 4]))
    x = torch.arange(16.0).reshape(8, 2)
    assert torch.equal(rectangle.pad(x), x.reshape(2, 4, 2))
    assert rectangle.unpad(rectangle.pad(x)).data_ptr() == x.data_ptr()


def test_the_longest_stand_together_and_the_others_in_small_groups(monkeypatch):
    monkeypatch.setattr(padding, "_TOGETHER", 2)
    several = Rectangle.several(batch_of([1, 2, 2, 3, 4, 7, 7, 7, 7]))
    assert [each.shape for each in several] == [(2, 2), (2, 3), (1, 4), (4, 7)]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_several_rectangles_hold_every_token_once_in_order(sizes):
    batch = batch_of(sizes)
    x = torch.arange(1.0, 1 + sum(sizes))[:, None]
    several = Rectangle.several(batch)
    parts = x.split([len(each.at) for each in several])
    padded = [each.pad(part) for each, part in zip(several, parts, strict=True)]
    assert torch.equal(torch.cat([each.unpad(some) for each, some in zip(several, padded, strict=True)]), x)
    rows = [row[row > 0].tolist() for some in padded for row in some[..., 0]]
    assert rows == [part.flatten().tolist() for part in x.split(sizes)]


@pytest.mark.parametrize("sizes", [[5], [5, 5], [1, 5], [5, 1]])
def test_no_rectangle_is_empty(sizes):
    assert all(len(each.at) for each in Rectangle.several(batch_of(sizes)))
