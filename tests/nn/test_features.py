"""Videos and requests as vectors, by hand and by loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nextreel.cases.store import NamedColumns, Sets
from nextreel.nn import features
from nextreel.nn.batch import START, VIDEO, Batch, Requests
from nextreel.nn.features import Ages, Content, Items, RequestHead, embedding
from nextreel.nn.recommender import Network, NeuralParams
from nextreel.nn.vocabulary import FIRST, UNKNOWN, Names, Uploads, Vocabulary
from tests.neural import EVERY, PLAIN, with_every_column

WIDTH, DAY_MS, N = 4, 86_400_000, 12
ALL = ["tags", "author", "bias", "age"]


@pytest.fixture
def store(made_store):
    """Videos 1 to 9 of 12 are shown, 1 most often."""
    video = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 1, 1], np.int32)
    events = {"video_idx": video, "time_ms": np.arange(14) * DAY_MS // 4, "positive": np.arange(14) % 3 > 0}
    cuts = {"start": np.array([0, 0]), "train": np.array([0, 14])}
    bare = made_store([0, 0, 14], cuts, events, np.arange(N + 1), np.arange(2))
    return with_every_column(bare, np.random.default_rng(8))


def fit(store, videos=ALL, **changes):
    return Vocabulary.fit(store.fitted_on("train"), Names(["positive"], [], videos), False, **changes)


def vocabulary_of(store, videos=ALL, **changes):
    return fit(store, videos, **changes)[0]


def items_of(store, videos=ALL, width=WIDTH, rows=None, **changes):
    settings = {"bias": "bias" in videos, "tied": True, "dropout": 0.0, "temperature": None, "sparse": False}
    torch.manual_seed(1)
    vocabulary, counts = fit(store, videos, **rows or {})
    items = Items(vocabulary, width, **settings | changes).eval()
    items.start_bias(counts.log_rates)
    return items


def requests_at(time_ms, liked=1.0, columns=None, profile=None):
    n = len(time_ms)
    return Requests(torch.arange(n), np.array(time_ms), columns or {}, profile, torch.full((n,), float(liked)))


def test_vectors_have_a_length_of_about_one():
    torch.manual_seed(0)
    length = embedding(4_000, 64).weight.norm(dim=1)
    assert length.mean().item() == pytest.approx(1, abs=0.02)


# --- content ---


@pytest.mark.parametrize("sparse", [False, True])
def test_content_is_the_mean_of_a_video_s_vectors(sparse):
    """Of its first eight, by a loop."""
    rng = np.random.default_rng(0)
    rows = [[], *([*rng.choice(20, n, replace=False)] for n in (1, 3, 0, 8, 12)), [0]]
    sets = Sets(np.concatenate(rows).astype(np.int32), np.cumsum([0, *map(len, rows)]))
    content = Content(sets, WIDTH, sparse)
    table = content.table.weight
    found = content(torch.arange(7))
    for vector, values in zip(found, rows, strict=True):
        read = values[: features._VALUES]
        expected = sum((table[1 + value] for value in read), torch.zeros(WIDTH)) / max(len(read), 1)
        torch.testing.assert_close(vector, expected)
    square = torch.tensor([[1, 4], [3, 0], [5, 5]])
    torch.testing.assert_close(content(square), found[square])
    assert content(torch.zeros(0, dtype=torch.int64)).shape == (0, WIDTH)
    found[3].sum().backward()
    assert not (table.grad.to_dense() if sparse else table.grad).any()  # of a video without values


# --- the vectors of videos ---


def test_a_token_is_the_sum_of_its_video_and_inputs(store):
    params = NeuralParams(**PLAIN | {"width": WIDTH, "inputs": ["positive", "tab"], "videos": ["author"]})
    vocabulary, _counts = Vocabulary.fit(store.fitted_on("train"), params.names, False)
    network = Network(torch.nn.Identity(), vocabulary, params)
    n_tabs = vocabulary.rows.inputs["tab"]
    assert {name: table.num_embeddings for name, table in network.inputs.items()} == {"positive": 3, "tab": n_tabs + 1}
    columns = {VIDEO: torch.tensor([START, 3]), "positive": torch.tensor([0, 2]), "tab": torch.tensor([0, n_tabs])}
    found = network.tokens(Batch(columns, torch.tensor([0, 2])))
    items, positive, tab = network.items, network.inputs["positive"].weight, network.inputs["tab"].weight
    torch.testing.assert_close(found[0], items.ids.weight[1] + positive[0] + tab[0])  # a start token: no author
    expected = items.ids.weight[FIRST + 2] + items.content["author"](torch.tensor([3]))[0] + positive[2] + tab[n_tabs]
    torch.testing.assert_close(found[1], expected)


def test_an_unknown_video_adds_nothing_and_learns_nothing(store):
    items = items_of(store, videos=[])
    found = items.at_input(torch.tensor([11, 1]))
    assert (found[0] == 0).all()
    found.sum().backward()
    assert (items.ids.weight.grad[UNKNOWN] == 0).all()
    assert (items.ids.weight.grad[FIRST] != 0).all()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("temperature", [None, 0.25])
@pytest.mark.parametrize("videos", [[], ["bias"], ["age"], ["tags"], ALL])
def test_a_score_is_one_product(store, videos, tied, temperature):
    """Query . vector against the sum of what it is made of."""
    items = items_of(store, videos, tied=tied, temperature=temperature)
    state, time_ms = torch.randn(3, WIDTH), np.array([0, 3, 40]) * DAY_MS
    requests = requests_at(time_ms)._replace(liked=torch.tensor([1.0, 0.0, 1.0]))
    if items.bias is not None:
        items.bias.weight.data.normal_()
    if items.ages is not None:
        items.ages.worth.weight.data.normal_()
    video = torch.arange(1, N + 1)
    scores = items.queries(state, requests) @ items.of_videos(video).T
    vocabulary = vocabulary_of(store, videos)
    ids = (items.ids if tied else items.untied).weight
    for m in range(3):
        for score, v in zip(scores[m], video, strict=True):
            vector = ids[items.row[v]] + sum(content(v[None])[0] for content in items.content.values())
            if temperature is None:
                expected = state[m] @ vector
            else:
                expected = F.cosine_similarity(state[m], vector, dim=0, eps=1e-20) / temperature
            if items.bias is not None:
                bias = items.bias.weight[items.row[v]]
                expected = expected + bias[0] + bias[1] * requests.liked[m]
            if items.ages is not None:
                day = vocabulary.uploads.day[vocabulary.uploads.cell[v]]
                bucket = features.inputs.age_of(np.array([features.inputs.day(time_ms[m]) - day]))[0]
                expected = expected + items.ages.worth.weight[1 + int(bucket), 0]
            assert score.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    "rows", [{}, {"own_row_from": 2}, {"own_row_from": 2, "hashed_rows": 3}], ids=["own", "some", "hashed"]
)
@pytest.mark.parametrize("tied", [True, False])
def test_the_vectors_of_all_are_those_of_each(store, rows, tied):
    """A view of the tables, or rows out of them: the same values and gradients."""
    items = items_of(store, ALL, rows=rows, tied=tied)
    assert items.in_order == (not rows)
    found = {}
    for every in (True, False):
        items.zero_grad()
        vectors = items.vectors(None if every else torch.arange(len(items)))
        (vectors * torch.arange(vectors.numel()).view_as(vectors)).sum().backward()
        gradients = {name: x.grad.clone() for name, x in items.named_parameters() if x.grad is not None}
        found[every] = vectors.detach(), gradients
    assert torch.equal(found[True][0], found[False][0])
    assert found[True][1].keys() == found[False][1].keys()
    for name, gradient in found[True][1].items():
        torch.testing.assert_close(gradient, found[False][1][name])
    known = items.known
    assert torch.equal(items.of_videos(known), found[True][0])
    assert torch.equal(items.vectors(torch.tensor([[2, 0], [1, 1]])), found[True][0][torch.tensor([[2, 0], [1, 1]])])
    assert items.place[known].tolist() == list(range(len(items)))


def test_tied_and_untied_tables(store):
    tied, untied = items_of(store), items_of(store, tied=False)
    assert tied.untied is None
    video = torch.tensor([2])
    before = untied.at_input(video).clone(), untied.of_videos(video).clone()
    untied.untied.weight.data += 1
    assert torch.equal(untied.at_input(video), before[0])
    torch.testing.assert_close(untied.of_videos(video)[:, :WIDTH], before[1][:, :WIDTH] + 1)
    tied.ids.weight.data += 1
    torch.testing.assert_close(tied.at_input(video), tied.of_videos(video)[:, :WIDTH])


def test_a_bias_starts_at_the_log_rates(store):
    """Of videos with a row of their own; the mean of those who share one; nothing of those without."""
    for rows in ({}, {"own_row_from": 2}, {"own_row_from": 2, "hashed_rows": 2}):
        (vocabulary, counts), items = fit(store, **rows), items_of(store, rows=rows)
        weight, row = items.bias.weight.detach().numpy(), vocabulary.row[vocabulary.known]
        assert (weight[UNKNOWN] == 0).all()
        assert (weight[1] == 0).all()  # START
        for each in np.unique(row[row >= FIRST]):
            np.testing.assert_allclose(weight[each], counts.log_rates[row == each].mean(0), rtol=1e-5)


@pytest.mark.parametrize(("videos", "length"), [([], 1.0), (["tags"], 0.05), (["bias"], 0.05)])
def test_what_is_a_video_s_own_starts_small_beside_content(store, videos, length):
    items = items_of(store, videos, width=64)
    assert items.ids.weight[FIRST:].norm(dim=1).mean().item() == pytest.approx(length, rel=0.1)


# --- id dropout ---


@pytest.mark.parametrize("tied", [True, False])
def test_id_rows_are_zeroed_in_training_alone(store, tied):
    """With its bias, at input and output; content and age stay."""
    items = items_of(store, dropout=0.4, tied=tied)
    video = items.known.repeat(200)
    whole, content = items.of_videos(video), sum(c(video) for c in items.content.values())
    assert torch.equal(items.of_videos(video), whole)
    assert not torch.equal(whole[:, :WIDTH], content)
    at_input = items.at_input(video)
    items.train()
    for found, kept in ((items.of_videos(video), whole), (items.at_input(video), at_input)):
        gone = torch.isclose(found[:, :WIDTH], content).all(1)
        assert gone.double().mean().item() == pytest.approx(0.4, abs=0.04)
        torch.testing.assert_close(found[~gone], kept[~gone])  # nothing is scaled up
        if found.shape[1] > WIDTH:
            assert (found[gone, WIDTH : WIDTH + 2] == 0).all()
            torch.testing.assert_close(found[gone, WIDTH + 2 :], kept[gone, WIDTH + 2 :])
    items.dropout = 0.0
    assert torch.equal(items.of_videos(video), whole)


def test_a_zeroed_row_learns_nothing_and_content_does(store):
    items = items_of(store, dropout=1.0).train()
    items.vectors(None).sum().backward()
    assert not items.ids.weight.grad.any()
    assert not items.bias.weight.grad.any()
    assert items.content["author"].table.weight.grad.any()


# --- ages ---


def test_the_worth_of_an_age_by_bucket():
    """Cells of days 0, 10 and 20, and of videos whose upload is unknown; asked on days 10 and 13."""
    ages = Ages(Uploads(np.array([3, 0, 1, 2, 3], np.int32), np.array([0, 10, 20, np.nan])))
    assert ages.worth.weight[1].item() == features._NEVER  # before the upload
    assert not ages.worth.weight[[0, *range(2, 33)]].any()
    ages.worth.weight.data = torch.arange(33.0)[:, None]  # the worth of row r is r
    asked = np.array([13, 10, 13]) * DAY_MS - 8 * 3_600_000
    # Age 13: bucket 1 + floor(2 log2(14)) = 8; 3: 5; -7: 0; unknown; of day 10 age 10: 7; 0: 1; before: 0.
    expected = [[1 + 8, 1 + 5, 1 + 0, 0], [1 + 7, 1 + 1, 1 + 0, 0], [9, 6, 1, 0]]
    assert ages.of_requests(asked).tolist() == expected
    assert ages.of_videos(torch.tensor([[1, 4], [3, 0]])).argmax(-1).tolist() == [[0, 3], [2, 3]]
    assert ages.of_videos(torch.tensor([1])).tolist() == [[1, 0, 0, 0]]
    assert ages.of_requests(np.zeros(0, np.int64)).shape == (0, 4)


def test_a_video_before_its_upload_is_far_behind(store):
    videos = NamedColumns(store.tables["videos"] | {"upload_day": np.array([0.0] * 6 + [9] * 7)})
    items = items_of(replace(store, tables=store.tables | {"videos": videos}), ["age"])
    query = items.queries(torch.zeros(2, WIDTH), requests_at([2 * DAY_MS, 9 * DAY_MS]))
    scores = query @ items.of_videos(torch.tensor([1, 12])).T
    assert scores.tolist() == [[0, features._NEVER], [0, 0]]


# --- requests ---


def test_a_head_reads_the_request(store):
    """Its columns, whether a positive is asked for, and the profile, beside the state."""
    torch.manual_seed(0)
    head = RequestHead({"gap": 5, "tab": 2}, 6, WIDTH)
    head.liked.data.normal_()
    state, profile = torch.randn(3, WIDTH), torch.randn(3, 6)
    columns = {"gap": torch.tensor([0, 5, 1]), "tab": torch.tensor([2, 0, 1])}
    found = head(state, requests_at([0, 0, 0], 1.0, columns, profile))
    x = state + head.liked + 2 * head.tables["gap"].weight[columns["gap"]]  # the root of the width
    x = x + 2 * head.tables["tab"].weight[columns["tab"]] + profile @ head.profile.weight.T + head.profile.bias
    torch.testing.assert_close(found, state + head.mix(x))
    passed = head(state, requests_at([0, 0, 0], 0.0, columns, profile))
    torch.testing.assert_close(passed, state + head.mix(x - head.liked))


def test_a_network_without_request_has_no_head(store):
    params = NeuralParams(**PLAIN | {"width": WIDTH})
    assert Network(torch.nn.Identity(), vocabulary_of(store, []), params).head is None
    params = NeuralParams(**PLAIN | EVERY | {"width": WIDTH})
    vocabulary, _counts = Vocabulary.fit(store.fitted_on("train"), params.names, False)
    head = Network(torch.nn.Identity(), vocabulary, params).head
    assert set(head.tables) == {"gap", "hour", "tab"}
    assert head.profile.in_features == 2 * vocabulary.rows.profile.n_tags
