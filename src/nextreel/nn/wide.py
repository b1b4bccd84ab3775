"""What counting says of a video shown to a user, as dense inputs beside what a network learns of its own.

Of each kind of group that the showing is in (KINDS):

    departure     log-odds of its rate of positives - log-odds of the rate of all, the rate smoothed by PRIOR rows that
                  are like all
    log(1 + n)    of its rows, of the kinds in COUNTED: how many rows a tab, an hour or a tag has tells the date
    mean          of each of MEANS, less that of all, smoothed by PRIOR rows that are like all

A logistic regression on these tells what is expected of the showing, whoever the user is: one more input. Of the user
(USER_KINDS) it is the residuals, in all and where the showing's group is the same: with p the expectation,

    departure     sum of (positive - p) / (sum of p (1 - p) + PRIOR x p (1 - p) of all)

a Newton step from 0 in log-odds, and the count and the means as above. A video has the mean over its tags; a showing of
which the tab is unknown is in no group of tabs.

In training every event has what was counted on strictly earlier days (UTC+8), so that neither its own outcome nor those
of its session are counted; a request is answered with the whole fit and the whole history. What is the same for all
events, the share of positives, the means of all, the regression and the scale of each input, is fitted on all of them.
Rows of which nobody knows whether they were positive count for nothing.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from nextreel.cases.pairs import Pairs
from nextreel.cases.store import UNKNOWN, Histories, Sets, Store
from nextreel.nn import inputs
from nextreel.progress import track

Kind = tuple[str, ...]  # what showings of one group have in common
PRIOR = 20.0  # rows
VIDEO, AUTHOR, TAB = "video", "author", "tab"
OF_VIDEO = (VIDEO, AUTHOR, inputs.TAGS, inputs.DURATION)
KINDS = (
    *((name,) for name in OF_VIDEO), (TAB,), (inputs.HOUR,), (VIDEO, TAB), (inputs.TAGS, TAB), (inputs.DURATION, TAB),
)  # fmt: skip
COUNTED = ((VIDEO,), (AUTHOR,))
USER_KINDS: tuple[Kind, ...] = ((), (AUTHOR,), (inputs.TAGS,), (inputs.DURATION,), (TAB,))
USER_COUNTED = USER_KINDS[:-1]
MEANS = {"wtr": 1.0, "wtg": np.inf}  # columns of the store's events; the most that a value counts, as videos loop
COLUMNS = (
    *("events/positive", "events/time_ms", "events/tab?", "videos/author?", "videos/tags?", "videos/duration_ms?"),
    *(f"events/{name}?" for name in MEANS),
)
_TABS = 1 << 16  # that a key can tell apart
_EVENTS = 1 << 20  # of histories counted at a time
_REGRESSED = 1 << 20  # events, about
_LEAST_STD = 1e-6


class Shown(NamedTuple):
    """m showings."""

    video_idx: np.ndarray  # [m]
    time_ms: np.ndarray  # [m]
    tab: np.ndarray  # [m] UNKNOWN if so

    @classmethod
    def of_events(cls, store: Store, position: np.ndarray) -> Self:
        tab = store.events(TAB)[position] if TAB in store.tables["events"] else np.full(len(position), UNKNOWN)
        return cls(store.events("video_idx")[position], store.events("time_ms")[position], tab)

    def distinct(self) -> tuple["Shown", np.ndarray]:
        """One of each video, hour and tab, and which of them [m] each showing has."""
        tab = self.tab.astype(np.int64) - UNKNOWN
        key = (self.video_idx * np.int64(24) + inputs.hour(self.time_ms)) * (1 + tab.max(initial=0)) + tab
        _keys, first, which = np.unique(key, return_index=True, return_inverse=True)
        return Shown(*(column[first] for column in self)), which


class Groups(NamedTuple):
    """The groups of m showings in one kind, an entry [e] each, in order of rows; a row may have none."""

    row: np.ndarray
    key: np.ndarray  # int64
    n_rows: int

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Of the entries' values [e] by row [m]; 0 where a row has none."""
        n = np.bincount(self.row, minlength=self.n_rows)
        return np.asarray(np.bincount(self.row, values, self.n_rows) / np.maximum(n, 1))


class Grouping:
    """Which groups showings are in; a kind whose column the data lack has none."""

    def __init__(self, store: Store) -> None:
        n = store.n_videos + 1
        itself = Sets(np.arange(n, dtype=np.int32), np.arange(n + 1))
        self.sets = {VIDEO: itself} | {name: inputs.of_videos(name, store) for name in OF_VIDEO if name != VIDEO}
        self.has_tab = TAB in store.tables["events"]

    def has(self, kind: Kind) -> bool:
        return all(
            self.has_tab if name == TAB else name not in self.sets or len(self.sets[name].values) for name in kind
        )

    def of(self, kind: Kind, shown: Shown) -> Groups:
        """A kind is nothing, something of the video, the tab or the hour, or something of the video and the tab."""
        n = len(shown.video_idx)
        row, key = np.arange(n), np.zeros(n, np.int64)
        for name in kind:
            if name == TAB:
                known = shown.tab[row] != UNKNOWN
                row, key = row[known], key[known]
                key = key * _TABS + shown.tab[row]
            elif name == inputs.HOUR:
                key = key * 24 + inputs.hour(shown.time_ms[row])
            else:
                value, row = self.sets[name].of(shown.video_idx)
                key = value.astype(np.int64)
        return Groups(row, key, n)


class Sums(NamedTuple):
    """Sums [G, V] of groups by their keys [G], in order."""

    key: np.ndarray
    total: np.ndarray

    @classmethod
    def of(cls, key: np.ndarray, values: np.ndarray) -> Self:
        """Of entries: key [e], values [e, V]."""
        found, which = np.unique(key, return_inverse=True)
        return cls(found, np.stack([np.bincount(which, column, len(found)) for column in values.T], axis=1))

    def at(self, key: np.ndarray) -> np.ndarray:
        """[e, V]; zeros of a group without a row."""
        if not len(self.key):
            return np.zeros((len(key), self.total.shape[1]))
        place = np.searchsorted(self.key, key).clip(max=len(self.key) - 1)
        return np.where((self.key[place] == key)[:, None], self.total[place], 0.0)


def before(key: np.ndarray, day: np.ndarray, values: np.ndarray) -> np.ndarray:
    """For each entry [e] the sum [e, V] of the values of those with its key on earlier days."""
    order = np.lexsort((day, key))
    key, day = key[order], day[order]
    total = np.zeros((len(key) + 1, values.shape[1]))
    values[order].cumsum(0, out=total[1:])
    new_key = np.diff(key, prepend=-1) != 0
    new_day = new_key | (np.diff(day, prepend=-1) != 0)
    place = np.arange(len(key))
    first_of_day, first_of_key = (np.maximum.accumulate(np.where(new, place, 0)) for new in (new_day, new_key))
    found = np.empty_like(values, dtype=float)
    found[order] = total[first_of_day] - total[first_of_key]
    return found


def earlier(key: np.ndarray, place: np.ndarray, values: np.ndarray, asked: np.ndarray, until: np.ndarray) -> np.ndarray:
    """For each key that is asked for [a] the sum [a, V] of the values of entries with it, key, place [e] and
    values [e, V], at places below `until` [a]."""
    keys, places = np.concatenate([key, asked]), np.concatenate([place, until])
    return before(keys, places, np.concatenate([values, np.zeros((len(asked), values.shape[1]))]))[len(key) :]


@dataclass(frozen=True)
class Wide:
    """As counted on a fit's events."""

    share: float  # of positives in all
    means: Mapping[str, float]  # of those of MEANS that anything is known of
    sums: Mapping[Kind, Sums]  # of the values of `_values`
    weights: np.ndarray  # [1 + n] of the expectation, the intercept first
    mean: np.ndarray  # [K] and std [K], of the fit's events: inputs are standardised
    std: np.ndarray

    @classmethod
    def fit(cls, histories: Histories) -> tuple[Self, np.ndarray]:
        """And the inputs of all its events, float32 [E, K] in order of `histories.flat()`."""
        store = histories.store
        position, owner = histories.flat()
        shown, groups = Shown.of_events(store, position), Grouping(store)
        day, means = inputs.day(shown.time_ms), _means(store, position)
        values = _values(store, position, means)
        share = (values[:, 1].sum() + 0.5) / (values[:, 0].sum() + 1)
        kinds, user_kinds = ([kind for kind in some if groups.has(kind)] for some in (KINDS, USER_KINDS))
        n, n_of_user = _width(kinds, COUNTED, means), _width(user_kinds, USER_COUNTED, means)
        found = np.empty((len(position), n + 1 + n_of_user), np.float32)
        sums, at = {}, 0
        for kind in track(kinds, "counting showings"):
            of = groups.of(kind, shown)
            sums[kind] = Sums.of(of.key, values[of.row])
            columns = _rates(of, before(of.key, day[of.row], values[of.row]), share, kind)
            found[:, at : at + columns.shape[1]] = columns
            at += columns.shape[1]
        weights = _regression(found[:, :n], values[:, 0], values[:, 1], share)
        found[:, n] = _expected(found[:, :n], weights)
        residual, at = _residuals(found[:, n], values), n + 1
        for kind in track(user_kinds, "counting by user"):
            of = groups.of(kind, shown)
            by_user = owner[of.row] * (1 + of.key.max(initial=0)) + of.key
            columns = _departures(of, before(by_user, day[of.row], residual[of.row]), share, kind)
            found[:, at : at + columns.shape[1]] = columns
            at += columns.shape[1]
        mean, std = _scales(found)
        found -= mean.astype(np.float32)
        found /= std.astype(np.float32)
        return cls(share, means, sums, weights, mean, std), found

    @property
    def n_inputs(self) -> int:
        return len(self.mean)

    def of_pairs(self, pairs: Pairs) -> np.ndarray:
        """float32 [m, K]."""
        cases, which = pairs.asked()
        return self._inputs(pairs, cases.histories(pairs.store), which)

    def running(self, pairs: Pairs) -> np.ndarray:
        """`of_pairs` up to rounding, in one pass over each user's longest history: for users who are asked at many
        moments."""
        cases, which = pairs.asked()
        histories, of_case = cases.longest(pairs.store)
        return self._inputs(pairs, histories, of_case[which], pairs.history_end)

    def _inputs(
        self, pairs: Pairs, histories: Histories, which: np.ndarray, until: np.ndarray | None = None
    ) -> np.ndarray:
        """which [m]: of the histories, each entry's; until [m]: how many events of it count, all if not given."""
        groups, shown = Grouping(pairs.store), Shown(pairs.video_idx, pairs.time_ms, pairs.tab)
        of_shown = self._of_shown(groups, shown)
        n, kinds = of_shown.shape[1], [kind for kind in USER_KINDS if groups.has(kind)]
        found = np.empty((len(pairs), self.n_inputs))
        found[:, :n] = of_shown
        found[:, n] = _expected(of_shown, self.weights)
        for block in histories.blocks(len(histories), _EVENTS):
            mine = np.flatnonzero((which >= block.start) & (which < block.stop))
            some = Shown(*(column[mine] for column in shown))
            position, owner = histories.where(block).flat()
            events = Shown.of_events(pairs.store, position)
            expected = _expected(self._of_shown(groups, events), self.weights)
            residual = _residuals(expected, _values(pairs.store, position, self.means))
            place = position - histories.start[block][owner]
            at = n + 1
            for kind in kinds:
                of_events, of = groups.of(kind, events), groups.of(kind, some)
                n_keys = 1 + max(of_events.key.max(initial=0), of.key.max(initial=0))
                key = owner[of_events.row] * n_keys + of_events.key
                asked = (which[mine][of.row] - block.start) * n_keys + of.key
                values = residual[of_events.row]
                if until is None:
                    mine_of = Sums.of(key, values).at(asked)
                else:
                    mine_of = earlier(key, place[of_events.row], values, asked, until[mine][of.row])
                columns = _departures(of, mine_of, self.share, kind)
                found[mine, at : at + columns.shape[1]] = columns
                at += columns.shape[1]
        return ((found - self.mean) / self.std).astype(np.float32)

    def _of_shown(self, groups: Grouping, shown: Shown) -> np.ndarray:
        """What hangs on the showing alone [m, n]; videos are mostly shown to many, in few tabs, within an hour."""
        distinct, which = shown.distinct()
        columns = []
        for kind, sums in self.sums.items():
            of = groups.of(kind, distinct)
            columns.append(_rates(of, sums.at(of.key), self.share, kind))
        return np.concatenate(columns, axis=1)[which]

    def save(self, folder: Path) -> None:
        """Write it into a new folder."""
        folder.mkdir()
        arrays = {"weights": self.weights, "mean": self.mean, "std": self.std}
        for number, sums in enumerate(self.sums.values()):
            arrays |= {f"sums.{number}.key": sums.key, f"sums.{number}.total": sums.total}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        about = {"share": self.share, "means": dict(self.means), "kinds": list(self.sums)}
        (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))

        def array(name: str) -> np.ndarray:
            return np.asarray(np.load(folder / f"{name}.npy", allow_pickle=False))

        sums = {
            tuple(kind): Sums(array(f"sums.{number}.key"), array(f"sums.{number}.total"))
            for number, kind in enumerate(about["kinds"])
        }
        return cls(about["share"], about["means"], sums, array("weights"), array("mean"), array("std"))


def _width(kinds: Collection[Kind], counted: Collection[Kind], means: Collection[str]) -> int:
    return sum(1 + (kind in counted) + len(means) for kind in kinds)


def _means(store: Store, position: np.ndarray) -> dict[str, float]:
    """Of those of MEANS that anything is known of, over the judged of events [E]."""
    judged = position[store.events("positive")[position] != UNKNOWN]
    told = {name: _value(store, name, judged) for name in MEANS if name in store.tables["events"]}
    return {name: float(np.nanmean(value)) for name, value in told.items() if not np.isnan(value).all()}


def _value(store: Store, name: str, position: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(store.events(name)[position].astype(float), MEANS[name]))


def _values(store: Store, position: np.ndarray, means: Mapping[str, float]) -> np.ndarray:
    """Whether each event is judged, whether it is a positive, and how far it lies above each of the means: [m, 2 + V];
    0 where nobody knows, as if it were the mean."""
    positive = store.events("positive")[position]
    judged = (positive != UNKNOWN).astype(float)
    above = [judged * np.nan_to_num(_value(store, name, position) - mean) for name, mean in means.items()]
    return np.stack([judged, (positive == 1).astype(float), *above], axis=1)


def _rates(of: Groups, sums: np.ndarray, share: float, kind: Kind) -> np.ndarray:
    """The inputs [m, k] of a kind, from the sums [e, 2 + V] of the entries' groups, see `_values`."""
    n, liked, *above = sums.T
    rate = (liked + PRIOR * share) / (n + PRIOR)
    return _inputs(of, logit(rate) - logit(share), n, above, kind in COUNTED)


def _departures(of: Groups, sums: np.ndarray, share: float, kind: Kind) -> np.ndarray:
    """The inputs [m, k] of a user in a kind, from the sums [e, 3 + V] of the entries' groups, see `_residuals`."""
    away, spread, n, *above = sums.T
    return _inputs(of, away / (spread + PRIOR * share * (1 - share)), n, above, kind in USER_COUNTED)


def _inputs(
    of: Groups, departure: np.ndarray, n: np.ndarray, above: Sequence[np.ndarray], is_counted: bool
) -> np.ndarray:
    """[m, k], from what is said of entries [e] each."""
    found = [departure, *([np.log1p(n)] if is_counted else []), *(total / (n + PRIOR) for total in above)]
    return np.stack([of.mean(each) for each in found], axis=1)


def _scales(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the deviation of each input; what does not vary in the fit says nothing after it."""
    mean, std = (np.array([of(column, dtype=float) for column in inputs.T]) for of in (np.mean, np.std))
    std[std < _LEAST_STD] = np.inf
    return mean, std


def _regression(of_shown: np.ndarray, judged: np.ndarray, liked: np.ndarray, share: float) -> np.ndarray:
    """Weights [1 + n] of a logistic regression of `liked` [E] on inputs [E, n], the intercept first, on the judged of
    some events spread over all."""
    some = np.flatnonzero(judged)
    some = some[:: 1 + len(some) // _REGRESSED]
    if len(np.unique(liked[some])) < 2:
        return np.concatenate([[logit(share)], np.zeros(of_shown.shape[1])])
    inputs = of_shown[some].astype(float)
    mean, std = _scales(inputs)
    fitted = LogisticRegression(C=1.0).fit((inputs - mean) / std, liked[some])
    weights = fitted.coef_[0] / std
    return np.concatenate([fitted.intercept_ - weights @ mean, weights])


def _expected(of_shown: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Log-odds [m] of a positive, whoever the user is."""
    return np.asarray(weights[0] + of_shown @ weights[1:])


def _residuals(expected: np.ndarray, values: np.ndarray) -> np.ndarray:
    """positive - p, p (1 - p) and 1 of each event, zeros where it is not judged, and how far it lies above the means:
    [m, 3 + V]. values: of `_values`."""
    p, judged, liked = expit(expected), values[:, 0], values[:, 1]
    residual = np.stack([liked - p, p * (1 - p), np.ones(len(p))], axis=1) * judged[:, None]
    return np.concatenate([residual, values[:, 2:]], axis=1)
