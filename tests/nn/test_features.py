import pytest
import torch

from nextreel.nn.batch import FIRST, UNKNOWN, VIDEO, Batch
from nextreel.nn.features import TokenEmbedding, embedding


def batch(video, **columns):
    rows = {VIDEO: torch.tensor(video)} | {name: torch.tensor(values) for name, values in columns.items()}
    return Batch(rows, torch.tensor([0, len(video)]))


def test_vectors_have_a_length_of_about_one():
    torch.manual_seed(0)
    length = embedding(4_000, 64).weight.norm(dim=1)
    assert length.mean().item() == pytest.approx(1, abs=0.02)


def test_a_token_is_the_sum_of_its_columns():
    tokens = TokenEmbedding(FIRST + 3, {"positive": 2, "tab": 5}, 4)
    assert {name: table.num_embeddings for name, table in tokens.inputs.items()} == {"positive": 3, "tab": 6}
    found = tokens(batch([FIRST, FIRST + 2], positive=[1, 2], tab=[0, 5]))
    for row, (video, positive, tab) in enumerate([(FIRST, 1, 0), (FIRST + 2, 2, 5)]):
        parts = (
            tokens.items.weight[video],
            tokens.inputs["positive"].weight[positive],
            tokens.inputs["tab"].weight[tab],
        )
        torch.testing.assert_close(found[row], sum(parts))


def test_an_unknown_video_adds_nothing_and_learns_nothing():
    tokens = TokenEmbedding(FIRST + 3, {"positive": 2}, 4)
    found = tokens(batch([UNKNOWN, FIRST], positive=[1, 1]))
    torch.testing.assert_close(found[0], tokens.inputs["positive"].weight[1])
    found.sum().backward()
    assert (tokens.items.weight.grad[UNKNOWN] == 0).all()
    assert (tokens.items.weight.grad[FIRST] != 0).all()


def test_without_inputs_a_token_is_its_video():
    tokens = TokenEmbedding(FIRST + 3, {}, 4)
    torch.testing.assert_close(tokens(batch([FIRST])), tokens.items.weight[[FIRST]])
