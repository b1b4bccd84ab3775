"""A made-up short-video app with a known truth, written in KuaiRand's layout and read by the same reader.

It checks the machinery; its numbers are no evidence about users. `simulation.world` states its laws, and
`simulation.files` writes down what came of them. Beside the standard log, from the second half on, stands a log
of videos exposed uniformly at random, between sessions. It draws from a generator of its own, as authors do: how large
it is, and what authors are worth, moves no other draw.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.special import expit

from nextreel.arrays import Columns
from nextreel.clock import DAY_MS, HOUR_MS
from nextreel.params import Int, NonNegativeFloat, NonNegativeInt, PositiveInt, Section, Share
from nextreel.progress import track
from nextreel.simulation import files, world
from nextreel.simulation.world import FIRST_MS, N_TOPICS, WIDTH

SCALES = {
    "S": {"n_users": 1_000, "n_videos": 10_000, "n_rows": 100_000},
    "M": {"n_users": 8_000, "n_videos": 300_000, "n_rows": 1_200_000},  # as many rows a user as the default world
    "L": {"n_users": 1_000, "n_videos": 4_370_000, "n_rows": 11_700_000},  # the shape of KuaiRand-1K
}
_ROWS = 1 << 18  # whose vectors are held at a time


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
    author_share: Share  # of the variance of a video's quality, its author's
    seed: NonNegativeInt


def write(folder: Path, params: Params) -> None:
    """Write the logs, the features and, beside them, the truth. The same params give the same bytes."""
    if params.scale is not None:
        params = params.model_copy(update=SCALES[params.scale])
    rng = np.random.default_rng(params.seed)
    of_authors, of_random = rng.spawn(2)
    topics = _topics(rng)
    users = _users(rng, params, topics)
    videos = _videos(rng, of_authors, params, topics)
    folder.mkdir(parents=True)
    _write_rows(rng, of_random, folder, params, users, videos, topics)
    files.write_features(rng, folder, users, videos)
    files.write_truth(folder, users, videos, topics, params.sequence_strength)


def _write_rows(
    rng: np.random.Generator,
    of_random: np.random.Generator,
    folder: Path,
    params: Params,
    users: Columns,
    videos: Columns,
    topics: Columns,
) -> None:
    """Make the exposures and what came of them; write the logs and the truth of each row."""
    sessions = _sessions(rng, params, users)
    events = _events(rng, params, sessions, users, videos, topics)
    _watch(rng, params, events, users, videos, topics)
    _clock(rng, sessions, events)
    random = _random_events(of_random, params, users, videos)
    _watch(of_random, params, random, users, videos, topics)
    files.write_standard(rng, folder, params.n_days, events, videos)
    files.write_random(of_random, folder, params.n_days, random, videos)
    files.write_states(folder, events, random)


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


def _videos(rng: np.random.Generator, of_authors: np.random.Generator, params: Params, topics: Columns) -> Columns:
    n = params.n_videos
    topic = rng.choice(N_TOPICS, n, p=rng.dirichlet(np.full(N_TOPICS, 5.0)))
    upload_day = rng.integers(world.OLDEST_DAY, params.n_days, n)
    stock = np.arange(min(n, N_TOPICS))  # every topic has a video from the start
    topic[stock], upload_day[stock] = stock, world.OLDEST_DAY
    per_topic = max(1, n // (world.VIDEOS_PER_AUTHOR * N_TOPICS))
    author = topic + N_TOPICS * of_authors.integers(0, per_topic, n)
    worth = of_authors.standard_normal(N_TOPICS * per_topic)
    quality = world.quality(worth[author], rng.standard_normal(n), params.author_share)
    popularity_rank = 1 + np.argsort(np.argsort(-(quality + rng.standard_normal(n)), kind="stable"), kind="stable")
    duration_ms = (
        rng.lognormal(np.log(world.DURATION_MEDIAN_MS), world.DURATION_SPREAD, n).clip(3_000, 300_000).astype(np.int64)
    )
    return {
        "topic": topic,
        "vector": _unit(topics["centroid"][topic] + 0.25 * rng.standard_normal((n, WIDTH))),
        "author": author,
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
    start_ms = FIRST_MS + day * DAY_MS + hour * HOUR_MS + rng.integers(0, HOUR_MS, n)
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
