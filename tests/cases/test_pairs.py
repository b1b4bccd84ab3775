"""Videos to be scored for cases, an entry each."""

from dataclasses import fields, replace

import numpy as np
import pytest

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs, product
from nextreel.contract import Training, product_scores
from nextreel.models import itemcf
from nextreel.scoring.sets import ShownPairs


@pytest.fixture
def cases():
    """Four cases of two users."""
    user_idx, history_end = np.array([1, 1, 2, 2], np.int32), np.array([3, 5, 0, 2])
    tab = np.array([7, 8, 9, 10], np.int16)
    return Cases(np.array([10, 11, 12, 13]), np.full(4, "test"), user_idx, 100 + np.arange(4), tab, history_end)


def at(cases, row, video_idx, store=None):
    return Pairs.at_cases(store, cases, np.array(row, int), np.array(video_idx, np.int32))


def test_pairs_stand_at_the_moment_and_place_of_their_case(cases):
    pairs = at(cases, [2, 0, 0], [5, 6, 5])
    assert len(pairs) == 3
    assert pairs.history_end.tolist() == [0, 3, 3]
    assert pairs.time_ms.tolist() == [102, 100, 100]
    assert pairs.tab.tolist() == [9, 7, 7]


def test_some_pairs_keep_the_cases(cases):
    pairs = at(cases, [2, 0, 0, 3], [5, 6, 5, 1])
    for keep in (slice(1, 3), np.array([1, 2]), np.array([False, True, True, False])):
        some = pairs.where(keep)
        assert some.cases is cases
        assert (some.row.tolist(), some.video_idx.tolist()) == ([0, 0], [6, 5])
        assert some.history_end.tolist() == [3, 3]


def test_a_case_is_asked_once_where_its_entries_lie_together(cases):
    pairs = at(cases, [1, 1, 1, 0, 0, 3], [4, 5, 4, 4, 9, 9])
    asked, which = pairs.asked()
    assert asked.case_id.tolist() == [11, 10, 13]
    assert asked.history_end.tolist() == [5, 3, 2]
    assert which.tolist() == [0, 0, 0, 1, 1, 2]


def test_a_case_is_asked_once_for_each_of_its_histories(cases):
    pairs = replace(at(cases, [1, 1, 1, 1, 2], [4, 5, 6, 7, 8]), history_end=np.array([2, 2, 5, 5, 0]))
    asked, which = pairs.asked()
    assert asked.case_id.tolist() == [11, 11, 12]
    assert asked.history_end.tolist() == [2, 5, 0]
    assert which.tolist() == [0, 0, 1, 1, 2]


def test_the_longest_history_of_each_user(cases, cycle):
    cases = cases.where(np.array([3, 1, 0, 2]))
    histories, which = cases.longest(cycle.store)
    assert histories.length.tolist() == [5, 2]
    assert which.tolist() == [1, 0, 0, 1]
    assert (histories.start[which] == cases.histories(cycle.store).start).all()


def test_entries_that_lie_apart_still_find_their_case(cases):
    pairs = at(cases, [1, 0, 1], [4, 4, 4])
    asked, which = pairs.asked()
    assert asked.case_id[which].tolist() == [11, 10, 11]


def test_of_no_pairs_nobody_is_asked(cases):
    asked, which = at(cases, [], []).where(np.zeros(0, int)).asked()
    assert (len(asked), len(which)) == (0, 0)


class Reader:
    """A factored scorer that keeps which histories it read."""

    def __init__(self):
        self.read = []

    def queries(self, cases, histories):
        assert (cases.history_end == histories.length).all()
        self.read += list(zip(cases.user_idx.tolist(), histories.length.tolist(), strict=True))
        return np.stack([histories.length, np.ones(len(cases))], axis=1).astype(np.float32)

    def vectors(self, video_idx):
        return np.stack([np.ones(len(video_idx)), video_idx], axis=1).astype(np.float32)

    def score(self, pairs):
        return product_scores(self, pairs)


def test_a_history_is_read_once_for_all_that_was_shown(cycle):
    asked = cycle.asked.of("test")
    row = np.repeat(np.arange(len(asked.cases)), 5)
    video_idx = np.tile(np.array([1, 2, 1, 3, 4], np.int32), len(asked.cases))
    shown = ShownPairs(asked.cases, asked.user_key, row, video_idx, asked.cases.time_ms[row], asked.cases.tab[row])
    reader = Reader()
    score = reader.score(shown.pairs(cycle.store)).reshape(-1, 5)
    assert len(reader.read) == len(asked.cases)
    assert (score[:, 0] == score[:, 2]).all()  # shown twice: two entries, one score
    assert (score == asked.cases.history_end[:, None] + np.array([1, 2, 1, 3, 4])).all()


def frozen_and_running(world):
    """Five impressions a case: at the history of the first, and each at its own."""
    cases = world.cases("test")
    cases = cases.until(cases.history_end - 5)
    row, step = np.repeat(np.arange(len(cases)), 5), np.tile(np.arange(5), len(cases))
    frozen = Pairs.at_cases(world.store, cases, row, (1 + step * 7).astype(np.int32))
    return frozen, replace(frozen, history_end=frozen.history_end + step)


def test_frozen_and_running_histories_differ_in_their_end_alone(cycle):
    frozen, running = frozen_and_running(cycle)
    for field in fields(frozen)[2:]:
        same = (getattr(frozen, field.name) == getattr(running, field.name)).all()
        assert same == (field.name != "history_end")
    assert frozen.cases is running.cases
    reader = Reader()
    assert (reader.score(frozen) == frozen.history_end + frozen.video_idx).all()
    assert (reader.score(running) == running.history_end + running.video_idx).all()
    n = len(frozen.cases)
    assert len(reader.read) == n + 5 * n


def test_a_model_scores_each_pair_by_its_own_history(cycle):
    settings = itemcf.Params(window=10, decay=0.9, recency=0.5, shrink=1, neighbours=50, passed_weight=0.3)
    model = itemcf.Model.fit(settings, Training(cycle.store.fitted_on("train"), None))
    frozen, running = frozen_and_running(cycle)
    whole = model.score(running)
    for step in range(5):
        mine = np.flatnonzero(np.arange(len(running)) % 5 == step)
        cases = frozen.cases.until(frozen.cases.history_end + step)
        alone = Pairs.at_cases(cycle.store, cases, running.row[mine], running.video_idx[mine])
        assert (model.score(alone) == whole[mine]).all()
    assert (model.score(frozen) != whole).any()


def test_a_product_has_the_same_bytes_wherever_it_stands():
    rng = np.random.default_rng(0)
    queries, vectors = rng.standard_normal((2, 1_000, 64), dtype=np.float32)
    whole = product(queries, vectors)
    some = rng.permutation(1_000)[:77]
    assert (product(queries[some], vectors[some]) == whole[some]).all()
    assert (product(queries[:1], vectors[:1]) == whole[:1]).all()
    assert (product(np.asfortranarray(queries), vectors[:, ::-1][:, ::-1]) == whole).all()
    np.testing.assert_allclose(whole, (queries.astype(float) * vectors).sum(1), rtol=1e-4, atol=1e-4)


def test_no_vector_is_no_opinion_and_many_pairs_are_scored_in_pieces(cycle, monkeypatch):
    class Some(Reader):
        def vectors(self, video_idx):
            vectors = super().vectors(video_idx)
            vectors[video_idx % 3 == 0] = np.nan
            return vectors

    pairs = cycle.all_pairs("test")
    score = Some().score(pairs)
    assert ((score == -np.inf) == (pairs.video_idx % 3 == 0)).all()
    assert score.dtype == np.float32
    monkeypatch.setattr("nextreel.contract._PAIRS", 100)
    assert (Some().score(pairs) == score).all()
