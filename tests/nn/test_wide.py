"""What counting says of showings, against counting by hand."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import NamedColumns, n_before
from nextreel.clock import DAY_MS, UTC8_MS
from nextreel.nn import inputs
from nextreel.nn.wide import COUNTED, MEANS, PRIOR, Sums, Wide, before
from tests.neural import with_every_column

FIRST_DAY = 19_000


@pytest.fixture(scope="module")
def log(made_store):
    """Ten users with events on up to four days; every column."""
    rng = np.random.default_rng(3)
    sizes = np.concatenate([[0, 0], rng.integers(4, 30, 10)])
    offsets = np.concatenate([[0], sizes.cumsum()])
    n = offsets[-1]
    day = np.concatenate([np.sort(rng.integers(0, 4, size)) for size in sizes])
    within = np.concatenate([np.arange(size) for size in sizes]) * 60_000
    events = {
        "video_idx": rng.integers(1, 15, n).astype(np.int32),
        "time_ms": (FIRST_DAY + day) * DAY_MS - UTC8_MS + 3_600_000 * 9 + within,
        "positive": rng.choice([-1, 0, 1], n, p=[0.1, 0.5, 0.4]).astype(np.int8),
        "wtr": np.where(rng.random(n) < 0.1, np.nan, 1.3 * rng.random(n)).astype(np.float32),  # some loop
        "wtg": rng.normal(size=n),
    }
    cuts = {"start": offsets[:-1], "train": offsets[1:]}
    return with_every_column(made_store(offsets, cuts, events, np.arange(15), np.arange(len(sizes))), rng)


def rows(store):
    """Each event of the fit: user, video, day, tab, label, WTR and WTG, author and tags of its video."""
    author, tags = store.tables["videos"]["author"], store.video_sets("tags")
    found = []
    for user, (start, stop) in enumerate(pairwise(store.offsets)):
        for position in range(start, stop):
            video = int(store.events("video_idx")[position])
            day = int(inputs.day(store.events("time_ms")[position : position + 1])[0])
            mine = tags.values[tags.offsets[video] : tags.offsets[video + 1]].tolist()
            tab, label = int(store.events("tab")[position]), int(store.events("positive")[position])
            told = {name: float(store.events(name)[position]) for name in MEANS}
            found.append({"user": user, "video": video, "day": day, "tab": tab, "label": label,
                          "author": int(author[video]), "tags": mine, **told})  # fmt: skip
    return found


def raw(wide, dense):
    """As they were before they were standardised."""
    return np.where(np.isinf(wide.std), 0, dense * wide.std) + wide.mean


def places(wide):
    """Where the inputs of each kind begin, and where those of users do."""
    at, found = 0, {}
    for kind in wide.sums:
        found[kind] = at
        at += 1 + (kind in COUNTED) + len(wide.means)
    return found, at


def rate(some, share):
    """Of a group with these rows, the departure and the count."""
    judged = [row for row in some if row["label"] >= 0]
    liked = sum(row["label"] == 1 for row in judged)
    return logit((liked + PRIOR * share) / (len(judged) + PRIOR)) - logit(share), np.log1p(len(judged))


def means(some, of_all):
    """Of a group with these rows, WTR at most 1; what is unknown is as the mean of all."""
    judged = [row for row in some if row["label"] >= 0]
    most = {"wtr": 1, "wtg": np.inf}
    above = [
        sum(min(row[name], most[name]) - mean for row in judged if not np.isnan(row[name]))
        for name, mean in of_all.items()
    ]
    return np.array(above) / (len(judged) + PRIOR)


def test_an_event_has_what_was_counted_on_earlier_days(log):
    wide, dense = Wide.fit(log.fitted_on("train"))
    found, all_rows = raw(wide, dense), rows(log)
    begins, _users = places(wide)
    judged = [row for row in all_rows if row["label"] >= 0]
    assert wide.share == pytest.approx((sum(row["label"] for row in judged) + 0.5) / (len(judged) + 1))
    assert wide.means["wtr"] == pytest.approx(np.nanmean([min(row["wtr"], 1) for row in judged]))
    assert wide.means["wtg"] == pytest.approx(np.nanmean([row["wtg"] for row in judged]))
    for number, row in enumerate(all_rows):
        earlier = [other for other in all_rows if other["day"] < row["day"]]
        for kind in (("video",), ("author",), ("tab",), ("video", "tab")):
            if min(row[name] for name in kind) < 0:
                expected = np.zeros(4)  # no group
            else:
                alike = [other for other in earlier if all(other[name] == row[name] for name in kind)]
                expected = np.array([*rate(alike, wide.share), *means(alike, wide.means)])
            if kind not in COUNTED:
                expected = np.delete(expected, 1)
            assert found[number, begins[kind] :][: len(expected)] == pytest.approx(expected, abs=1e-5)
        by_tag = [rate([other for other in earlier if tag in other["tags"]], wide.share)[0] for tag in row["tags"]]
        assert found[number, begins["tags",]] == pytest.approx(np.mean(by_tag) if by_tag else 0, abs=1e-5)


def test_a_user_has_the_residuals_of_earlier_days(log):
    wide, dense = Wide.fit(log.fitted_on("train"))
    found, all_rows = raw(wide, dense), rows(log)
    _begins, n = places(wide)
    expected_log_odds, of_shown = found[:, n], found[:, :n]
    np.testing.assert_allclose(expected_log_odds, wide.weights[0] + of_shown @ wide.weights[1:], atol=1e-4)
    p = expit(expected_log_odds)
    prior = PRIOR * wide.share * (1 - wide.share)
    for number, row in enumerate(all_rows):
        mine = [
            i for i, other in enumerate(all_rows)
            if other["user"] == row["user"] and other["day"] < row["day"] and other["label"] >= 0
        ]  # fmt: skip
        for at, alike in ((0, mine), (8, [i for i in mine if set(all_rows[i]["tags"]) & set(row["tags"])])):
            if at == 8 and len(row["tags"]) != 1:
                continue
            away = sum(all_rows[i]["label"] - p[i] for i in alike)
            spread = sum(p[i] * (1 - p[i]) for i in alike)
            column = n + 1 + at
            level = means([all_rows[i] for i in alike], wide.means)
            expected = away / (spread + prior), np.log1p(len(alike)), *level
            assert found[number, column : column + 4] == pytest.approx(expected, abs=1e-4)


def test_no_outcome_of_a_day_is_in_the_counts_of_that_day_or_an_earlier_one(log):
    """Of the last day two events change what came of them: of counts, nothing moves."""
    day, label = inputs.day(log.events("time_ms")), log.events("positive")
    last = day == day.max()
    one, other = np.flatnonzero(last & (label == 1))[0], np.flatnonzero(last & (label == 0))[0]
    told = {name: log.events(name).copy() for name in ("positive", *MEANS)}
    for column in told.values():
        column[[one, other]] = column[[other, one]]
    tables = log.tables | {"events": NamedColumns(log.tables["events"] | told)}
    changed = replace(log, tables=tables)
    found = [raw(*Wide.fit(store.fitted_on("train"))) for store in (log, changed)]
    counts = slice(0, places(Wide.fit(log.fitted_on("train"))[0])[1])
    np.testing.assert_allclose(found[0][:, counts], found[1][:, counts], atol=1e-5)


def pairs_of(store, user, video, tab, time_ms):
    n = len(user)
    end = np.diff(store.offsets)[user]
    cases = Cases(np.arange(n), np.full(n, "test"), user, time_ms, tab, end)
    return Pairs(store, cases, np.arange(n), video, end, time_ms, tab)


def test_a_pair_has_all_that_the_fit_and_its_history_count(log):
    wide, _dense = Wide.fit(log.fitted_on("train"))
    rng = np.random.default_rng(0)
    n = 60
    user, video = rng.integers(2, 12, n), rng.integers(1, 15, n).astype(np.int32)
    tab, time_ms = rng.integers(-1, 4, n).astype(np.int16), np.full(n, (FIRST_DAY + 5) * DAY_MS)
    pairs = pairs_of(log, user, video, tab, time_ms)
    found, all_rows = raw(wide, wide.of_pairs(pairs)), rows(log)
    begins, users = places(wide)
    for number in range(n):
        alike = [row for row in all_rows if row["video"] == video[number]]
        expected = *rate(alike, wide.share), *means(alike, wide.means)
        assert found[number, begins["video",] :][:4] == pytest.approx(expected, abs=1e-4)
        alike = [row for row in all_rows if row["tab"] == tab[number] >= 0]  # of an unknown tab nothing is said
        assert found[number, begins["tab",]] == pytest.approx(rate(alike, wide.share)[0], abs=1e-4)
        mine = [row for row in all_rows if row["user"] == user[number] and row["label"] >= 0]
        expected = np.log1p(len(mine)), *means(mine, wide.means)
        assert found[number, users + 2 : users + 5] == pytest.approx(expected, abs=1e-4)
    some = np.array([5, 3, 44])
    np.testing.assert_allclose(wide.of_pairs(pairs.where(some)), wide.of_pairs(pairs)[some], atol=1e-6)


def as_of_events(log):
    """Every event as a pair of its own, after those of its user that are strictly earlier; the first two share a time,
    and so do two in the middle."""
    time_ms = log.events("time_ms").copy()
    time_ms[[1, 40]] = time_ms[[0, 39]]
    log = replace(log, tables=log.tables | {"events": NamedColumns(log.tables["events"] | {"time_ms": time_ms})})
    user = np.repeat(np.arange(len(log.offsets) - 1), np.diff(log.offsets))
    pairs = pairs_of(log, user, log.events("video_idx"), log.events("tab"), time_ms)
    end = n_before(time_ms, log.offsets, user, time_ms)
    return replace(pairs, history_end=end, cases=pairs.cases.until(end))


def test_one_pass_counts_what_each_history_alone_does(log, monkeypatch):
    wide, _dense = Wide.fit(log.fitted_on("train"))
    pairs = as_of_events(log)
    some = np.random.default_rng(0).permutation(len(pairs))
    for mine in (pairs, pairs.where(some), pairs.where(some[:7]), pairs.where(some[:0])):
        np.testing.assert_allclose(wide.running(mine), wide.of_pairs(mine), atol=1e-6)
    monkeypatch.setattr("nextreel.nn.wide._EVENTS", 30)  # a user or two at a time
    np.testing.assert_allclose(wide.running(pairs), wide.of_pairs(pairs), atol=1e-6)


def test_nothing_is_counted_of_columns_that_the_data_lack(made_store, log):
    bare = made_store(
        log.offsets, log.cuts, {name: log.events(name) for name in ("video_idx", "time_ms", "positive")},
        np.arange(15), np.arange(len(log.offsets) - 1),
    )  # fmt: skip
    wide, dense = Wide.fit(bare.fitted_on("train"))
    assert list(wide.sums) == [("video",), ("hour",)]
    assert dense.shape[1] == wide.n_inputs == 2 + 1 + 1 + 2  # video, hour, the expectation, the user in all
    assert np.isfinite(dense).all()
    assert wide.means == {}


def test_what_is_known_of_no_event_has_no_mean(log):
    unknown = {"wtr": np.full(len(log.events("wtr")), np.nan)}
    store = replace(log, tables=log.tables | {"events": NamedColumns(log.tables["events"] | unknown)})
    wide, dense = Wide.fit(store.fitted_on("train"))
    assert list(wide.means) == ["wtg"]
    assert np.isfinite(dense).all()


def test_what_does_not_vary_in_the_fit_says_nothing_after_it(made_store):
    """All on one day: no event has an earlier one."""
    n = 12
    events = {
        "video_idx": (1 + np.arange(n) % 3).astype(np.int32),
        "time_ms": FIRST_DAY * DAY_MS + np.arange(n),
        "positive": (np.arange(n) % 2).astype(np.int8),
    }
    offsets = np.array([0, 0, n])
    store = made_store(offsets, {"start": offsets[:-1], "train": offsets[1:]}, events, np.arange(4), np.arange(2))
    wide, dense = Wide.fit(store.fitted_on("train"))
    pairs = pairs_of(store, np.ones(3, int), np.arange(1, 4, dtype=np.int32), np.zeros(3, np.int16),
                     np.full(3, (FIRST_DAY + 1) * DAY_MS))  # fmt: skip
    assert not dense.any()
    assert not wide.of_pairs(pairs).any()


@pytest.mark.filterwarnings("error")
def test_the_expectation_is_that_of_a_regression_that_has_converged(log):
    """Its mean over what it is fitted on is the share of positives, up to its penalty."""
    wide, dense = Wide.fit(log.fitted_on("train"))
    expected = raw(wide, dense)[:, places(wide)[1]]
    label = log.events("positive")
    assert expit(expected[label >= 0]).mean() == pytest.approx((label[label >= 0] == 1).mean(), abs=0.01)


def test_a_tab_may_be_any_number(log):
    store = replace(log, tables=log.tables | {"events": NamedColumns(log.tables["events"])})
    store.tables["events"]["tab"] = np.where(log.events("tab") == 3, 32_767, log.events("tab")).astype(np.int16)
    store = replace(store, columns=store.columns | {"events/tab": store.columns["events/tab"]._replace(size=32_768)})
    one, other = (Wide.fit(each.fitted_on("train"))[1] for each in (log, store))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_video_without_a_row_says_nothing(log):
    wide, _dense = Wide.fit(log.fitted_on("train"))
    assert (wide.sums["video",].at(np.array([99_999])) == 0).all()


def test_saved_and_loaded_it_says_the_same(log, tmp_path):
    wide, _dense = Wide.fit(log.fitted_on("train"))
    wide.save(tmp_path / "wide")
    n = 8
    pairs = pairs_of(log, np.arange(2, 2 + n), np.arange(1, 1 + n, dtype=np.int32), np.zeros(n, np.int16),
                     np.full(n, (FIRST_DAY + 5) * DAY_MS))  # fmt: skip
    np.testing.assert_array_equal(Wide.load(tmp_path / "wide").of_pairs(pairs), wide.of_pairs(pairs))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(-3, 3)), max_size=40))
def test_sums_of_earlier_days(entries):
    key, day, value = (np.array([entry[i] for entry in entries], np.int64) for i in range(3))
    found = before(key, day, value[:, None].astype(float))
    expected = [sum(v for k, d, v in entries if k == mine and d < then) for mine, then, _value in entries]
    assert found[:, 0].tolist() == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-3, 3)), max_size=30))
def test_sums_by_group(entries):
    key, value = (np.array([entry[i] for entry in entries], np.int64) for i in range(2))
    sums = Sums.of(key, value[:, None].astype(float))
    expected = [sum(v for k, v in entries if k == wanted) for wanted in range(12)]
    assert sums.at(np.arange(12))[:, 0].tolist() == pytest.approx(expected)
