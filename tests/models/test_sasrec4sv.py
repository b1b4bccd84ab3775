"""Two answers of one network: what is shown next, and what comes of it, in a log where only order tells the latter."""

import csv
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Column, NamedColumns, Sets
from nextreel.contract import Training
from nextreel.errors import UserError
from nextreel.models import sasrec4sv
from nextreel.nn import recommender, trainer
from nextreel.nn.checkpoint import Checkpoint
from tests.neural import HEADS, PLAIN, over_days

N_VIDEOS, N_TAGS, COLD = 60, 4, 57  # videos from COLD on are shown to nobody
LIKED, PASSED = 0.8, 0.1  # WTR
SETTINGS = PLAIN | HEADS | {
    "block": "standard", "blocks": 1, "heads": 2, "epochs": 14, "patience": 14, "dropout": 0.1, "id_dropout": 0.2,
    "passed_weight": 1, "inputs": [], "request": ["gap"], "videos": ["tags", "author"],
    "weights": HEADS["weights"] | {"linear": 1, "gain": 1, "watch_time": 1},
}  # fmt: skip
DURATION_MS = 20_000


READ_OFF = [f"watch_time_{name}" for name in ("ms", "positive", "wtr", "wtg", "complete")]


def tag_of(video):
    return video % N_TAGS


@pytest.fixture(scope="module")
def world(world_of):
    """A video is liked if its tag follows on that of the video before; authors say nothing."""
    rng = np.random.default_rng(4)
    video = rng.integers(1, COLD, (300, 24))
    liked = np.zeros(video.shape, bool)
    liked[:, 1:] = tag_of(video[:, 1:]) == (tag_of(video[:, :-1]) + 1) % N_TAGS
    video[0, 0] = N_VIDEOS  # so that the catalogue holds them all; its video is then no longer cold
    made = world_of(video, n_train=20, n_valid=2, positive=liked)
    store, n = made.store, N_VIDEOS + 1
    watched = np.where(store.events("positive") == 1, LIKED, PASSED)
    told = {"wtr": watched, "wtg": 4 * watched - 1, "play_time_ms": DURATION_MS * watched}
    events = store.tables["events"] | told
    videos = store.tables["videos"] | {
        "tags": Sets(tag_of(np.arange(n)).astype(np.int32), np.arange(n + 1)),
        "author": (np.arange(n) % 7).astype(np.int32),
        "duration_ms": np.full(n, DURATION_MS),
    }
    about = {f"events/{name}": Column("number") for name in told}
    about |= {"videos/tags": Column("set", N_TAGS), "videos/author": Column("id", 7)}
    about |= {"videos/duration_ms": Column("number")}
    tables = store.tables | {"events": NamedColumns(events), "videos": NamedColumns(videos)}
    return over_days(replace(made, store=replace(store, tables=tables, columns=store.columns | about)), seconds=6)


def fit(world, session=None, **changes):
    params = sasrec4sv.Params.model_validate(SETTINGS | changes)
    return sasrec4sv.Model.fit(params, Training(world.store.fitted_on("train"), np.random.default_rng(0), session))


@pytest.fixture(scope="module")
def model(world):
    return fit(world)


@pytest.fixture(scope="module")
def asked(world):
    """Every video at every case of test, and whether it would be liked."""
    cases = world.asked.of("test").cases
    last = world.store.events("video_idx")[cases.histories(world.store).stop - 1]
    video = np.arange(1, N_VIDEOS + 1, dtype=np.int32)
    row = np.repeat(np.arange(len(cases)), len(video))
    pairs = Pairs.at_cases(world.store, cases, row, np.tile(video, len(cases)))
    return pairs, tag_of(pairs.video_idx) == (tag_of(last)[row] + 1) % N_TAGS


def test_what_comes_of_a_showing_is_learnt_from_order(model, asked):
    """Wide inputs are at work, and know nothing of it."""
    pairs, liked = asked
    assert np.isfinite(model.wide.std).sum() > 10
    varied = [column for column in model.wide.of_pairs(pairs).T if np.ptp(column) > 1e-3]
    assert max(abs(np.corrcoef(column, liked)[0, 1]) for column in varied) < 0.25
    score = model.score(pairs)
    assert score.dtype == np.float32
    assert roc_auc_score(liked, score) > 0.95
    assert 1 / (1 + np.exp(-score[liked].mean())) > 0.7  # log-odds
    assert 1 / (1 + np.exp(-score[~liked].mean())) < 0.2


def test_every_head_says_its_own(model, asked):
    pairs, liked = asked
    found = model.predictions(pairs)
    assert {name: (said.dtype, said.shape) for name, said in found.items()} == dict.fromkeys(
        ["positive", "linear", "gain", *READ_OFF], (np.float32, (len(pairs),))
    )
    gains = 4 * LIKED - 1, 4 * PASSED - 1
    for name, (high, low) in {
        "linear": (LIKED, PASSED),
        "gain": gains,
        "watch_time_ms": (DURATION_MS * LIKED, DURATION_MS * PASSED),
        "watch_time_wtr": (LIKED, PASSED),
        "watch_time_wtg": gains,
        "watch_time_positive": (1, 0),
    }.items():
        assert np.median(found[name][liked]) == pytest.approx(high, abs=0.3 * (high - low)), name
        assert np.median(found[name][~liked]) == pytest.approx(low, abs=0.15 * (high - low)), name
    assert (found["watch_time_complete"] == 0).all()  # nothing is watched to its end


def test_heads_are_judged_by_hand(model, asked):
    """On pairs of which half is known what came of them."""
    pairs, _liked = asked
    some = pairs.where(np.arange(0, len(pairs), 7))
    rng = np.random.default_rng(0)
    wtr = np.where(rng.random(len(some)) < 0.5, rng.random(len(some)), np.nan)
    label = np.where(np.isnan(wtr), np.nan, rng.integers(0, 2, len(some)))
    told = {"positive": label, "wtr": wtr, "wtg": np.full(len(some), np.nan), "play_time_ms": wtr * DURATION_MS}
    judged, said = model.judged(some, told), model.predictions(some)
    known = ~np.isnan(wtr)
    error = np.abs(said["linear"][known].astype(float) - wtr[known])
    assert judged["linear"]["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert judged["linear"]["loss"] == pytest.approx(np.where(error < 1, error**2 / 2, error - 0.5).mean(), rel=1e-5)
    towards = said["positive"][known].astype(float) * (2 * label[known] - 1)
    assert judged["positive"]["loss"] == pytest.approx(np.logaddexp(0, -towards).mean(), rel=1e-5)
    assert set(judged) == {"positive", "linear", "gain", "watch_time"}
    assert np.isnan(judged["gain"]["loss"])
    assert np.isnan(judged["gain"]["rmse"])
    assert judged["watch_time"]["loss"] > 0


@pytest.mark.parametrize(("score", "scale"), [("watch_time", "log_odds"), ("relevant_gain", "log_share")])
def test_the_score_can_be_read_off_other_heads(world, asked, score, scale):
    pairs, liked = asked
    weights = SETTINGS["weights"] | {"relevant": 1}
    model = fit(world, score=score, weights=weights)
    assert model.scale == scale
    assert roc_auc_score(liked, model.score(pairs)) > 0.9
    said = model.predictions(pairs)
    if score == "watch_time":
        expected = logit(said["watch_time_positive"].clip(1e-6, 1 - 1e-6))
    else:
        expected = np.log(expit(said["relevant"]) * np.log1p(np.exp(said["gain"])))
    np.testing.assert_allclose(model.score(pairs), expected, rtol=1e-3, atol=1e-4)


def test_heads_read_no_row_of_ids_where_all_are_dropped(world):
    """In training: what they learn then does not hang on the rows; a list's vectors keep theirs."""
    torch.manual_seed(0)
    model = fit(world, shown_id_dropout=1, id_dropout=0, epochs=1)
    model.network.train()
    model.network.zero_grad()
    shown, video, wide = torch.randn(6, 32), torch.arange(1, 7), torch.zeros(6, model.wide.n_inputs)
    model._predicted(shown, video, wide)["positive"].sum().backward()
    assert model.items.ids.weight.grad is None or not model.items.ids.weight.grad.any()
    model.items.of_videos(video).sum().backward()
    assert model.items.ids.weight.grad.any()


def test_without_counts_and_the_next_video_its_heads_learn_the_same(world, asked, tmp_path):
    """As published: one head, and nothing beside the sequence."""
    pairs, liked = asked
    weights = dict.fromkeys(SETTINGS["weights"], 0) | {"linear": 1}
    changes = {"weights": weights, "score": "linear", "chosen_by": "linear", "wide": False}
    model = fit(world, **changes)
    assert "events/tab?" not in sasrec4sv.Model.columns(model.params)
    assert list(model.predictions(pairs)) == ["linear"]
    assert model.scale == "log_share"  # no log-odds
    assert roc_auc_score(liked, model.score(pairs)) > 0.9
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(sasrec4sv.Model.load(tmp_path / "model").score(pairs), model.score(pairs))


def test_a_softmax_that_weighs_nothing_bounds_no_catalogue(world, monkeypatch):
    """As published, on a log of millions of videos: no loss over them is ever taken."""
    monkeypatch.setattr(recommender, "SOFTMAX_LIMIT", 10)
    with pytest.raises(UserError, match="softmax"):
        fit(world, epochs=1)
    weights = SETTINGS["weights"] | {"next_item": 0}
    fit(world, epochs=1, weights=weights, chosen_by="positive")


def test_a_model_says_the_same_after_a_folder(model, asked, tmp_path):
    pairs, _liked = asked
    model.save(tmp_path / "model")
    again = sasrec4sv.Model.load(tmp_path / "model")
    for name, said in model.predictions(pairs).items():
        np.testing.assert_array_equal(again.predictions(pairs)[name], said)


def test_an_epoch_is_chosen_by_the_head_that_is_asked(world, tmp_path):
    """The best by one head is not the best by the other."""

    def session():
        number = count(1)
        return trainer.Session(lambda _model: {
            "next_item": {"ndcg@10": -(at := next(number))}, "linear": {"rmse": abs(at - 2)}, "positive": {"loss": at},
        }, tmp_path / "curve.csv")  # fmt: skip

    assert fit(world, session(), epochs=3).params.epochs == 1
    assert fit(world, session(), epochs=3, chosen_by="linear").params.epochs == 2
    with (tmp_path / "curve.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["head"] for line in lines] == ["next_item", "positive", "linear", "gain", "watch_time"] * 3
    assert {line["epoch"] for line in lines if line["kept"] == "1"} == {"2"}
    first = {line["head"]: float(line["loss"]) for line in lines[:5]}
    last = {line["head"]: float(line["loss"]) for line in lines[-5:]}
    assert all(last[head] < first[head] for head in first)


def test_pairs_within_a_history_teach_the_positive_head(world, asked):
    pairs, liked = asked
    weights = HEADS["weights"] | {"positive": 1e-6, "pairwise": 3}
    score, n = fit(world, weights=weights).score(pairs), len(pairs.cases)
    within = [roc_auc_score(*both) for both in zip(liked.reshape(n, -1), score.reshape(n, -1), strict=True)]
    assert np.mean(within) > 0.8


def test_a_video_that_nobody_was_shown_is_judged_by_its_content(world, model, asked):
    pairs, liked = asked
    cold = np.isin(pairs.video_idx, [COLD, COLD + 1, COLD + 2])
    position, _owner = world.store.fitted_on("train").flat()
    assert not np.isin(world.store.events("video_idx")[position], pairs.video_idx[cold]).any()
    assert roc_auc_score(liked[cold], model.score(pairs)[cold]) > 0.9


def test_a_cold_video_s_score_moves_with_its_tag_and_its_author_and_no_other_does(world, model, asked):
    """It teaches nothing, so a fit with another content of it is the same fit."""
    pairs, _liked = asked
    cold, before = pairs.video_idx == COLD, model.score(pairs)
    videos = world.store.tables["videos"]
    other_author = np.where(np.arange(N_VIDEOS + 1) == COLD, (videos["author"] + 1) % 7, videos["author"])
    for changed in ({"tags": replace_tag(world.store, COLD)}, {"author": other_author}):
        store = replace(world.store, tables=world.store.tables | {"videos": NamedColumns(videos | changed)})
        score = fit(replace(world, store=store)).score(replace(pairs, store=store))
        assert (score[cold] != before[cold]).mean() > 0.5
        np.testing.assert_array_equal(score[~cold], before[~cold])


def replace_tag(store, video):
    sets = store.video_sets("tags")
    values = sets.values.copy()
    values[sets.offsets[video]] = (values[sets.offsets[video]] + 1) % N_TAGS
    return Sets(values, sets.offsets)


def test_users_who_differ_in_nothing_else_are_told_apart_by_their_vectors(world_of):
    """Each likes one tag of four, which neither the videos before nor their order say; reactions are no input."""
    rng = np.random.default_rng(5)
    video = rng.integers(1, N_VIDEOS + 1, (40, 24))
    user = np.arange(1, 41)
    made = world_of(video, n_train=20, n_valid=2, positive=tag_of(video) == tag_of(user)[:, None])
    n = N_VIDEOS + 1
    videos = {"tags": Sets(tag_of(np.arange(1, n)).astype(np.int32), np.concatenate([[0], np.arange(n)]))}
    tables = made.store.tables | {"videos": NamedColumns(made.store.tables["videos"] | videos)}
    about = made.store.columns | {"videos/tags": Column("set", N_TAGS)}
    made = replace(made, store=replace(made.store, tables=tables, columns=about))
    cases = made.asked.of("test").cases
    row, shown = np.repeat(np.arange(len(cases)), N_VIDEOS), np.tile(np.arange(1, n, dtype=np.int32), len(cases))
    pairs, liked = Pairs.at_cases(made.store, cases, row, shown), tag_of(shown) == tag_of(cases.user_idx)[row]
    settings = {"wide": False, "videos": ["tags"], "weights": HEADS["weights"], "epochs": 60}
    without, told = (fit(made, inputs=inputs, **settings).score(pairs) for inputs in ([], ["user"]))
    assert roc_auc_score(liked, without) < 0.75  # as far as 40 histories are learnt by heart
    assert roc_auc_score(liked, told) > 0.9


def test_no_outcome_of_what_is_shown_is_in_its_score(world, model, asked):
    """What came of every event after the histories is overwritten: no bit moves."""
    pairs, _liked = asked
    stop = pairs.cases.histories(world.store).stop
    events = {name: np.array(column) for name, column in world.store.tables["events"].items()}
    later = np.zeros(len(events["positive"]), bool)
    for user, end in zip(pairs.cases.user_idx, stop, strict=True):
        later[end : world.store.offsets[user + 1]] = True
    assert later.any()
    events["positive"] = np.where(later, 1 - events["positive"], events["positive"])
    for name, value in (("wtr", 0.5), ("wtg", 9.0), ("play_time_ms", 7.0)):
        events[name] = np.where(later, value, events[name])
    store = replace(world.store, tables=world.store.tables | {"events": NamedColumns(events)})
    again = model.predictions(replace(pairs, store=store))
    for name, said in model.predictions(pairs).items():
        np.testing.assert_array_equal(again[name], said)


# --- histories that run on ---


@pytest.fixture(scope="module")
def running(world):
    """The four events of valid and test of each user, the first two at one time, each asked after those strictly
    earlier. The padding has no tag, as in a real store."""
    time_ms = world.store.events("time_ms").reshape(300, 24).copy()
    time_ms[:, 21] = time_ms[:, 20]
    store, n = with_events(world.store, time_ms=time_ms.ravel()), N_VIDEOS + 1
    tags = Sets(tag_of(np.arange(1, n)).astype(np.int32), np.arange(-1, n).clip(min=0))
    videos = NamedColumns(store.tables["videos"] | {"tags": tags})
    store = replace(store, tables=store.tables | {"videos": videos})
    user, step = np.repeat(np.arange(1, 301, dtype=np.int32), 4), np.tile(np.arange(20, 24), 300)
    position, history_end = store.offsets[user] + step, np.where(step == 21, 20, step)
    cases = Cases(
        np.arange(1200), np.full(1200, "test"), user, time_ms[:, 20:].ravel(), np.zeros(1200, np.int16), history_end
    )
    return Pairs.at_cases(store, cases, np.arange(1200), store.events("video_idx")[position])


def with_events(store, **columns):
    return replace(store, tables=store.tables | {"events": NamedColumns(store.tables["events"] | columns)})


@pytest.fixture(scope="module")
def far_sighted(world, running):
    """It looks back on more than any history holds."""
    return fit(
        replace(world, store=running.store),
        epochs=2,
        length=25,
        inputs=["positive", "request_gap"],
        request=["gap", "profile"],
    )


def test_where_a_window_holds_the_history_one_pass_tells_what_each_history_alone_does(far_sighted, running):
    expected = far_sighted.score(running)
    assert far_sighted.running_score(running) == pytest.approx(expected, abs=1e-5)
    some = np.random.default_rng(0).permutation(len(running))[:333]  # in any order
    assert far_sighted.running_score(running.where(some)) == pytest.approx(expected[some], abs=1e-5)
    assert far_sighted.running_score(running.where(some[:0])).shape == (0,)


def test_a_longer_history_is_read_from_half_a_window_or_more(world, running):
    """With 8 tokens: after 20 events a window begins at 16 and five lie behind the request, after 22 seven, after 23
    all; which window that is hangs on nothing that is asked beside."""
    model = fit(world, epochs=2, length=8, inputs=["positive", "request_gap"], request=["gap"])
    exact, found = model.score(running), model.running_score(running)
    whole = running.history_end == 23
    assert found[whole] == pytest.approx(exact[whole], abs=1e-5)
    assert (found[~whole] != exact[~whole]).mean() > 0.9
    assert np.corrcoef(found, exact)[0, 1] > 0.9
    assert model.running_score(running.where(~whole)) == pytest.approx(found[~whole], abs=1e-5)


def test_who_is_asked_at_another_time_than_the_next_event_s_is_scored_by_a_history_of_its_own(world, running):
    model = fit(world, epochs=2, length=8, inputs=["positive", "request_gap"], request=["gap"])
    later = replace(running.cases, time_ms=running.cases.time_ms + 1)
    pairs = Pairs.at_cases(running.store, later, running.row, running.video_idx)
    assert model.running_score(pairs) == pytest.approx(model.score(pairs), abs=1e-5)


@pytest.mark.parametrize("step", [20, 21, 22, 23])
def test_a_running_score_knows_nothing_of_its_own_row_or_later_ones(far_sighted, running, step):
    """What came of them, and which videos came later, is overwritten: no bit of this row's score, nor of the scores of
    rows before it or at its time, moves."""
    first = 20 if step <= 21 else step  # of the rows of its time
    events = {name: np.array(running.store.events(name)).reshape(300, 24) for name in running.store.tables["events"]}
    events["positive"][:, first:] = ~events["positive"][:, first:]
    events["wtr"][:, first:], events["wtg"][:, first:] = 0.5, 9.0
    events["video_idx"][:, first:] = 1
    store = with_events(running.store, **{name: column.ravel() for name, column in events.items()})
    known = running.history_end <= first
    before, after = (far_sighted.running_score(replace(running, store=each)) for each in (running.store, store))
    np.testing.assert_array_equal(before[known], after[known])
    if not known.all():
        assert (before[~known] != after[~known]).mean() > 0.9


def test_lists_are_by_what_is_shown_next(world, model, asked):
    pairs, liked = asked
    by_list = (model.queries(pairs.cases, pairs.cases.histories(world.store)) @ model.vectors(
        np.arange(1, N_VIDEOS + 1, dtype=np.int32)).T).ravel()  # fmt: skip
    assert not np.allclose(by_list, model.score(pairs))
    known = np.isfinite(by_list)
    assert roc_auc_score(liked[known], by_list[known]) > 0.8  # a list asks for a positive


def test_a_fit_that_was_cut_off_ends_with_the_same_bytes(world, tmp_path):
    def session(folder, stops_at=None):
        curve = tmp_path / folder / "curve.csv"
        number = count(len(curve.read_text().splitlines()) - 1 if curve.exists() else 0)

        def measure(_model):
            if (at := next(number)) == stops_at:
                raise KeyboardInterrupt
            return {"next_item": {"ndcg@10": at / 10}}

        return trainer.Session(measure, curve, checkpoint=Checkpoint(tmp_path / folder / "fit.safetensors", "a"))

    whole = fit(world, session("whole"), epochs=3)
    with pytest.raises(KeyboardInterrupt):
        fit(world, session("cut", 1), epochs=3)
    again = fit(world, session("cut"), epochs=3)
    one, other = ({k: v.numpy().tobytes() for k, v in each.network.state_dict().items()} for each in (whole, again))
    assert one == other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": "positives"}, "`history` is 'positives'.*choose all"),
        ({"passed_weight": 0}, "`passed_weight` is 0.*choose more"),
        ({"weights": SETTINGS["weights"] | {"positive": 0}}, "`score` asks for positive"),
    ],
)
def test_settings_that_leave_the_heads_nothing_to_learn_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        sasrec4sv.Params.model_validate(SETTINGS | changes)


def test_only_heads_that_weigh_something_are_read_for(world):
    plain = sasrec4sv.Params.model_validate(SETTINGS | {"weights": HEADS["weights"]})
    every = sasrec4sv.Params.model_validate(SETTINGS)
    outcomes = {"events/wtr", "events/wtg", "events/play_time_ms"}
    assert not outcomes & set(sasrec4sv.Model.columns(plain))
    assert outcomes < set(sasrec4sv.Model.columns(every))
