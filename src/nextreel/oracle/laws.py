"""What can be known without the hidden state: the laws and every video, but of a user no more than the history says.

- Its videos are those with an event in the cut of a model that answers the same part; of those it knows all.
- A user's taste is inferred from the topics of the history and what was liked there, by importance sampling around the
  best taste so far, in ever narrower rounds. That is an estimate, a little below what could be known.
- The topic before is that of the last event, while its session can still be running; of a shown video, whose place in a
  session the frozen history does not tell, it is none.
"""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nextreel import labels
from nextreel.cases.asked import Cases
from nextreel.cases.store import Histories, Store
from nextreel.clock import DAY_MS
from nextreel.oracle.truth import Belief, Oracle
from nextreel.parts import answering
from nextreel.progress import track
from nextreel.scoring.sets import ShownPairs
from nextreel.simulation import world

_LAST = 200  # events of a history that are looked at
_DRAWS = 32  # tastes tried for each case in a round
_SPREADS = (1.0, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07)  # of the tastes tried around the best so far, a round each
_CASES = 512  # at a time
RUNNING_MS = 20 * 60_000 + 2_500  # no event of a session begins later after the one before: a play and a pause at most


class _Events(NamedTuple):
    """The last events [E] of some histories."""

    owner: np.ndarray
    at: np.ndarray  # position of the video
    before: np.ndarray  # topic before, -1 none
    positive: np.ndarray  # 1 or 0, -1 unknown


class Laws(Oracle):
    """The oracle without the hidden state."""

    def __init__(self, data: Path, label: labels.Params, rng: np.random.Generator) -> None:
        super().__init__(data, label)
        self.rng = rng
        self.cuts: dict[str, np.ndarray] = {}

    def known(self, store: Store, part: str) -> np.ndarray:
        cut = answering(part, {cut: cut for cut in store.cuts})
        if cut not in self.cuts:
            position, _user = store.fitted_on(cut).flat()
            self.cuts[cut] = np.zeros(store.n_videos + 1, bool)
            self.cuts[cut][store.events("video_idx")[position]] = True
        return self.cuts[cut]

    def belief(self, cases: Cases, histories: Histories) -> Belief:
        events, n = self._events(histories), len(cases)
        taste = np.zeros((n, self.users["taste"].shape[1]))
        for spread in _SPREADS:
            draws = taste[:, None] + spread * self.rng.standard_normal((n, _DRAWS, taste.shape[1]))
            draws = np.concatenate([draws, taste[:, None]], 1) if spread < 1 else draws
            draws /= np.linalg.norm(draws, axis=2, keepdims=True)
            log = self._log_likelihood(events, draws, liked=spread == _SPREADS[-1])
            weight = np.exp(log - log.max(1, keepdims=True))
            taste = np.einsum("bm,bmd->bd", weight / weight.sum(1, keepdims=True), draws)
        last = np.where(histories.length > 0, histories.stop - 1, 0)
        running = histories.length > 0
        running &= cases.time_ms - histories.store.events("time_ms")[last] <= RUNNING_MS
        topic = self.videos["topic"][self.position[histories.store.events("video_idx")[last]]]
        day = (cases.time_ms - world.FIRST_MS) // DAY_MS
        return Belief(taste, self._preferences(taste), np.where(running, topic, -1), day)

    def shown_probability(self, shown: ShownPairs, store: Store, part: str, rows: np.ndarray) -> np.ndarray:
        found = np.empty(len(rows))
        of_case, row = np.unique(shown.row[rows], return_inverse=True)
        cases = shown.cases.where(of_case)
        for start in track(range(0, len(cases), _CASES), f"inferring tastes for impressions of {part}"):
            some = cases.where(slice(start, start + _CASES))
            belief = self.belief(some, some.histories(store))
            mine = np.flatnonzero((row >= start) & (row < start + _CASES))
            each = belief.where(row[mine] - start)._replace(before=np.full(len(mine), -1))
            at = self.position[shown.video_idx[rows[mine]]]
            found[mine] = self._positive(self._interest(each, at), at)
        return np.where(self.known(store, part)[shown.video_idx[rows]], found, -np.inf)

    def _events(self, histories: Histories) -> _Events:
        store = histories.store
        some = Histories(store, np.maximum(histories.start, histories.stop - _LAST), histories.stop)
        position, owner = some.flat()
        at, time_ms = self.position[store.events("video_idx")[position]], store.events("time_ms")[position]
        follows = np.zeros(len(owner), bool)
        follows[1:] = (np.diff(owner) == 0) & (np.diff(time_ms) <= RUNNING_MS)
        topic = self.videos["topic"][at].astype(np.int64)
        before = np.where(follows, np.append(-1, topic[:-1])[: len(topic)], -1)
        return _Events(owner, at, before, store.events("positive")[position].astype(int))

    def _log_likelihood(self, events: _Events, draws: np.ndarray, liked: bool) -> np.ndarray:
        """Of the events' topics, and of what was liked of them, given tastes [B, M, D]: [B, M]."""
        preferences, topic = self._preferences(draws), self.videos["topic"][events.at]
        following = self.topics["next_probability"][events.before, topic]
        log = np.zeros(draws.shape[:2])
        for m in range(draws.shape[1]):
            own = preferences[events.owner, m, topic]
            shown = np.log(world.topic_probability(events.before, own, following, self.strength))
            if liked:
                belief = Belief(draws[events.owner, m], own, events.before, events.before)
                p = self._positive(self._interest(belief, events.at), events.at)
                came = np.where(events.positive > 0, p, 1 - p).clip(1e-9)
                shown += np.where(events.positive >= 0, np.log(came), 0.0)
            log[:, m] = np.bincount(events.owner, shown, len(draws))
        return log

    def _preferences(self, taste: np.ndarray) -> np.ndarray:
        """P(topic) [..., K] of tastes [..., D], by the law of preferences."""
        logits = taste @ self._law_of_preferences
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        return odds / odds.sum(-1, keepdims=True)

    @cached_property
    def _law_of_preferences(self) -> np.ndarray:
        """[D, K]: log P(topic) is linear in taste, up to a constant a user, so the users' own tell it exactly."""
        log = np.log(self.users["topic_probability"])
        return np.linalg.lstsq(self.users["taste"], log - log.mean(1, keepdims=True))[0]
