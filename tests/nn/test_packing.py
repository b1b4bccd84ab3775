"""Packed histories against the same ones padded to a rectangle: the same states, loss and gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nextreel import models
from nextreel.nn.batch import START, VIDEO, Lessons
from nextreel.nn.cross_entropy import cross_entropy
from nextreel.nn.recommender import Network
from nextreel.nn.vocabulary import NOTHING, Names, Vocabulary
from tests.neural import PLAIN

LENGTH, WIDTH, N_VIDEOS = 6, 8, 40
# Of the users' histories: none, one, a window's length, above it, with the same time twice, and a second one of each.
SIZES = [0, 1, LENGTH, LENGTH + 5, 4, 3, LENGTH - 1, 2 * LENGTH + 3]
SETTINGS = PLAIN | {"width": WIDTH, "length": LENGTH, "dropout": 0}
OWN = {"sasrec": {"block": "standard", "blocks": 2, "heads": 2}, "gru4rec": {"layers": 2}}


@pytest.fixture
def histories(made_store):
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0, 0], np.cumsum(SIZES)])
    n = offsets[-1]
    time_ms = np.concatenate([np.arange(size) for size in SIZES])
    tied = offsets[5] + 1
    time_ms[tied + 1] = time_ms[tied]
    events = {
        "video_idx": rng.integers(1, N_VIDEOS + 1, n).astype(np.int32),
        "time_ms": time_ms,
        "positive": rng.random(n) < 0.5,
    }
    cuts = {"start": offsets[:-1], "train": offsets[1:]}
    return made_store(offsets, cuts, events, np.arange(N_VIDEOS + 1), np.arange(len(SIZES) + 1)).fitted_on("train")


@pytest.fixture
def vocabulary(histories):
    """Of a fit on all but one user, which does not know all the videos."""
    found, _counts = Vocabulary.fit(histories.where(slice(0, -1)), Names(["positive"], [], []), only_positives=False)
    assert len(found.known) < len(np.unique(histories.store.events("video_idx")))
    return found


@pytest.fixture(params=list(OWN))
def network(request, vocabulary):
    torch.manual_seed(0)
    module = models.module(request.param)
    params = module.Params(**SETTINGS | OWN[request.param])
    return Network(module.Model.Encoder(params), vocabulary, params).double()


def lessons_of(histories, vocabulary):
    return Lessons(histories, vocabulary.rows, only_positives=False, passed_weight=0.3)


def windows(lessons):
    return lessons.windows(LENGTH, np.random.default_rng(1))


def padded(tokens, first, end):
    """video and reaction at each place, and which places are tokens, all [B, L]."""
    at = first[:, None] + np.arange((end - first).max())
    inside = at < end[:, None]
    at = np.where(inside, at, 0)
    video = np.where(inside, tokens.columns[VIDEO][at], START)
    reaction = np.where(inside, tokens.columns["positive"][at], NOTHING)
    return (torch.from_numpy(x) for x in (video.astype(np.int64), reaction.astype(np.int64), inside))


def asked(lessons, first, end):
    """window, place, video and weight of every target: the place by a walk back to an earlier time."""
    time_ms, found = lessons.tokens.time_ms, []
    for window, (begin, stop) in enumerate(zip(first, end, strict=True)):
        for target in range(begin + 1, stop + 1):
            at = target - 1
            while at >= begin and time_ms[at] == time_ms[target]:
                at -= 1
            if lessons.weight[target] > 0 and at >= begin:
                found.append((window, at - begin, lessons.tokens.columns[VIDEO][target], lessons.weight[target]))
    return (torch.tensor(np.array(column)) for column in zip(*found, strict=True))


def padded_states(network, video, reaction):
    """The states [B, L, D] of the paper's rectangle."""
    x = network.items.at_input(video) + network.inputs["positive"](reaction)
    encoder = network.encoder
    if hasattr(encoder, "gru"):
        return encoder.norm(encoder.gru(x)[0])
    x = x * WIDTH**0.5 + encoder.positions.weight[: x.shape[1]]
    for block in encoder.blocks:
        attention = block.attention
        q, k, v = attention.project(block.norm_attention(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~causal, -torch.inf)
        x = x + attention.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = x + block.feed(block.norm_feed(x))
    return encoder.norm(x)


def states_of(network, batch):
    return network.encoder(network.tokens(batch), batch)


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def test_states_loss_and_gradients_are_those_of_the_padded_rectangle(histories, vocabulary, network):
    lessons = lessons_of(histories.where(slice(0, -1)), vocabulary)
    first, end = windows(lessons)
    example = lessons.example(first, end)
    video, reaction, inside = padded(lessons.tokens, first, end)
    assert len(set((end - first).tolist())) > 3  # else nothing is padded

    states = states_of(network, example.batch)
    rectangle = padded_states(network, video, reaction)
    torch.testing.assert_close(states, rectangle[inside], rtol=0, atol=1e-10)

    place, vectors = network.items.place, network.items.vectors(None)
    queries = network(example.batch, example.requests)
    loss = cross_entropy(queries, vectors, place[example.video], example.weight)
    window, at, target, weight = asked(lessons, first, end)
    entropy = F.cross_entropy(rectangle[window, at] @ vectors.T, place[target], reduction="none")
    weight = weight.double()
    of_rectangle = (weight * entropy).sum() / weight.sum()
    torch.testing.assert_close(loss, of_rectangle, rtol=0, atol=1e-10)
    packed_gradients, others = gradients(network, loss), gradients(network, of_rectangle)
    for name, gradient in packed_gradients.items():
        torch.testing.assert_close(gradient, others[name], rtol=0, atol=1e-10, msg=name)


def test_the_last_states_are_those_of_the_padded_rectangle(histories, vocabulary, network):
    """What a case is asked by, from an empty history on."""
    lessons = lessons_of(histories, vocabulary)
    tokens = lessons.tokens
    batch = tokens.last(LENGTH)
    assert batch.length.tolist() == [min(size + 1, LENGTH) for size in (0, *SIZES)]  # user 0 is padding
    first = np.maximum(tokens.start, tokens.stop - LENGTH)
    video, reaction, inside = padded(tokens, first, tokens.stop)
    rectangle = padded_states(network, video, reaction)[torch.arange(len(first)), inside.sum(1) - 1]
    torch.testing.assert_close(states_of(network, batch)[batch.last], rectangle, rtol=0, atol=1e-10)


def test_histories_do_not_see_each_other(histories, vocabulary, network):
    """Alone in a batch each has the state that it has among others."""
    together = lessons_of(histories, vocabulary).tokens.last(LENGTH)
    states = states_of(network, together)[together.last]
    for user in range(len(histories)):
        alone = lessons_of(histories.where(slice(user, user + 1)), vocabulary).tokens.last(LENGTH)
        torch.testing.assert_close(states_of(network, alone)[alone.last][0], states[user], rtol=0, atol=1e-10)


def test_a_start_token_opens_every_history(histories, vocabulary):
    batch = lessons_of(histories, vocabulary).tokens.last(100)
    first = batch.offsets[:-1]
    assert (batch.columns[VIDEO][first] == START).all()
    assert (batch.columns["positive"][first] == NOTHING).all()
