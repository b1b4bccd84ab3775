import builtins
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import START, Column, NamedColumns, Sets
from nextreel.clock import DAY_MS, UTC8_MS
from nextreel.contract import Training
from nextreel.errors import UserError
from nextreel.nn.wide import Wide
from nextreel.two_stage import trees
from tests.neural import over_days

OBJECTIVES = pytest.mark.parametrize("objective", ["binary", "lambdarank"])
N_USERS, N_DAYS, A_DAY, N_VIDEOS = 60, 7, 30, 40


def fitted(objective, store, seed=0, threads=1):
    return trees.Trees.fit(objective, Training(store.fitted_on("train"), np.random.default_rng(seed)), threads)


@pytest.fixture(scope="module")
def either(made_store):
    """Liked is what has the common tag at the rare time of day, or the rare tag at the common one; one label in ten is
    wrong, one unknown. The last day is no train."""
    rng = np.random.default_rng(0)
    n = N_USERS * N_DAYS * A_DAY
    video_idx = rng.integers(1, N_VIDEOS + 1, n).astype(np.int32)
    late = rng.random(n) < 0.3
    hour = np.where(late, 20, 8)
    day = np.tile(np.repeat(np.arange(N_DAYS), A_DAY), N_USERS)
    time_ms = day * DAY_MS + 19_000 * DAY_MS - UTC8_MS + hour * 3_600_000
    liked = late ^ (video_idx > 0.7 * N_VIDEOS)
    positive = np.where(rng.random(n) < 0.1, ~liked, liked).astype(np.int8)
    positive[rng.random(n) < 0.1] = -1
    order = np.lexsort((time_ms, np.repeat(np.arange(N_USERS), N_DAYS * A_DAY)))
    events = {"video_idx": video_idx, "time_ms": time_ms, "positive": positive}
    offsets = np.concatenate([[0, 0], N_DAYS * A_DAY * np.arange(1, N_USERS + 1)])
    cuts = {START: offsets[:-1], "train": np.maximum(offsets[1:] - A_DAY, 0), "all": offsets[1:]}
    store = made_store(
        offsets, cuts, {name: column[order] for name, column in events.items()}, np.arange(N_VIDEOS + 1),
        np.arange(N_USERS + 2),
    )  # fmt: skip
    tag = (np.arange(1, N_VIDEOS + 1) > 0.7 * N_VIDEOS).astype(np.int32)
    videos = store.tables["videos"] | {"tags": Sets(tag, np.concatenate([[0], np.arange(N_VIDEOS + 1)]))}
    about = store.columns | {"videos/tags": Column("set", 2)}
    return replace(store, tables=store.tables | {"videos": NamedColumns(videos)}, columns=about), liked[order]


def last_day(store):
    """Its events as pairs, with the history before them, and where they are."""
    user = np.repeat(np.arange(1, N_USERS + 1), A_DAY)
    position = store.cuts["train"][user] + np.tile(np.arange(A_DAY), N_USERS)
    end = store.cuts["train"][user] - store.offsets[user]
    video_idx, time_ms = store.events("video_idx")[position], store.events("time_ms")[position]
    tab, n = np.full(len(user), -1, np.int16), len(user)
    cases = Cases(np.arange(n), np.full(n, "valid"), user, time_ms, tab, end)
    return Pairs(store, cases, np.arange(n), video_idx, end, time_ms, tab), position


def relabelled(store, where):
    """The store with other outcomes at some positions."""
    positive = store.events("positive").copy()
    positive[where] = 1 - np.abs(positive[where])
    events = NamedColumns(store.tables["events"] | {"positive": positive})
    return replace(store, tables=store.tables | {"events": events})


@OBJECTIVES
def test_what_no_sum_of_inputs_can_say_is_learnt(lightgbm, either, objective):
    """A logistic regression on the same inputs takes the rare tag at the rare time for the best of all."""
    store, liked = either
    pairs, position = last_day(store)
    score = fitted(objective, store).score(pairs)
    wide, of_events = Wide.fit(store.fitted_on("train"))
    label = store.events("positive")[store.fitted_on("train").flat()[0]]
    linear = LogisticRegression().fit(of_events[label >= 0], label[label >= 0]).decision_function(wide.of_pairs(pairs))
    assert roc_auc_score(liked[position], linear) < 0.9
    assert roc_auc_score(liked[position], score) > 0.97
    assert score.dtype == np.float32


def test_binary_trees_say_log_odds(lightgbm, either):
    """One label in ten is wrong, and what little says is drawn towards the share of all."""
    store, liked = either
    pairs, position = last_day(store)
    model = fitted("binary", store)
    p, liked = expit(model.score(pairs)), liked[position]
    assert model.scale == "log_odds"
    assert 0.7 < p[liked].mean() < 0.9
    assert 0.1 < p[~liked].mean() < 0.3


def test_what_orders_without_a_unit_does_not_pass_for_log_odds(lightgbm, either):
    assert fitted("lambdarank", either[0]).scale == "log_share"


@OBJECTIVES
def test_the_same_seed_and_threads_grow_the_same_trees(lightgbm, either, objective):
    store, _liked = either
    pairs, _position = last_day(store)
    first, again, other = (fitted(objective, store, seed, threads=2).score(pairs).tobytes() for seed in (0, 0, 1))
    assert first == again
    assert first != other


@OBJECTIVES
def test_no_outcome_of_what_is_scored_moves_a_bit(lightgbm, either, objective):
    """Of the shown rows themselves; those of the day before, which teach, move them."""
    store, _liked = either
    pairs, position = last_day(store)
    before = fitted(objective, store).score(pairs)
    for where, same in ((position, True), (position - A_DAY, False)):
        changed = relabelled(store, where)
        score = fitted(objective, changed).score(replace(pairs, store=changed))
        assert (score.tobytes() == before.tobytes()) is same


def test_a_pair_has_the_same_score_wherever_it_stands(lightgbm, either):
    store, _liked = either
    pairs, _position = last_day(store)
    model, some = fitted("binary", store), np.arange(0, len(pairs), 7)
    np.testing.assert_allclose(model.score(pairs.where(some)), model.score(pairs)[some], rtol=1e-6)
    assert model.score(pairs.where(some[:0])).shape == (0,)


def test_groups_are_what_one_user_was_shown_on_one_day(monkeypatch):
    user, day = np.array([2, 1, 1, 2, 1, 1]), np.array([5, 6, 5, 5, 6, 6])
    order, sizes = trees.grouped(user, day)
    assert order.tolist() == [2, 1, 4, 5, 0, 3]
    assert sizes.tolist() == [1, 3, 2]
    monkeypatch.setattr(trees, "MOST_IN_A_GROUP", 2)
    assert trees.grouped(user, day)[1].tolist() == [1, 2, 1, 2]
    assert trees.grouped(user[:0], day[:0])[1].tolist() == []


def test_without_an_objective_there_are_none(tmp_path):
    assert trees.beside(None, tmp_path / "no such store", seed=0, threads=1) == []


def test_there_is_a_fit_for_every_part(lightgbm, cycle, tmp_path):
    """Each of its own events: of a store's cuts all but the start."""
    store = over_days(cycle, 8).store
    store.save(tmp_path / "store")
    (fits,) = trees.beside("binary", tmp_path / "store", seed=0, threads=1)
    assert set(fits.by_cut) == set(store.cuts) - {START}
    assert fits.of("valid") is fits.by_cut["train"]
    assert fits.of("next") is fits.by_cut["all"]
    assert fits.of("next").wide.sums["video",].total.sum() > fits.of("valid").wide.sums["video",].total.sum()


def test_few_rows_and_a_single_class_are_no_error(lightgbm, cycle):
    """All are positives, and no tree has a leaf of 200 rows."""
    world = over_days(cycle, 8)
    few = replace(world.store, cuts=world.store.cuts | {"train": np.minimum(world.store.cuts[START] + 1, 7200)})
    pairs = world.all_pairs("test").where(slice(0, 100))
    for objective in ("binary", "lambdarank"):
        score = fitted(objective, few).score(replace(pairs, store=few))
        assert np.isfinite(score).all()
        assert len(np.unique(score)) == 1


def test_a_machine_without_openmp_is_told_what_to_do(monkeypatch):
    plain = builtins.__import__

    def without(name, *rest):
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"`rank.trees` is 'binary', .*libgomp\.so\.1.* install .* or choose none"):
        trees.load("binary")
