"""A counting chain over tags: what is shown next, and liked.

    score(case, v) = P(v is shown next and a positive)
                   = mean over tags k of v of P(k next | case) popularity(v) / popularity(k) x lift(k, user) x rate(v)

    P(k next | case) = follow x chain(last tag, k) + (1 - follow) x taste(k);  taste(k) at the start of a session
    chain(j, k)      = how often k came after j in a session, counted in fit
    taste(k)         = the share of k among the history's events, those that the chain explains counting less
    popularity(v)    = sum over its events in the cut of 2^(-age / half-life) + lasting, age from the last event of all
    rate             = its share of positives in the cut; lift: the user's share within the tag against everybody's

An event is counted for the chain by the probability that it came of it, which needs tastes and chain; one step of
expectation maximisation from all counts finds both. Every share is smoothed by `prior` events that are like its parent:
of a video its tags, of a tag all events, of a chain or a taste the tags of all events. An event of which nobody knows
whether it was a positive was shown, and is no part of shares of positives.

The model is frozen at the end of its cut, but for what the history says; no opinion on videos without an event there.
Videos without tags share one; where the data have no tags all do, and what is left is recent popularity x rate. A
product is as wide as there are tags: meant for some hundreds at most.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import UNKNOWN, Histories, Sets
from nextreel.clock import HOUR_MS, MINUTE_MS
from nextreel.contract import Scale, Training, product_scores
from nextreel.models import load_arrays, save_arrays
from nextreel.params import NonNegativeFloat, PositiveFloat, Section, Share

_HISTORIES, _EVENTS = 1 << 13, 1 << 18  # counted at a time: some 100 MB


class Params(Section):
    session_gap_minutes: PositiveFloat  # a longer pause begins a session
    follow: Share  # of events within a session, those that follow from the tag before
    prior: PositiveFloat  # events
    half_life_hours: PositiveFloat  # an event this much older counts half, besides
    lasting: NonNegativeFloat  # what any event counts


class Model:
    """See above."""

    scale: Scale = "share"

    def __init__(
        self,
        params: Params,
        worth: np.ndarray,
        tags: np.ndarray,
        tag_offsets: np.ndarray,
        marginal: np.ndarray,
        mass: np.ndarray,
        rate: np.ndarray,
        chain: np.ndarray,
    ) -> None:
        self.params = params
        self.worth = worth  # [n_videos + 1] popularity x rate; NaN without an event in the cut
        self.tags = Sets(tags, tag_offsets)  # of each video, one at least
        self.marginal = marginal  # [n_tags] the share of each tag in the events
        self.mass = mass  # [n_tags] the popularity of its videos
        self.rate = rate  # [n_tags] the share of positives
        self.chain = chain  # [n_tags, n_tags] from, to; rows add up to 1

    @classmethod
    def columns(cls, params: Params) -> tuple[str, ...]:
        return ("events/positive", "events/time_ms", "videos/tags?")

    @classmethod
    def fit(cls, params: Params, training: Training) -> Self:
        store, histories = training.store, training.histories
        tags, n_tags = store.video_groups("tags")
        position, _owner = histories.flat()
        video, time_ms = store.events("video_idx")[position], store.events("time_ms")[position]
        age_hours = (time_ms.max(initial=0) - time_ms) / HOUR_MS
        positive, recency = store.events("positive")[position], np.exp2(-age_hours / params.half_life_hours)
        counts = np.ones(len(video)), positive != UNKNOWN, positive == 1, recency
        shown, judged, liked, recent = (np.bincount(video, count, store.n_videos + 1) for count in counts)
        popularity = recent + params.lasting * shown
        tag, of_video = tags.of(np.arange(len(shown)))
        weight = 1 / np.diff(tags.offsets)[of_video]
        shown_tag, judged_tag, liked_tag, mass = (
            np.bincount(tag, count[of_video] * weight, n_tags) for count in (shown, judged, liked, popularity)
        )
        marginal = _smooth(shown_tag, shown_tag.sum(), 1 / n_tags, params.prior)
        rate_tag = _smooth(liked_tag, judged_tag, _smooth(liked.sum(), judged.sum(), 0.5, params.prior), params.prior)
        rate = _smooth(liked, judged, np.bincount(of_video, rate_tag[tag] * weight), params.prior)
        worth = np.where(shown > 0, popularity * rate, np.nan)
        chain = np.tile(marginal, (n_tags, 1))
        model = cls(params, worth, tags.values, tags.offsets, marginal, mass, rate_tag, chain)
        for step in range(2):  # all links count; then each by the probability that it is one
            count = np.zeros(n_tags * n_tags)
            for walk in model._walks(histories):
                by_chain = 1 - model._tastes(walk)[1] if step else walk.follows.astype(float)
                link = walk.before * n_tags + walk.tag[walk.entry]
                weight = by_chain[walk.event[walk.entry]] * walk.weight_before * walk.weight[walk.entry]
                count += np.bincount(link, weight, len(count))
            counts_from = count.reshape(n_tags, n_tags)
            model.chain = _smooth(counts_from, counts_from.sum(1, keepdims=True), marginal, params.prior)
        return model

    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        found = np.zeros((len(cases), len(self.mass)), np.float32)
        start = 0
        for walk in self._walks(histories):
            some = slice(start, start + walk.n)
            found[some] = self._of_tags(walk, cases.time_ms[some], histories.where(some))
            start += walk.n
        return found

    def _of_tags(self, walk: "_Walk", time_ms: np.ndarray, histories: Histories) -> np.ndarray:
        """P(k next) x lift(k, user) / popularity(k) of some histories at these moments [n]: [n, n_tags]."""
        store, taste = histories.store, self._tastes(walk)[0]
        last = np.where(histories.length > 0, histories.stop - 1, 0)
        gap_ms = self.params.session_gap_minutes * MINUTE_MS
        running = (histories.length > 0) & (time_ms - store.events("time_ms")[last] <= gap_ms)
        tag, of_last, weight = self._entries(store.events("video_idx")[last])
        follow = np.zeros_like(taste)
        np.add.at(follow, of_last, self.chain[tag] * weight[:, None])
        p = np.where(running, self.params.follow, 0)[:, None]
        liked, judged = (walk.by_tag(x, len(self.mass)) for x in (walk.positive == 1, walk.positive != UNKNOWN))
        rate = _smooth(liked, judged, self.rate, self.params.prior)
        share = np.divide(p * follow + (1 - p) * taste, self.mass, out=np.zeros_like(taste), where=self.mass > 0)
        return share * rate / self.rate

    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        tag, row, weight = self._entries(video_idx)
        found = np.zeros((len(video_idx), len(self.mass)), np.float32)
        found[row, tag] = self.worth[video_idx[row]] * weight
        return found

    def score(self, pairs: Pairs) -> np.ndarray:
        return product_scores(self, pairs)

    def _entries(self, video_idx: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tags of videos [m] one after the other [e]: tag, position of the video, 1 / how many tags it has."""
        tag, row = self.tags.of(video_idx)
        return tag, row, 1 / np.bincount(row, minlength=len(video_idx))[row]

    def _walks(self, histories: Histories) -> Iterator["_Walk"]:
        """The events of the histories, some histories at a time."""
        store = histories.store
        gap_ms = self.params.session_gap_minutes * MINUTE_MS
        for block in histories.blocks(_HISTORIES, _EVENTS):
            some = histories.where(block)
            position, owner = some.flat()
            video, time_ms = store.events("video_idx")[position], store.events("time_ms")[position]
            follows = np.zeros(len(owner), bool)
            follows[1:] = (owner[1:] == owner[:-1]) & (np.diff(time_ms) <= gap_ms)
            tag, event, weight = self._entries(video)
            later = np.flatnonzero(follows[event])
            before, of_later, weight_before = self._entries(video[event[later] - 1])
            positive = store.events("positive")[position]
            yield _Walk(len(some), owner, positive, follows, tag, event, weight, before, later[of_later], weight_before)

    def _tastes(self, walk: "_Walk") -> tuple[np.ndarray, np.ndarray]:
        """taste [n, n_tags], and the probability [m] that an event came of it and not of the chain."""
        n_events, n_tags, follow = len(walk.owner), len(self.mass), self.params.follow
        link = self.chain[walk.before, walk.tag[walk.entry]] * walk.weight_before
        by_chain = follow * np.bincount(walk.event[walk.entry], link * walk.weight[walk.entry], n_events)
        own = by_itself = np.where(walk.follows, 1 - follow, 1.0)
        for _ in range(2):
            count = walk.by_tag(own, n_tags)
            taste = _smooth(count, count.sum(1, keepdims=True), self.marginal, self.params.prior)
            liking = taste[walk.owner[walk.event], walk.tag] * walk.weight
            by_taste = by_itself * np.bincount(walk.event, liking, n_events)
            own = by_taste / (by_taste + by_chain)
        return taste, own

    def save(self, folder: Path) -> None:
        names = ("worth", "marginal", "mass", "rate", "chain")
        arrays = {name: getattr(self, name) for name in names}
        save_arrays(folder, self.params, tags=self.tags.values, tag_offsets=self.tags.offsets, **arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        params, arrays = load_arrays(folder, Params)
        return cls(params, **arrays)


class _Walk(NamedTuple):
    """The events [m] of n histories, an entry [e] for each of their tags, and a link [l] to an entry from each tag of
    the event before, where it follows in the same session."""

    n: int
    owner: np.ndarray  # [m] the history
    positive: np.ndarray  # [m] 0, 1 or UNKNOWN
    follows: np.ndarray  # [m]
    tag: np.ndarray  # [e]
    event: np.ndarray  # [e]
    weight: np.ndarray  # [e] 1 / how many tags the event has
    before: np.ndarray  # [l] the tag
    entry: np.ndarray  # [l]
    weight_before: np.ndarray  # [l]

    def by_tag(self, value: np.ndarray, n_tags: int) -> np.ndarray:
        """The sum of the events' values [m] by history and tag [n, n_tags]."""
        cell = self.owner[self.event] * n_tags + self.tag
        return np.bincount(cell, value[self.event] * self.weight, self.n * n_tags).reshape(self.n, n_tags)


def _smooth(part: np.ndarray, whole: np.ndarray, parent: np.ndarray | float, prior: float) -> np.ndarray:
    """part / whole, as if there were `prior` more of the whole with the parent's share."""
    return (part + prior * parent) / (whole + prior)
