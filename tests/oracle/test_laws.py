"""What can be known without the hidden state: more than nothing, less than the truth, nothing of what comes later."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nextreel import arrays
from nextreel.cases.store import NamedColumns
from nextreel.metrics import ranks
from nextreel.oracle.laws import RUNNING_MS, Laws
from nextreel.oracle.truth import Oracle


@pytest.fixture(scope="module")
def truth(small):
    return Oracle(small.data, small.label)


@pytest.fixture
def laws(small):
    """Its random numbers begin anew."""
    return Laws(small.data, small.label, np.random.default_rng(0))


def test_tastes_are_told_by_histories(small, truth, laws):
    cases = small.asked.of("test").cases
    histories = cases.histories(small.store)
    true, told = truth.belief(cases, histories), laws.belief(cases, histories)
    cosine = np.einsum("nd,nd->n", true.taste, told.taste) / np.linalg.norm(told.taste, axis=1)
    many = histories.length >= 50
    assert many.sum() > 20
    assert np.median(cosine[many]) > 0.9


def test_the_law_of_preferences_is_the_generator_s(laws):
    found = laws._preferences(laws.users["taste"])
    assert found == pytest.approx(laws.users["topic_probability"], rel=1e-6, abs=1e-12)


def test_the_topic_before_is_the_last_one_s_while_its_session_runs(small, truth, laws):
    """Where it is told, it is the true one, but for videos played across a session's end."""
    cases = small.asked.of("test").cases
    histories = cases.histories(small.store)
    true, told = truth.belief(cases, histories), laws.belief(cases, histories)
    gap_ms = cases.time_ms - small.store.events("time_ms")[histories.stop - 1]
    assert (told.before[gap_ms > RUNNING_MS] == -1).all()
    assert (true.before[gap_ms > RUNNING_MS] == -1).all()
    assert (told.before == true.before)[gap_ms <= RUNNING_MS].mean() > 0.95
    assert (told.day == true.day).mean() > 0.95


def targets_found(oracle, small):
    found = list(oracle.answers(small.store, small.asked, "test", 10))
    return np.concatenate([some.target_rank for some in found])


def test_its_lists_are_worse_than_the_truth_and_better_than_none(small, truth, laws):
    best, told = (ranks.ndcg(targets_found(oracle, small), 10).mean() for oracle in (truth, laws))
    assert 0.05 < told < best


def test_it_answers_with_videos_of_its_cut_alone(small, laws):
    position, _user = small.store.fitted_on("train").flat()
    known = np.unique(small.store.events("video_idx")[position])
    store = replace(small.store, cuts={cut: small.store.cuts[cut] for cut in ("start", "train")})
    for found in laws.answers(store, small.asked, "test", 500):
        assert np.isin(found.listed["video_idx"], known).all()
    on_test = np.flatnonzero(small.shown.cases.part[small.shown.row] == "test")
    probability = laws.shown_probability(small.shown, store, "test", on_test)
    np.testing.assert_array_equal(probability > -np.inf, np.isin(small.shown.video_idx[on_test], known))


def test_probabilities_of_what_was_shown_tell_and_are_calibrated(small, truth, laws):
    on_test = np.flatnonzero(small.shown.cases.part[small.shown.row] == "test")
    label = arrays.load(small.data / "outcomes.parquet")["label"][on_test].astype(bool)
    told = laws.shown_probability(small.shown, small.store, "test", on_test)
    known = told > -np.inf
    best = truth.shown_probability(small.shown, small.store, "test", on_test)
    aucs = [roc_auc_score(label[known], p[known]) for p in (told, best)]
    assert 0.6 < aucs[0] < aucs[1]
    assert told[known].mean() == pytest.approx(label[known].mean(), abs=0.05)


def spoilt(small, after):
    """Reactions and videos of events from each position on are others."""
    events = dict(small.store.tables["events"])
    events["positive"] = np.where(after, ~events["positive"].astype(bool), events["positive"])
    events["video_idx"] = np.where(after, 301 - events["video_idx"], events["video_idx"]).astype(np.int32)
    return replace(small.store, tables={**small.store.tables, "events": NamedColumns(events)})


def test_nothing_of_what_comes_later_is_read(small):
    """Spoiling every event of test leaves beliefs at test's impressions as they were; spoiling valid's does not."""
    cases = small.shown.cases.where(small.shown.cases.part == "test")
    cases = cases.where(cases.history_end > 0)
    n_events = len(small.store.events("video_idx"))
    _position, owner = small.store.fitted_on("train_valid").flat()
    end = small.store.offsets[:-1] + np.bincount(owner, minlength=small.store.n_users + 1)
    user = np.repeat(np.arange(small.store.n_users + 1), np.diff(small.store.offsets))
    position = np.arange(n_events)
    frozen = cases.until(np.minimum(cases.history_end, end[cases.user_idx] - small.store.offsets[cases.user_idx]))
    tastes = []
    for store in (small.store, spoilt(small, position >= end[user]), spoilt(small, position >= end[user] - 5)):
        laws = Laws(small.data, small.label, np.random.default_rng(0))
        tastes.append(laws.belief(frozen, frozen.histories(store)).taste)
    np.testing.assert_array_equal(tastes[0], tastes[1])
    assert (tastes[0] != tastes[2]).any()
