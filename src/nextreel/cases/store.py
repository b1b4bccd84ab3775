"""What is known of every event, video and user: named columns, one file each, memory-mapped.

    columns.json                 name -> kind and size, see `Column`
    offsets.npy                  [n_users + 2] int64: user u's events are the positions offsets[u] to offsets[u + 1]
    cuts/<cut>.npy               [n_users + 1] int64: position where a fit on the cut ends; `start`, where all begin
    events/<name>.npy            [E], in order of (user, time, file order)
    videos/<name>.npy            [n_videos + 1], looked up by video_idx; row 0 is padding
    users/<name>.npy             [n_users + 1], by user_idx; row 0 is padding

A set of ids a row is two files: <name>.npy, the ids of all rows one after the other, and <name>.offsets.npy.
`cases.columns` declares the columns. A model is handed a store of those that it names (`link`), and no others.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from nextreel.errors import UserError
from nextreel.files import replacing

ALWAYS = ("events/video_idx",)  # what scoring needs, whatever the model: seen videos are left out
UNKNOWN = -1  # an id that the source does not say
START = "start"  # beside the cuts: where the first event lies that teaches a model


Kind = Literal["id", "set", "number"]


class Column(NamedTuple):
    """What the values of a column are."""

    kind: Kind  # whole numbers from 0 to size - 1, or UNKNOWN; a set of them; a measure
    size: int = 0  # how many different ids there are; 0 for a number


@dataclass(frozen=True)
class Sets:
    """A set of ids for each row: row i holds values[offsets[i] : offsets[i + 1]], in order."""

    values: np.ndarray  # [S]
    offsets: np.ndarray  # [rows + 1] int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids of some rows [m] one after the other, and the position in `rows` of each."""
        start = self.offsets[rows]
        length = self.offsets[rows + 1] - start
        owner = np.repeat(np.arange(len(rows)), length)
        return self.values[np.arange(len(owner)) + np.repeat(start - (length.cumsum() - length), length)], owner


class NamedColumns(dict[str, Any]):
    """The columns of one table by name, arrays or Sets. A KeyError names what there is."""

    def __missing__(self, name: str) -> Any:
        raise KeyError(f"the store has no column {name!r}, only {', '.join(self)}: a model's `columns` must name it")


@dataclass(frozen=True)
class Store:
    """The columns at hand."""

    offsets: np.ndarray  # [n_users + 2]
    cuts: Mapping[str, np.ndarray]  # [n_users + 1] each, with START
    tables: Mapping[str, NamedColumns]  # events, videos, users
    columns: Mapping[str, Column]  # `<table>/<name>` -> kind and size, of those at hand

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 2

    @property
    def n_videos(self) -> int:
        return self.columns["events/video_idx"].size - 1

    def events(self, name: str) -> np.ndarray:
        """A column of the events [E]."""
        return np.asarray(self.tables["events"][name])

    def users(self, name: str) -> np.ndarray:
        """A column of the users [n_users + 1]."""
        return np.asarray(self.tables["users"][name])

    def video_sets(self, name: str) -> Sets:
        """The set of ids of each video, by video_idx."""
        column = self.tables["videos"][name]
        assert isinstance(column, Sets)
        return column

    def video_groups(self, name: str) -> tuple[Sets, int]:
        """The groups of each video by video_idx, at least one, and how many groups there are: the ids of a column, and
        one of all videos without; where the data lack the column every video is in that one."""
        n = self.n_videos + 1
        if name not in self.tables["videos"]:
            return Sets(np.zeros(n, np.int32), np.arange(n + 1)), 1
        column, size = self.tables["videos"][name], self.columns[f"videos/{name}"].size
        if not isinstance(column, Sets):
            return Sets(np.where(column < 0, size, column), np.arange(n + 1)), size + 1
        empty = np.diff(column.offsets) == 0
        values = np.insert(column.values, column.offsets[:-1][empty], size)
        return Sets(values, column.offsets + np.concatenate([[0], empty.cumsum()])), size + 1

    def fitted_on(self, cut: str) -> "Histories":
        """Each user's events up to the cut, index = user_idx: what `fit` learns from."""
        return Histories(self, self.cuts[START], self.cuts[cut])

    def until(self, user_idx: np.ndarray, history_end: np.ndarray) -> "Histories":
        """The first `history_end` [n] events of each user [n]."""
        start = self.offsets[user_idx]
        return Histories(self, start, start + history_end)

    def save(self, folder: Path) -> None:
        """Write every column; all or none."""
        with replacing(folder) as temporary:
            for table in ("cuts", *self.tables):
                (temporary / table).mkdir(parents=True)
            np.save(temporary / "offsets.npy", self.offsets)
            for cut, end in self.cuts.items():
                np.save(temporary / f"cuts/{cut}.npy", end)
            for name in self.columns:
                table, column = name.split("/")
                values = self.tables[table][column]
                if isinstance(values, Sets):
                    np.save(temporary / f"{name}.offsets.npy", values.offsets)
                    values = values.values
                np.save(temporary / f"{name}.npy", values)
            _describe(temporary, self.columns)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The columns that lie in a folder, memory-mapped."""
        columns = described(folder)
        tables = {"events": NamedColumns(), "videos": NamedColumns(), "users": NamedColumns()}
        for name, about in columns.items():
            table, column = name.split("/")
            values = _mapped(folder / f"{name}.npy")
            tables[table][column] = (
                Sets(values, _mapped(folder / f"{name}.offsets.npy")) if about.kind == "set" else values
            )
        cuts = {path.stem: _mapped(path) for path in sorted((folder / "cuts").glob("*.npy"))}
        return cls(_mapped(folder / "offsets.npy"), cuts, tables, columns)


def link(store: Path, folder: Path, names: Iterable[str], cuts: Collection[str]) -> None:
    """Make `folder` a store of these columns and cuts: hard links, or copies where the file system has none. A column
    whose name ends with `?` is left out where the data lack it.

    Raises UserError where the data lack another.
    """
    columns = described(store)
    asked = {*ALWAYS, *names}
    can_lack = {name for name in asked if name.endswith("?")}
    wanted = sorted(asked - can_lack | {name[:-1] for name in can_lack} & columns.keys())
    if lacking := [name for name in wanted if name not in columns]:
        raise UserError(f"{folder.name} reads {', '.join(lacking)}; the data have {', '.join(columns)}")
    files = ["offsets.npy", *(f"cuts/{cut}.npy" for cut in (START, *cuts))]
    files += [f"{name}.npy" for name in wanted]
    files += [f"{name}.offsets.npy" for name in wanted if columns[name].kind == "set"]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(store / file, folder / file)
        except OSError:
            shutil.copy(store / file, folder / file)
    _describe(folder, {name: columns[name] for name in wanted})


def described(folder: Path) -> dict[str, Column]:
    """The columns in a folder, by `<table>/<name>`."""
    return {name: Column(**about) for name, about in json.loads((folder / "columns.json").read_text()).items()}


def _describe(folder: Path, columns: Mapping[str, Column]) -> None:
    text = json.dumps({name: about._asdict() for name, about in sorted(columns.items())}, indent=2)
    (folder / "columns.json").write_text(text + "\n", encoding="utf-8")


def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def n_before(event_ms: np.ndarray, offsets: np.ndarray, user_idx: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
    """How many of each user's [n] events lie strictly before each time [n]: one binary search for all.

    event_ms [E]: in order of (user, time); offsets [n_users + 2]: where each user's begin.
    """
    low, high = offsets[user_idx], offsets[user_idx + 1]
    while (open_ := np.flatnonzero(low < high)).size:
        middle = (low[open_] + high[open_]) // 2
        earlier = event_ms[middle] < time_ms[open_]
        low[open_[earlier]] = middle[earlier] + 1
        high[open_[~earlier]] = middle[~earlier]
    return np.asarray(low - offsets[user_idx])


@dataclass(frozen=True)
class Histories:
    """n stretches of a store's events: history i is the positions start[i] to stop[i]. Nothing may read beyond them."""

    store: Store
    start: np.ndarray  # [n]
    stop: np.ndarray  # [n]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def length(self) -> np.ndarray:
        return np.asarray(self.stop - self.start)

    def where(self, keep: slice | np.ndarray) -> "Histories":
        """Some of the histories, by mask, positions or slice."""
        return Histories(self.store, self.start[keep], self.stop[keep])

    def blocks(self, n_histories: int, n_events: int) -> Iterator[slice]:
        """Cut them into runs of at most so many histories, and so many events or a single longer history."""
        end = self.length.cumsum()
        start = 0
        while start < len(self):
            before = end[start] - self.length[start]
            stop = max(int(np.searchsorted(end, before + n_events, side="right")), start + 1)
            stop = min(stop, start + n_histories, len(self))
            yield slice(start, stop)
            start = stop

    def flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions [m] of all events, history after history, and the history [m] each belongs to."""
        length = self.length
        owner = np.repeat(np.arange(len(self)), length)
        before = np.repeat(self.start - (length.cumsum() - length), length)
        return before + np.arange(len(owner)), owner

    def positives(self) -> tuple[np.ndarray, np.ndarray]:
        """Like `flat`, the positive events only."""
        position, owner = self.flat()
        keep = self.store.events("positive")[position] == 1
        return position[keep], owner[keep]

    def judged(self) -> tuple[np.ndarray, np.ndarray]:
        """Like `flat`, the events only of which is known whether they are positive."""
        position, owner = self.flat()
        keep = self.store.events("positive")[position] != UNKNOWN
        return position[keep], owner[keep]
