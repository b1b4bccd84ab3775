import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextreel import labels
from nextreel.cases import write
from nextreel.labels import Params

DEFAULT = {
    "positive": "wtg",
    "wtg_threshold": 1.0,
    "wtr_threshold": 0.5,
    "wtr_cap": 1.0,
    "quantile": 0.2,
    "bucket": "width",
    "bucket_width_s": 1,
    "n_buckets": 30,
    "truncate": True,
    "shrinkage": 0,
}


def params(**changes):
    return Params(**DEFAULT | changes)


def rows(play, duration, part="train", **columns):
    n = len(play)
    base = {"play_time_ms": play, "duration_ms": duration, "part": [part] * n if isinstance(part, str) else part}
    frame = pd.DataFrame(base | {"click": [False] * n, "long_view": [False] * n} | columns)
    return ibis.memtable(frame.astype({"play_time_ms": "Int64", "duration_ms": "Int64"}))


def label(table, settings):
    durations = write.fit(table, settings, leave_one_out=False)
    return labels.label(table, durations, settings).order_by("play_time_ms", "duration_ms").to_pandas()


def fit(table, settings):
    return labels.fit(labels.statistics(table.filter(table.part == "train"), settings), settings)


def random_rows(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    duration = rng.integers(3_000, 60_000, n)
    return (duration * rng.lognormal(-1, 1, n)).astype(int), duration


def test_gains_by_hand():
    # One bucket of 10 s: truncated watch times 2, 4, 10 s: mean 16/3, std (ddof 1) 4.1633.
    out = label(rows([2_000, 4_000, 50_000], [10_000, 10_500, 10_000]), params())
    assert out.z.tolist() == pytest.approx([-0.80064, -0.32026, 1.12090], abs=1e-5)
    assert out.positive.tolist() == [False, False, True]
    assert out.wtr.tolist() == pytest.approx([0.2, 4 / 10.5, 1.0])  # capped
    assert out.bucket.tolist() == [0, 0, 0]


def test_the_reference_gain_by_hand():
    """30 buckets for two durations: each is a bucket, and leans on the other by 50 rows like its neighbours'."""
    play, duration = [2_000, 4_000, 9_000, 1_000, 50_000], [10_000, 10_000, 10_000, 40_000, 40_000]
    out = label(rows(play, duration), params()).sort_values(["duration_ms", "play_time_ms"])
    apart = np.exp(-0.5 * (np.log(4) / labels.SMOOTHING) ** 2)
    groups = [np.array([2_000.0, 4_000, 9_000]), np.array([1_000.0, 50_000])]
    expected = []
    for mine, other in (groups, groups[::-1]):
        moments = []
        for power in (1, 2):
            near = ((mine**power).sum() + apart * (other**power).sum()) / (len(mine) + apart * len(other))
            moments.append(((mine**power).sum() + 50 * near) / (len(mine) + 50))
        std = np.sqrt((moments[1] - moments[0] ** 2) * (len(mine) + 50) / (len(mine) + 49))
        expected += ((mine - moments[0]) / std).tolist()
    assert out.wtg.tolist() == pytest.approx(expected)


RULERS = ("wtr", "wtg")


@pytest.mark.parametrize("positive", ["wtg_quantile", "dvr", "sasrec4sv", "wtr", "long_view", "click", "all"])
def test_the_ruler_is_the_same_whatever_the_label(positive):
    play, duration = random_rows(2_000)
    table = rows([*play, 5, None], [*duration, None, 9_000])
    expected = label(table, params(bucket_width_s=7, truncate=True))
    found = label(table, params(positive=positive, bucket="frequency", n_buckets=4, shrinkage=9))
    for name in RULERS:
        pd.testing.assert_series_equal(found[name], expected[name], check_exact=True)
    assert found.wtr.max() == 1.0


def test_a_watch_time_ratio_is_capped_where_that_is_asked():
    table = rows([500, 2_000, 9_000], [1_000, 1_000, 1_000])
    for cap, expected in ((1.0, [0.5, 1, 1]), (1.5, [0.5, 1.5, 1.5]), (None, [0.5, 2, 9])):
        assert label(table, params(wtr_cap=cap)).wtr.tolist() == expected


@pytest.mark.parametrize("positive", ["wtr", "long_view", "click", "all"])
def test_a_rule_without_buckets_has_no_gain_of_its_own(positive):
    out = label(rows(*random_rows(50)), params(positive=positive))
    assert out.z.isna().all()
    assert out.bucket.isna().all()


PUBLISHED = {
    "dvr": {"bucket_width_s": 1, "truncate": True},
    "sasrec4sv": {"bucket_width_s": 60, "truncate": False},
}


@pytest.mark.parametrize("positive", PUBLISHED)
def test_a_published_rule_is_one_word(positive):
    """Whatever the other keys say."""
    table = rows(*random_rows(2_000))
    other = {"bucket": "frequency", "bucket_width_s": 5, "truncate": positive != "dvr", "shrinkage": 50}
    found = label(table, params(positive=positive, wtg_threshold=-2, **other))
    spelled = params(positive="wtg", wtg_threshold=1, bucket="width", shrinkage=0, **PUBLISHED[positive])
    pd.testing.assert_frame_equal(found, label(table, spelled), check_exact=True)
    assert 0.05 < found.positive.mean() < 0.3


def test_sasrec4sv_bucket_zero():
    """Its table: mean 8,698 ms and std 14,100 ms give -0.616837, -0.499249 and -0.117833."""
    buckets = labels.Buckets(params(), *(np.array([x]) for x in (1, 0, 100, 8_698.0, 14_100.0)))
    z = (np.array([0, 1_658, 7_036]) - buckets.mean_ms) / buckets.std_ms
    assert z == pytest.approx([-0.616837, -0.499249, -0.117833], abs=1e-4)


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize("width", [1, 60])
def test_width_buckets_agree_with_pandas(truncate, width):
    play, duration = random_rows()
    settings = params(truncate=truncate, bucket_width_s=width)
    out = label(rows(play, duration), settings)
    w = out[["play_time_ms", "duration_ms"]].min(axis=1) if truncate else out.play_time_ms
    grouped = w.astype(float).groupby(out.duration_ms // (1000 * width))
    theirs = ((w - grouped.transform("mean")) / grouped.transform("std")).fillna(0)
    assert out.z.to_numpy(float) == pytest.approx(theirs.to_numpy(float), abs=1e-8)
    assert (out.positive == (theirs > 1)).mean() > 0.9995  # a bound met to the last bit may fall either way


def test_frequency_buckets_hold_equal_shares():
    play, duration = random_rows()
    buckets = fit(rows(play, duration), params(bucket="frequency", n_buckets=8))
    assert len(buckets.n) == 8
    assert buckets.n.min() > 480
    assert buckets.n.max() < 520
    assert (buckets.of(duration) == np.searchsorted(buckets.from_ms, duration, side="right") - 1).all()


def test_statistics_come_from_train_alone():
    play, duration = random_rows(400)
    part = np.where(np.arange(400) < 200, "train", "test")
    changed = np.where(part == "test", play * 7 + 1, play)
    before, after = (fit(rows(p, duration, part), params()) for p in (play, changed))
    assert (before.mean_ms == after.mean_ms).all()
    assert (before.std_ms == after.std_ms).all()


def test_an_unseen_bucket_takes_the_nearest():
    play, duration = [1_000, 2_000, 5_000, 9_000], [10_000, 10_000, 20_000, 20_000]
    buckets = fit(rows(play, duration), params())
    assert buckets.of(np.array([1, 12_000, 15_000, 16_000, 99_000])).tolist() == [0, 0, 0, 1, 1]


def test_shrinkage_pulls_small_buckets_to_their_neighbours():
    play, duration = random_rows(3000)
    outlier_play, outlier_duration = np.append(play, 61_000), np.append(duration, 61_500)
    raw = fit(rows(outlier_play, outlier_duration), params())
    shrunk = fit(rows(outlier_play, outlier_duration), params(shrinkage=50))
    assert raw.std_ms[-1] == 0  # a bucket of one row says nothing
    assert shrunk.mean_ms[-1] < raw.mean_ms[-1] / 2
    assert shrunk.std_ms[-1] > 5_000
    many = raw.n > 40
    assert np.abs(shrunk.mean_ms[many] / raw.mean_ms[many] - 1).max() < 0.4


@pytest.mark.parametrize("positive", ["wtg", "wtr", "wtg_quantile", "dvr", "sasrec4sv"])
@pytest.mark.parametrize("lacking", ["duration_ms", "play_time_ms"])
def test_without_duration_or_play_time_nobody_knows(positive, lacking):
    """Neither positive nor negative; every other row is."""
    play, duration = random_rows(500)
    last = {"play_time_ms": 10**6, "duration_ms": 9_000} | {lacking: None}
    out = label(rows([*play, last["play_time_ms"]], [*duration, last["duration_ms"]]), params(positive=positive))
    unknown = out[lacking].isna()
    assert unknown.sum() == 1
    assert (out.positive.isna() == unknown).all()
    for name in ("wtr", "wtg", "z"):
        assert out[name][unknown].isna().all()
    share = labels.share_by_duration(ibis.memtable(out.assign(positive=out.positive.astype("boolean"))))
    assert share["rows"].sum() == 500


@pytest.mark.parametrize("positive", ["click", "long_view"])
def test_logged_labels_keep_their_value(positive):
    flags = [True, False, None]
    logged = {positive: pd.array(flags, "boolean")}
    out = label(rows([1, 2, 3], [None, 5_000, 5_000], **logged), params(positive=positive))
    assert [None if pd.isna(x) else bool(x) for x in out.positive] == flags


def test_without_any_watch_time_every_row_is_positive():
    table = rows([None, None], [9_000, 9_000])
    asked = params(positive="wtg_quantile")
    settings = labels.usable(table, asked)
    assert settings.positive == "all"
    assert label(table, settings).positive.all()
    known = rows([None, 5], [9_000, 9_000])
    assert labels.usable(known, asked) == asked


def test_quantile_label_is_even_over_duration():
    play, duration = random_rows(20_000)
    settings = params(positive="wtg_quantile", shrinkage=50)
    table = rows(play, duration)
    durations = write.fit(table, settings, leave_one_out=False)
    share = labels.share_by_duration(labels.label(table, durations, settings).mutate(part=ibis.literal("train")))
    assert share["positive_share"].max() / share["positive_share"].min() < 1.1
    assert share["positive_share"].mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("positive", ["click", "long_view"])
def test_logged_bounds_restate_kuairand(positive, real_data):
    """On the real slice, play time above the bound is the logged label, but for a handful of rows."""
    path = real_data / "kuairand-pure-slice/data/log_standard_4_22_to_5_08_pure.csv"
    log = pd.read_csv(path, usecols=["is_click", "long_view", "play_time_ms", "duration_ms"])
    log = log[log.duration_ms > 0]
    bound = labels.logged_bounds_ms(log.duration_ms.to_numpy(), positive)
    logged = log["is_click" if positive == "click" else positive].to_numpy(bool)
    assert ((log.play_time_ms.to_numpy() > bound) == logged).mean() > 0.98  # measured: 98.4 % of clicks


@pytest.mark.parametrize(
    ("settings", "short", "middle"),
    [
        ({"bucket_width_s": 60, "truncate": False}, 0.014, 0.27),
        ({"bucket_width_s": 1, "truncate": True}, 0.05, 0.26),
    ],
)
def test_fairness_of_schemes_on_the_real_slice(settings, short, middle, real_data):
    """Positive shares of videos under 7 s and of 30 to 60 s, as published with the data."""
    path = real_data / "kuairand-pure-slice/data/log_standard_4_22_to_5_08_pure.csv"
    log = pd.read_csv(path, usecols=["user_id", "video_id", "time_ms", "play_time_ms", "duration_ms"])
    log = log.drop_duplicates(["user_id", "video_id", "time_ms"])
    log = log[log.duration_ms > 0]
    out = label(rows(log.play_time_ms.to_numpy(), log.duration_ms.to_numpy()), params(**settings))
    seconds = out.duration_ms / 1000
    assert out.positive[seconds < 7].mean() == pytest.approx(short, abs=0.006)
    assert out.positive[seconds.between(30, 60)].mean() == pytest.approx(middle, abs=0.02)


@pytest.mark.parametrize("n", [[1, 998, 1, 1, 1000], [60, 39, 1, 1, 1000], [10, 10, 60, 10]])
def test_quantile_groups_hold_enough_rows(n):
    number = np.arange(len(n))
    buckets = labels.Buckets(params(shrinkage=50), number * 1000, number, np.array(n), number, number)
    group = labels.quantile_groups({"duration_ms": number * 1000}, buckets)
    assert np.bincount(group, weights=n).min() >= 50
    assert (np.diff(group) >= 0).all()


def test_equal_watch_times_have_no_deviation():
    """Floats leave E[x^2] - E[x]^2 a rest; a WTG of thousands would come of it."""
    n = 1_000_003
    stats = {
        **{"duration_ms": np.array([130_000]), "n": np.array([n])},
        **{"sum": np.array([n * 123_457], object), "sum_of_squares": np.array([n * 123_457**2], object)},
    }
    assert labels.fit(stats, params()).std_ms[0] == 0


LOGGED = st.lists(st.tuples(st.integers(0, 90_000), st.integers(1, 30_000)), min_size=1, max_size=60)
RULES = st.sampled_from(["wtg", "wtr", "wtg_quantile"])
SCHEMES = st.fixed_dictionaries(
    {
        **{"bucket": st.sampled_from(["width", "frequency"]), "bucket_width_s": st.sampled_from([1, 5])},
        **{"n_buckets": st.integers(1, 5), "truncate": st.booleans(), "shrinkage": st.sampled_from([0, 20])},
    }
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(logged=LOGGED, scheme=SCHEMES)
def test_a_gain_has_mean_0_and_deviation_1_in_each_bucket_of_train(logged, scheme):
    play, duration = zip(*logged, strict=True)
    wanted = params(**scheme | {"shrinkage": 0})
    table = rows(play, duration)
    out = label(table, wanted)
    buckets = fit(table, wanted)
    assert buckets.n.sum() == len(logged)
    for bucket, z in out.groupby("bucket").z:
        assert len(z) == buckets.n[bucket]
        assert z.mean() == pytest.approx(0, abs=1e-6)
        if buckets.std_ms[bucket]:
            assert z.std(ddof=1) == pytest.approx(1)
        else:
            assert (z == 0).all()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(logged=LOGGED, positive=RULES, scheme=SCHEMES, seed=st.integers(0, 99))
def test_labels_do_not_depend_on_the_order_of_rows(logged, positive, scheme, seed):
    wanted = params(positive=positive, **scheme)
    mixed = np.random.default_rng(seed).permutation(len(logged))
    found = []
    for order in (np.arange(len(logged)), mixed):
        play, duration = np.array(logged)[order].T
        out = labels.label(rows(play, duration, key=order), by_duration(play, duration, wanted), wanted)
        found.append(out.order_by("key").select("wtr", "wtg", "z", "bucket", "positive").to_pandas())
    pd.testing.assert_frame_equal(*found, check_exact=True)


def by_duration(play, duration, wanted):
    return write.fit(rows(play, duration), wanted, leave_one_out=False)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(logged=LOGGED, positive=RULES, scheme=SCHEMES)
def test_who_watches_longer_is_no_less_positive(logged, positive, scheme):
    """Among rows of one duration, under every rule."""
    play, duration = zip(*logged, strict=True)
    out = label(rows(play, duration), params(positive=positive, **scheme))
    for _, same in out.groupby("duration_ms"):
        assert same.sort_values("play_time_ms", kind="stable").positive.is_monotonic_increasing


@settings(max_examples=25, deadline=None, derandomize=True)
@given(logged=LOGGED, scheme=SCHEMES, thresholds=st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(sorted))
def test_bounds_rise_with_the_threshold_and_wtr_bounds_with_the_duration(logged, scheme, thresholds):
    play, duration = zip(*logged, strict=True)
    low, high = (params(positive="wtg", wtg_threshold=t, **scheme) for t in thresholds)
    durations = np.unique(duration)
    buckets = fit(rows(play, duration), low)
    known = buckets.std_ms[buckets.of(durations)] > 0
    assert (labels.bounds_ms(durations, low, buckets) <= labels.bounds_ms(durations, high, buckets))[known].all()
    by_ratio = labels.bounds_ms(durations, params(positive="wtr"), buckets)
    assert (np.diff(by_ratio) > 0).all()
    for logged_rule in ("click", "long_view"):
        assert (np.diff(labels.logged_bounds_ms(durations, logged_rule)) >= 0).all()
