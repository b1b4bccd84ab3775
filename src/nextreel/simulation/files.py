"""The files of a simulated world: KuaiRand's logs and features and, beside them, the truth."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from scipy.special import expit

from nextreel.arrays import Columns
from nextreel.clock import DAY_MS, HOUR_MS, UTC8_MS
from nextreel.simulation import world
from nextreel.simulation.world import FIRST_DAY, FIRST_MS, N_TOPICS


def write_standard(rng: np.random.Generator, folder: Path, n_days: int, events: Columns, videos: Columns) -> None:
    """The standard log, in two files."""
    half = n_days // 2
    _write_log(rng, folder, "standard", events, videos, (0, half))
    _write_log(rng, folder, "standard", events, videos, (half, n_days))


def write_random(rng: np.random.Generator, folder: Path, n_days: int, random: Columns, videos: Columns) -> None:
    """The random log, of the second half."""
    _write_log(rng, folder, "random", random, videos, (n_days // 2, n_days))


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
        "hourmin": (time_ms + UTC8_MS) % DAY_MS // HOUR_MS * 100,
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


def write_features(rng: np.random.Generator, folder: Path, users: Columns, videos: Columns) -> None:
    """The features of users and of videos; what no law needs is drawn here."""
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
        "author_id": 1_000_000 + videos["author"],
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


def write_states(folder: Path, events: Columns, random: Columns) -> None:
    """The hidden state in which each row of the logs was shown."""
    types = {"user": np.int64, "time_ms": np.int64, "day": np.int32, "before": np.int16}
    joined = {name: np.concatenate([events[name], random[name]]).astype(kind) for name, kind in types.items()}
    names = ["user_id", "time_ms", "day", "topic_before"]
    _parquet(dict(zip(names, joined.values(), strict=True)), folder / "truth_events.parquet")


def write_truth(folder: Path, users: Columns, videos: Columns, topics: Columns, sequence_strength: float) -> None:
    """What only a simulator knows of users, videos and topics."""
    tables: dict[str, dict[str, object]] = {
        "users": {
            "user_id": np.arange(len(users["taste"])),
            "taste": _lists(users["taste"]),
            "topic_probability": _lists(users["preferences"]),
        },
        "videos": {
            "video_id": np.arange(len(videos["topic"])),
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
            "sequence_strength": np.full(N_TOPICS, sequence_strength),
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
