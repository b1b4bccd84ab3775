"""A made-up short-video app with a known truth, written in KuaiRand's layout and read by the same reader.

It checks the machinery; its numbers are no evidence about users. `datasets.world` states its laws. Beside the standard
log, from the second half on, stands a log of videos exposed uniformly at random, between sessions.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from pydantic import Field
from scipy.special import expit

from nextreel.datasets import world
from nextreel.datasets.world import FIRST_DAY, FIRST_MS, N_TOPICS, WIDTH
from nextreel.params import Int, NonNegativeFloat, NonNegativeInt, PositiveInt, Section, Share
from nextreel.progress import track
from nextreel.schema import DAY_MS, UTC8_MS

SCALES = {
    "S": {"n_users": 1_000, "n_videos": 10_000, "n_rows": 100_000},
    "M": {"n_users": 8_000, "n_videos": 300_000, "n_rows": 1_200_000},  # as many rows a user as the default world
    "L": {"n_users": 1_000, "n_videos": 4_370_000, "n_rows": 11_700_000},  # the shape of KuaiRand-1K
}
_ROWS = 1 << 18  # whose vectors are held at a time

Columns = dict[str, np.ndarray]


class Params(Section):
    scale: Literal["S", "M", "L"] | None  # in place of the next three, see SCALES
    n_users: PositiveInt
    n_videos: Annotated[Int, Field(ge=N_TOPICS)]
    n_rows: PositiveInt  # of the standard log, before repeats
    n_days: Annotated[Int, Field(ge=2, le=3650)]  # the random log begins half-way
    sequence_strength: Share
    duration_bias: NonNegativeFloat
    exposure_bias: NonNegativeFloat
    random_share: Share  # rows of the random log per standard row
    seed: NonNegativeInt


def write(folder: Path, params: Params) -> None:
    """Write the logs, the features and, beside them, the truth. The same params give the same bytes."""
    if params.scale is not None:
        params = params.model_copy(update=SCALES[params.scale])
    rng = np.random.default_rng(params.seed)
    topics = _topics(rng)
    users = _users(rng, params, topics)
    videos = _videos(rng, params, topics)
    folder.mkdir(parents=True)
    _write_rows(rng, folder, params, users, videos, topics)
    _write_features(rng, folder, users, videos)
    _write_truth(folder, params, users, videos, topics)


def _write_rows(
    rng: np.random.Generator, folder: Path, params: Params, users: Columns, videos: Columns, topics: Columns
) -> None:
    """Make the exposures and what came of them; write the logs and the truth of each row."""
    sessions = _sessions(rng, params, users)
    events = _events(rng, params, sessions, users, videos, topics)
    random = _random_events(rng, params, users, videos)
    for rows in (events, random):
        _watch(rng, params, rows, users, videos, topics)
    _clock(rng, sessions, events)
    _write_logs(rng, folder, params, events, random, videos)
    _write_states(folder, events, random)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _draw(rng: np.random.Generator, cumulative: np.ndarray) -> np.ndarray:
    """One draw from each row of cumulative probabilities [B, K] -> [B]."""
    u = rng.random(len(cumulative))[:, None]
    return np.minimum((cumulative <= u).sum(1), cumulative.shape[1] - 1)


def _topics(rng: np.random.Generator) -> Columns:
    """Centroids [K, D] and the chain [K, K]: a topic stays, or goes to one of two successors."""
    follow = np.zeros((N_TOPICS, N_TOPICS))
    for topic in range(N_TOPICS):
        first, second = rng.choice(np.delete(np.arange(N_TOPICS), topic), 2, replace=False)
        follow[topic, [topic, first, second]] = 0.25, 0.5, 0.25
    return {"centroid": _unit(rng.standard_normal((N_TOPICS, WIDTH))), "next": follow}


def _users(rng: np.random.Generator, params: Params, topics: Columns) -> Columns:
    n = params.n_users
    taste = _unit(rng.standard_normal((n, WIDTH)))
    logits = world.TOPIC_FOCUS * taste @ topics["centroid"].T
    preferences = np.exp(logits - logits.max(1, keepdims=True))
    activity = rng.lognormal(0, 0.7, n)
    return {
        "taste": taste,
        "preferences": preferences / preferences.sum(1, keepdims=True),
        "activity": activity / activity.sum(),
        "fans": np.floor(rng.lognormal(3.5, 2.6, n)).astype(np.int64),
    }


def _videos(rng: np.random.Generator, params: Params, topics: Columns) -> Columns:
    n = params.n_videos
    topic = rng.choice(N_TOPICS, n, p=rng.dirichlet(np.full(N_TOPICS, 5.0)))
    upload_day = rng.integers(world.OLDEST_DAY, params.n_days, n)
    stock = np.arange(min(n, N_TOPICS))  # every topic has a video from the start
    topic[stock], upload_day[stock] = stock, world.OLDEST_DAY
    quality = world.QUALITY * rng.standard_normal(n)
    popularity_rank = 1 + np.argsort(np.argsort(-(quality + rng.standard_normal(n)), kind="stable"), kind="stable")
    duration_ms = (
        rng.lognormal(np.log(world.DURATION_MEDIAN_MS), world.DURATION_SPREAD, n).clip(3_000, 300_000).astype(np.int64)
    )
    return {
        "topic": topic,
        "vector": _unit(topics["centroid"][topic] + 0.25 * rng.standard_normal((n, WIDTH))),
        "quality": quality,
        "weight": (1.0 / popularity_rank) ** params.exposure_bias,
        "upload_day": upload_day,
        "duration_ms": duration_ms,
        "logged_duration_ms": np.where(rng.random(n) < world.MISSING_DURATION_SHARE, 0, duration_ms),
        "offset": world.log_wtr_offset(duration_ms, params.duration_bias),
        "skip_ms": world.skip_mean_ms(duration_ms, params.duration_bias),
    }


def _sessions(rng: np.random.Generator, params: Params, users: Columns) -> Columns:
    """Sessions in order of (user, start), their lengths adding up to n_rows."""
    per_user_day = params.n_rows / params.n_users / params.n_days
    mean = max(10.0, per_user_day / 4)
    lengths = rng.geometric(1 / mean, int(params.n_rows / mean * 1.5) + 20)
    while lengths.sum() < params.n_rows:
        lengths = np.concatenate([lengths, rng.geometric(1 / mean, len(lengths))])
    last = int(np.searchsorted(lengths.cumsum(), params.n_rows))
    lengths = lengths[: last + 1]
    lengths[last] -= lengths.sum() - params.n_rows
    n = len(lengths)
    by_hour = np.array([2, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 5, 7, 6, 4, 4, 4, 5, 7, 8, 9, 9, 7, 4], dtype=float)
    by_day = np.where(np.arange(params.n_days) % 7 < 2, 1.2, 1.0)  # Fridays and Saturdays: 8 April 2022 is a Friday
    user = rng.choice(params.n_users, n, p=users["activity"])
    day = rng.choice(params.n_days, n, p=by_day / by_day.sum())
    hour = rng.choice(24, n, p=by_hour / by_hour.sum())
    start_ms = FIRST_MS + day * DAY_MS + hour * 3_600_000 + rng.integers(0, 3_600_000, n)
    order = np.lexsort((start_ms, user))
    user, day = user.astype(np.int32), day.astype(np.int16)
    return {"user": user[order], "day": day[order], "start_ms": start_ms[order], "length": lengths[order]}


def _events(
    rng: np.random.Generator,
    params: Params,
    sessions: Columns,
    users: Columns,
    videos: Columns,
    topics: Columns,
) -> Columns:
    """The exposures of the standard policy, in order of (user, time)."""
    first = sessions["length"].cumsum() - sessions["length"]
    n = int(sessions["length"].sum())
    topic, before = np.full((2, n), -1, np.int8)
    cumulative_own = users["preferences"].cumsum(1)
    cumulative_next = topics["next"].cumsum(1)
    longest_first = np.argsort(-sessions["length"], kind="stable")
    sorted_lengths = -sessions["length"][longest_first]
    for step in track(range(int(sessions["length"].max())), "walking over topics"):
        running = longest_first[: np.searchsorted(sorted_lengths, -step, side="left")]
        row = first[running] + step
        own = _draw(rng, cumulative_own[sessions["user"][running]])
        if step:
            before[row] = topic[row - 1]
            follows = rng.random(len(row)) < params.sequence_strength
            own = np.where(follows, _draw(rng, cumulative_next[before[row]]), own)
        topic[row] = own
    user, day = (np.repeat(sessions[name], sessions["length"]) for name in ("user", "day"))
    video = _expose(rng, day, topic, videos)
    for _ in track(range(world.REDRAWS_OF_SEEN), "drawing seen videos again"):
        pair = user * np.int64(params.n_videos) + video
        order = np.argsort(pair, kind="stable")
        pair = pair[order]
        again = order[1:][pair[1:] == pair[:-1]]
        again.sort()
        video[again] = _expose(rng, day[again], topic[again], videos)
    return {"user": user, "video": video, "day": day, "before": before}


def _expose(rng: np.random.Generator, day: np.ndarray, topic: np.ndarray, videos: Columns) -> np.ndarray:
    """A video for each (day, topic), in proportion to the policy's weights."""
    by_topic = np.argsort(videos["topic"], kind="stable")
    end = np.searchsorted(videos["topic"][by_topic], np.arange(N_TOPICS), side="right")
    chosen = np.empty(len(day), np.int32)
    for today in np.unique(day):
        weight = world.exposure_weight(videos["weight"], videos["upload_day"], int(today))[by_topic]
        edge = np.concatenate([[0.0], weight.cumsum()])
        rows = np.flatnonzero(day == today)
        low = edge[np.concatenate([[0], end[:-1]])][topic[rows]]
        high = edge[end][topic[rows]]
        point = low + rng.random(len(rows)) * (high - low)
        position = np.searchsorted(edge, point, side="right") - 1
        chosen[rows] = by_topic[np.minimum(position, end[topic[rows]] - 1)]
    return chosen


def _random_events(rng: np.random.Generator, params: Params, users: Columns, videos: Columns) -> Columns:
    """Uniformly random exposures, outside sessions, from the second half on."""
    n = int(params.n_rows * params.random_share)
    user = rng.choice(params.n_users, n, p=users["activity"])
    day = rng.integers(params.n_days // 2, params.n_days, n)
    by_upload = np.argsort(videos["upload_day"], kind="stable")
    n_uploaded = np.searchsorted(videos["upload_day"][by_upload], day, side="right")
    video = by_upload[(rng.random(n) * n_uploaded).astype(np.int64)]
    time_ms = FIRST_MS + day * DAY_MS + rng.integers(0, DAY_MS, n)
    return {"user": user, "video": video, "day": day, "before": np.full(n, -1, np.int8), "time_ms": time_ms}


def _watch(
    rng: np.random.Generator, params: Params, rows: Columns, users: Columns, videos: Columns, topics: Columns
) -> None:
    """Add play time and interest to the rows, by the law that `world.watch_beyond` states."""
    rows["interest"] = _interest(params, rows, users, videos, topics)
    video = rows["video"]
    n = len(video)
    brief_ms = np.where(rng.random(n) < world.SKIP_ZERO_SHARE, 0.0, rng.exponential(videos["skip_ms"][video]))
    log_wtr = (
        videos["offset"][video] + world.LOG_WTR_SLOPE * rows["interest"] + world.LOG_WTR_NOISE * rng.standard_normal(n)
    )
    watched_ms = videos["duration_ms"][video] * np.exp(log_wtr)
    skipped = rng.random(n) < expit(world.SKIP_AT_ZERO - rows["interest"])
    rows["play_ms"] = np.minimum(np.where(skipped, brief_ms, watched_ms), 20 * 60_000).astype(np.int32)


def _interest(params: Params, rows: Columns, users: Columns, videos: Columns, topics: Columns) -> np.ndarray:
    """The interest [n] of each row's user in its video."""
    interest = np.empty(len(rows["video"]))
    for start in range(0, len(interest), _ROWS):
        some = slice(start, start + _ROWS)
        video, before = rows["video"][some], rows["before"][some]
        fit = np.einsum("nd,nd->n", users["taste"][rows["user"][some]], videos["vector"][video])
        follows = topics["next"][before, videos["topic"][video]]
        mood = params.sequence_strength * np.where(before >= 0, follows, 0.0)
        interest[some] = world.interest(fit, videos["quality"][video], mood)
    return interest


def _clock(rng: np.random.Generator, sessions: Columns, events: Columns) -> None:
    """Add time_ms: a video starts when the last one ends; a user's sessions do not overlap.

    Session s starts at max(planned start, end of the one before): with T the time used so far by the user's
    earlier sessions, start = T + max over sessions up to s of (planned - T), a running maximum.
    """
    head = sessions["length"].cumsum() - sessions["length"]
    used = events["play_ms"] + rng.integers(300, 2_500, len(events["play_ms"]))
    used[head[1:] - 1] += 60_000  # at least a minute between sessions
    elapsed = used.cumsum() - used  # over all rows, so far
    slack = sessions["start_ms"] - elapsed[head]
    step = int(slack.max() - slack.min()) + 1  # lifts each user above the last, so that the maximum starts anew
    lift = sessions["user"].astype(np.int64) * step
    start = np.maximum.accumulate(slack + lift) - lift
    events["time_ms"] = np.repeat(start, sessions["length"]) + elapsed


def _write_logs(
    rng: np.random.Generator, folder: Path, params: Params, events: Columns, random: Columns, videos: Columns
) -> None:
    half, end = params.n_days // 2, params.n_days
    _write_log(rng, folder, "standard", events, videos, (0, half))
    _write_log(rng, folder, "standard", events, videos, (half, end))
    _write_log(rng, folder, "random", random, videos, (half, end))


def _write_log(
    rng: np.random.Generator, folder: Path, name: str, rows: Columns, videos: Columns, days: tuple[int, int]
) -> None:
    """The rows from the first of these days up to the second, with repeats if they are standard."""
    low, high = (FIRST_MS + day * DAY_MS for day in days)
    inside = np.flatnonzero((rows["time_ms"] >= low) & (rows["time_ms"] < high))
    inside = inside[np.lexsort((rows["user"][inside], rows["time_ms"][inside]))]
    again = inside[rng.random(len(inside)) < world.REPEATED_ROW_SHARE] if name == "standard" else inside[:0]
    picked = np.concatenate([inside, again])
    is_repeat = np.concatenate([np.zeros(len(inside), bool), np.ones(len(again), bool)])
    picked = picked[np.lexsort((is_repeat, rows["user"][picked], rows["time_ms"][picked]))]
    first, last = (FIRST_DAY + timedelta(days=day) for day in (days[0], days[1] - 1))
    dates = f"{first.month}_{first.day:02}_to_{last.month}_{last.day:02}"
    _csv(_log(rng, rows, picked, videos, int(name == "random")), folder / f"log_{name}_{dates}_simulated.csv")


def _log(rng: np.random.Generator, rows: Columns, picked: np.ndarray, videos: Columns, is_rand: int) -> Columns:
    """KuaiRand's 19 columns, all integers."""
    n = len(picked)
    video, time_ms = rows["video"][picked], rows["time_ms"][picked]
    play, duration, true_ms = (
        rows["play_ms"][picked],
        videos["logged_duration_ms"][video],
        videos["duration_ms"][video],
    )
    day = ((time_ms + UTC8_MS) // DAY_MS).astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    year_and_month = month.astype(np.int64) // 12 * 100 + 197_000 + month.astype(np.int64) % 12 + 1
    date_number = year_and_month * 100 + (day - month).astype(np.int64) + 1  # yyyymmdd
    engaged = np.where(play > 3_000, expit(rows["interest"][picked] - 4.0), 0.0)

    def reacts(share: float) -> np.ndarray:
        return (rng.random(n) < share * engaged).astype(np.int8)

    profile = reacts(0.6)
    comment = reacts(0.2)
    return {
        "user_id": rows["user"][picked],
        "video_id": video,
        "date": date_number,
        "hourmin": (time_ms + UTC8_MS) % DAY_MS // 3_600_000 * 100,
        "time_ms": time_ms,
        "is_click": np.where(true_ms <= 7_000, play >= true_ms, play > 7_000).astype(np.int8),
        "is_like": reacts(1.0),
        "is_follow": reacts(0.1),
        "is_comment": comment,
        "is_forward": reacts(0.1),
        "is_hate": (rng.random(n) < 0.0005).astype(np.int8),
        "long_view": np.where(true_ms <= 18_000, play >= true_ms, play >= 18_000).astype(np.int8),
        "play_time_ms": play,
        "duration_ms": duration,
        "profile_stay_time": profile * rng.integers(500, 20_000, n),
        "comment_stay_time": comment * rng.integers(500, 30_000, n),
        "is_profile_enter": profile,
        "is_rand": np.full(n, is_rand, np.int8),
        "tab": rng.choice([0, 1, 2, 4], n, p=[0.15, 0.7, 0.05, 0.1]),
    }


_RANGES = [0, 1, 10, 50, 100, 500, 1_000, 5_000, 10_000, 100_000]


def _range(numbers: np.ndarray) -> np.ndarray:
    names = [f"[{low},{high})" for low, high in zip(_RANGES, [*_RANGES[1:], "inf"], strict=True)]
    return np.array(names)[np.searchsorted(_RANGES, numbers, side="right") - 1]


def _write_features(rng: np.random.Generator, folder: Path, users: Columns, videos: Columns) -> None:
    n = len(users["fans"])
    active = np.array(["low_active", "middle_active", "high_active", "full_active"])
    quartile = np.searchsorted(np.quantile(users["activity"], [0.25, 0.5, 0.75]), users["activity"])
    numbers = {
        "follow_user_num": np.floor(rng.lognormal(4, 1.2, n)).astype(np.int64),
        "fans_user_num": users["fans"],
        "friend_user_num": np.floor(rng.lognormal(2, 1.2, n)).astype(np.int64),
        "register_days": rng.integers(1, 3_000, n),
    }
    table: Columns = {
        "user_id": np.arange(n),
        "user_active_degree": active[quartile],
        "is_lowactive_period": (rng.random(n) < 0.05).astype(np.int8),
        "is_live_streamer": np.where(rng.random(n) < 0.1, 1, -124),
        "is_video_author": (rng.random(n) < 0.7).astype(np.int8),
    }
    for name, values in numbers.items():
        table |= {name: values, f"{name}_range": _range(values)}
    sizes = [2, 7, 50, 1471, 15, 34, 3, 118, 454, 7, 5, 5, 2, 2, 2, 2, 2, 2]  # KuaiRand's cardinalities
    table |= {f"onehot_feat{i}": rng.integers(0, size, n) for i, size in enumerate(sizes)}
    _csv(table, folder / "user_features_simulated.csv")

    n = len(videos["topic"])
    second = 1 + rng.integers(0, N_TOPICS, n)
    second[rng.random(n) >= 0.2] = 0  # none
    tags = [f"{topic}{other}" for topic in range(N_TOPICS) for other in ("", *(f",{tag}" for tag in range(N_TOPICS)))]
    day = videos["upload_day"] - world.OLDEST_DAY
    days = np.datetime64(FIRST_DAY) + np.arange(world.OLDEST_DAY, world.OLDEST_DAY + day.max(initial=0) + 1)
    table = {
        "video_id": np.arange(n),
        # Authors keep to a topic: about one for every five videos.
        "author_id": 1_000_000 + videos["topic"] + N_TOPICS * rng.integers(0, max(1, n // (5 * N_TOPICS)), n),
        "video_type": _texts(["NORMAL", "AD"], rng.random(n) < 0.02),
        "upload_dt": _texts(days.astype(str), day),
        "upload_type": _texts(["ShortImport", "LongImport", "Kmovie", "Web"], rng.choice(4, n)),
        "visible_status": np.zeros(n, np.int8),
        "video_duration": videos["logged_duration_ms"],
        "server_width": np.full(n, 720),
        "server_height": np.full(n, 1280),
        "music_id": rng.integers(10**6, 10**10, n),
        "music_type": rng.integers(0, 10, n),
        "tag": _texts(tags, videos["topic"] * (N_TOPICS + 1) + second),
    }
    _csv(table, folder / "video_features_basic_simulated.csv")


def _texts(known: Sequence[str] | np.ndarray, which: np.ndarray) -> pa.Array:
    """The texts [n] at positions [n] among a few."""
    return pa.array(known).take(pa.array(which.astype(np.int32)))


def _write_states(folder: Path, events: Columns, random: Columns) -> None:
    """The hidden state in which each row of the logs was shown."""
    types = {"user": np.int64, "time_ms": np.int64, "day": np.int32, "before": np.int16}
    joined = {name: np.concatenate([events[name], random[name]]).astype(kind) for name, kind in types.items()}
    names = ["user_id", "time_ms", "day", "topic_before"]
    _parquet(dict(zip(names, joined.values(), strict=True)), folder / "truth_events.parquet")


def _write_truth(folder: Path, params: Params, users: Columns, videos: Columns, topics: Columns) -> None:
    tables: dict[str, dict[str, object]] = {
        "users": {
            "user_id": np.arange(params.n_users),
            "taste": _lists(users["taste"]),
            "topic_probability": _lists(users["preferences"]),
        },
        "videos": {
            "video_id": np.arange(params.n_videos),
            "topic": videos["topic"].astype(np.int16),
            "vector": _lists(videos["vector"]),
            "quality": videos["quality"],
            "exposure_weight": videos["weight"],
            "upload_day": videos["upload_day"].astype(np.int32),
            "true_duration_ms": videos["duration_ms"],
            "log_wtr_offset": videos["offset"],
            "skip_mean_ms": videos["skip_ms"],
        },
        "topics": {
            "topic": np.arange(N_TOPICS, dtype=np.int16),
            "next_probability": _lists(topics["next"]),
            "sequence_strength": np.full(N_TOPICS, params.sequence_strength),
        },
    }
    for name, columns in tables.items():
        _parquet(columns, folder / f"truth_{name}.parquet")


def _lists(vectors: np.ndarray) -> pa.Array:
    """A list for each row of vectors [n, D]."""
    n, width = vectors.shape
    return pa.ListArray.from_arrays(np.arange(0, (n + 1) * width, width, dtype=np.int32), vectors.ravel())


def _parquet(columns: Mapping[str, object], path: Path) -> None:
    pq.write_table(pa.table(dict(columns)), path, compression="zstd")


def _csv(columns: Mapping[str, object], path: Path) -> None:
    pacsv.write_csv(pa.table(dict(columns)), path, pacsv.WriteOptions(quoting_style="needed", quoting_header="none"))
