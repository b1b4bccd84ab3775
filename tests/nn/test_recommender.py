"""The recommender around a network: what it knows, what it reads, what it keeps; SASRec stands for all where nothing
else is said."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from nextreel import models
from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import NamedColumns, Sets
from nextreel.contract import Training
from nextreel.errors import UserError
from nextreel.models import sasrec
from nextreel.nn import recommender, trainer
from nextreel.nn.batch import START, VIDEO, Lessons
from nextreel.params import Params
from tests.neural import EVERY, PLAIN, with_every_column

SETTINGS = PLAIN | {
    "epochs": 2, "batch_size": 4, "patience": 9, "width": 8, "length": 4, "dropout": 0, "negatives": 3,
    "block": "standard", "blocks": 1, "heads": 1,
}  # fmt: skip


@pytest.fixture
def store(made_store):
    """Three users; video 7 is in nobody's train, video 9 in no event at all."""
    events = {
        "video_idx": np.array([1, 2, 3, 4, 5, 6, 1, 3, 7, 2, 4], np.int32),
        "time_ms": np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 0, 1]),
        "positive": np.array([1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1], bool),
    }
    cuts = {"start": np.array([0, 0, 6, 9]), "train": np.array([0, 5, 8, 11])}
    return made_store([0, 0, 6, 9, 11], cuts, events, np.arange(10), np.arange(4))


def fit(store, session=None, seed=0, **changes):
    params = sasrec.Params(**SETTINGS | changes)
    return sasrec.Model.fit(params, Training(store.fitted_on("train"), np.random.default_rng(seed), session))


def cases_of(user_idx, history_end, time_ms=10, tab=0):
    n = len(user_idx)
    return Cases(
        np.arange(n), np.full(n, "test"), np.array(user_idx, int), np.full(n, time_ms), np.full(n, tab, np.int16),
        np.array(history_end, int),
    )  # fmt: skip


def queries(model, store, user_idx, history_end, **moment):
    cases = cases_of(user_idx, history_end, **moment)
    return model.queries(cases, cases.histories(store))


# --- which videos it has an opinion on ---


def test_a_video_of_which_train_knows_nothing_has_no_vector_and_no_opinion(store):
    model = fit(store)
    assert model.vocabulary.known.tolist() == [1, 2, 3, 4, 5]
    vectors = model.vectors(np.arange(10))
    assert np.isnan(vectors[[0, 6, 7, 8, 9]]).all()
    assert np.isfinite(vectors[1:6]).all()
    score = model.score(Pairs.at_cases(store, cases_of([1], [6]), np.zeros(3, int), np.array([2, 7, 9], np.int32)))
    assert np.isfinite(score).tolist() == [True, False, False]


def test_a_new_video_whose_tags_train_knows_has_an_opinion(store):
    """On purpose not as it was: video 6 has the tags of videos 1 and 2, 7 one that train does not know, 8 one of each,
    9 none. Of what train does not know nothing is said."""
    tags = [[], [0, 1], [1], [0], [], [1], [0, 1], [2], [1, 2], []]
    values = np.concatenate(tags).astype(np.int32)
    store.tables["videos"]["tags"] = Sets(values, np.cumsum([0, *map(len, tags)]))
    for videos in (["tags"], ["tags", "bias", "age"]):
        model = fit(store, videos=videos, id_dropout=0.3)
        vectors = model.vectors(np.arange(10))
        assert np.isnan(vectors).any(1).tolist() == [v in (0, 7, 9) for v in range(10)]
        by_tags = vectors[:, :8]
        table = model.items.content["tags"].table.weight.detach().numpy()
        np.testing.assert_allclose(by_tags[6], (table[1] + table[2]) / 2, rtol=1e-6)
        np.testing.assert_allclose(by_tags[8], table[2], rtol=1e-6)
    assert np.isnan(fit(store, videos=["bias"]).vectors(np.arange(6, 10))).all()


def test_a_score_is_the_query_times_the_vector(store):
    model = fit(store)
    video = np.array([1, 3, 5], np.int32)
    score = model.score(Pairs.at_cases(store, cases_of([1, 2], [6, 3]), np.array([0, 1, 1]), video))
    expected = (queries(model, store, [1, 2, 2], [6, 3, 3]) * model.vectors(video)).sum(1)
    assert score.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


# --- what is read of a history ---


def batch_of(model, store, user_idx, history_end):
    cases = cases_of(user_idx, history_end)
    return model._asked(cases, cases.histories(store))[0]


def test_only_the_last_tokens_are_read(store):
    """`length` tokens: of user 1's six events the last four, without the start token."""
    batch = batch_of(fit(store), store, [1, 1, 3], [6, 2, 0])
    assert batch.columns[VIDEO].tolist() == [3, 4, 5, 6, START, 1, 2, START]
    assert batch.length.tolist() == [4, 3, 1]


def test_under_positives_the_last_positives_are_read(store):
    batch = batch_of(fit(store, history="positives", inputs=[]), store, [1], [6])
    assert batch.columns[VIDEO].tolist() == [1, 3, 4, 6]
    assert list(batch.columns) == [VIDEO]


def test_an_input_changes_the_query_and_none_need_be(store):
    assert sasrec.Model.columns(sasrec.Params(**SETTINGS)) == ("events/positive", "events/time_ms")
    other = replace(store, tables=store.tables | {"events": NamedColumns(store.tables["events"])})
    other.tables["events"]["positive"] = ~store.events("positive")
    for inputs, heeded in ((["positive"], True), ([], False)):
        model = fit(store, inputs=inputs)
        one, another = (queries(model, each, [1, 2], [6, 3]) for each in (store, other))
        assert (one != another).any() == heeded


def test_columns_that_names_and_hashed_rows_need():
    params = sasrec.Params(**SETTINGS | EVERY | {"own_row_from": 2, "hashed_rows": 3})
    assert sasrec.Model.columns(params) == (
        "events/positive", "events/tab", "events/time_ms", "videos/author?", "videos/duration_ms?", "videos/tags?",
        "videos/upload_day?", "videos/video_key",
    )  # fmt: skip


# --- every input: training and inference ask alike, and nothing sees the future ---

LENGTH = 6
SHARED = {"tied": False, "temperature": 0.2, "own_row_from": 3, "hashed_rows": 4}
NETWORKS = {
    "sasrec": SETTINGS | EVERY,
    "sasrec, gated": SETTINGS | EVERY | SHARED | {"block": "gated", "blocks": 2},
    "gru4rec": PLAIN | EVERY | {"epochs": 2, "batch_size": 4, "width": 8, "dropout": 0, "layers": 1},
}


@pytest.fixture(scope="module")
def rich(made_store):
    """Twelve users with up to 15 events of 20 videos, some at the time of the one before, some days later; every
    column that there is."""
    rng = np.random.default_rng(6)
    sizes = np.concatenate([[0, 0, 1, 15, 14], rng.integers(2, 13, 8)])
    n = sizes.sum()
    gap_s = rng.choice([0, 2, 40, 3_000, 100_000], n, p=[0.25, 0.25, 0.2, 0.2, 0.1])
    offsets = np.concatenate([[0], sizes.cumsum()])
    events = {
        "video_idx": rng.integers(1, 21, n).astype(np.int32),
        "time_ms": np.concatenate([1_000 * (1_650_000_000 + gap_s[i:j].cumsum()) for i, j in
                                   pairwise(offsets)]),
        "positive": rng.choice([-1, 0, 1], n, p=[0.1, 0.4, 0.5]).astype(np.int8),
    }  # fmt: skip
    cuts = {"start": offsets[:-1], "train": offsets[1:]}
    return with_every_column(made_store(offsets, cuts, events, np.arange(21) * 7_919, np.arange(13)), rng)


@pytest.fixture(scope="module", params=list(NETWORKS))
def model(request, rich):
    """Fitted, in double precision."""
    module = models.module(request.param.partition(",")[0])
    params = module.Params(**NETWORKS[request.param] | {"length": LENGTH})
    fitted = module.Model.fit(params, Training(rich.fitted_on("train"), np.random.default_rng(0)))
    fitted.network.double()
    return fitted


def lessons_of(model, store):
    only_positives = model.params.history == "positives"
    return Lessons(store.fitted_on("train"), model.vocabulary.rows, only_positives, passed_weight=0.3)


def asked_in_training(model, lessons, first, end):
    """{token of the target: query} of one window. What was passed over is asked for as what was liked is: no list
    asks for it."""
    example = lessons.example(np.array([first]), np.array([end]))
    liked = torch.ones_like(example.requests.liked)
    with torch.no_grad():
        found = model.network(example.batch, example.requests._replace(liked=liked))
    target = [t for t in range(first + 1, end + 1) if lessons.weight[t] > 0 and lessons.at[t] >= first]
    assert lessons.tokens.columns[VIDEO][target].tolist() == example.video.tolist()
    return dict(zip(target, found.numpy(), strict=True))


def compared(model, rich):
    """Every target of every user, in windows from the start of the history and in full ones further on, against the
    query of a case with the history before the target, its moment and its tab. How many, how many of them tied, and how
    many in windows further on."""
    lessons = lessons_of(model, rich)
    tokens, n, tied, late = lessons.tokens, 0, 0, 0
    for user, (start, stop) in enumerate(zip(tokens.start, tokens.stop, strict=True)):
        for target in range(start + 1, stop):
            at = lessons.at[target]
            first = start if target - start <= LENGTH else at + 1 - LENGTH
            if lessons.weight[target] == 0 or target - first > LENGTH:
                continue
            found = asked_in_training(model, lessons, first, target)[target]
            when = tokens.time_ms[target]
            own = rich.events("time_ms")[rich.offsets[user] : rich.offsets[user + 1]]
            case = cases_of([user], [(own < when).sum()], time_ms=when, tab=tokens.tab[target])
            expected = model.queries(case, case.histories(rich))[0]
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=f"{user} {target - start}")
            n, tied, late = n + 1, tied + (at < target - 1), late + (first > start)
    return n, tied, late


def test_training_asks_as_inference_does(model, rich):
    n, tied, late = compared(model, rich)
    assert n > 60
    assert min(tied, late) > 5


def test_training_on_positives_asks_as_inference_does(rich):
    """Their gaps and profile run over positives alone."""
    model = fit(rich, **EVERY, history="positives", length=LENGTH)
    model.network.double()
    n, tied, _late = compared(model, rich)
    assert n > 20
    assert tied > 1


def changed(store, position, **columns):
    """The store with other values at one event, or from there on."""
    events = {name: np.array(column) for name, column in store.tables["events"].items()}
    for name, value in columns.items():
        events[name][position] = value
    return replace(store, tables=store.tables | {"events": NamedColumns(events)})


def windows_of(lessons):
    """A window for each history, its first tokens."""
    tokens = lessons.tokens
    ends = np.minimum(tokens.start + LENGTH, tokens.stop - 1)
    return [(first, end) for first, end in zip(tokens.start, ends, strict=True) if end > first]


def all_asked(model, lessons):
    return {
        t: query for window in windows_of(lessons) for t, query in asked_in_training(model, lessons, *window).items()
    }


def test_an_event_changes_no_query_of_an_earlier_target_and_its_video_not_its_own(model, rich):
    """Whatever becomes of it: another video, reaction, place."""
    lessons = lessons_of(model, rich)
    before, later_changed = all_asked(model, lessons), 0
    position, owner = rich.fitted_on("train").flat()
    for event in range(0, len(position), 3):
        token = event + owner[event] + 1
        video = rich.events("video_idx")[event] % 20 + 1
        for columns in ({"video_idx": video}, {"video_idx": video, "tab": 3, "positive": 1}):
            other = lessons_of(model, changed(rich, event, **columns))
            after = all_asked(model, other)
            for target in before.keys() & after.keys():
                own = target == token and "tab" in columns  # its tab is known when it is asked for
                if lessons.at[target] < token and not own:
                    assert np.array_equal(before[target], after[target]), (target, token)
                elif target > token and (before[target] != after[target]).any():
                    later_changed += 1
    assert later_changed > 50


def test_the_times_of_later_events_change_no_query(model, rich):
    lessons = lessons_of(model, rich)
    before = all_asked(model, lessons)
    offsets, compared = rich.offsets, 0
    for user in range(3, 13):
        for event in range(offsets[user] + 1, offsets[user + 1]):
            time_ms = rich.events("time_ms")
            if time_ms[event] == time_ms[event - 1]:
                continue
            rest = slice(event, offsets[user + 1])
            other = lessons_of(model, changed(rich, rest, time_ms=time_ms[rest] + 7_200_000))
            after = all_asked(model, other)
            for target in before.keys() & after.keys():
                if target < event + user + 1:
                    assert np.array_equal(before[target], after[target])
                    compared += 1
    assert compared > 100


def test_videos_at_one_time_are_asked_for_alike(model, rich):
    """By the same query, since none of them is known when another is shown."""
    same_tab = changed(rich, slice(None), tab=1)
    lessons = lessons_of(model, same_tab)
    found, time_ms, pairs = all_asked(model, lessons), lessons.tokens.time_ms, 0
    for target in found:
        if target - 1 in found and time_ms[target] == time_ms[target - 1]:
            np.testing.assert_allclose(found[target], found[target - 1], rtol=1e-12, atol=1e-12)
            pairs += 1
    assert pairs > 3


MANY = ([3, 4, 5, 6, 3, 2, 1, 4, 12], [15, 14, 2, 1, 7, 1, 0, 0, 3])


def test_histories_are_read_in_blocks_of_any_size(model, rich, monkeypatch):
    when = {"time_ms": 1_650_500_000_000, "tab": 2}
    whole = queries(model, rich, *MANY, **when)
    assert whole.shape[1] == model.vectors(np.array([1])).shape[1]
    for n in (1, 2, 5):
        monkeypatch.setattr(recommender, "_HISTORIES", n)
        np.testing.assert_allclose(queries(model, rich, *MANY, **when), whole, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(recommender, "_EVENTS", 3)
    np.testing.assert_allclose(queries(model, rich, *MANY, **when), whole, rtol=1e-9, atol=1e-9)
    assert queries(model, rich, [], []).shape == (0, whole.shape[1])


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_saved_model_answers_the_same(name, rich, tmp_path):
    module = models.module(name.partition(",")[0])
    params = module.Params(**NETWORKS[name] | {"length": LENGTH})
    model = module.Model.fit(params, Training(rich.fitted_on("train"), np.random.default_rng(0)))
    model.save(tmp_path / "model")
    loaded = module.Model.load(tmp_path / "model")
    about = json.loads((tmp_path / "model/vocabulary/about.json").read_text())
    assert about["inputs"] == {"positive": 2, "gap": 32, "request_gap": 32, "hour": 24, "age": 32, "tab": 4}
    when = {"time_ms": 1_650_500_000_000, "tab": 2}
    assert (queries(loaded, rich, *MANY, **when) == queries(model, rich, *MANY, **when)).all()
    assert np.array_equal(loaded.vectors(np.arange(21)), model.vectors(np.arange(21)), equal_nan=True)
    assert loaded.params == model.params


@pytest.mark.parametrize(
    ("names", "heeded"),
    [
        ({}, set()),
        ({"inputs": ["request_gap"]}, {"time"}),
        ({"inputs": ["gap", "hour", "age", "tab"]}, set()),
        ({"request": ["gap"]}, {"time"}),
        ({"request": ["hour"]}, {"time"}),
        ({"request": ["tab"]}, {"tab"}),
        ({"request": ["profile"]}, set()),
        ({"videos": ["age"]}, {"time"}),
        ({"videos": ["tags", "bias", "duration"]}, set()),
    ],
)
def test_what_a_query_hears_of_the_moment(names, heeded, rich):
    """Asked 3 s, or 3 days and 4 hours, after the last event, at one place or another."""
    model = fit(rich, **{"inputs": [], "request": [], "videos": []} | names)
    last_ms = int(rich.events("time_ms")[rich.offsets[4] - 1])
    one, later, elsewhere = (
        queries(model, rich, [3], [15], time_ms=last_ms + 1_000 * s, tab=tab)
        for s, tab in ((3, 0), (273_600, 0), (3, 2))
    )
    assert {name for name, other in (("time", later), ("tab", elsewhere)) if (one != other).any()} == heeded


def test_the_last_token_says_when_the_next_video_is_asked_for(rich):
    model = fit(rich, inputs=["request_gap"])
    last_ms = int(rich.events("time_ms")[rich.offsets[4] - 1])
    cases = cases_of([3], [15], time_ms=last_ms + 3_000)
    batch, _requests = model._asked(cases, cases.histories(rich))
    seconds = np.append(np.diff(rich.events("time_ms")[rich.offsets[4] - 4 : rich.offsets[4]]) / 1_000, 3)
    assert batch.columns["request_gap"].tolist() == (1 + np.floor(np.log2(1 + seconds))).tolist()


# --- the loss of what cases are to find ---


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_the_loss_of_what_cases_are_to_find(store, monkeypatch, loss):
    """Against the head, asked by hand; those of a video that train does not know are left out."""
    model = fit(store, loss=loss, dropout=0.5)
    cases, video_idx = cases_of([1, 2, 3, 1], [5, 3, 0, 2]), np.array([4, 7, 1, 3], np.int32)
    found = model.mean_loss(cases, cases.histories(store), video_idx)
    asked = [0, 2, 3]
    query = torch.from_numpy(model.queries(cases, cases.histories(store))[asked])
    place = torch.from_numpy(model.vocabulary.index[video_idx[asked]])
    with torch.no_grad():
        expected = model.head.loss(query, place, torch.ones(3), model.items, np.random.default_rng(0))
    assert found == pytest.approx(expected.item(), rel=1e-5)
    assert model.mean_loss(cases, cases.histories(store), video_idx) == found
    nobody = cases.where(np.array([1]))
    assert np.isnan(model.mean_loss(nobody, nobody.histories(store), video_idx[[1]]))
    if loss == "softmax":  # whose negatives no block changes
        monkeypatch.setattr(recommender, "_HISTORIES", 2)
        assert model.mean_loss(cases, cases.histories(store), video_idx) == pytest.approx(found, rel=1e-5)


def test_validation_moves_no_generator_of_training(store):
    """Else a fit that is watched would be another one."""
    videos = np.array([4, 3], np.int32)

    def measure(model):
        cases = cases_of([1, 2], [5, 3])
        return {"next_item": {"ndcg@10": 1.0, "loss": model.mean_loss(cases, cases.histories(store), videos)}}

    changes = {"loss": "bce", "dropout": 0.5, "videos": ["bias"], "id_dropout": 0.3}
    watched = fit(store, trainer.Session(measure), epochs=2, patience=9, **changes)
    alone = fit(store, epochs=1, **changes)
    assert watched.params.epochs == 1
    known = alone.vocabulary.known
    assert np.array_equal(watched.vectors(known), alone.vectors(known))


def test_the_epochs_that_were_chosen_are_told(store):
    values = iter([0.1, 0.3, 0.2])
    session = trainer.Session(lambda model: {"next_item": {"ndcg@10": next(values), "hr@10": 0.0}})
    model = fit(store, session, epochs=3)
    assert model.params.epochs == 2


# --- data that lack something ---


@pytest.mark.parametrize("name", ["gru4rec", "sasrec"])
def test_the_committed_settings_go_without_what_is_known_of_videos(name, cycle, committed):
    """As of a log of one's own that has ids and times alone."""
    module = models.module(name)
    params = Params(committed | {"model": committed["model"] | {"epochs": 1}}).section(
        f"train.{name}", module.Params, defaults="model"
    )
    assert {"videos/tags?", "videos/upload_day?"} <= set(module.Model.columns(params))
    assert "videos/tags" not in cycle.store.columns
    model = module.Model.fit(params, Training(cycle.store.fitted_on("train"), np.random.default_rng(0)))
    assert np.isfinite(model.score(cycle.all_pairs("test"))).all()


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("lacking", [["tags"], ["upload_day"], ["tags", "author", "duration_ms", "upload_day"]])
def test_every_input_goes_without_columns_of_videos(name, lacking, rich, tmp_path):
    videos = NamedColumns({key: x for key, x in rich.tables["videos"].items() if key not in lacking})
    columns = {key: about for key, about in rich.columns.items() if key.removeprefix("videos/") not in lacking}
    bare = replace(rich, tables=rich.tables | {"videos": videos}, columns=columns)
    module = models.module(name.partition(",")[0])
    params = module.Params(**NETWORKS[name] | {"length": LENGTH})
    model = module.Model.fit(params, Training(bare.fitted_on("train"), np.random.default_rng(0)))
    model.save(tmp_path / "model")
    loaded = module.Model.load(tmp_path / "model")
    found = queries(model, bare, *MANY, time_ms=1_650_500_000_000)
    assert np.isfinite(found).all()
    assert (queries(loaded, bare, *MANY, time_ms=1_650_500_000_000) == found).all()
    assert np.isfinite(model.vectors(model.vocabulary.known)).all()


# --- fits that cannot be ---


def test_softmax_over_too_many_videos_is_refused_with_what_to_do(store, monkeypatch):
    monkeypatch.setattr(recommender, "SOFTMAX_LIMIT", 4)
    with pytest.raises(UserError, match="scores all 5 videos of train .* choose sampled_softmax, gbce, bce or bpr"):
        fit(store)
    fit(store, loss="bce")


@pytest.mark.parametrize("changes", [{"history": "positives"}, {"passed_weight": 0}])
def test_a_train_without_a_positive_is_told_with_what_to_do(store, changes):
    store.tables["events"]["positive"] = np.zeros(11, bool)
    with pytest.raises(UserError, match="no target.*lower the label's bar"):
        fit(store, **changes)


def test_a_request_can_say_so_much(store):
    with pytest.raises(ValueError, match="`request` has author, tags; allowed: gap, hour, tab, profile"):
        fit(store, request=["tags", "gap", "author"])
