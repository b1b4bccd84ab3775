"""Windows that many moments of a user are read from, and what is asked there."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextreel.cases.asked import Cases
from nextreel.cases.store import NamedColumns
from nextreel.nn import one_pass
from nextreel.nn.batch import START, VIDEO
from nextreel.nn.vocabulary import Rows

ROWS = Rows({"request_gap": 32}, {"gap": 32}, None)


@pytest.fixture
def store(made_store):
    """User 1: videos 1 to 9, a second apart but for the 4th, at the time of the 3rd. User 2: none. User 3: video 10."""
    time_ms = 1000 * np.arange(10)
    time_ms[3], time_ms[9] = 2000, 500
    events = {
        "video_idx": np.arange(1, 11, dtype=np.int32), "time_ms": time_ms, "positive": np.ones(10, bool),
    }  # fmt: skip
    return made_store([0, 0, 9, 9, 10], {}, events, np.arange(11), np.arange(4))


def as_of(store, user_idx, history_end):
    """Cases asked at the time of the event after their history."""
    user_idx, history_end = np.array(user_idx), np.array(history_end)
    time_ms = store.events("time_ms")[store.offsets[user_idx] + history_end]
    n = len(user_idx)
    return Cases(np.arange(n), np.full(n, "test"), user_idx, time_ms, np.zeros(n, np.int16), history_end)


def read(cases, store, length):
    """Case -> the videos behind its request in its window."""
    found = {}
    for some, batch, requests in one_pass.blocks(cases, store, ROWS, length):
        video, at = batch.columns[VIDEO], requests.at
        begin = (at - batch.place[at]).tolist()
        assert (np.diff(at.numpy()) >= 0).all()
        assert requests.time_ms.tolist() == cases.time_ms[some].tolist()
        found |= {int(case): video[b : a + 1].tolist() for case, b, a in zip(some, begin, at, strict=True)}
    return found


def test_each_request_is_read_from_the_first_window_that_holds_its_token(store):
    """Windows of four tokens begin at the start, at video 2, at 4, ..."""
    cases = as_of(store, [1, 3, 1, 1, 1, 1, 1, 1], [8, 0, 0, 2, 4, 5, 6, 7])
    assert read(cases, store, 4) == {
        0: [6, 7, 8], 1: [START], 2: [START], 3: [START, 1, 2], 4: [2, 3, 4], 5: [2, 3, 4, 5], 6: [4, 5, 6],
        7: [4, 5, 6, 7],
    }  # fmt: skip


def test_windows_in_which_nobody_asks_are_not_read(store):
    ((_some, batch, _requests),) = one_pass.blocks(as_of(store, [1, 1], [1, 8]), store, ROWS, 4)
    assert batch.columns[VIDEO].tolist() == [START, 1, 2, 3, 6, 7, 8]
    assert batch.length.tolist() == [4, 3]


def test_rows_that_share_a_time_do_not_see_each_other(store):
    """Videos 3 and 4: both are asked after video 2, and the next one after both."""
    cases = as_of(store, [1, 1, 1], [2, 2, 4])
    assert read(cases, store, 8) == {0: [START, 1, 2], 1: [START, 1, 2], 2: [START, 1, 2, 3, 4]}


@given(st.integers(1, 12), st.integers(0, 60))
def test_at_least_half_a_window_lies_behind_each_request(length, place):
    begin = int(one_pass.begins(np.array([place]), length)[0])
    behind = place - begin + 1
    assert behind <= length
    assert behind >= length // 2 + 1 or begin == 0
    assert begin % ((length + 1) // 2) == 0


def test_a_token_tells_of_the_request_that_comes_next(store):
    ((_some, batch, requests),) = one_pass.blocks(as_of(store, [1, 1], [2, 5]), store, ROWS, 8)
    gaps = batch.columns["request_gap"].tolist()
    assert gaps == [0, 2, 2, 1, 2, 2]  # 1 + the power of two of 1 + seconds; none at the start
    assert requests.columns["gap"].tolist() == [2, 2]


def test_only_cases_at_the_time_of_the_next_event_are_read_in_one_pass(store):
    cases = as_of(store, [1, 1, 3], [2, 4, 0])
    assert one_pass.at_next_event(cases, store).all()
    later = replace(cases, time_ms=cases.time_ms + 1)
    assert not one_pass.at_next_event(later, store).any()
    at_the_end = replace(cases, history_end=np.array([9, 9, 1]))
    assert not one_pass.at_next_event(at_the_end, store).any()
    nobody = cases.where(slice(0))
    assert list(one_pass.blocks(nobody, store, ROWS, 4)) == []
    assert len(one_pass.at_next_event(nobody, store)) == 0


def test_what_follows_the_histories_is_not_read(store):
    cases = as_of(store, [1, 1], [2, 5])
    events = store.tables["events"]
    video, positive = events["video_idx"].copy(), events["positive"].copy()
    video[5:], positive[5:] = 1, False
    changed = replace(
        store, tables=store.tables | {"events": NamedColumns(events | {"video_idx": video, "positive": positive})}
    )
    ((_s, one, _r),), ((_s, other, _r),) = (one_pass.blocks(cases, each, ROWS, 4) for each in (store, changed))
    assert one.columns[VIDEO].tolist() == other.columns[VIDEO].tolist()
