"""Intervals for what other users and other videos of the same kind would give.

Rows of one user hang together, and so do rows of one video: hits sit on few videos, which users alone do not tell. The
variance is V_users + V_videos - V_both (Cameron, Gelbach & Miller, JBES 2011): sums of squares of what the rows of a
user, of a video, of a user and a video add together to the error (see `metrics.ratios`). `benchmarks/intervals.py`
counts how often such intervals hold the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from nextreel.metrics.ratios import Estimate

# Users, and videos, that are part of an estimate with an interval: how fewer differ says little of how others do.
LEAST = 30
_DRAWS = 40_000


@dataclass(frozen=True)
class Sums:
    """What each user, each video, and each user with a video adds to the errors of m estimates."""

    users: np.ndarray  # [U, m]
    videos: np.ndarray  # [V, m]
    both: np.ndarray  # [C, m]
    enough: np.ndarray  # [m] bool: LEAST users and videos are part of it

    @classmethod
    def stack(cls, columns: Sequence["Sums"]) -> "Sums":
        """Estimates from the same rows, side by side."""
        users, videos, both = (np.hstack([getattr(x, way) for x in columns]) for way in ("users", "videos", "both"))
        return cls(users, videos, both, np.concatenate([x.enough for x in columns]))

    def differences(self, left: np.ndarray, right: np.ndarray) -> "Sums":
        """Of the differences of the estimates at these positions [p]."""
        users, videos, both = (x[:, left] - x[:, right] for x in (self.users, self.videos, self.both))
        return Sums(users, videos, both, self.enough[left] & self.enough[right])

    @cached_property
    def _squares(self) -> np.ndarray:
        """V and the same of fourth powers [2, m]. What rows of a video have in common beyond those of a user is never
        less than nothing, which the difference may be by chance; so V is at least V_users. It is not at least V_videos,
        too (MacKinnon, Nielsen & Webb, QED working paper 1516, 2024): where a metric is about pairs of a user's rows,
        that holds each row's own noise twice."""
        squares = (np.square(x) for x in (self.users, self.videos, self.both))
        users, videos, both = (np.stack([x.sum(0), np.einsum("cm,cm->m", x, x)]) for x in squares)
        return np.asarray(users + np.maximum(videos - both, 0))

    def error(self) -> np.ndarray:
        """Standard errors [m], NaN of too few users or videos."""
        return np.where(self.enough, np.sqrt(self._squares[0]), np.nan)

    def degrees(self) -> np.ndarray:
        """Degrees of freedom [m]: how many users and videos of equal weight would tell the variance as well, where each
        one's square is an estimate with one degree (Satterthwaite, Biometrics Bulletin 1946). Few, where few hold most
        of it, however many there are."""
        variance, fourth = self._squares
        return np.divide(variance**2, fourth, out=np.full(len(variance), np.inf), where=fourth > 0)

    def reach(self, confidence: float) -> np.ndarray:
        """How far each interval reaches to both sides [m], by Student's t."""
        return np.asarray(stats.t.isf((1 - confidence) / 2, self.degrees()) * self.error())

    def reach_together(self, confidence: float) -> np.ndarray:
        """`reach` of intervals that hold for all m estimates at once.

        By the largest studentised one (Hothorn, Bretz & Westfall, Biometrical Journal 2008) in draws of the normal
        distribution with their covariance, its negative eigenvalues set to 0 (Cameron, Gelbach & Miller). It corrects
        for the number of comparisons and knows how they hang together, which Bonferroni does not. The tail that is left
        to each is then read from its own t.
        """
        vary = self.enough & (self._squares[0] > 0)
        users, videos, both = (x[:, vary] for x in (self.users, self.videos, self.both))
        size, axes = np.linalg.eigh(users.T @ users + videos.T @ videos - both.T @ both)
        root = (axes * np.sqrt(np.maximum(size, 0))) @ axes.T  # the same whatever the signs of the axes
        drawn = np.random.default_rng(0).normal(size=(_DRAWS, len(root))) @ root
        largest = (np.abs(drawn) / np.sqrt((root**2).sum(0))).max(1, initial=0.0)
        tail = stats.norm.sf(np.quantile(largest, confidence))
        return np.asarray(stats.t.isf(tail, self.degrees()) * self.error())


class Clusters:
    """The user and the video of n rows."""

    def __init__(self, user_idx: np.ndarray, video_idx: np.ndarray | None = None) -> None:
        """user_idx, video_idx [n]; a row without a video, 0, has one of its own. Without video_idx the intervals hold
        for other users and these videos."""
        _users, self._user = np.unique(user_idx, return_inverse=True)
        if video_idx is None:
            self._video = self._both = self._user
            return
        own = -1 - np.arange(len(video_idx))
        videos, self._video = np.unique(np.where(video_idx == 0, own, video_idx), return_inverse=True)
        _cells, self._both = np.unique(self._user * len(videos) + self._video, return_inverse=True)

    def sums(self, estimate: Estimate) -> Sums:
        """Of one estimate from these rows."""
        ways = ((self._user, estimate.by_user), (self._video, estimate.by_video), (self._both, estimate.by_video))
        users, videos, both = (np.bincount(cluster, influence)[:, None] for cluster, influence in ways)
        known = [np.count_nonzero(np.bincount(way[estimate.known])) for way in (self._user, self._video)]
        return Sums(users, videos, both, np.array([min(known) >= LEAST]))
