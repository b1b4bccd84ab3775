"""The recommender around a network: what it knows, what it reads, what it keeps; SASRec stands for all."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import NamedColumns
from nextreel.contract import Training
from nextreel.errors import UserError
from nextreel.models import sasrec
from nextreel.nn import recommender, trainer
from nextreel.nn.batch import FIRST, UNKNOWN, VIDEO, Targets, Tokens

SETTINGS = {
    "lr": 0.01, "weight_decay": 0, "epochs": 2, "batch_size": 4, "patience": 9, "width": 8, "length": 4, "dropout": 0,
    "schedule": "constant", "warmup_share": 0, "clip": None, "device": "cpu",
    "seeds": 1, "history": "all", "inputs": ["positive"], "passed_weight": 0.3, "loss": "softmax", "negatives": 3,
    "blocks": 1, "heads": 1,
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


def cases_of(user_idx, history_end):
    n = len(user_idx)
    return Cases(
        np.arange(n), np.full(n, "test"), np.array(user_idx, int), np.full(n, 10), np.zeros(n, np.int16),
        np.array(history_end, int),
    )  # fmt: skip


def queries(model, store, user_idx, history_end):
    cases = cases_of(user_idx, history_end)
    return model.queries(cases, cases.histories(store))


def test_a_video_that_train_does_not_show_has_no_vector_and_no_opinion(store):
    model = fit(store)
    assert model.known.tolist() == [1, 2, 3, 4, 5]
    vectors = model.vectors(np.arange(10))
    assert np.isnan(vectors[[0, 6, 7, 8, 9]]).all()
    assert np.isfinite(vectors[1:6]).all()
    score = model.score(Pairs.at_cases(store, cases_of([1], [6]), np.zeros(3, int), np.array([2, 7, 9], np.int32)))
    assert np.isfinite(score).tolist() == [True, False, False]


def test_a_score_is_the_query_times_the_vector(store):
    model = fit(store)
    video = np.array([1, 3, 5], np.int32)
    score = model.score(Pairs.at_cases(store, cases_of([1, 2], [6, 3]), np.array([0, 1, 1]), video))
    expected = (queries(model, store, [1, 2, 2], [6, 3, 3]) * model.vectors(video)).sum(1)
    assert score.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_only_the_last_tokens_are_read(store):
    """`length` tokens: of user 1's six events the last four, without the start token."""
    batch = fit(store)._last(store.until(np.array([1, 1, 3]), np.array([6, 2, 0])))
    rows = [FIRST + video - 1 for video in (3, 4, 5)]
    assert batch.columns[VIDEO].tolist()[:4] == [*rows, UNKNOWN]  # video 6 is none of train
    assert batch.length.tolist() == [4, 3, 1]


def test_under_positives_the_last_positives_are_read(store):
    batch = fit(store, history="positives", inputs=[])._last(store.until(np.array([1]), np.array([6])))
    assert batch.length.tolist() == [4]
    assert list(batch.columns) == [VIDEO]


def test_histories_are_read_in_blocks_of_any_size(store, monkeypatch):
    model = fit(store)
    user_idx, history_end = [1, 2, 3, 1, 2, 1], [6, 3, 2, 0, 1, 3]
    whole = queries(model, store, user_idx, history_end)
    monkeypatch.setattr(recommender, "_HISTORIES", 2)
    np.testing.assert_allclose(queries(model, store, user_idx, history_end), whole, atol=1e-6)
    assert queries(model, store, [], []).shape == (0, 8)


def test_a_saved_model_keeps_its_inputs_and_answers_the_same(store, tmp_path):
    model = fit(store)
    model.save(tmp_path / "model")
    assert json.loads((tmp_path / "model/model.json").read_text())["inputs"] == {"positive": 2}
    loaded = sasrec.Model.load(tmp_path / "model")
    assert (queries(loaded, store, [1, 2], [6, 3]) == queries(model, store, [1, 2], [6, 3])).all()
    assert np.array_equal(loaded.vectors(np.arange(10)), model.vectors(np.arange(10)), equal_nan=True)


def test_an_input_changes_the_state_and_none_need_be(store):
    assert sasrec.Model.columns(sasrec.Params(**SETTINGS)) == ("events/positive", "events/time_ms")
    other = replace(store, tables=store.tables | {"events": NamedColumns(store.tables["events"])})
    other.tables["events"]["positive"] = ~store.events("positive")
    for inputs, heeded in ((["positive"], True), ([], False)):
        model = fit(store, inputs=inputs)
        one, another = (queries(model, each, [1, 2], [6, 3]) for each in (store, other))
        assert (one != another).any() == heeded


def test_the_loss_is_the_mean_by_weight(store):
    model = fit(store)
    one = np.random.default_rng(1)

    class Head:
        def losses(self, states, targets, rng):
            return torch.arange(1.0, 1 + len(targets.at))

    tokens = Tokens.of(store.fitted_on("train"), model.row_of, model.inputs, False, 0.5)
    example = next(iter(tokens.epoch(4, 100, one)))
    model.head = Head()
    weight = example.weight.numpy()
    assert set(weight.tolist()) == {0.5, 1}
    expected = (weight * np.arange(1, 1 + len(weight))).sum() / weight.sum()
    assert model.loss(example, one).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_the_loss_of_what_a_case_is_to_find(store, monkeypatch, loss):
    """Against the head, asked by hand; of a video that train does not know it is NaN."""
    model = fit(store, loss=loss, dropout=0.5)
    cases, video_idx = cases_of([1, 2, 3, 1], [5, 3, 0, 2]), np.array([4, 7, 1, 3], np.int32)
    losses = model.losses(cases, cases.histories(store), video_idx)
    assert np.isnan(losses).tolist() == [False, True, False, False]
    asked = [0, 2, 3]
    states = torch.from_numpy(model.queries(cases, cases.histories(store))[asked])
    rows = torch.from_numpy(model.row_of[video_idx[asked]].astype(np.int64))
    with torch.no_grad():
        expected = model.head.losses(states, Targets(torch.arange(3), rows), np.random.default_rng(0))
    np.testing.assert_allclose(losses[asked], expected, rtol=1e-5)
    assert np.array_equal(model.losses(cases, cases.histories(store), video_idx), losses, equal_nan=True)
    if loss == "softmax":  # whose negatives no block changes
        monkeypatch.setattr(recommender, "_HISTORIES", 2)
        np.testing.assert_allclose(model.losses(cases, cases.histories(store), video_idx), losses, rtol=1e-5)


def test_validation_moves_no_generator_of_training(store):
    """Else a fit that is watched would be another one."""
    videos = np.array([4, 3], np.int32)

    def measure(model):
        cases = cases_of([1, 2], [5, 3])
        return {"ndcg@10": 1.0, "loss": model.losses(cases, cases.histories(store), videos).mean()}

    watched = fit(store, trainer.Session(measure), loss="bce", dropout=0.5, epochs=2, patience=9)
    alone = fit(store, loss="bce", dropout=0.5, epochs=1)
    assert watched.params.epochs == 1
    assert np.array_equal(watched.vectors(watched.known), alone.vectors(alone.known))


def test_the_epochs_that_were_chosen_are_told(store):
    values = iter([0.1, 0.3, 0.2])
    session = trainer.Session(lambda model: {"ndcg@10": next(values), "hr@10": 0.0})
    model = fit(store, session, epochs=3)
    assert model.params.epochs == 2
    again = fit(store, epochs=2)  # without a session: the same two epochs to their end
    assert np.array_equal(again.vectors(model.known), model.vectors(model.known))


def test_softmax_over_too_many_videos_is_refused_with_what_to_do(store, monkeypatch):
    monkeypatch.setattr(recommender, "SOFTMAX_LIMIT", 4)
    with pytest.raises(UserError, match="scores all 5 videos of train .* choose sampled_softmax, bce or bpr"):
        fit(store)
    fit(store, loss="bce")
