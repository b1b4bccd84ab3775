"""Packed histories against the same ones padded to a rectangle: the same states, loss and gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nextreel import models
from nextreel.nn import objectives
from nextreel.nn.batch import FIRST, NOTHING, START, UNKNOWN, VIDEO, Tokens

LENGTH, WIDTH, N_VIDEOS = 6, 8, 40
# Of the users' histories: none, one, a window's length, above it, with the same time twice, and a second one of each.
SIZES = [0, 1, LENGTH, LENGTH + 5, 4, 3, LENGTH - 1, 2 * LENGTH + 3]
NEURAL = {
    "lr": 0.01, "weight_decay": 0, "epochs": 1, "batch_size": 4, "patience": 0, "width": WIDTH, "length": LENGTH,
    "schedule": "constant", "warmup_share": 0, "clip": None, "device": "cpu",
    "dropout": 0.0, "seeds": 1, "history": "all", "inputs": ["positive"], "passed_weight": 0.3, "loss": "softmax",
    "negatives": 1, "negatives_from": "uniform", "logq": None, "gbce_t": 0.75,
}  # fmt: skip
OWN = {"sasrec": {"blocks": 2, "heads": 2}, "gru4rec": {"layers": 2}}


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


@pytest.fixture(params=list(OWN))
def network(request):
    torch.manual_seed(0)
    params = models.module(request.param).Params(**NEURAL | OWN[request.param])
    return models.module(request.param).Network(FIRST + N_VIDEOS - 3, {"positive": 2}, params).double()


def tokens_of(histories):
    row_of = np.concatenate([[UNKNOWN], FIRST + np.arange(N_VIDEOS)]).astype(np.int32)
    row_of[-3:] = UNKNOWN  # three videos that train does not know
    return Tokens.of(histories, row_of, {"positive": 2}, only_positives=False, passed_weight=0.3)


def windows(tokens):
    return tokens.windows(LENGTH, np.random.default_rng(1))


def padded(tokens, first, end):
    """video and reaction, target and weight after each place, all [B, L], and which places are tokens."""
    width = int((end - first).max())
    at = first[:, None] + np.arange(width)
    inside = at < end[:, None]
    at = np.where(inside, at, 0)
    following = np.minimum(at + 1, len(tokens.weight) - 1)
    weight = np.where(inside, tokens.weight[following], 0)
    video = np.where(inside, tokens.columns[VIDEO][at], UNKNOWN)
    reaction = np.where(inside, tokens.columns["positive"][at], NOTHING)
    target = np.where(weight > 0, tokens.columns[VIDEO][following], UNKNOWN)
    return (torch.from_numpy(x) for x in (video.astype(np.int64), reaction.astype(np.int64), target.astype(np.int64),
                                          weight.astype(np.float64), inside))  # fmt: skip


def padded_states(network, video, reaction):
    """The states [B, L, D] of the paper's rectangle."""
    x = network.tokens.items(video) + network.tokens.inputs["positive"](reaction)
    if hasattr(network, "gru"):
        return network.norm(network.gru(x)[0])
    x = x * WIDTH**0.5 + network.positions.weight[: x.shape[1]]
    for block in network.blocks:
        attention = block.attention
        q, k, v = attention.project(block.norm_attention(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~causal, -torch.inf)
        x = x + attention.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = x + block.feed(block.norm_feed(x))
    return network.norm(x)


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def test_states_loss_and_gradients_are_those_of_the_padded_rectangle(histories, network):
    tokens = tokens_of(histories)
    first, end = windows(tokens)
    example = tokens.example(first, end)
    video, reaction, target, weight, inside = padded(tokens, first, end)
    assert len(set((end - first).tolist())) > 3  # else nothing is padded

    states = network(example.batch)
    rectangle = padded_states(network, video, reaction)
    torch.testing.assert_close(states, rectangle[inside], rtol=0, atol=1e-10)

    losses = objectives.softmax(
        states[example.targets.at], example.targets.video - FIRST, network.tokens.items.weight[FIRST:]
    )
    targets_weight = example.weight.double()
    loss = (targets_weight * losses).sum() / targets_weight.sum()
    asked = target != UNKNOWN
    logits = rectangle[asked] @ network.tokens.items.weight[FIRST:].T
    entropy = F.cross_entropy(logits, target[asked] - FIRST, reduction="none")
    of_rectangle = (weight[asked] * entropy).sum() / weight[asked].sum()
    torch.testing.assert_close(loss, of_rectangle, rtol=0, atol=1e-10)
    packed_gradients, others = gradients(network, loss), gradients(network, of_rectangle)
    for name, gradient in packed_gradients.items():
        torch.testing.assert_close(gradient, others[name], rtol=0, atol=1e-10, msg=name)


def test_the_last_states_are_those_of_the_padded_rectangle(histories, network):
    """What a case is asked by, from an empty history on."""
    tokens = tokens_of(histories)
    batch = tokens.last(LENGTH)
    assert batch.length.tolist() == [min(size + 1, LENGTH) for size in (0, *SIZES)]  # user 0 is padding
    first = np.maximum(tokens.start, tokens.stop - LENGTH)
    video, reaction, _target, _weight, inside = padded(tokens, first, tokens.stop)
    rectangle = padded_states(network, video, reaction)[torch.arange(len(first)), inside.sum(1) - 1]
    torch.testing.assert_close(network(batch)[batch.last], rectangle, rtol=0, atol=1e-10)


def test_tied_events_are_no_targets(histories):
    tokens = tokens_of(histories)
    position, owner = histories.flat()
    time_ms = histories.store.events("time_ms")[position]
    tied = np.flatnonzero((np.diff(time_ms) == 0) & (np.diff(owner) == 0)) + 1
    assert len(tied) == 1
    place = tied + owner[tied] + 1
    assert tokens.weight[place].tolist() == [0]


def test_histories_do_not_see_each_other(histories, network):
    """Alone in a batch each has the state that it has among others."""
    tokens = tokens_of(histories)
    together = tokens.last(LENGTH)
    states = network(together)[together.last]
    for user in range(len(histories)):
        alone = tokens_of(histories.where(slice(user, user + 1))).last(LENGTH)
        torch.testing.assert_close(network(alone)[alone.last][0], states[user], rtol=0, atol=1e-10)


def test_a_start_token_opens_every_history(histories):
    batch = tokens_of(histories).last(100)
    first = batch.offsets[:-1]
    assert (batch.columns[VIDEO][first] == START).all()
    assert (batch.columns["positive"][first] == NOTHING).all()
