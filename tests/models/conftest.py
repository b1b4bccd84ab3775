"""Logs with tags and authors."""

from dataclasses import replace

import numpy as np
import pytest

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Column, NamedColumns, Sets
from nextreel.contract import Training


def add_columns(store, tags=None, author=None):
    """tags: a list for each video from 0 on, the padding; author: a number for each, -1 unknown."""
    videos, about = dict(store.tables["videos"]), dict(store.columns)
    if tags is not None:
        values = np.array([tag for each in tags for tag in each], np.int32)
        videos["tags"] = Sets(values, np.cumsum([0, *map(len, tags)]))
        about["videos/tags"] = Column("set", int(values.max(initial=-1)) + 1)
    if author is not None:
        videos["author"] = np.array(author, np.int32)
        about["videos/author"] = Column("id", max(author) + 1)
    return replace(store, tables={**store.tables, "videos": NamedColumns(videos)}, columns=about)


@pytest.fixture(scope="session")
def with_columns():
    return add_columns


@pytest.fixture(scope="session")
def log_of(made_store):
    """A store from each user's (video, positive) or (video, positive, minute), positive 0, 1 or -1; all are train."""

    def make(*users, tags=None, author=None, n_videos=9):
        rows = [(*event, minute)[:3] for events in users for minute, event in enumerate(events)]
        video, positive, minute = (np.array(column) for column in zip(*rows, strict=True))
        offsets = np.cumsum([0, 0, *map(len, users)])
        cuts = {"start": offsets[:-1], "train": offsets[1:]}
        events = {"video_idx": video.astype(np.int32), "time_ms": minute * 60_000, "positive": positive.astype(np.int8)}
        store = made_store(offsets, cuts, events, np.arange(n_videos + 1), np.arange(len(users) + 1))
        return add_columns(store, tags, author)

    return make


@pytest.fixture(scope="session")
def training_on():
    return lambda store, cut="train": Training(store.fitted_on(cut), None)


@pytest.fixture(scope="session")
def scores_of():
    """The scores [N] of videos for a user with so many events, at this minute."""

    def scored(model, store, user_idx, history_end, videos, minute=0):
        case = Cases(
            np.zeros(1, int), np.array(["test"]), np.array([user_idx]), np.array([minute * 60_000]),
            np.zeros(1, np.int16), np.array([history_end]),
        )  # fmt: skip
        return model.score(Pairs.at_cases(store, case, np.zeros(len(videos), int), np.array(videos)))

    return scored


@pytest.fixture(scope="session")
def halves(world_of):
    """120 users are shown videos of both halves of 80, and like three in four of their own, one in four of the other.
    The halves are tags 0 and 1; four videos in a row have one author."""
    rng = np.random.default_rng(3)
    sequences = np.array([1 + rng.permutation(80)[:40] for _ in range(120)])
    own = (sequences > 40) == (np.arange(120) % 2)[:, None]
    world = world_of(sequences, 30, 4, rng.random(sequences.shape) < np.where(own, 0.75, 0.25))
    video = np.arange(81)
    tags = [[], *([int(each > 40)] for each in video[1:])]
    return replace(world, store=add_columns(world.store, tags, (video // 4).tolist()))
