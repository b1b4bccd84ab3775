"""The questions put to a recommender, apart from their answers.

A case is a user at a moment; its history is every event of the user strictly before it. Protocols:

- `next_item`: cases at positives of a part (valid, test), whose video is the target: each user's `first`, its `last`,
  or all of them, the history growing from one to the next (`successive`); and one per user, without a target, after
  the whole log (part `next`). A case whose target the user has seen before, liked or not, is dropped and counted.
- `impressions`: one case per user and part, at the user's first row of the part, for scoring all videos really shown to
  it in the part: the history is frozen, so that no score reads what came of an earlier row.
- `random`: the same for the rows exposed at random; the history holds standard rows only.

The catalogue of a part is the videos with an event before the part begins; under leave-one-out, where no part begins at
one moment, it is every video with an event. A target outside it is a miss.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from nextreel.cases.asked import NO_TAB, Cases
from nextreel.cases.store import START, n_before
from nextreel.params import Section
from nextreel.parts import PARTS

Targets = Literal["first", "last", "successive"]


class Params(Section):
    """The section `cases`."""

    targets: Targets  # which positives of a part a user is asked for


@dataclass(frozen=True)
class Log:
    """The labelled standard rows as arrays [E], in order of (user, time, file order)."""

    user_idx: np.ndarray
    video_idx: np.ndarray
    time_ms: np.ndarray
    tab: np.ndarray
    positive: np.ndarray  # bool; False where unknown, too: nobody is asked for it
    part: np.ndarray  # int8, a position in PARTS

    def offsets(self, n_users: int) -> np.ndarray:
        """Where each user's events begin, see `Store`."""
        counts = np.bincount(self.user_idx, minlength=n_users + 1)
        return np.concatenate([[0], counts.cumsum()])

    def cuts(self, n_users: int, leave_one_out: bool) -> dict[str, np.ndarray]:
        """Where a fit on each of `parts.CUTS` ends, and where all begin (START): positions [n_users + 1].

        `early` ends where the last rows of train begin, as many as valid has; under leave-one-out at the positive
        before valid's, and for users that are not asked at the end of train.
        """
        position, ends = self.offsets(n_users)[:-1], {}
        for part in PARTS[:-1]:
            position = position + np.bincount(self.user_idx[self._in(part)], minlength=n_users + 1)
            ends[part] = position
        if leave_one_out:
            early = ends["train"].copy()
            asked = np.flatnonzero(np.bincount(self.user_idx[self._in("valid")], minlength=n_users + 1))
            positives = np.flatnonzero(self._in("train") & self.positive)
            last = np.searchsorted(self.user_idx[positives], asked, side="right") - 1
            early[asked] = positives[last]  # a user is asked from three positives on
        else:
            teaching = self._in("train")
            latest_first, n_valid = -np.sort(-self.time_ms[teaching]), int(self._in("valid").sum())
            from_ms = latest_first[:n_valid].min(initial=np.iinfo(np.int64).max)
            before = np.bincount(self.user_idx[teaching & (self.time_ms < from_ms)], minlength=n_users + 1)
            early = ends["before"] + before
        return {
            START: ends["before"],
            "early": early,
            "train": ends["train"],
            "train_valid": ends["valid"],
            "all": ends["test"],
        }

    def _in(self, part: str) -> np.ndarray:
        return self.part == PARTS.index(part)

    def history_start(self) -> np.ndarray:
        """For each row the first position of its (user, time): rows that share it do not see each other."""
        new = np.ones(len(self.user_idx), bool)
        new[1:] = (np.diff(self.user_idx) != 0) | (np.diff(self.time_ms) != 0)
        return np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))

    def first_part(self, n_videos: int) -> np.ndarray:
        """The earliest part with an event of each video [n_videos + 1], see `Catalogue`."""
        first_part = np.full(n_videos + 1, len(PARTS), np.int8)
        np.minimum.at(first_part, self.video_idx, self.part)
        return first_part


def asked_positives(log: Log, part: int, visible: np.ndarray, targets: Targets) -> tuple[np.ndarray, int]:
    """Positions of the positives in a part that are asked for, and how many were dropped because the video was seen.

    `visible` is `log.history_start()`.
    """
    position = np.flatnonzero(log.positive & (log.part == part))
    if targets != "successive":
        _users, first, count = np.unique(log.user_idx[position], return_index=True, return_counts=True)
        position = position[first if targets == "first" else first + count - 1]
    if not len(position):
        return position, 0
    asked = np.zeros(int(log.video_idx.max()) + 1, bool)
    asked[log.video_idx[position]] = True
    rows = np.flatnonzero(asked[log.video_idx])  # of the videos asked for alone
    pair = log.user_idx[rows].astype(np.int64) << 32 | log.video_idx[rows]
    pairs, earliest = np.unique(pair, return_index=True)
    wanted = log.user_idx[position].astype(np.int64) << 32 | log.video_idx[position]
    seen = rows[earliest[np.searchsorted(pairs, wanted)]] < visible[position]
    return position[~seen], int(seen.sum())


def first_rows(user_idx: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Positions of each user's first chosen row."""
    rows = np.flatnonzero(chosen)
    return rows[np.unique(user_idx[rows], return_index=True)[1]]


class Questions(NamedTuple):
    """All cases with their protocol, and the targets of those that have one."""

    cases: Cases
    protocol: np.ndarray  # [n] str
    target_case_id: np.ndarray  # [m]
    target_video_idx: np.ndarray  # [m]
    dropped_seen: dict[str, int]  # by part


def build(log: Log, random: Log, n_users: int, targets: Targets, impressions: bool) -> Questions:
    """The cases of every protocol, those on impressions on demand.

    `random` holds the rows of the part `random`; its other columns are not read.
    """
    offsets = log.offsets(n_users)
    visible = log.history_start()
    groups: list[tuple[str, Cases]] = []
    video_idx: list[np.ndarray] = []
    dropped: dict[str, int] = {}

    def ask(protocol: str, part: str, position: np.ndarray) -> None:
        user = log.user_idx[position]
        history_end = visible[position] - offsets[user]
        groups.append((protocol, _cases(part, user, log.time_ms[position], log.tab[position], history_end)))

    for part in ("valid", "test"):
        position, dropped[part] = asked_positives(log, PARTS.index(part), visible, targets)
        ask("next_item", part, position)
        video_idx.append(log.video_idx[position])
    everyone = np.arange(1, n_users + 1, dtype=np.int32)
    after = np.full(n_users, log.time_ms.max(initial=0) + 1)
    no_tab = np.full(n_users, NO_TAB, np.int16)
    groups.append(("next_item", _cases("next", everyone, after, no_tab, np.diff(offsets)[1:])))
    for part in ("valid", "test") if impressions else ():
        ask("impressions", part, first_rows(log.user_idx, log.part == PARTS.index(part)))

    shown = first_rows(random.user_idx, np.ones(len(random.user_idx), bool))
    user, time_ms = random.user_idx[shown], random.time_ms[shown]
    history_end = n_before(log.time_ms, offsets, user, time_ms)
    groups.append(("random", _cases("test", user, time_ms, random.tab[shown], history_end)))

    columns = {
        name: np.concatenate([getattr(cases, name) for _, cases in groups]) for name in Cases.__dataclass_fields__
    }
    cases = Cases(**columns | {"case_id": np.arange(len(columns["part"]), dtype=np.int64)})
    protocol = np.repeat([name for name, _ in groups], [len(cases) for _, cases in groups])
    target_video_idx = np.concatenate(video_idx)
    return Questions(cases, protocol, cases.case_id[: len(target_video_idx)], target_video_idx, dropped)


def _cases(part: str, user_idx: np.ndarray, time_ms: np.ndarray, tab: np.ndarray, history_end: np.ndarray) -> Cases:
    n = len(user_idx)
    return Cases(np.arange(n, dtype=np.int64), np.full(n, part), user_idx, time_ms, tab, history_end.astype(np.int64))
