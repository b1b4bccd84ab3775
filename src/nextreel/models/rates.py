"""Smoothed rates, counted: what a ranker must beat.

    score(case, v) = log-odds of P(v is a positive | shown to the user)
                   = log-odds of the share of positives + video + author + tag   (counted in fit)
                     + user + user x tag                                         (counted in the history)

Of a video's tags it is the mean. Each term says by how many log-odds its group departs from what all others expect,
drawn towards 0, so that few rows say little: with r = sum of (positive - p) and c = sum of p (1 - p) over its rows,

    term <- (c term + r) / (c + 1 / variance of the terms of its kind)

a Newton step towards the mode of a logistic regression with normal priors. The variances are counted, too, so there is
nothing to choose: with p the share of all, the product of (positive - p) of two rows is in the mean variance x (p (1 -
p))^2, summed over the terms that they share, and rows of an author's different videos share author and tag alone.

There is an opinion on every pair: a video that fit has not seen has its author's and tags' terms, and a user is a
history, whoever it is. Videos without an author, or without tags, are one group; so all are where the data lack the
column, and then user x tag is the user's rate. A product is as wide as there are tags: meant for some hundreds at most.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from scipy.special import expit, logit

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Histories, Sets
from nextreel.contract import Scale, Training, product_scores
from nextreel.models import load_arrays, save_arrays
from nextreel.params import Section

_HISTORIES, _EVENTS = 1 << 13, 1 << 18  # counted at a time: some 50 MB
_PASSES = 2  # over all terms; on valid more of them were worth nothing


class Params(Section):
    pass


class Model:
    """Log-odds from rates; see above."""

    scale: Scale = "log_odds"

    def __init__(
        self, params: Params, video: np.ndarray, tags: np.ndarray, tag_offsets: np.ndarray, variances: np.ndarray
    ) -> None:
        self.params = params
        self.video = video  # [n_videos + 1] float64: the sum of all terms but the user's
        self.tags = Sets(tags, tag_offsets)  # of each video, one at least
        self.n_tags = int(tags.max()) + 1
        self.variances = variances  # [2]: of user, of user x tag

    @classmethod
    def columns(cls, params: Params) -> tuple[str, ...]:
        return ("events/positive", "videos/author?", "videos/tags?")

    @classmethod
    def fit(cls, params: Params, training: Training) -> Self:
        store, histories = training.store, training.histories
        n = store.n_videos + 1
        itself, (tags, n_tags) = Sets(np.arange(n), np.arange(n + 1)), store.video_groups("tags")
        kinds = [_Groups.of(itself, n), _Groups.of(*store.video_groups("author")), _Groups.of(tags, n_tags)]
        position, _owner = histories.judged()
        share = (np.count_nonzero(store.events("positive")[position]) + 0.5) / (len(position) + 1)
        model = cls(params, np.full(n, logit(share)), tags.values, tags.offsets, np.zeros(2))
        variances, model.variances = _variances(model._rows(histories), share, kinds)
        terms = [np.zeros(kind.n_groups) for kind in kinds]
        for _ in range(_PASSES):
            r, c = np.zeros(n), np.zeros(n)
            for rows in model._rows(histories):
                p = expit(model._of_users(rows)[1])
                r += np.bincount(rows.video, rows.positive - p, n)
                c += np.bincount(rows.video, p * (1 - p), n)
            for kind, term, variance in zip(kinds, terms, variances, strict=True):
                step = _towards(term, kind.sum(r), kind.sum(c, 2), variance) - term
                term += step
                model.video += kind.mean(step)
                r -= c * kind.mean(step)
        return model

    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        by_tag = [np.zeros((0, self.n_tags)), *(self._of_users(rows)[0] for rows in self._rows(histories))]
        return np.column_stack([np.ones(len(cases)), np.concatenate(by_tag)]).astype(np.float32)

    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        tags = _Groups.of(self.tags, self.n_tags, video_idx)
        found = np.zeros((len(video_idx), 1 + self.n_tags), np.float32)
        found[:, 0] = self.video[video_idx]
        found[tags.row, 1 + tags.group] = tags.weight
        return found

    def score(self, pairs: Pairs) -> np.ndarray:
        return product_scores(self, pairs)

    def _rows(self, histories: Histories) -> Iterator["_Rows"]:
        """The events of the histories that are known to be positive or not, some histories at a time."""
        store = histories.store
        for block in histories.blocks(_HISTORIES, _EVENTS):
            some = histories.where(block)
            position, owner = some.judged()
            video = store.events("video_idx")[position]
            user = _Groups(np.arange(len(owner)), owner, np.ones(len(owner)), len(owner), len(some))
            tags = _Groups.of(self.tags, self.n_tags, video)
            cell = owner[tags.row] * self.n_tags + tags.group
            by_tag = tags._replace(group=cell, n_groups=len(some) * self.n_tags)
            yield _Rows(video, store.events("positive")[position].astype(float), user, by_tag)

    def _of_users(self, rows: "_Rows") -> tuple[np.ndarray, np.ndarray]:
        """The terms of some histories by tag [n, n_tags], user and user x tag together; the log-odds of their rows."""
        log_odds = self.video[rows.video]
        kinds = (rows.user, rows.by_tag)
        terms = [np.zeros(kind.n_groups) for kind in kinds]
        for _ in range(_PASSES):
            for kind, term, variance in zip(kinds, terms, self.variances, strict=True):
                p = expit(log_odds)
                step = _towards(term, kind.sum(rows.positive - p), kind.sum(p * (1 - p), 2), variance) - term
                term += step
                log_odds += kind.mean(step)
        return terms[0][:, None] + terms[1].reshape(-1, self.n_tags), log_odds

    def save(self, folder: Path) -> None:
        tags = {"tags": self.tags.values, "tag_offsets": self.tags.offsets}
        save_arrays(folder, self.params, video=self.video, variances=self.variances, **tags)

    @classmethod
    def load(cls, folder: Path) -> Self:
        params, arrays = load_arrays(folder, Params)
        return cls(params, **arrays)


class _Groups(NamedTuple):
    """The groups of rows, an entry [e] each: a row has the weighted mean of its groups' terms."""

    row: np.ndarray
    group: np.ndarray
    weight: np.ndarray  # 1 / how many groups the row has
    n_rows: int
    n_groups: int

    @classmethod
    def of(cls, sets: Sets, n_groups: int, rows: np.ndarray | None = None) -> Self:
        """Of some rows of the sets, or of all."""
        rows = np.arange(len(sets)) if rows is None else rows
        group, row = sets.of(rows)
        return cls(row, group, 1 / np.bincount(row, minlength=len(rows))[row], len(rows), n_groups)

    def mean(self, term: np.ndarray) -> np.ndarray:
        """What each row has [n_rows] of the terms [n_groups]."""
        return np.bincount(self.row, term[self.group] * self.weight, self.n_rows)

    def sum(self, values: np.ndarray, power: int = 1) -> np.ndarray:
        """What each group has [n_groups] of the rows' values [n_rows], by their weights to this power."""
        return np.bincount(self.group, values[self.row] * self.weight**power, self.n_groups)


class _Rows(NamedTuple):
    """Events [m] of some histories."""

    video: np.ndarray
    positive: np.ndarray  # 0.0 or 1.0
    user: _Groups
    by_tag: _Groups  # user x tag


def _towards(term: np.ndarray, r: np.ndarray, c: np.ndarray, variance: float) -> np.ndarray:
    """One step of the terms of a kind, see above; all are 0 where they do not vary."""
    return (c * term + r) * variance / (c * variance + 1)


def _variances(some: Iterator[_Rows], share: float, kinds: list[_Groups]) -> tuple[np.ndarray, np.ndarray]:
    """How much the terms vary: of video, author and tag [3], of user and user x tag [2]. kinds: of the videos.

    `_shared` tells what the rows of a group have in common besides what those of its smaller groups have.
    """
    itself, author, tag = kinds
    r, n = np.zeros(itself.n_rows), np.zeros(itself.n_rows)
    row, user, by_user, by_tag, by_entry = np.zeros((5, 2))
    for rows in some:
        away, one = rows.positive - share, np.ones(len(rows.positive))
        r += np.bincount(rows.video, away, len(r))
        n += np.bincount(rows.video, minlength=len(n))
        row += _squares(away, one)
        user += _squares(rows.user.sum(away), rows.user.sum(one))
        by_user += _squares(rows.by_tag.sum(away), rows.by_tag.sum(one))
        by_tag += _squares(rows.by_tag.sum(away), rows.by_tag.sum(one, 2))
        by_entry += _squares(away[rows.by_tag.row] * rows.by_tag.weight, rows.by_tag.weight**2)
    of_video = _squares(r, n)
    of_tag = _squares(tag.sum(r), tag.sum(n, 2)) - _squares(r[tag.row] * tag.weight, n[tag.row] * tag.weight**2)
    scale = (share * (1 - share)) ** 2
    tags = _shared(of_tag) / scale
    authors = max(_shared(_squares(author.sum(r), author.sum(n)) - of_video) / scale - tags, 0)
    videos = max(_shared(of_video - row) / scale - tags - authors, 0)
    users = _shared(user - by_user) / scale
    return np.array([videos, authors, tags]), np.array(
        [users, max(_shared(by_tag - by_entry) / scale - tags - users, 0)]
    )


def _squares(r: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The sums of the products of all pairs, of r and of n [2]."""
    return np.array([r @ r, n @ n])


def _shared(pairs: np.ndarray) -> float:
    """The mean product of r over pairs of rows, at least 0; 0 without pairs. pairs: both sums [2]."""
    return max(pairs[0] / pairs[1], 0.0) if pairs[1] > 0.5 else 0.0
