from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nextreel import clock, eda, labels, schema
from nextreel.eda import Params, Spectrum

UTC8 = timezone(timedelta(hours=8))
NOON_MS = int(datetime(2022, 4, 10, 12, tzinfo=UTC8).timestamp() * 1000)
GAP_MS = 30 * 60_000
MINUTE_MS = 60_000
COLUMNS = pa.schema(
    [
        *(("user_idx", pa.int32()), ("video_idx", pa.int32()), ("time_ms", pa.int64()), ("row", pa.int64())),
        *(("play_time_ms", pa.int64()), ("duration_ms", pa.int64()), ("part", pa.string())),
        *(("wtg", pa.float64()), ("positive", pa.bool_())),
    ]
)
some_counts = st.lists(st.integers(1, 10_000), min_size=1, max_size=60)


def log(user, video, time_ms=NOON_MS, part="train", play_time_ms=1_000, duration_ms=10_000, wtg=0.0, positive=False):
    """Labelled rows; what is no list is the same in every row."""
    n = len(user)
    given = {"user_idx": user, "video_idx": video, "time_ms": time_ms, "row": list(range(n)), "part": part}
    given |= {"play_time_ms": play_time_ms, "duration_ms": duration_ms, "wtg": wtg, "positive": positive}
    columns = {name: value if isinstance(value, list) else [value] * n for name, value in given.items()}
    return ibis.memtable(pa.table({name: columns[name] for name in COLUMNS.names}, schema=COLUMNS))


def table(name, *rows):
    """A table of the schema; a row is what it says apart from null."""
    columns = {column: [row.get(column) for row in rows] for column in schema.TABLES[name]}
    return ibis.memtable(pa.table(columns, schema=schema.TABLES[name].to_pyarrow()))


def users(*fans):
    return table("users", *({"user_idx": i, "user_id": i, "fans_user_num": n} for i, n in enumerate(fans, 1)))


def videos(*tags):
    return table("videos", *({"video_idx": i, "video_id": i, "tags": tag} for i, tag in enumerate(tags, 1)))


def spectrum(things):
    value, n = np.unique(np.array(things, np.int64), return_counts=True)
    return Spectrum(value, n)


def explore(rows, users_=None, videos_=None, seed=0):
    settings = Params(session_gap_minutes=30)
    chosen = users() if users_ is None else users_, videos() if videos_ is None else videos_
    return eda.explore(rows, *chosen, settings, np.random.default_rng(seed))


# --- counts by value ---


def test_gini_by_hand():
    """Of 1, 2, 3, 4: (2 (1 + 4 + 9 + 16) / 10 - 5) / 4."""
    assert spectrum([4, 1, 3, 2]).gini() == pytest.approx(0.25)
    assert spectrum([7, 7, 7]).gini() == 0
    assert spectrum([5]).gini() == 0


@given(some_counts)
def test_gini_is_the_mean_difference(counts):
    x = np.array(counts, float)
    differences = np.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean())
    assert spectrum(counts).gini() == pytest.approx(differences, abs=1e-12)
    assert 0 <= spectrum(counts).gini() < 1


def test_top_shares_by_hand():
    """Ten videos: the top 20 % are two; the top 1 % is one, for a part of a video is rounded up."""
    ten = spectrum([50, 20, 10, 5, 5, 4, 2, 2, 1, 1])
    assert ten.top_share(1) == 0.5
    assert ten.top_share(20) == 0.7
    assert ten.top_share(100) == 1
    assert spectrum([1] * 700).top_share(1) == 0.01  # 7 of them: 0.01 * 700 is above 7 in floats


@given(some_counts)
def test_the_popularity_curve_agrees_with_a_sorted_list(counts):
    down = np.sort(counts)[::-1]
    curve = spectrum(counts).by_rank()
    assert (curve["rank"][0], curve["rank"][-1]) == (1, len(counts))
    assert (curve["value"] == down[curve["rank"] - 1]).all()
    assert curve["held_share"] == pytest.approx(down.cumsum()[curve["rank"] - 1] / down.sum())
    assert curve["held_share"][-1] == 1


def test_a_long_popularity_curve_is_thinned():
    assert 100 < len(spectrum(np.arange(1, 100_000)).by_rank()["rank"]) <= eda.N_RANKS


def test_bins_of_size_by_hand():
    found = spectrum([0, 0, 1, 2, 3, 5, 9, 10, 999, 1000]).by_size()
    things = dict(zip(found["from"].tolist(), found["things"].tolist(), strict=True))
    filled = {start: n for start, n in things.items() if n}
    assert filled == {0: 2, 1: 1, 2: 1, 3: 1, 4: 1, 6: 1, 10: 1, 631: 1, 1000: 1}
    assert {16, 25, 40, 63, 100} < set(things)  # empty bins in between keep their place
    assert max(things) == 1000


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=60))
def test_bins_of_size_hold_every_thing(values):
    found = spectrum(values).by_size()
    assert found["things"].sum() == len(values)
    assert found["share"].sum() == pytest.approx(1)
    assert (np.diff(found["from"]) > 0).all()
    assert found["things"][0] > 0
    assert found["things"][-1] > 0


def test_quantiles_are_values_that_occur():
    four = spectrum([1, 2, 3, 100])
    assert [four.quantile(share) for share in (0.25, 0.5, 0.51, 1)] == [1, 2, 3, 100]
    assert four.summary("x") == {"x_mean": 26.5, "x_p10": 1, "x_p50": 2, "x_p90": 100, "x_p99": 100, "x_max": 100}
    assert spectrum([]).summary("x") == {}


def test_a_spectrum_passes_over_nulls():
    found = Spectrum.of(users(5, None, 5, 7), "fans_user_num")
    assert (found.value.tolist(), found.n.tolist()) == ([5, 7], [2, 1])


# --- size and rhythm ---


def test_statistics_by_hand():
    """Three users and two videos with an event, four different pairs of six."""
    rows = log([1, 1, 1, 2, 4], [1, 2, 1, 1, 2], positive=[True, False, False, True, False])
    numbers = explore(rows, users(1, 2, None, 4), videos([3], [3], [1])).numbers
    assert [numbers[key] for key in ("users", "videos", "interactions", "days")] == [3, 2, 5, 1]
    assert numbers["density"] == pytest.approx(4 / 6)
    assert numbers["positive_share"] == 0.4
    assert numbers["first_day"] == numbers["last_day"] == "2022-04-10"
    assert (numbers["user_features"], numbers["video_features"]) == (1, 1)  # those that say anything
    assert (numbers["events_per_user_mean"], numbers["events_per_user_p50"]) == (pytest.approx(5 / 3), 1)
    assert "cold_share" not in numbers  # there is no second day


def test_a_session_is_cut_after_the_gap_and_not_at_it():
    minutes = [0, 30, 60, 90 + 1 / 60_000, 500, 0]
    times = [NOON_MS + round(m * MINUTE_MS) for m in minutes]
    lengths, sessions = eda.sessions(log([1, 1, 1, 1, 1, 2], [1] * 6, times), GAP_MS)
    assert (lengths.value.tolist(), lengths.n.tolist()) == ([1, 3], [3, 1])
    assert (sessions.value.tolist(), sessions.n.tolist()) == ([1, 3], [1, 1])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 200)), min_size=1, max_size=40))
def test_sessions_hold_every_event(events):
    user, minute = map(list, zip(*events, strict=True))
    rows = log(user, [1] * len(user), [NOON_MS + m * MINUTE_MS for m in minute])
    lengths, sessions = eda.sessions(rows, GAP_MS)
    assert lengths.total == len(events)
    assert lengths.things == sessions.total
    assert sessions.things == len(set(user))


def test_hours_and_days_are_those_of_utc_plus_8():
    midnight = int(datetime(2022, 4, 11, tzinfo=UTC8).timestamp() * 1000)
    rows = log([1, 1, 1], [1, 2, 3], [midnight - 1, midnight, midnight + 3_600_000])
    hours = eda.by_hour(rows)
    assert np.flatnonzero(hours["events"]).tolist() == [0, 1, 23]
    assert len(hours["hour"]) == 24
    assert hours["share"].sum() == pytest.approx(1)
    days, _cold = eda.by_day(rows)
    assert (days["date"].tolist(), days["events"].tolist()) == (["2022-04-10", "2022-04-11"], [1, 2])


def test_cold_videos_by_hand():
    """Videos 1 and 2 on day 1; 1, 3, 3, 3 on day 2; nothing on day 3; 3 and 4 on day 4."""
    day = [NOON_MS + d * clock.DAY_MS for d in (0, 0, 1, 1, 1, 1, 3, 3)]
    rows = log([1] * 8, [1, 2, 1, 3, 3, 3, 3, 4], [t + i for i, t in enumerate(day)])
    days, cold = eda.by_day(rows)
    assert days["day"].tolist() == [1, 2, 4]
    assert cold["day"].tolist() == [2, 4]
    assert cold["date"].tolist() == ["2022-04-11", "2022-04-13"]
    assert cold["cold_event_share"].tolist() == [0.75, 0.5]
    assert cold["cold_video_share"].tolist() == [0.5, 0.5]
    assert explore(rows).numbers["cold_share"] == pytest.approx(4 / 6)


def test_repeats_by_hand():
    """User 1 sees video 1 five times and 2 twice, user 2 sees 1 once: 5 of 8 events show what was seen."""
    rows = log([1] * 7 + [2], [1, 2, 1, 1, 2, 1, 1, 1])
    found = explore(rows)
    assert found.numbers["repeated_share"] == 5 / 8
    assert found.tables["repeats"]["pairs"].tolist() == [1, 1, 0, 1]
    assert found.tables["repeats"]["share"].sum() == pytest.approx(1)


def test_influencers_begin_at_1000_fans():
    found = explore(log([1], [1]), users(999, 1000, 10**6, None, 0))
    assert found.numbers["fans_1000_or_more_share"] == 0.5
    assert found.tables["fans"]["things"].sum() == 4


# --- watch time ---


def watched(n=3_000, seed=0):
    rng = np.random.default_rng(seed)
    duration = rng.integers(300, 6_000, n) * 10
    play = (duration**0.5 * rng.lognormal(3, 1, n)).astype(int)
    return log(
        [1] * n, [1] * n, play_time_ms=play.tolist(), duration_ms=duration.tolist(), wtg=rng.normal(size=n).tolist()
    )


def test_watch_time_by_duration_agrees_with_pandas():
    rows = watched()
    found = eda.watch_time(rows)
    frame = rows.to_pandas()
    assert len(found["bin"]) == eda.N_DURATION_BINS
    assert found["rows"].sum() == len(frame)
    assert found["rows"] == pytest.approx(np.full(eda.N_DURATION_BINS, 150), abs=5)
    place, ends = 0, found["rows"].cumsum()
    for at, end in enumerate(ends):
        some = frame.sort_values("duration_ms").iloc[place:end]
        measures = {"play_s": some.play_time_ms / 1000, "wtr": some.play_time_ms / some.duration_ms, "wtg": some.wtg}
        for name, measure in measures.items():
            for percent in (25, 50, 75):
                assert found[f"{name}_p{percent}"][at] == pytest.approx(measure.quantile(percent / 100))
        assert found["wtg_mean"][at] == pytest.approx(some.wtg.mean(), abs=1e-6)
        assert found["duration_s"][at] == some.duration_ms.median() / 1000
        place = end


def test_wtr_is_not_capped():
    assert eda.watch_time(log([1], [1], play_time_ms=50_000))["wtr_p50"].tolist() == [5.0]


def test_rank_correlations_agree_with_scipy():
    rows = watched()
    found = eda.rank_correlations(rows)
    frame = rows.to_pandas()
    measures = {"play_time": frame.play_time_ms, "wtr": frame.play_time_ms / frame.duration_ms, "wtg": frame.wtg}
    for name, measure in measures.items():
        assert found[f"duration_{name}_spearman"] == pytest.approx(stats.spearmanr(frame.duration_ms, measure)[0])


def test_wtg_takes_the_duration_out(committed):
    """Watch time that grows with duration by construction: WTR and play time follow it, the mean WTG does not."""
    rng = np.random.default_rng(0)
    duration = rng.integers(3, 60, 20_000) * 1000
    play = (duration**0.5 * rng.lognormal(3, 0.5, 20_000)).astype(int)
    settings = labels.Params(**committed["label"])
    raw = log([1] * 20_000, [1] * 20_000, play_time_ms=play.tolist(), duration_ms=duration.tolist())
    raw = raw.drop("wtg", "positive").mutate(click=ibis.literal(False), long_view=ibis.literal(False))
    labelled = labels.label_all(raw, settings)
    found, correlation = eda.watch_time(labelled), eda.rank_correlations(labelled)
    assert correlation["duration_play_time_spearman"] > 0.4
    assert correlation["duration_wtr_spearman"] < -0.4
    assert abs(correlation["duration_wtg_spearman"]) < 0.1
    assert np.abs(found["wtg_mean"]).max() < 0.1


def test_equal_durations_make_one_bin_and_no_correlation():
    rows = log([1, 1], [1, 2], play_time_ms=[1_000, 3_000])
    assert eda.watch_time(rows)["rows"].tolist() == [2]
    assert eda.rank_correlations(rows) == {}


# --- order ---


def walk(sequences, n_train):
    """A session of a minute a step for every user and part: the first n_train events are train, the others valid."""
    sequences = np.asarray(sequences)
    n, length = sequences.shape
    time = np.broadcast_to(NOON_MS + np.arange(length) * MINUTE_MS, (n, length))
    part = np.broadcast_to(np.where(np.arange(length) < n_train, "train", "valid"), (n, length))
    user = np.repeat(np.arange(1, n + 1), length)
    return log(*(column.ravel().tolist() for column in (user, sequences, time, part)))


def rates(found, level):
    of = found["level"] == level
    return found["hit_rate"][of][0], found["hit_rate"][of][1:]


def test_a_cycle_is_known_in_order_and_guessed_without():
    """Round a circle of 300 videos; tags 0 to 4 follow in a circle too."""
    start = np.random.default_rng(0).integers(0, 300, 200)
    rows = walk(1 + (start[:, None] + np.arange(60)) % 300, n_train=30)
    tags = videos(*([i % 5] for i in range(300)))
    found = eda.dependence(rows, tags, GAP_MS, np.random.default_rng(1))
    assert (found["asked"] == 200 * 29).all()  # the first event of a part follows none
    kept, shuffled = rates(found, "video")
    assert kept == 1
    assert shuffled.max() < 0.3  # the 10 of the 60 or so videos that are near enough to share a session
    kept, shuffled = rates(found, "tag")
    assert kept == 1
    assert shuffled == pytest.approx(np.full(eda.N_SHUFFLES, 0.2), abs=0.05)


def test_without_order_a_shuffle_changes_nothing():
    rows = walk(np.random.default_rng(0).integers(1, 31, (300, 40)), n_train=30)
    kept, shuffled = rates(eda.dependence(rows, videos(), GAP_MS, np.random.default_rng(1)), "video")
    assert kept == pytest.approx(10 / 30, abs=0.03)
    assert shuffled.mean() == pytest.approx(kept, abs=0.03)


def brute_force(item, session, valid, k):
    followers, hits = defaultdict(Counter), []
    steps = [i for i in range(1, len(item)) if session[i] == session[i - 1]]
    for i in steps:
        if not valid[i]:
            followers[item[i - 1]][item[i]] += 1
    for i in (i for i in steps if valid[i]):
        counts = followers[item[i - 1]]
        mine = counts[item[i]]
        better = sum(count > mine for count in counts.values())
        tied = sum(count == mine for count in counts.values())
        hits.append(min(1, max(0, (k - better) / tied)) if mine else 0)
    return (sum(hits) / len(hits) if hits else 0, len(hits))


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=80),
    st.integers(1, 3),
)
def test_next_hit_rate_agrees_with_dictionaries(events, k):
    item, is_first, in_valid = (np.array(column) for column in zip(*events, strict=True))
    session = is_first.cumsum()
    valid = in_valid[np.searchsorted(session, session)]  # a session lies in one part
    found, asked = eda.next_hit_rate(item, session, valid, k)
    wanted, n = brute_force(item.tolist(), session.tolist(), valid.tolist(), k)
    assert asked == n
    assert found == pytest.approx(wanted, abs=1e-12)


def test_tied_items_share_the_places():
    """0 was followed by 1, 2 and 3 once each: two places among three."""
    item, session = np.array([0, 1, 0, 2, 0, 3, 0, 1]), np.array([0, 0, 1, 1, 2, 2, 3, 3])
    valid = session == 3
    assert eda.next_hit_rate(item, session, valid, 2) == (pytest.approx(2 / 3), 1)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=20), st.integers(0, 99))
def test_a_shuffle_stays_inside_its_sessions(lengths, seed):
    session = np.repeat(np.arange(len(lengths)), lengths)
    order = eda.shuffled_inside(session, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(session)))
    assert (session[order] == session).all()


def test_every_order_of_a_session_is_equally_likely():
    order = eda.shuffled_inside(np.repeat(np.arange(6_000), 3), np.random.default_rng(0)).reshape(-1, 3) % 3
    _orders, n = np.unique(order, axis=0, return_counts=True)
    assert len(n) == 6
    assert np.abs(n - 1_000).max() < 120  # some four deviations


def test_dependence_sees_nothing_of_test():
    sequences = np.random.default_rng(0).integers(1, 9, (20, 30))
    rows = walk(sequences, n_train=20)
    later = log([1, 1, 1], [1, 2, 3], [NOON_MS + 29 * MINUTE_MS + i for i in range(3)], part="test")
    before, after = (
        eda.dependence(some, videos([1], [2]), GAP_MS, np.random.default_rng(1))
        for some in (rows, rows.union(later.mutate(row=later.row + 10_000)))
    )
    assert all((before[name] == after[name]).all() for name in before)


def test_videos_without_a_tag_are_passed_over():
    """1 -> 2 -> 3 where 2 has no tag: the tag of 3 follows that of 1."""
    rows = walk([[1, 2, 3, 1, 2, 3]], n_train=3)
    found = eda.dependence(rows, videos([7, 1], None, [8]), GAP_MS, np.random.default_rng(0))
    of = found["level"] == "tag"
    assert found["asked"][of].tolist() == [1] * (eda.N_SHUFFLES + 1)
    assert rates(found, "tag")[0] == 1


# --- what a source does not say, and the whole ---


def test_what_is_unknown_is_left_out():
    rows = log([1, 1], [1, 2], duration_ms=None, wtg=None)
    found = explore(rows, users(None), videos(None))
    empty = [name for name, columns in found.tables.items() if not len(next(iter(columns.values())))]
    assert sorted(empty) == ["cold_by_day", "dependence", "fans", "watch_time"]
    assert not [key for key in found.numbers if key.startswith(("fans", "duration", "next", "cold"))]
    assert (found.numbers["user_features"], found.numbers["video_features"]) == (0, 0)


def test_one_event_is_a_log():
    numbers = explore(log([1], [1])).numbers
    assert numbers["density"] == 1
    assert numbers["popularity_gini"] == 0
    assert numbers["popularity_top_1_percent_share"] == 1
    assert numbers["events_per_session_max"] == 1


def test_columns_are_equally_long_and_a_seed_fixes_all():
    rows = walk(np.random.default_rng(0).integers(1, 30, (30, 30)), n_train=20)
    tags = videos(*([i % 4] for i in range(30)))
    first, second = (explore(rows, users(1, 2), tags, seed=3) for _again in range(2))
    assert first.numbers == second.numbers
    for name, columns in first.tables.items():
        assert len({len(column) for column in columns.values()}) == 1
        assert all((column == second.tables[name][key]).all() for key, column in columns.items())


def test_the_real_slice(slice_source):
    """6,361 videos; 7,441 rows repeat a (user, video), of which 5,885 repeat the time too and are dropped."""
    rows = slice_source.tables["interactions"].mutate(part=ibis.literal("train"), positive=ibis.literal(False))
    by_user, by_video, by_pair = (
        Spectrum.of(rows.group_by(keys).aggregate(events=ibis._.count()), "events")
        for keys in (["user_idx"], ["video_idx"], ["user_idx", "video_idx"])
    )
    days, _cold = eda.by_day(rows)
    found = eda.statistics(rows, by_user, by_video, by_pair, days)
    assert (found["users"], found["videos"], found["interactions"]) == (25_156, 6_361, 228_329 - 5_885)
    assert by_pair.total - by_pair.things == 7_441 - 5_885
    fans = Spectrum.of(slice_source.tables["users"], "fans_user_num")
    assert fans.things == 27_285
    assert found["last_day"] == "2022-05-08"


def test_one_bin_is_no_column_number():
    """SQL could take the constant that it is grouped by for a column's position."""
    found = eda.watch_time(log([1, 2, 3], [1, 2, 3], play_time_ms=[1_000, 2_000, 9_000]))
    assert found["bin"].tolist() == [1]
    assert found["play_s_p50"].tolist() == [2.0]
    assert found["wtg_mean"].tolist() == [0.0]
