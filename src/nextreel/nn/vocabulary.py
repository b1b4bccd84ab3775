"""What a fit knows videos, events and requests by: which rows its tables of vectors have."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nextreel.cases.store import UNKNOWN as UNKNOWN_LABEL
from nextreel.cases.store import Histories, Sets, Store
from nextreel.clock import DAY_MS
from nextreel.errors import UserError
from nextreel.nn import inputs
from nextreel.nn.inputs import AGE, BIAS, PROFILE, TAGS, Events
from nextreel.nn.profile import PRIOR, Profile

UNKNOWN, START = 0, 1  # rows of ids: a video that has none; the start of a history
FIRST = 2  # row of the first video that has its own
NOTHING = 0  # row of anything else: at the start, or a value that the fit does not know
_MARGIN_DAYS = 16  # before and after the fit in which days of upload are told apart
_CELLS = 64  # of days of upload, at most
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads keys over rows (Knuth, TAOCP 6.4)


class Names(NamedTuple):
    """What is read beside ids, see `inputs`."""

    events: Sequence[str]
    request: Sequence[str]
    videos: Sequence[str]


class Uploads(NamedTuple):
    """When videos were uploaded, in cells of some days, so that an age is a product of a request and a video."""

    cell: np.ndarray  # [n_videos + 1] by video_idx; the last cell: unknown
    day: np.ndarray  # [n_cells] the day of each cell since 1970; NaN: unknown


@dataclass(frozen=True)
class Rows:
    """Which values have rows in tables: name -> how many are known. Of a value beyond, nothing is known."""

    inputs: Mapping[str, int]  # of events
    request: Mapping[str, int]
    profile: Profile | None

    def of_events(self, events: Events) -> dict[str, np.ndarray]:
        """Rows [m] by input."""
        return {name: _row(inputs.of_events(name, events), n, name) for name, n in self.inputs.items()}

    def of_requests(self, last_ms: np.ndarray, time_ms: np.ndarray, tab: np.ndarray | None) -> dict[str, np.ndarray]:
        """Rows [m] by name. last_ms [m]: time of the last event, NEVER_MS if there is none."""
        values = {inputs.GAP: inputs.gap(last_ms, time_ms), inputs.HOUR: inputs.hour(time_ms), "tab": tab}
        return {name: _row(values[name], n, name) for name, n in self.request.items()}


class Counts(NamedTuple):
    """What a fit begins with and nobody asks of a model that was loaded: of each known video [V], in order."""

    events: np.ndarray  # [V]
    log_rates: np.ndarray  # [V, 2] of events and of positives, see `_log_rates`


@dataclass(frozen=True)
class Vocabulary:
    """Rows by video_idx [n_videos + 1], and of everything else."""

    known: np.ndarray  # [V] video_idx of the fit's events, in order
    row: np.ndarray  # of ids: START of padding, UNKNOWN of videos outside `known`
    content: Mapping[str, Sets]  # rows of each video in the table of that name; values that `known` lacks are none
    uploads: Uploads | None
    rows: Rows

    @classmethod
    def fit(
        cls, histories: Histories, names: Names, only_positives: bool, own_row_from: int = 1, hashed_rows: int = 0
    ) -> "tuple[Vocabulary, Counts]":
        """Videos with fewer events than `own_row_from` share `hashed_rows` rows by the hash of their keys; none if 0.

        only_positives: other events are not read.

        Raises UserError where no event is.
        """
        store = histories.store
        position, owner = histories.positives() if only_positives else histories.flat()
        video = store.events("video_idx")[position]
        known, count = np.unique(video, return_counts=True)
        if not len(known):
            raise UserError("train has no target, as no event that `model.history` reads; lower the label's bar")
        wanted = {name for name in names.videos if name not in (AGE, BIAS)}
        wanted |= {TAGS} if PROFILE in names.request else set()
        content = {name: _numbered(inputs.of_videos(name, store), known) for name in sorted(wanted)}
        profile = None
        if PROFILE in names.request and n_rows(content[TAGS]):
            profile = Profile.fit(content[TAGS], n_rows(content[TAGS]), video, store.events("positive")[position])
        events = Events.of(histories, position, owner, np.full(len(histories), inputs.NEVER_MS))
        rows = Rows(
            {name: inputs.n_values(name, inputs.of_events(name, events)) for name in names.events},
            {name: inputs.n_values(name, _of_request(name, events)) for name in names.request if name != PROFILE},
            profile,
        )
        uploads = _uploads(store, inputs.day(events.time_ms)) if AGE in names.videos else None
        of_videos = {name: content[name] for name in names.videos if name in content}
        row = _rows(store, known, count, own_row_from, hashed_rows)
        counts = Counts(count, _log_rates(video, events.time_ms, store.events("positive")[position]))
        return cls(known, row, of_videos, uploads, rows), counts

    @property
    def index(self) -> np.ndarray:
        """The place of each video in `known` [n_videos + 1], -1 outside."""
        index = np.full(len(self.row), -1, np.int64)
        index[self.known] = np.arange(len(self.known))
        return index

    def has_opinion(self, video_idx: np.ndarray) -> np.ndarray:
        """Whether anything is known of videos [n]: a row of ids, or content."""
        known = self.row[video_idx] >= FIRST
        for sets in self.content.values():
            known |= sets.offsets[video_idx + 1] > sets.offsets[video_idx]
        return np.asarray(known & (video_idx > 0))

    def save(self, folder: Path) -> None:
        """Write it into a new folder."""
        folder.mkdir()
        arrays = {"known": self.known, "row": self.row}
        for name, sets in self.content.items():
            arrays |= {f"content.{name}": sets.values, f"content.{name}.offsets": sets.offsets}
        if self.uploads is not None:
            arrays |= {"uploads.cell": self.uploads.cell, "uploads.day": self.uploads.day}
        if (profile := self.rows.profile) is not None:
            arrays |= {"profile.tags": profile.tags.values, "profile.offsets": profile.tags.offsets}
            arrays |= {"profile.share": profile.share, "profile.rate": profile.rate}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        about = {"inputs": self.rows.inputs, "request": self.rows.request, "content": list(self.content)}
        (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        arrays = {path.stem: np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}
        names = about["content"]
        content = {name: Sets(arrays[f"content.{name}"], arrays[f"content.{name}.offsets"]) for name in names}
        uploads = Uploads(arrays["uploads.cell"], arrays["uploads.day"]) if "uploads.cell" in arrays else None
        profile = None
        if "profile.share" in arrays:
            tags = Sets(arrays["profile.tags"], arrays["profile.offsets"])
            profile = Profile(tags, arrays["profile.share"], arrays["profile.rate"])
        rows = Rows(about["inputs"], about["request"], profile)
        return cls(arrays["known"], arrays["row"], content, uploads, rows)


def _row(value: np.ndarray | None, n_known: int, name: str) -> np.ndarray:
    """The row of each value: 0 = NOTHING, value v = v + 1. Buckets are in order: one beyond the last is the last."""
    assert value is not None
    if name in inputs.SIZES:
        value = np.minimum(value, n_known - 1)
    return np.where((value >= 0) & (value < n_known), value + 1, NOTHING).astype(np.int32)


def n_rows(sets: Sets) -> int:
    """How many different values sets of numbers from 0 hold."""
    return int(sets.values.max(initial=-1)) + 1


def _of_request(name: str, events: Events) -> np.ndarray:
    """What the events' own requests said."""
    return inputs.gap(events.before_ms, events.time_ms) if name == inputs.GAP else inputs.of_events(name, events)


def _numbered(sets: Sets, known: np.ndarray) -> Sets:
    """The same sets without the values that no known video has; the others are numbered from 0, in order."""
    values = np.unique(sets.of(known)[0])
    if not len(values):
        return Sets(values.astype(np.int32), np.zeros_like(sets.offsets))
    number = np.minimum(np.searchsorted(values, sets.values), len(values) - 1)
    keep = values[number] == sets.values
    before = np.concatenate([[0], keep.cumsum()])
    return Sets(number[keep].astype(np.int32), before[sets.offsets])


def _log_rates(video: np.ndarray, time_ms: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Of each video of the events [m], in order of video_idx: log((1 + events) / (1 + days since the first of them)),
    and the log of its share of positives against that of all, smoothed by PRIOR events [V, 2].

    Days are as long as it takes for a day's number of events: what else was shown while it could be."""
    by_time = np.argsort(time_ms, kind="stable")
    known, first, count = np.unique(video[by_time], return_index=True, return_counts=True)
    days = max(1.0, float(np.ptp(time_ms)) / DAY_MS)
    of_events = np.log((1 + count) / (1 + (len(video) - first) * days / len(video)))
    which = np.searchsorted(known, video)
    judged, liked = (np.bincount(which, of, len(known)) for of in (positive != UNKNOWN_LABEL, positive == 1))
    overall = (liked.sum() + 1) / (judged.sum() + 2)
    return np.stack([of_events, np.log((liked + PRIOR * overall) / (judged + PRIOR) / overall)], axis=1)


def _rows(store: Store, known: np.ndarray, count: np.ndarray, own_row_from: int, hashed_rows: int) -> np.ndarray:
    """The row of ids of each video [n_videos + 1]."""
    row = np.full(store.n_videos + 1, UNKNOWN, np.int32)
    row[0] = START
    own = known[count >= own_row_from]
    row[own] = np.arange(FIRST, FIRST + len(own))
    if hashed_rows:
        rest = known[count < own_row_from]
        key = np.asarray(store.tables["videos"]["video_key"])[rest].astype(np.uint64)
        row[rest] = FIRST + len(own) + ((key * _GOLDEN) >> np.uint64(32)) % np.uint64(hashed_rows)
    return row


def _uploads(store: Store, days: np.ndarray) -> Uploads:
    """Cells around the days of a fit's events [m]; what was uploaded before or after is put in the first or last."""
    first, last = int(days.min()) - _MARGIN_DAYS, int(days.max()) + _MARGIN_DAYS
    wide = -(-(last + 1 - first) // _CELLS)
    day = np.arange(first, last + 1, wide, dtype=np.float64)
    upload_day = inputs.upload_days(store)
    cell = np.clip((np.nan_to_num(upload_day) - first) // wide, 0, len(day) - 1)
    return Uploads(np.where(np.isnan(upload_day), len(day), cell).astype(np.int32), np.append(day, np.nan))
