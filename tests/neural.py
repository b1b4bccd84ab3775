"""Settings of neural models for tests, and a log with every column that they can read."""

from dataclasses import replace

import numpy as np

from nextreel.cases.store import Column, NamedColumns, Sets
from nextreel.clock import DAY_MS

PLAIN = {
    "lr": 0.01, "weight_decay": 0, "epochs": 12, "batch_size": 32, "patience": 12, "schedule": "constant",
    "warmup_share": 0, "clip": None, "device": "cpu", "width": 32, "length": 16, "dropout": 0.1, "seeds": 1,
    "history": "all", "passed_weight": 0.3, "loss": "softmax", "negatives": 32, "negatives_from": "uniform",
    "logq": None, "gbce_t": 0.75, "inputs": ["positive"], "request": [], "videos": [], "id_dropout": 0, "tied": True,
    "temperature": None, "own_row_from": 1, "hashed_rows": 0, "table_optimizer": "adam", "table_lr": 0.05,
}  # fmt: skip
# Of sasrec4sv.
HEADS = {
    "hidden": 16,
    "wide": True,
    "shown_id_dropout": 0.2,
    "score": "positive",
    "chosen_by": "next_item",
    "weights": {
        "next_item": 1,
        "positive": 1,
        "pairwise": 0,
        "binary": 0,
        "linear": 0,
        "relevant": 0,
        "gain": 0,
        "watch_time": 0,
    },
}
EVERY = {
    "inputs": ["positive", "gap", "request_gap", "hour", "age", "tab"],
    "request": ["gap", "hour", "tab", "profile"],
    "videos": ["tags", "author", "duration", "bias", "age"],
}


def over_days(world, seconds):
    """The world with a day between every so many seconds, for what is counted on earlier days."""

    def later(time_ms):
        return time_ms + time_ms // (1_000 * seconds) * DAY_MS

    store, asked = world.store, world.asked
    events = NamedColumns(store.tables["events"] | {"time_ms": later(store.events("time_ms"))})
    cases = replace(asked.cases, time_ms=later(asked.cases.time_ms))
    store = replace(store, tables=store.tables | {"events": events})
    return replace(world, store=store, asked=replace(asked, cases=cases))


def with_every_column(store, rng):
    """The store with a tab for each event, and tags, author, duration and upload for each video; some unknown, and some
    videos uploaded after they were shown."""
    n_events, n = len(store.events("video_idx")), store.n_videos
    days = store.events("time_ms") // 86_400_000
    events = store.tables["events"] | {"tab": rng.integers(-1, 4, n_events).astype(np.int16)}
    length = np.concatenate([[0], rng.integers(0, 4, n)])
    tags = [np.sort(rng.choice(9, size, replace=False)) for size in length]
    upload_day = rng.integers(days.min() - 60, days.max() + 4, n + 1).astype(float)
    videos = store.tables["videos"] | {
        "tags": Sets(np.concatenate(tags).astype(np.int32), np.concatenate([[0], length.cumsum()])),
        "author": rng.integers(-1, 12, n + 1).astype(np.int32),
        "duration_ms": np.where(rng.random(n + 1) < 0.2, np.nan, rng.integers(500, 90_000, n + 1)),
        "upload_day": np.where(rng.random(n + 1) < 0.2, np.nan, upload_day),
    }
    about = store.columns | {
        "events/tab": Column("id", 4), "videos/tags": Column("set", 9), "videos/author": Column("id", 12),
        "videos/duration_ms": Column("number"), "videos/upload_day": Column("number"),
    }  # fmt: skip
    tables = store.tables | {"events": NamedColumns(events), "videos": NamedColumns(videos)}
    return replace(store, tables=tables, columns=about)
