"""What models read beside ids, by name; every value is a whole number from 0, the row of a table, or NOTHING known.

Of an event, and so of the token that stands for it (`model.inputs`):

    gap           time since the event before it: the seconds' power of two; the break between sessions is one of them
    request_gap   time until the next video is asked for, which is known when it is asked for
    hour          of the day in UTC+8
    age           time since the upload of its video, in half octaves of days
    wtr           its watch-time ratio, in tenths
    user          whose it is; a user of whom the fit has no event is nearly as one without a vector
    any other     the column of the store's events of that name: `positive` is the reaction, `tab` the place,
                  `feedback` how many of like, comment and forward it got

Of a request, the moment when a video is asked for (`model.request`): `gap`, since the last event; `hour`; `tab`; and
`profile`, see `nn.profile`.

Of a video (`model.videos`): `duration`, in half octaves of seconds; `age`, at the request, and `bias`, see `features`;
any other is the column of the store's videos of that name, an id or a set of ids.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nextreel.cases.store import Histories, Sets, Store
from nextreel.clock import DAY_MS, HOUR_MS, UTC8_MS

NOTHING = -1
GAP, REQUEST_GAP, HOUR, AGE, WTR, PROFILE = "gap", "request_gap", "hour", "age", "wtr", "profile"
USER = "user"
TAGS, DURATION, BIAS = "tags", "duration", "bias"
REQUEST = (GAP, HOUR, "tab", PROFILE)  # what a request can say
SIZES = {GAP: 32, REQUEST_GAP: 32, HOUR: 24, AGE: 32, WTR: 11}  # of values that are computed
OF_EVENTS, OF_VIDEOS = (*SIZES, USER), (DURATION, AGE, BIAS)  # what is no column of that name
NEVER_MS = -1  # no such time


class Events(NamedTuple):
    """m events of histories, in order of (history, time, file)."""

    store: Store
    position: np.ndarray  # [m] in the store
    time_ms: np.ndarray  # [m]
    before_ms: np.ndarray  # [m] time of the event before it in its history, NEVER_MS: it is the first
    next_ms: np.ndarray  # [m] when the next video is asked for, NEVER_MS: nobody asks

    @classmethod
    def of(cls, histories: Histories, position: np.ndarray, owner: np.ndarray, asked_ms: np.ndarray) -> "Events":
        """asked_ms [n]: when each history is asked for a video, NEVER_MS if nobody asks."""
        time_ms = histories.store.events("time_ms")[position]
        before_ms, next_ms = np.full(len(time_ms), NEVER_MS), asked_ms[owner]
        follows = np.flatnonzero(np.diff(owner) == 0)
        before_ms[follows + 1], next_ms[follows] = time_ms[follows], time_ms[follows + 1]
        return cls(histories.store, position, time_ms, before_ms, next_ms)


def columns(inputs: Sequence[str], request: Sequence[str], videos: Sequence[str]) -> set[str]:
    """The columns of the store that these names need; what is known of videos may be lacking."""
    needed = {f"events/{name}" for name in inputs if name not in OF_EVENTS} | {"events/time_ms"}
    needed |= {"events/tab" for name in request if name == "tab"} | {"events/wtr" for name in inputs if name == WTR}
    needed |= {"videos/upload_day?" for name in (*inputs, *videos) if name == AGE}
    needed |= {"videos/duration_ms?" for name in videos if name == DURATION}
    needed |= {"videos/tags?" for name in request if name == PROFILE}
    return needed | {f"videos/{name}?" for name in videos if name not in OF_VIDEOS}


def of_events(name: str, events: Events) -> np.ndarray:
    """An input of events [m]."""
    if name == GAP:
        return gap(events.before_ms, events.time_ms)
    if name == REQUEST_GAP:
        return gap(events.time_ms, events.next_ms)
    if name == HOUR:
        return hour(events.time_ms)
    if name == AGE:
        days = upload_days(events.store)[events.store.events("video_idx")[events.position]]
        return age(events.time_ms, days)
    if name == USER:
        return np.searchsorted(events.store.offsets, events.position, side="right") - 1
    if name == WTR:
        wtr = events.store.events("wtr")[events.position]
        return np.where(np.isnan(wtr), NOTHING, np.minimum(np.nan_to_num(10 * wtr), SIZES[WTR] - 1)).astype(np.int8)
    return events.store.events(name)[events.position]


def gap(from_ms: np.ndarray, to_ms: np.ndarray) -> np.ndarray:
    """floor(log2(1 + seconds between)), where both times are known."""
    seconds = np.maximum(to_ms - from_ms, 0) / 1000
    known = (from_ms != NEVER_MS) & (to_ms != NEVER_MS)
    return np.where(known, np.minimum(np.log2(1 + seconds), SIZES[GAP] - 1), NOTHING).astype(np.int8)


def hour(time_ms: np.ndarray) -> np.ndarray:
    return ((time_ms + UTC8_MS) // HOUR_MS % 24).astype(np.int8)


def day(time_ms: np.ndarray) -> np.ndarray:
    """Days since 1970 in UTC+8."""
    return np.asarray((time_ms + UTC8_MS) // DAY_MS)


def age(time_ms: np.ndarray, upload_day: np.ndarray) -> np.ndarray:
    """The age of videos at some times, see `age_of`."""
    return age_of(day(time_ms) - upload_day)


def age_of(days: np.ndarray) -> np.ndarray:
    """0 before the upload, else 1 + floor(2 log2(1 + days since)); NOTHING where the upload is unknown, NaN."""
    bucket = 1 + np.floor(2 * np.log2(1 + np.maximum(np.nan_to_num(days), 0)))
    found = np.where(days < 0, 0, np.minimum(bucket, SIZES[AGE] - 1))
    return np.where(np.isnan(days), NOTHING, found).astype(np.int8)


def n_values(name: str, shown: np.ndarray) -> int:
    """How many values an input has: those that are computed a fixed number, others 0 to the largest that is shown."""
    return SIZES.get(name) or int(shown.max(initial=NOTHING)) + 1


def upload_days(store: Store) -> np.ndarray:
    """The day of each video's upload since 1970, by video_idx; NaN where it is unknown."""
    if "upload_day" not in store.tables["videos"]:
        return np.full(store.n_videos + 1, np.nan)
    return np.asarray(store.tables["videos"]["upload_day"], np.float64)


def of_videos(name: str, store: Store) -> Sets:
    """The values of each video, by video_idx: one, none or a set. None at all where the data lack the column."""
    n = store.n_videos + 1
    if name == DURATION and "duration_ms" in store.tables["videos"]:
        duration_ms = np.asarray(store.tables["videos"]["duration_ms"], np.float64)
        known = duration_ms > 0  # NaN is not
        octaves = np.log2(np.where(known, duration_ms, 1_000) / 1_000)
        return _single(np.where(known, np.maximum(2 * octaves, 0).astype(np.int32), NOTHING))
    if name not in store.tables["videos"]:
        return Sets(np.zeros(0, np.int32), np.zeros(n + 1, np.int64))
    column = store.tables["videos"][name]
    return column if isinstance(column, Sets) else _single(np.asarray(column))


def _single(values: np.ndarray) -> Sets:
    """One value a row, or NOTHING; none for the padding."""
    known = values >= 0
    known[0] = False
    return Sets(values[known].astype(np.int32), np.concatenate([[0], known.cumsum()]))
