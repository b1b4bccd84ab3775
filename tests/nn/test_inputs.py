"""Each input by hand."""

import numpy as np
import pytest

from nextreel.cases.store import NamedColumns, Sets
from nextreel.nn import inputs
from nextreel.nn.inputs import NEVER_MS, NOTHING, Events

DAY_MS, HOUR_MS = 86_400_000, 3_600_000


@pytest.fixture
def store(made_store):
    """User 1 watches videos 1, 2 and 3 at 0, 3 and 3 s, user 2 video 2 a day later."""
    events = {
        "video_idx": np.array([1, 2, 3, 2], np.int32),
        "time_ms": np.array([0, 3_000, 3_000, DAY_MS]),
        "positive": np.array([1, 0, -1, 1], np.int8),
        "tab": np.array([4, -1, 0, 2], np.int16),
    }
    return made_store([0, 0, 3, 4], {"train": np.array([0, 3, 4])}, events, np.arange(4), np.arange(3))


def with_videos(store, **columns):
    store.tables["videos"] = NamedColumns(store.tables["videos"] | columns)
    return store


def events_of(store, asked_ms=(7_000, NEVER_MS)):
    histories = store.until(np.array([1, 2]), np.array([3, 1]))
    return Events.of(histories, *histories.flat(), np.array(asked_ms))


def test_before_and_after_each_event_of_its_own_history(store):
    events = events_of(store)
    assert events.before_ms.tolist() == [NEVER_MS, 0, 3_000, NEVER_MS]
    assert events.next_ms.tolist() == [3_000, 3_000, 7_000, NEVER_MS]


def test_before_and_after_the_positives_alone(store):
    """Then they are all that there is."""
    histories = store.until(np.array([1, 1]), np.array([3, 0]))
    events = Events.of(histories, *histories.positives(), np.array([9_000, 5_000]))
    assert events.before_ms.tolist() == [NEVER_MS]
    assert events.next_ms.tolist() == [9_000]


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, 0), (0.999, 0), (1, 1), (2.999, 1), (3, 2), (6.999, 2), (7, 3), (1_800, 10), (86_400, 16), (1e12, 31)],
)
def test_a_gap_is_the_power_of_two_of_its_seconds(seconds, bucket):
    begin = np.array([5_000])
    assert inputs.gap(begin, begin + round(1_000 * seconds)).tolist() == [bucket]


def test_a_gap_to_or_from_no_time_is_unknown():
    assert inputs.gap(np.array([NEVER_MS, 5, 0]), np.array([5, NEVER_MS, 0])).tolist() == [NOTHING, NOTHING, 0]


def test_the_gaps_of_events(store):
    events = events_of(store)
    assert inputs.of_events("gap", events).tolist() == [NOTHING, 2, 0, NOTHING]  # 3 s: floor(log2(4))
    assert inputs.of_events("request_gap", events).tolist() == [2, 0, 2, NOTHING]  # the third: from 3 s to 7 s


def test_the_watch_time_ratio_is_in_tenths(store):
    store.tables["events"]["wtr"] = np.array([0.0, 0.29, np.nan, 1.0])
    assert inputs.of_events("wtr", events_of(store)).tolist() == [0, 2, NOTHING, 10]


def test_columns_of_events(store):
    events = events_of(store)
    assert inputs.of_events("positive", events).tolist() == [1, 0, NOTHING, 1]
    assert inputs.of_events("tab", events).tolist() == [4, NOTHING, 0, 2]


def test_the_user_of_an_event(store):
    assert inputs.of_events("user", events_of(store)).tolist() == [1, 1, 1, 2]
    assert inputs.columns(["user"], [], []) == {"events/time_ms"}


@pytest.mark.parametrize(
    ("time_ms", "hour"), [(0, 8), (HOUR_MS - 1, 8), (HOUR_MS, 9), (16 * HOUR_MS - 1, 23), (16 * HOUR_MS, 0)]
)
def test_the_hour_is_of_the_day_in_china(time_ms, hour, store):
    assert inputs.hour(np.array([time_ms])).tolist() == [hour]
    assert inputs.of_events("hour", events_of(store)).tolist() == [8, 8, 8, 8]


@pytest.mark.parametrize(
    ("days", "bucket"),
    [
        (-100, 0), (-1, 0), (0, 1), (1, 3), (2, 4), (3, 5), (6, 6), (7, 7), (30, 10), (1e6, 31), (np.nan, NOTHING),
        # 1 + floor(2 log2(1 + days)): 2 log2(3) = 3.17, of 7 5.61, of 31 9.91; the last bucket is 31
    ],
)  # fmt: skip
def test_an_age_is_in_half_octaves_of_days(days, bucket):
    assert inputs.age_of(np.array([days])).tolist() == [bucket]


def test_the_age_of_an_event_s_video(store):
    """Days begin at midnight in UTC+8, and so 8 hours after that of an upload's date in UTC."""
    with_videos(store, upload_day=np.array([0, -3, np.nan, 1.0]))
    assert inputs.of_events("age", events_of(store)).tolist() == [5, NOTHING, 0, NOTHING]
    evening = np.array([16 * HOUR_MS - 1, 16 * HOUR_MS])
    assert inputs.day(evening).tolist() == [0, 1]
    assert inputs.age(evening, np.array([0.0, 0.0])).tolist() == [1, 3]


def test_a_log_without_days_of_upload_knows_no_age(store):
    assert inputs.of_events("age", events_of(store)).tolist() == [NOTHING] * 4


def values(sets):
    return [sets.of(np.array([row]))[0].tolist() for row in range(len(sets))]


def test_durations_are_in_half_octaves_of_seconds(store):
    """Below a second there is one bucket; nothing is known of 0, of what is unknown, and of the padding."""
    with_videos(store, duration_ms=np.array([0, 200.0, np.nan, 0]))
    assert values(inputs.of_videos("duration", store)) == [[], [0], [], []]
    with_videos(store, duration_ms=np.array([0, 1_000, 1_500, 32_000]))
    assert values(inputs.of_videos("duration", store)) == [[], [0], [1], [10]]  # 2 log2(1.5) = 1.17


def test_ids_and_sets_of_videos(store):
    """The padding, which a start token stands for, has none."""
    tags = Sets(np.array([3, 5, 1], np.int32), np.array([0, 0, 2, 2, 3]))
    with_videos(store, tags=tags, author=np.array([0, 7, -1, 0], np.int32))
    assert values(inputs.of_videos("tags", store)) == [[], [3, 5], [], [1]]
    assert values(inputs.of_videos("author", store)) == [[], [7], [], [0]]


@pytest.mark.parametrize("name", ["tags", "author", "duration"])
def test_what_the_data_lack_no_video_has(store, name):
    assert values(inputs.of_videos(name, store)) == [[]] * 4


def test_how_many_values_an_input_has():
    """A computed one has always as many, whatever train holds."""
    assert inputs.n_values("tab", np.array([4, -1, 2])) == 5
    assert inputs.n_values("tab", np.array([-1])) == inputs.n_values("tab", np.array([], int)) == 0
    assert {name: inputs.n_values(name, np.array([1])) for name in inputs.SIZES} == inputs.SIZES


def test_the_columns_that_names_need():
    """What is known of videos may be lacking."""
    names = (
        ["positive", "gap", "request_gap", "age", "tab"],
        ["gap", "tab", "profile"],
        ["author", "bias", "duration"],
    )
    assert inputs.columns(*names) == {
        "events/positive", "events/tab", "events/time_ms", "videos/tags?", "videos/author?", "videos/duration_ms?",
        "videos/upload_day?",
    }  # fmt: skip
    assert inputs.columns(["hour"], [], ["age", "tags"]) == {"events/time_ms", "videos/upload_day?", "videos/tags?"}
    assert inputs.columns([], ["hour"], []) == {"events/time_ms"}
    assert inputs.columns(["wtr", "feedback"], [], []) == {"events/time_ms", "events/wtr", "events/feedback"}
