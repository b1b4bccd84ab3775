"""The best possible answers in a simulated world, from its truth. For logged next positives:

P(the next exposure is v | state, day, seen) x P(v is a positive | exposed, state)

and for logged rows, standard or random, the second factor alone, or the interest behind it. It knows each user's taste,
the session's hidden state, the policy, its redraws of seen videos and the law of watch time; no model does.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nextreel import arrays, labels
from nextreel.cases.asked import Cases
from nextreel.cases.store import Histories, Store
from nextreel.progress import track
from nextreel.scoring.answers import Retrieved, columns_of, ranked
from nextreel.scoring.sets import EvalSet, ShownPairs
from nextreel.simulation import world

_SCORES = 1 << 22  # bounded at a time: 32 MB
_TRIED = 4  # times as many scores as the list is long, the highest bounds first, tell how low a bound may be


class Belief(NamedTuple):
    """What is held of n users, each at a moment."""

    taste: np.ndarray  # [n, D]
    preferences: np.ndarray  # [n, K] probability of each topic
    before: np.ndarray  # [n] the topic that the next one may follow from, -1 none
    day: np.ndarray  # [n] of the session

    def where(self, keep: np.ndarray | slice) -> "Belief":
        """Some of them, by mask, positions or slice."""
        return Belief(*(column[keep] for column in self))


class Oracle:
    """Answers cases whose moment is a logged row, from the true state of each."""

    def __init__(self, data: Path, label: labels.Params) -> None:
        tables = data / "tables"
        events = arrays.load(tables / "truth_events.parquet")
        moment = _moment(events["user_idx"], events["time_ms"])
        # A random row may fall on the millisecond of a standard one of its user. The standard row comes last, and is
        # taken: its session's day is never the later one, and only it can have a topic before.
        order = np.lexsort((events["topic_before"], -events["day"], moment))
        self.moment, self.before, self.day = moment[order], events["topic_before"][order], events["day"][order]
        self.users = arrays.load(tables / "truth_users.parquet")
        self.topics = arrays.load(tables / "truth_topics.parquet")
        self.videos = arrays.load(tables / "truth_videos.parquet")
        self.strength = float(self.topics["sequence_strength"][0])
        self.position = np.zeros(int(self.videos["video_idx"].max(initial=0)) + 1, np.int64)
        self.position[self.videos["video_idx"]] = np.arange(len(self.videos["video_idx"]))
        self.shares: dict[int, np.ndarray] = {}
        logged_ms = arrays.load(tables / "videos.parquet", columns=["duration_ms"])["duration_ms"]  # NaN where unknown
        self.bound_ms = _bounds_ms(self.videos["true_duration_ms"], logged_ms, label, data)
        self.ceiling = self._ceiling()

    @staticmethod
    def knows(data: Path) -> bool:
        """Whether the tables hold a simulator's truth."""
        return len(arrays.load(data / "tables/truth_topics.parquet", columns=["topic"])["topic"]) > 0

    def answers(self, store: Store, asked: EvalSet, part: str, k: int) -> Iterator[Retrieved]:
        """The first k of a part's cases by log P(shown next and a positive), and the ranks of their targets.

        The law of watch time takes most of the time: it is left out for videos whose bound without it shows that they
        come after the k-th of the list and after the target.
        """
        asked, catalogue = asked.of(part), asked.catalogue.of(part)
        size = max(1, _SCORES // max(len(catalogue), 1))
        blocks = range(0, len(asked.cases), size)
        for start in track(blocks, f"oracle answers {part}"):
            some = asked.where(slice(start, start + size))
            histories = some.cases.histories(store)
            belief = self.belief(some.cases, histories)
            exposed = self._exposed(belief, histories, self.position[catalogue])
            position, owner = histories.flat()
            seen, listed = columns_of(catalogue, store.events("video_idx")[position])
            exposed[owner[listed], seen[listed]] = 0
            exposed[:, ~self.known(store, part)[catalogue]] = 0
            target, has_target = columns_of(catalogue, some.target)
            entries = [
                self._entries(belief.where(np.array([row])), catalogue, each, target[[row]][has_target[[row]]], k)
                for row, each in enumerate(exposed)
            ]
            row = np.repeat(np.arange(len(entries)), [len(column) for column, _score in entries])
            column, score = (np.concatenate(values) for values in zip(*entries, strict=True))
            yield ranked(some, catalogue, row, column, score, k)

    def _entries(
        self, belief: Belief, catalogue: np.ndarray, exposed: np.ndarray, target: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns and scores of all that may reach the first k of a case, or its target [0 or 1 column]."""
        at = self.position[catalogue]
        bounds = _log(exposed * self.ceiling[at])
        tried = np.append(_highest(bounds, _TRIED * k), target)
        found = self._scores(belief, at[tried], exposed[tried])
        best = np.sort(found[: len(found) - len(target)])[::-1][:k]
        floor = min(best[-1] if len(best) else np.inf, found[-1] if len(target) else np.inf)
        reaching = np.flatnonzero((bounds >= floor) & (bounds > -np.inf))
        score = self._scores(belief, at[reaching], exposed[reaching])
        return reaching[score > -np.inf], score[score > -np.inf]

    def _scores(self, belief: Belief, at: np.ndarray, exposed: np.ndarray) -> np.ndarray:
        """log P(shown next and a positive) [n] of the videos at these positions [n] for one user, exposed [n] known."""
        return _log(exposed * self._positive(self._interest(belief.where(np.zeros(len(at), int)), at), at))

    def _ceiling(self) -> np.ndarray:
        """The highest P(positive | exposed, interest) of each video [N] for any user, and a little more than rounding.

        A share `skip` of the watches is brief, the rest the longer the higher the interest: so the highest is that of
        the most interest, for which nobody skips less, or where brief ones do better that of the least.
        """
        most = world.interest(np.ones(1), self.videos["quality"], self.strength * self.topics["next_probability"].max())
        everything = np.arange(len(most))
        ends = [self._positive(interest, everything) for interest in (most, np.full(len(most), -1e6))]
        return np.maximum(*ends) * (1 + 1e-9)

    def known(self, store: Store, part: str) -> np.ndarray:
        """Which videos [n_videos + 1] may be an answer in a part."""
        return np.ones(store.n_videos + 1, bool)

    def belief(self, cases: Cases, histories: Histories) -> Belief:
        """The true state of each case."""
        return self._truth(cases.user_idx, cases.time_ms)

    def _truth(self, user_idx: np.ndarray, time_ms: np.ndarray) -> Belief:
        before, day = self._state(user_idx, time_ms)
        user = np.searchsorted(self.users["user_idx"], user_idx)
        return Belief(self.users["taste"][user], self.users["topic_probability"][user], before, day)

    def _exposed(self, belief: Belief, histories: Histories, at: np.ndarray) -> np.ndarray:
        """P(the next exposure is v | state, day, seen) [B, N] of the videos at these positions."""
        following = self.topics["next_probability"][belief.before]
        topic = world.topic_probability(belief.before[:, None], belief.preferences, following, self.strength)
        exposed = np.empty((len(topic), len(at)))
        for today in np.unique(belief.day):
            rows = np.flatnonzero(belief.day == today)
            share = self._share(int(today))
            topic[rows] *= world.unseen_factor(self._seen_mass(share, histories.where(rows)))
            exposed[rows] = topic[rows][:, self.videos["topic"][at]] * share[at]
        return exposed

    def _share(self, day: int) -> np.ndarray:
        """The share [N] of each video in its topic's exposures on a day."""
        if day not in self.shares:
            weight = world.exposure_weight(self.videos["exposure_weight"], self.videos["upload_day"], day)
            self.shares[day] = weight / np.bincount(self.videos["topic"], weights=weight)[self.videos["topic"]]
        return self.shares[day]

    def interest(self, user_idx: np.ndarray, time_ms: np.ndarray, video_idx: np.ndarray) -> np.ndarray:
        """The true interest [n] of logged rows, standard or random, in the hidden state of each; all arguments [n].

        Bit for bit the generator's, but for a random row on the very millisecond of a standard row of its user: it
        gets that row's mood.
        """
        return self._interest(self._truth(user_idx, time_ms), self.position[video_idx])

    def positive_probability(self, user_idx: np.ndarray, time_ms: np.ndarray, video_idx: np.ndarray) -> np.ndarray:
        """P(positive | exposed, state) [n] of logged rows; as for `interest`."""
        at = self.position[video_idx]
        return self._positive(self.interest(user_idx, time_ms, video_idx), at)

    def _seen_mass(self, share: np.ndarray, histories: Histories) -> np.ndarray:
        """The share [B, K] of each topic's exposures that goes to videos seen before."""
        position, owner = histories.flat()
        n_videos, n_topics = len(share), len(self.topics["topic"])
        seen = np.unique(owner * n_videos + self.position[histories.store.events("video_idx")[position]])
        case, video = seen // n_videos, seen % n_videos
        cell = case * n_topics + self.videos["topic"][video]
        return np.bincount(cell, share[video], len(histories) * n_topics).reshape(len(histories), n_topics)

    def _state(self, user_idx: np.ndarray, time_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """topic_before [n] and day [n] of the logged rows at these moments. Raises ValueError where there is none."""
        wanted = _moment(user_idx, time_ms)
        row = np.searchsorted(self.moment, wanted, side="right") - 1
        unknown = int((self.moment[row] != wanted).sum())
        if unknown:
            raise ValueError(f"{unknown} of {len(wanted)} moments are those of no logged row")
        return self.before[row], self.day[row]

    def shown_probability(self, shown: ShownPairs, store: Store, part: str, rows: np.ndarray) -> np.ndarray:
        """P(positive | shown) [m] of some rows of a part."""
        return self.positive_probability(
            shown.cases.user_idx[shown.row[rows]], shown.time_ms[rows], shown.video_idx[rows]
        )

    def _interest(self, belief: Belief, at: np.ndarray) -> np.ndarray:
        """Of users [n] in the videos at these positions [n]."""
        fit = np.einsum("nd,nd->n", belief.taste, self.videos["vector"][at])
        following = self.topics["next_probability"][belief.before, self.videos["topic"][at]]
        mood = self.strength * np.where(belief.before >= 0, following, 0.0)
        return world.interest(fit, self.videos["quality"][at], mood)

    def _positive(self, interest: np.ndarray, at: np.ndarray) -> np.ndarray:
        """P(positive | exposed, interest) of the videos at these positions; shapes broadcast."""
        video = {name: self.videos[name][at] for name in ("true_duration_ms", "log_wtr_offset", "skip_mean_ms")}
        return world.watch_beyond(interest, self.bound_ms[at], *video.values())


def _highest(scores: np.ndarray, k: int) -> np.ndarray:
    """The columns of the k best scores [N], equal ones of the last included; without those of -inf."""
    k = min(k, len(scores))
    if not k:
        return np.zeros(0, np.int64)
    floor = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero((scores >= floor) & (scores > -np.inf))


def _log(probability: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(probability).astype(np.float32)


def _moment(user_idx: np.ndarray, time_ms: np.ndarray) -> np.ndarray:
    """User and time as one sortable number; a simulated log is far shorter than 2**40 ms = 34 years."""
    return user_idx.astype(np.int64) << 40 | (time_ms - world.FIRST_MS)


def _bounds_ms(true_ms: np.ndarray, logged_ms: np.ndarray, label: labels.Params, data: Path) -> np.ndarray:
    """The play time [N] above which each video's row is a positive."""
    if label.positive in ("all", "click", "long_view"):
        return labels.logged_bounds_ms(true_ms, label.positive)
    durations = arrays.load(data / "durations.parquet")
    at = np.searchsorted(durations["duration_ms"], logged_ms).clip(max=len(durations["duration_ms"]) - 1)
    known = durations["duration_ms"][at] == logged_ms
    return np.where(known, durations["positive_above_ms"][at], labels.NEVER)
