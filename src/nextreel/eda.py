"""What a log looks like before any model: size, rhythm, popularity, watch time and order.

Takes the standard rows of all parts with their labels (`wtr`, `wtg`, `positive`), the users and the videos. The engine
counts; means and shares come from the counts, in numpy, so that no number of threads changes a bit. What a source does
not say is left out of the numbers, and its table has no rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
from ibis import _

from nextreel.arrays import Columns
from nextreel.clock import DAY_MS, HOUR_MS, MINUTE_MS, UTC8_MS
from nextreel.params import PositiveInt, Section
from nextreel.progress import track

INFLUENCER_FANS = 1_000
BINS_PER_DECADE = 5
N_RANKS = 150  # of the popularity curve, evenly spaced in log rank
N_DURATION_BINS = 20
N_SHUFFLES = 5
MILLIONTHS = 1_000_000
_KEYS = ("user_idx", "user_id", "video_idx", "video_id")


class Params(Section):
    session_gap_minutes: PositiveInt  # a session ends where the next event starts later than this after the last start


@dataclass(frozen=True)
class Findings:
    """`numbers` for a metrics file, `tables` for charts and pictures."""

    numbers: dict[str, object]
    tables: dict[str, Columns]


@dataclass(frozen=True)
class Spectrum:
    """How many things have which value, such as users by their number of events: exact, however many things."""

    value: np.ndarray  # [V] distinct integers in order
    n: np.ndarray  # [V] things of that value

    @classmethod
    def of(cls, table: ir.Table, column: str) -> "Spectrum":
        """A thing is a row of the table; null is none."""
        known = table.filter(_[column].notnull()).group_by(value=_[column].cast("int64"))
        return cls(**_numpy(known.aggregate(n=_.count()).order_by("value")))

    @property
    def things(self) -> int:
        return int(self.n.sum())

    @property
    def total(self) -> int:
        return int((self.value * self.n).sum())

    def quantile(self, share: float) -> int:
        """The smallest value that at least this share of the things do not exceed."""
        return int(np.quantile(self.value, share, weights=self.n, method="inverted_cdf"))

    def summary(self, name: str) -> dict[str, object]:
        if not self.things:
            return {}
        found: dict[str, object] = {f"{name}_mean": self.total / self.things}
        found |= {f"{name}_p{percent}": self.quantile(percent / 100) for percent in (10, 50, 90, 99)}
        return found | {f"{name}_max": int(self.value[-1])}

    def gini(self) -> float:
        """0: all things have the same value; towards 1: one has it all. Sum over things i in order of x,
        (2 sum(i x_i) / sum(x) - (N + 1)) / N."""
        end = self.n.cumsum()
        ranks = self.n * (2 * end - self.n + 1) // 2  # the sum of the ranks, from 1, of the things of each value
        return (2 * int((self.value * ranks).sum()) - (self.things + 1) * self.total) / (self.things * self.total)

    def top_share(self, percent: int) -> float:
        """The share of the total that the `percent` % largest things hold, their number rounded up."""
        largest = -(-self.things * percent // 100)
        value, n = self.value[::-1], self.n[::-1]
        taken = (largest - (n.cumsum() - n)).clip(0, n)
        return int((value * taken).sum()) / self.total

    def by_rank(self) -> Columns:
        """The value at some ranks (1 = largest), evenly spaced in log rank, with the share of the total up to there."""
        value, n = self.value[::-1], self.n[::-1]
        rank = np.unique(np.geomspace(1, self.things, N_RANKS).round().astype(np.int64))
        at = np.searchsorted(n.cumsum(), rank)
        before, held = (n.cumsum() - n)[at], ((value * n).cumsum() - value * n)[at]
        return {
            **{"rank": rank, "top_share": rank / self.things, "value": value[at]},
            "held_share": (held + (rank - before) * value[at]) / self.total,
        }

    def by_size(self) -> Columns:
        """The share of the things in bins of equal width in log value; values below 1 have their own bin, from 0."""
        if not self.things:
            return {name: np.array([], np.int64) for name in ("from", "things", "share")}
        decades = len(str(max(int(self.value[-1]), 1)))
        edges = np.unique((10 ** (np.arange(decades * BINS_PER_DECADE + 1) / BINS_PER_DECADE)).round().astype(np.int64))
        edges = np.concatenate([[0], edges])
        number = np.searchsorted(edges, self.value.clip(0), side="right") - 1
        things = np.bincount(number, weights=self.n).astype(np.int64)
        used = slice(number[0], number[-1] + 1)
        return {"from": edges[used], "things": things[used], "share": things[used] / self.things}


def explore(
    labelled: ir.Table, users: ir.Table, videos: ir.Table, params: Params, rng: np.random.Generator
) -> Findings:
    """All that the functions below find, in numbers and tables; a table is described where it is made."""
    gap_ms = params.session_gap_minutes * MINUTE_MS
    by_user, by_video, by_pair = (
        Spectrum.of(labelled.group_by(keys).aggregate(events=_.count()), "events")
        for keys in (["user_idx"], ["video_idx"], ["user_idx", "video_idx"])
    )
    session, sessions_a_user = sessions(labelled, gap_ms)
    fans = Spectrum.of(users, "fans_user_num")
    days, cold = by_day(labelled)
    numbers: dict[str, object] = {
        **statistics(labelled, by_user, by_video, by_pair, days),
        "user_features": n_features(users),
        "video_features": n_features(videos),
        **by_user.summary("events_per_user"),
        **session.summary("events_per_session"),
        **sessions_a_user.summary("sessions_per_user"),
        "popularity_gini": by_video.gini(),
        "popularity_top_1_percent_share": by_video.top_share(1),
        "popularity_top_20_percent_share": by_video.top_share(20),
        "repeated_share": 1 - by_pair.things / by_pair.total,
        **fans.summary("fans"),
    }
    if fans.things:
        numbers["fans_1000_or_more_share"] = int(fans.n[fans.value >= INFLUENCER_FANS].sum()) / fans.things
    if len(cold["day"]):
        numbers["cold_share"] = int(cold["cold_events"].sum()) / int(cold["events"].sum())
    slow: dict[str, Callable[[], Any]] = {
        "watch_time": lambda: watch_time(labelled),
        "dependence": lambda: dependence(labelled, videos, gap_ms, rng),
        "correlations": lambda: rank_correlations(labelled),
    }
    found = {name: find() for name, find in track(list(slow.items()), "exploring")}
    tables = {
        "by_hour": by_hour(labelled),
        "by_day": days,
        "cold_by_day": cold,
        "events_per_user": by_user.by_size(),
        "events_per_session": session.by_size(),
        "popularity": by_video.by_rank(),
        "fans": fans.by_size(),
        "watch_time": found["watch_time"],
        "repeats": repeats(by_pair),
        "dependence": found["dependence"],
    }
    return Findings({**numbers, **found["correlations"], **_gain_from_order(found["dependence"])}, tables)


def statistics(
    labelled: ir.Table, by_user: Spectrum, by_video: Spectrum, by_pair: Spectrum, days: Columns
) -> dict[str, object]:
    """The size of the log. Users and videos are those with an event; days those in UTC+8 with an event."""
    return {
        "users": by_user.things,
        "videos": by_video.things,
        "interactions": by_user.total,
        "density": by_pair.things / (by_user.things * by_video.things),
        "first_day": str(days["date"][0]),
        "last_day": str(days["date"][-1]),
        "days": len(days["day"]),
        "positive_share": positive_share(labelled),
    }


def positive_share(labelled: ir.Table) -> float:
    """Of the rows of which it is known."""
    counts = _numpy(labelled.aggregate(known=_.positive.count(), positives=_.positive.sum().fill_null(0)))
    return float(counts["positives"][0]) / max(int(counts["known"][0]), 1)


def n_features(table: ir.Table) -> int:
    """Columns, keys apart, in which the source says anything."""
    names = [name for name in table.columns if name not in _KEYS]
    known = _numpy(table.aggregate(**{name: table[name].count() for name in names}))
    return sum(int(count[0]) > 0 for count in known.values())


def sessions(events: ir.Table, gap_ms: int) -> tuple[Spectrum, Spectrum]:
    """Sessions by their number of events; users by their number of sessions."""
    started = _with_starts(events, gap_ms, ["user_idx"])
    upto = ibis.window(group_by="user_idx", order_by=["time_ms", "row"], preceding=None, following=0)
    numbered = started.mutate(session=_.starts.cast("int64").sum().over(upto))
    lengths = numbered.group_by("user_idx", "session").aggregate(events=_.count())
    counts = started.group_by("user_idx").aggregate(sessions=_.starts.sum())
    return Spectrum.of(lengths, "events"), Spectrum.of(counts, "sessions")


def _with_starts(events: ir.Table, gap_ms: int, owner: Sequence[str]) -> ir.Table:
    """The rows with `starts`: the owner's first one, or one that starts more than the gap after the one before."""
    within = ibis.window(group_by=owner, order_by=["time_ms", "row"])
    return events.mutate(starts=(_.time_ms - _.time_ms.lag().over(within) > gap_ms).fill_null(True))


def by_hour(events: ir.Table) -> Columns:
    """hour [24] of the day in UTC+8, events, share."""
    found = Spectrum.of(events.mutate(hour=(_.time_ms + UTC8_MS) % DAY_MS // HOUR_MS), "hour")
    counts = np.zeros(24, np.int64)
    counts[found.value] = found.n
    return {"hour": np.arange(24), "events": counts, "share": counts / found.things}


def by_day(events: ir.Table) -> tuple[Columns, Columns]:
    """Days in UTC+8 with an event: day (1 = the log's first), date, events.

    And from the second one on, since all is new on the first: day, date, events, videos, cold_events and cold_videos
    (videos without an event on an earlier day), cold_event_share, cold_video_share.
    """
    shown = events.group_by(day=(_.time_ms + UTC8_MS) // DAY_MS, video_idx=_.video_idx).aggregate(events=_.count())
    first = shown.mutate(cold=_.day == _.day.min().over(ibis.window(group_by="video_idx")))
    found = _numpy(
        first.group_by("day")
        .aggregate(
            events=_.events.sum(),
            videos=_.count(),
            cold_events=ibis.ifelse(_.cold, _.events, 0).sum(),
            cold_videos=_.cold.sum(),
        )
        .order_by("day")
    )
    epoch_day = found.pop("day")
    date = epoch_day.astype("datetime64[D]").astype(str)
    found = {"day": epoch_day - epoch_day[0] + 1, "date": date, **found}
    cold = {name: column[1:] for name, column in found.items()}
    cold |= {f"cold_{what}_share": cold[f"cold_{what}s"] / cold[f"{what}s"] for what in ("event", "video")}
    return {name: found[name] for name in ("day", "date", "events")}, cold


def watch_time(labelled: ir.Table) -> Columns:
    """Quartiles of play time, WTR and WTG in bins of duration with about equally many rows; the mean of WTG.

    WTR is play / duration without a cap, which would hide the videos that loop. WTG is that of `labels.REFERENCE`.
    Rows without a WTG are left out: they lack the duration or the play time.
    """
    known = _with_watch_time(labelled)
    durations = Spectrum.of(known, "duration_ms")
    number = (durations.n.cumsum() - durations.n) * N_DURATION_BINS // max(durations.things, 1)
    cuts = durations.value[np.flatnonzero(np.diff(number)) + 1]
    bin_ = sum(((known.duration_ms >= int(cut)).cast("int32") for cut in cuts), ibis.literal(1))
    measures = {"play_s": _.play_time_ms / 1000, "wtr": _.play_time_ms / _.duration_ms, "wtg": _.wtg}
    found = _numpy(
        known.group_by(bin=bin_)
        .aggregate(
            rows=_.count(),
            duration_s=_.duration_ms.quantile(0.5) / 1000,
            **{name: x.quantile([0.25, 0.5, 0.75]) for name, x in measures.items()},
            # Whole millionths: unlike a sum of floats, theirs is the same in any order.
            wtg_mean=(_.wtg * MILLIONTHS).round().cast("int64").sum(),
        )
        .mutate(**{f"{name}_p{25 * (at + 1)}": _[name][at] for name in measures for at in range(3)})
        .drop(*measures)
        .order_by("bin")
    )
    return found | {"wtg_mean": found["wtg_mean"] / (MILLIONTHS * np.maximum(found["rows"], 1))}


def _with_watch_time(labelled: ir.Table) -> ir.Table:
    return labelled.filter(_.wtg.notnull() & (_.duration_ms > 0))


def rank_correlations(labelled: ir.Table) -> dict[str, object]:
    """Spearman's, over all rows, of duration with play time, uncapped WTR and WTG; ties share their mean rank.

    A rank from the left minus the rank from the right is twice the mean rank, centred: an integer, so the sums are
    exact.
    """
    known = _with_watch_time(labelled).select(
        "wtg", duration=_.duration_ms, play_time=_.play_time_ms, wtr=_.play_time_ms / _.duration_ms
    )
    names = ("duration", "play_time", "wtr", "wtg")
    ranked = known.select(
        **{
            name: ibis.rank().over(order_by=known[name]) - ibis.rank().over(order_by=known[name].desc())
            for name in names
        }
    )
    pairs = [("duration", "duration"), *((name, other) for name in names[1:] for other in (name, "duration"))]
    sums = ranked.aggregate(**{f"{a} {b}": (ranked[a] * ranked[b]).sum().cast("string") for a, b in pairs})
    exact = {name: int(value[0] or 0) for name, value in sums.to_pyarrow().to_pydict().items()}
    return {
        f"duration_{name}_spearman": exact[f"{name} duration"] / spread**0.5
        for name in names[1:]
        if (spread := exact["duration duration"] * exact[f"{name} {name}"])
    }


def repeats(by_pair: Spectrum) -> Columns:
    """times ["1", "2", "3", "4+"] that a (user, video) occurs, pairs, share of the pairs."""
    pairs = np.bincount(by_pair.value.clip(max=4), weights=by_pair.n, minlength=5)[1:].astype(np.int64)
    return {"times": np.array(["1", "2", "3", "4+"]), "pairs": pairs, "share": pairs / by_pair.things}


def dependence(events: ir.Table, videos: ir.Table, gap_ms: int, rng: np.random.Generator) -> Columns:
    """How far the event before tells the next one, with sessions in their order and with each one's events shuffled.

    What follows what inside a session is counted in train and asked for in valid; nothing looks at test. A shuffle
    keeps what a session holds, so what it loses is due to order. Twice: for the video (HR@10), and for its first tag
    (HR@1; videos without one are passed over), since most videos are rare.

    Columns: level, k, shuffle (0 = in order), hit_rate, asked (events of valid that follow one in their session). A
    level that asks for none is left out.
    """
    kept = events.filter(_.part.isin(["train", "valid"]))
    started = _with_starts(kept, gap_ms, ["user_idx", "part"])
    tags = videos.select("video_idx", tag=_.tags[0])
    rows = _numpy(
        started.left_join(tags, "video_idx")
        .order_by("user_idx", "time_ms", "row")
        .select("starts", video=_.video_idx, tag=_.tag.fill_null(-1).cast("int64"), valid=_.part == "valid")
    )
    session = rows["starts"].cumsum()
    found = []
    for level, k in (("video", 10), ("tag", 1)):
        some = rows[level] >= 0
        item, owner, valid = rows[level][some], session[some], rows["valid"][some]
        for shuffle in range(N_SHUFFLES + 1):
            inside = shuffled_inside(owner, rng) if shuffle else slice(None)
            hit_rate, asked = next_hit_rate(item[inside], owner, valid, k)
            if asked:
                found.append((level, k, shuffle, hit_rate, asked))
    names = ("level", "k", "shuffle", "hit_rate", "asked")
    return {name: np.array([row[at] for row in found]) for at, name in enumerate(names)}


def shuffled_inside(session: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions [n] that put the events of each session [n], which is in order, in random order."""
    tie = rng.integers(0, 2**31, len(session))
    return np.argsort((session.astype(np.int64) << 31) | tie, kind="stable")


def next_hit_rate(item: np.ndarray, session: np.ndarray, valid: np.ndarray, k: int) -> tuple[float, int]:
    """How often the true next item is among the k that followed the one before most often, and the number of questions.

    item, session, valid: [n] events in order, each session of one part. Where the k-th place is tied, the share of the
    places that the tied ones get; an item that never followed is no answer.
    """
    follows = session[1:] == session[:-1]
    n_items = int(item.max(initial=0)) + 1
    pair = item[:-1][follows].astype(np.int64) * n_items + item[1:][follows]
    asked = valid[1:][follows]
    question, taught = np.sort(pair[asked]), np.sort(pair[~asked])  # in order: lookups then walk through memory
    if not len(question) or not len(taught):
        return 0.0, len(question)
    start = np.flatnonzero(np.diff(taught, prepend=-1))
    learned, count = taught[start], np.diff(start, append=len(taught))
    at = np.searchsorted(learned, question).clip(max=len(learned) - 1)
    at = at[learned[at] == question]
    width = int(count.max()) + 1
    rung = learned // n_items * width + width - 1 - count  # by item before, then most frequent first
    ladder = np.sort(rung)
    first, last = np.searchsorted(ladder, rung[at]), np.searchsorted(ladder, rung[at], side="right")
    better = first - np.searchsorted(ladder, learned[at] // n_items * width)
    return float(((k - better) / (last - first)).clip(0, 1).sum()) / len(question), len(question)


def _gain_from_order(dependence: Columns) -> dict[str, object]:
    found: dict[str, object] = {}
    for level in np.unique(dependence["level"]):
        of = dependence["level"] == level
        kept, *shuffled = dependence["hit_rate"][of].tolist()
        name = f"next_{level}_hr@{dependence['k'][of][0]}"
        found[f"{name}_in_order"] = kept
        found[f"{name}_shuffled_mean"] = float(np.mean(shuffled))
        found[f"{name}_shuffled_std"] = float(np.std(shuffled, ddof=1))
        found[f"next_{level}_asked"] = int(dependence["asked"][of][0])
    return found


def _numpy(table: ir.Table) -> Columns:
    """A table that fits in memory as numpy columns."""
    found = table.to_pyarrow()
    return {name: found[name].to_numpy() for name in found.column_names}
