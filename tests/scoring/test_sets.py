"""What was shown, and what may be read of its users' histories."""

import numpy as np
import pytest

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.scoring.sets import ShownPairs


@pytest.fixture
def store(made_store):
    """User 1: events at 10, 20, 20, 30; user 2: none; user 3: at 5 and 20."""
    events = {
        "video_idx": np.array([1, 2, 3, 4, 5, 6], np.int32),
        "time_ms": np.array([10, 20, 20, 30, 5, 20]),
        "positive": np.ones(6, bool),
    }
    return made_store([0, 0, 4, 4, 6], {}, events, np.arange(7), np.arange(4))


@pytest.fixture
def shown():
    """Rows of user 1 from 20 on, one more at 25 that is no event of the log, one of user 2 and one of user 3."""
    user_idx, history_end = np.array([1, 2, 3], np.int32), np.array([1, 0, 1])
    cases = Cases(np.array([7, 8, 9]), np.array(["valid", "test", "test"]), user_idx, np.array([20, 15, 20]),
                  np.zeros(3, np.int16), history_end)  # fmt: skip
    return ShownPairs(
        cases, np.arange(3), row=np.array([0, 0, 0, 0, 1, 2]), video_idx=np.array([2, 3, 9, 4, 8, 6], np.int32),
        time_ms=np.array([20, 20, 25, 30, 15, 20]), tab=np.array([0, 1, 2, 3, 4, 5], np.int16),
    )  # fmt: skip


def test_frozen_histories_are_those_of_the_case(store, shown):
    pairs = shown.pairs(store)
    assert pairs.history_end.tolist() == [1, 1, 1, 1, 0, 1]
    assert pairs.cases is shown.cases


def test_as_of_each_the_history_holds_what_lies_strictly_before(store, shown):
    """Two rows at 20 do not see each other, and the row at 25 sees both."""
    pairs = shown.as_of(store)
    assert isinstance(pairs, Pairs)
    assert pairs.history_end.tolist() == [1, 1, 3, 3, 0, 1]
    assert pairs.cases.history_end.tolist() == pairs.history_end.tolist()
    assert pairs.cases.user_idx[pairs.row].tolist() == [1, 1, 1, 1, 2, 3]
    assert pairs.cases.part[pairs.row].tolist() == ["valid"] * 4 + ["test"] * 2


def test_as_of_each_it_is_asked_when_and_where_it_was_shown(store, shown):
    pairs = shown.as_of(store)
    for of in (pairs, pairs.cases):
        assert (of.time_ms.tolist(), of.tab.tolist()) == (shown.time_ms.tolist(), shown.tab.tolist())
    assert pairs.video_idx.tolist() == shown.video_idx.tolist()
