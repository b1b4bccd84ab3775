"""How a history is spread over tags, and how much of each was liked: what a network's last events may not hold."""

from dataclasses import dataclass

import numpy as np

from nextreel.cases.store import UNKNOWN, Sets

PRIOR = 20.0  # events that are like everybody's


@dataclass(frozen=True)
class Profile:
    """For each tag the log of its share in the history and the log of its share of positives, each against everybody's
    in the fit and smoothed by PRIOR events that are like those; zeros before the first event."""

    tags: Sets  # of each video, numbered from 0 to n_tags - 1
    share: np.ndarray  # [n_tags] of all entries of the fit
    rate: np.ndarray  # [n_tags] of positives

    @property
    def n_tags(self) -> int:
        return len(self.share)

    @classmethod
    def fit(cls, tags: Sets, n_tags: int, video_idx: np.ndarray, positive: np.ndarray) -> "Profile":
        """video_idx, positive [m]: of all events of the fit."""
        shown, judged, liked = _counts(tags, n_tags, video_idx, positive, np.zeros(len(video_idx), np.int64), 1)
        share = (shown[0] + 1) / (shown.sum() + n_tags)
        overall = (liked.sum() + 1) / (judged.sum() + 2)
        return cls(tags, share, (liked[0] + PRIOR * overall) / (judged[0] + PRIOR))

    def of_histories(self, video_idx: np.ndarray, positive: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
        """The profiles [n, 2 n_tags] of n histories, from the events [m] of all."""
        return self._logs(*_counts(self.tags, self.n_tags, video_idx, positive, owner, n))

    def _logs(self, shown: np.ndarray, judged: np.ndarray, liked: np.ndarray) -> np.ndarray:
        of_tag = (shown + PRIOR * self.share) / (shown.sum(1, keepdims=True) + PRIOR) / self.share
        of_liked = (liked + PRIOR * self.rate) / (judged + PRIOR) / self.rate
        return np.log(np.concatenate([of_tag, of_liked], axis=1)).astype(np.float32)


def _counts(
    tags: Sets, n_tags: int, video_idx: np.ndarray, positive: np.ndarray, owner: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries by owner and tag [n, n_tags]: of all events, of those of which is known whether they are positive, and of
    positive ones."""
    tag, event = tags.of(video_idx)
    cell, of = owner[event] * n_tags + tag, positive[event]
    masks = np.ones(len(of), bool), of != UNKNOWN, of == 1
    shown, judged, liked = (np.bincount(cell[mask], minlength=n * n_tags).reshape(n, n_tags) for mask in masks)
    return shown, judged, liked


class Ledger:
    """The profiles of a long run of tokens as of any of them, for windows of training."""

    def __init__(self, profile: Profile, video_idx: np.ndarray, positive: np.ndarray) -> None:
        """video_idx, positive [T]: of tokens, history after history; 0 and UNKNOWN at the start of each."""
        self.profile, self.video_idx, self.positive = profile, video_idx, positive
        tag, token = profile.tags.of(video_idx)
        of = positive[token]
        key = tag.astype(np.int64) * len(video_idx) + token
        self.keys = [np.sort(key[mask]) for mask in (np.ones(len(of), bool), of != UNKNOWN, of == 1)]

    def _before(self, token: np.ndarray) -> list[np.ndarray]:
        """Entries by tag [B, n_tags] of all tokens before these [B]; three, see `_counts`."""
        place = np.arange(self.profile.n_tags) * len(self.video_idx) + token[:, None]
        return [np.searchsorted(key, place) for key in self.keys]

    def profiles(self, start: np.ndarray, first: np.ndarray, end: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The profiles [M, 2 n_tags] as of tokens `at` [M], inclusive: positions, in order, among the tokens of B
        windows, first [B] to end [B], of histories that begin at start [B]."""
        K, length = self.profile.n_tags, end - first
        offset = length.cumsum() - length
        token = np.arange(length.sum()) + np.repeat(first - offset, length)
        window = np.repeat(np.arange(len(first)), length)
        before = [now - then for now, then in zip(self._before(first), self._before(start), strict=True)]
        # Each window's own entries up to a target: runs of tokens between targets, summed up window by window.
        bounds = np.searchsorted(at, np.arange(len(token)))  # the first target that sees the token
        run = np.minimum(bounds, max(len(at) - 1, 0))
        seen = bounds < len(at)
        seen &= window == window[at[run]] if len(at) else False
        own = _counts(self.profile.tags, K, self.video_idx[token[seen]], self.positive[token[seen]], run[seen], len(at))
        totals = []
        begins = np.searchsorted(at, offset)  # each window's first target
        for base, counts in zip(before, own, strict=True):
            total = np.concatenate([np.zeros((1, K), np.int64), counts.cumsum(0)])
            totals.append(base[window[at]] + total[1:] - total[begins[window[at]]])
        return self.profile._logs(*totals)
