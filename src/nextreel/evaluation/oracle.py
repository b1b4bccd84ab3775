"""The best possible ranking of logged next positives in a simulated world, from its truth:

P(the next exposure is v | state, day, seen) x P(v is a positive | exposed, state)

It knows the session's hidden state, the policy, its redraws of seen videos and the law of watch time; no model does.
"""

from pathlib import Path

import numpy as np

from nextreel import engine, labels
from nextreel.cases import Cases
from nextreel.datasets import world
from nextreel.sequences import Histories


class Oracle:
    """Scores like a `Model`, for cases whose moment is a logged row."""

    def __init__(self, data: Path, label: labels.Params) -> None:
        tables = data / "tables"
        self.events = engine.load(tables / "truth_events.parquet")
        self.users = engine.load(tables / "truth_users.parquet")
        self.topics = engine.load(tables / "truth_topics.parquet")
        self.videos = engine.load(tables / "truth_videos.parquet")
        logged_ms = engine.load(tables / "videos.parquet", columns=["duration_ms"])["duration_ms"]  # NaN where unknown
        self.bound_ms = _bounds_ms(self.videos["true_duration_ms"], logged_ms, label, data)

    @staticmethod
    def knows(data: Path) -> bool:
        """Whether the tables hold a simulator's truth."""
        return len(engine.load(data / "tables/truth_topics.parquet", columns=["topic"])["topic"]) > 0

    def score(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> np.ndarray:
        """log probability [B, N] that the video is shown next and a positive; -inf where it cannot be."""
        before, day = self._state(cases)
        user = np.searchsorted(self.users["user_idx"], cases.user_idx)
        at = np.searchsorted(self.videos["video_idx"], video_idx)
        video = {name: column[at] for name, column in self.videos.items()}
        strength = float(self.topics["sequence_strength"][0])
        following = self.topics["next_probability"]
        topic = world.topic_probability(before, self.users["topic_probability"][user], following, strength)
        position, owner = histories.flat()
        watched = np.searchsorted(self.videos["video_idx"], histories.events.video_idx[position])
        exposed = np.empty((len(cases), len(video_idx)))
        for today in np.unique(day):
            rows = np.flatnonzero(day == today)
            weight = world.exposure_weight(self.videos["exposure_weight"], self.videos["upload_day"], int(today))
            share = weight / np.bincount(self.videos["topic"], weights=weight)[self.videos["topic"]]
            topic[rows] *= world.unseen_factor(self._seen_mass(share, watched, owner, len(cases))[rows])
            exposed[rows] = topic[rows][:, video["topic"]] * share[at]
        mood = strength * np.where(before[:, None] >= 0, following[before][:, video["topic"]], 0.0)
        interest = world.interest(self.users["taste"][user] @ video["vector"].T, video["quality"], mood)
        positive = world.watch_beyond(
            interest, self.bound_ms[at], video["true_duration_ms"], video["log_wtr_offset"], video["skip_mean_ms"]
        )
        with np.errstate(divide="ignore"):
            return np.log(exposed * positive).astype(np.float32)

    def _seen_mass(self, share: np.ndarray, watched: np.ndarray, owner: np.ndarray, n_cases: int) -> np.ndarray:
        """The share [B, K] of each topic's exposures that goes to videos seen before. watched, owner [m]: events."""
        case, video = np.unique(np.stack([owner, watched]), axis=1)
        n_topics = len(self.topics["topic"])
        cell = case * n_topics + self.videos["topic"][video]
        return np.bincount(cell, share[video], n_cases * n_topics).reshape(n_cases, n_topics)

    def _state(self, cases: Cases) -> tuple[np.ndarray, np.ndarray]:
        """topic_before [B] and day [B] of the logged row at each case's moment."""
        logged = _moment(self.events["user_idx"], self.events["time_ms"])
        row = np.searchsorted(logged, _moment(cases.user_idx, cases.time_ms))
        return self.events["topic_before"][row], self.events["day"][row]


def _moment(user_idx: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
    """User and time as one sortable number; a simulated log is far shorter than 2**40 ms = 34 years."""
    return user_idx.astype(np.int64) << 40 | (time_ms - world.FIRST_MS)


def _bounds_ms(true_ms: np.ndarray, logged_ms: np.ndarray, label: labels.Params, data: Path) -> np.ndarray:
    """The play time [N] above which each video's row is a positive."""
    if label.positive in ("all", "click", "long_view"):
        return labels.logged_bounds_ms(true_ms, label.positive)
    durations = engine.load(data / "durations.parquet")
    at = np.searchsorted(durations["duration_ms"], logged_ms).clip(max=len(durations["duration_ms"]) - 1)
    known = durations["duration_ms"][at] == logged_ms
    return np.where(known, durations["positive_above_ms"][at], labels.NEVER)
