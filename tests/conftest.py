"""Data for the tests: the real slices where they are at hand, a tiny simulated world, folders written by hand."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from nextreel import runtime

# As in a stage. The threads of torch spin while they wait, and tests on tiny tensors take four times as long on a
# processor that others use too. Tests of threads ask for their own number.
runtime.limit_threads(1)

import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pytest
import yaml
from ibis.backends.duckdb import Backend

from nextreel import datasets, engine, schema
from nextreel.cases.asked import Cases, Catalogue
from nextreel.cases.pairs import Pairs
from nextreel.cases.protocols import Log, build
from nextreel.cases.store import Column, NamedColumns, Store
from nextreel.datasets import Source, kuairand
from nextreel.errors import UserError
from nextreel.scoring.sets import EvalSet
from nextreel.simulation import generator
from nextreel.two_stage import trees

ROOT = Path(__file__).resolve().parents[1]
FIRST_MS = 1_650_812_741_436  # of the rows written by hand: 2022-04-24 in UTC+8
FLAGS = ["is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"]
LOG = [
    *("user_id", "video_id", "date", "hourmin", "time_ms", *FLAGS, "play_time_ms", "duration_ms"),
    *("profile_stay_time", "comment_stay_time", "is_rand", "tab"),
]
LOG_ROW = dict.fromkeys(LOG, 0) | {"user_id": 1, "video_id": 2, "play_time_ms": 10, "duration_ms": 20, "tab": 1}
RANGES = ["follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range"]
USER_ROW = {
    **{"user_id": 1, "user_active_degree": "full_active"},
    **dict.fromkeys(["is_lowactive_period", "is_live_streamer", "is_video_author"], 0),
    **dict.fromkeys([name.removesuffix("_range") for name in RANGES], 7),
    **dict.fromkeys(RANGES, '"[1,10)"'),
    **{f"onehot_feat{i}": i for i in range(18)},
}
VIDEO_ROW = {
    **{"video_id": 2, "author_id": 5, "video_type": "NORMAL", "upload_dt": "2022-04-10", "upload_type": "Web"},
    **{"visible_status": "0.0", "video_duration": "87433.0", "server_width": "720.0", "server_height": "1280.0"},
    **{"music_id": 9_155_697_141, "music_type": "9.0", "tag": '"12,65"'},
}
Row = Mapping[str, object] | str


def ingest_of(path: Path, **changes: Any) -> datasets.Params:
    """The committed section `ingest` for another path."""
    section = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["ingest"]
    return datasets.Params(**section | {"path": str(path)} | changes)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that of two processes none ends with it while the other has nothing to do."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


class RawFolder:
    """A folder in KuaiRand's layout. A row is what differs from a good one, or a whole line as it stands."""

    def __init__(self, path: Path, connect: Callable[..., Backend]) -> None:
        self.path = path
        self.connect = connect

    def log(self, *rows: Row, name: str = "log_standard_a.csv", columns: list[str] = LOG) -> Path:
        """Write a log; row i is i ms after the first unless it says otherwise."""
        timed = [row if isinstance(row, str) else {"time_ms": FIRST_MS + i, **row} for i, row in enumerate(rows)]
        return self._write(name, timed, LOG_ROW, columns)

    def users(self, *rows: Row) -> Path:
        return self._write("user_features_hand.csv", rows, USER_ROW, list(USER_ROW))

    def videos(self, *rows: Row) -> Path:
        return self._write("video_features_basic_hand.csv", rows, VIDEO_ROW, list(VIDEO_ROW))

    def read(self) -> Source:
        return kuairand.read(self.connect(), ingest_of(self.path))

    def _write(self, name: str, rows: Any, good: Mapping[str, object], columns: list[str]) -> Path:
        lines = [row if isinstance(row, str) else ",".join(str({**good, **row}[c]) for c in columns) for row in rows]
        path = self.path / name
        path.write_text("".join(f"{line}\n" for line in [",".join(columns), *lines]), encoding="utf-8")
        return path


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Backend]:
    """Makes a fresh engine, of as many threads as asked for."""
    scratch = tmp_path_factory.mktemp("scratch")
    return lambda threads=2: engine.connect(engine.Params(memory_limit="1GB"), threads, scratch)


@pytest.fixture(scope="session")
def new_folder(tmp_path_factory: pytest.TempPathFactory, connect: Callable[..., Backend]) -> Callable[[], RawFolder]:
    return lambda: RawFolder(tmp_path_factory.mktemp("raw"), connect)


@pytest.fixture
def folder(new_folder: Callable[[], RawFolder]) -> RawFolder:
    return new_folder()


@pytest.fixture(scope="session")
def ingest() -> Callable[..., datasets.Params]:
    """The section `ingest` for a path, as committed but for some changes."""
    return ingest_of


@pytest.fixture(scope="session")
def frame() -> Callable[[ir.Table, str], pd.DataFrame]:
    """The rows of a table in the order that `ingest` writes them in."""
    return lambda table, name: table.order_by(*schema.ORDER[name]).to_pandas()


@pytest.fixture
def con(connect: Callable[..., Backend]) -> Backend:
    return connect()


@pytest.fixture(scope="session")
def committed(root: Path) -> dict[str, Any]:
    """params.yaml as it stands; copy before a change."""
    return dict(yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def tiny_world(committed: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated folder of a few thousand rows."""
    size = {"n_users": 60, "n_videos": 150, "n_rows": 3_000, "n_days": 10}
    path = tmp_path_factory.mktemp("world") / "tiny"
    generator.write(path, generator.Params(**committed["simulate"] | size))
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Slices of KuaiRand; NEXTREEL_REAL_DATA names another place for them."""
    path = Path(os.environ.get("NEXTREEL_REAL_DATA", ROOT / "../shared/data"))
    if not path.is_dir():
        pytest.skip(f"real data: there is no {path}; set NEXTREEL_REAL_DATA")
    return path


@pytest.fixture(scope="session")
def slice_source(real_data: Path, connect: Callable[..., Backend]) -> Source:
    """The large slice, read once for all tests."""
    return RawFolder(real_data / "kuairand-pure-slice" / "data", connect).read()


@pytest.fixture(scope="session")
def lightgbm() -> ModuleType:
    """The library; where it cannot be loaded, what needs it is skipped."""
    try:
        return trees.load("binary")
    except UserError as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class World:
    """Events, and the cases asked of them."""

    store: Store
    asked: EvalSet

    def cases(self, part: str) -> Cases:
        return self.asked.of(part).cases

    def all_pairs(self, part: str) -> Pairs:
        """Every case of a part with every video of its catalogue, case by case."""
        cases, catalogue = self.cases(part), self.asked.catalogue.of(part)
        row = np.repeat(np.arange(len(cases)), len(catalogue))
        return Pairs.at_cases(self.store, cases, row, np.tile(catalogue, len(cases)))


def sort_all(world, part, scores):
    """The plain reference of retrieval: every case of a part, all unseen videos of the catalogue with an opinion, one
    full sort each. scores [B, N]. Returns each case's [(video_idx, score), ...] and its target's rank, 0 a miss."""
    asked, catalogue = world.asked.of(part), world.asked.catalogue.of(part)
    lists, ranks = [], []
    for i, row in enumerate(scores):
        start = world.store.offsets[asked.cases.user_idx[i]]
        seen = world.store.events("video_idx")[start : start + asked.cases.history_end[i]].tolist()
        tie = asked.tie(np.repeat(asked.cases.case_id[i], len(catalogue)), catalogue).tolist()
        entries = zip(row.tolist(), tie, catalogue.tolist(), strict=True)
        ordered = sorted((-s, t, v) for s, t, v in entries if s > -np.inf and v not in set(seen))
        lists.append([(v, -s) for s, _t, v in ordered])
        videos = [v for _s, _t, v in ordered]
        ranks.append(videos.index(asked.target[i]) + 1 if asked.target[i] in videos else 0)
    return lists, np.array(ranks)


@pytest.fixture(scope="session")
def full_sort():
    return sort_all


def store_of(offsets, cuts, events, video_key, user_key):
    """A store from arrays."""
    tables = {
        "events": NamedColumns(events),
        "videos": NamedColumns(video_key=np.asarray(video_key)),
        "users": NamedColumns(user_key=np.asarray(user_key)),
    }
    about = {"events/video_idx": Column("id", len(video_key)), "events/positive": Column("id", 2)}
    about |= {name: Column("number") for name in ("events/time_ms", "videos/video_key", "users/user_key")}
    return Store(np.asarray(offsets), cuts, tables, about)


def make_world(sequences, n_train, n_valid, positive=None):
    """Users' sequences of videos: the first n_train events of each are train, n_valid valid, the rest test.

    positive: an array like `sequences`, all True by default.
    """
    sequences = np.asarray(sequences)
    n_users, length = sequences.shape
    positive = np.ones(sequences.shape, bool) if positive is None else positive
    user_idx = np.repeat(np.arange(1, n_users + 1, dtype=np.int32), length)
    time_ms = np.tile(np.arange(length) * 1000, n_users)
    part = np.tile(np.repeat([1, 2, 3], [n_train, n_valid, length - n_train - n_valid]), n_users).astype(np.int8)
    tab = np.zeros(len(user_idx), np.int16)
    log = Log(user_idx, sequences.ravel().astype(np.int32), time_ms, tab, positive.ravel(), part)
    nobody = Log(*(column[:0] for column in (user_idx, user_idx, time_ms, tab, positive.ravel(), part)))
    questions = build(log, nobody, n_users + 1, "first", impressions=True)  # the last user has no event
    first = questions.cases.where(questions.protocol == "next_item")
    target = np.zeros(len(first), np.int32)
    target[questions.target_case_id] = questions.target_video_idx
    video_key, user_key = 1000 + np.arange(sequences.max() + 1), 5000 + np.arange(n_users + 2)
    events = {"video_idx": log.video_idx, "time_ms": log.time_ms, "positive": log.positive}
    cuts = log.cuts(n_users + 1, leave_one_out=False)
    store = store_of(log.offsets(n_users + 1), cuts, events, video_key, user_key)
    catalogue = Catalogue(log.first_part(len(video_key) - 1), video_key)
    return World(store, EvalSet(first, user_key[first.user_idx], catalogue, target, seed=42))


@pytest.fixture(scope="session")
def world_of():
    return make_world


@pytest.fixture(scope="session")
def made_store():
    return store_of


@pytest.fixture(scope="session")
def cycle():
    """Users walk round a circle of 60 videos from anywhere: only order tells what comes next."""
    start = np.random.default_rng(0).integers(0, 60, 300)
    return make_world(1 + (start[:, None] + np.arange(24)) % 60, n_train=20, n_valid=2)


@pytest.fixture(scope="session")
def blocks():
    """Checkerboard: each user draws from one of two halves of 80 videos, without order or repeats."""
    rng = np.random.default_rng(1)
    return make_world(
        np.array([1 + 40 * (user % 2) + rng.permutation(40)[:26] for user in range(240)]), n_train=22, n_valid=2
    )
