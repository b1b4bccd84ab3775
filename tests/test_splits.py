from datetime import date, datetime, timedelta, timezone

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nextreel import clock, splits
from nextreel.clock import DAY_MS
from nextreel.errors import UserError

UTC8 = timezone(timedelta(hours=8))
GOOD = {
    **{"strategy": "temporal", "refit": None, "by": "fraction", "valid_from_fraction": 0.7, "test_from_fraction": 0.85},
    **{"train_from": None, "valid_from": "2022-04-22", "test_from": "2022-04-29", "test_until": None},
}
TIME_LINE = splits.Bounds(train_from_ms=10, valid_from_ms=20, test_from_ms=30, end_ms=40)
ORDER = {"train": 0, "valid": 1, "test": 2}


def ms(day, hour=0):
    """An hour of a day of April 2022 in UTC+8; day 31 is 1 May."""
    return int((datetime(2022, 4, 1, hour, tzinfo=UTC8) + timedelta(days=day - 1)).timestamp() * 1000)


def rows(times, user_idx=1):
    times = np.asarray(times, np.int64)
    columns = {"user_idx": np.broadcast_to(np.int32(user_idx), len(times)), "time_ms": times}
    return ibis.memtable(pa.table(columns | {"row": np.arange(len(times))}))


def params(**changes):
    return splits.Params(**GOOD | changes)


def parts(standard, random, bounds):
    """(time, part) of all rows, in order of time; a random row follows a standard one."""
    found = splits.temporal(rows(standard, 1), rows(random, 2), bounds).to_pyarrow().to_pylist()
    return [(row["time_ms"], row["part"]) for row in sorted(found, key=lambda row: (row["time_ms"], row["user_idx"]))]


def test_the_time_line_of_the_docstring():
    users = {1: [5, 12, 15, 17, 19, 20, 25, 32, 34], 2: [10, 14, 19, 22, 30, 39, 40], 3: [21, 23, 35]}
    table = ibis.union(*(rows(times, user) for user, times in users.items()))
    found = splits.temporal(table, rows([]), TIME_LINE).to_pyarrow().to_pylist()
    of_user = {user: {} for user in users}
    for row in found:
        of_user[row["user_idx"]].setdefault(row["part"], set()).add(row["time_ms"])
    assert of_user == {
        1: {"before": {5}, "train": {12, 15, 17, 19}, "valid": {20, 25}, "test": {32, 34}},
        2: {"train": {10, 14, 19}, "valid": {22}, "test": {30, 39}, "after": {40}},
        3: {"valid": {21, 23}, "test": {35}},
    }
    counts = splits.summary(splits.temporal(table, rows([]), TIME_LINE), TIME_LINE, params())
    assert counts == {
        **{"strategy": "temporal", "refit": "none", "by": "fraction"},
        **{"rows_before": 1, "rows_train": 7, "rows_valid": 5, "rows_test": 5, "rows_after": 1},
        **{"rows_random": 0, "rows_random_left_out": 0},
        **{"valid_from": "1970-01-01", "test_from": "1970-01-01"},
    }


def test_random_rows_count_only_from_test_on_and_only_as_random():
    found = parts([15, 25, 35], [5, 15, 25, 29, 30, 39, 40], TIME_LINE)
    assert [time for time, part in found if part == "random"] == [30, 39]
    assert [time for time, part in found if part is None] == [5, 15, 25, 29, 40]
    assert [row for row in found if row[1] in ORDER] == [(15, "train"), (25, "valid"), (35, "test")]


def test_other_columns_are_kept():
    found = splits.temporal(rows([15]), rows([35]), TIME_LINE)
    assert set(found.columns) == {"user_idx", "time_ms", "row", "part"}
    assert found.schema()["part"].is_string()


@pytest.mark.parametrize("fractions", [(0.7, 0.85), (0.5, 0.9), (0.101, 0.102)])
def test_a_cut_by_fraction_is_the_quantile_of_the_standard_rows(fractions):
    times = ms(8) + np.random.default_rng(0).integers(0, 10**9, 1_002)
    valid, test = fractions
    bounds = splits.bounds(rows(times), params(valid_from_fraction=valid, test_from_fraction=test))
    quantiles = np.quantile(times, fractions)
    assert (quantiles % 1 > 0).all()  # else rounding would not matter
    assert [bounds.valid_from_ms, bounds.test_from_ms] == np.ceil(quantiles).tolist()
    part = dict(parts(times, [], bounds))
    assert all((part[t] == "train") == (t < quantiles[0]) for t in times)
    assert all((part[t] == "test") == (t >= quantiles[1]) for t in times)
    assert None not in part.values()


def test_a_cut_by_fraction_on_the_real_slice_is_pandas_quantile(slice_source):
    interactions, random = slice_source.tables["interactions"], slice_source.tables["random"]
    bounds = splits.bounds(interactions, params())
    time_ms = interactions.time_ms.to_pandas()
    counts = splits.summary(splits.temporal(interactions, random, bounds), bounds, params())
    assert counts["rows_test"] == (time_ms >= time_ms.quantile(0.85)).sum() == 33_367
    assert counts["rows_train"] == (time_ms < time_ms.quantile(0.7)).sum()
    assert counts["rows_random_left_out"] == counts["rows_random"] == 0
    assert counts["rows_train"] + counts["rows_valid"] + counts["rows_test"] == len(time_ms)


def test_a_cut_by_fraction_leaves_the_dates_alone():
    times = [ms(8, hour) for hour in range(20)]
    dated = {"train_from": "2022-04-20", "test_until": "2022-04-30"}
    assert splits.bounds(rows(times), params(**dated)) == splits.bounds(rows(times), params())
    part = dict(parts(times, [], splits.bounds(rows(times), params(**dated))))
    assert None not in part.values()


def test_a_cut_by_date_falls_on_midnight_in_utc8():
    by_date = params(by="date", train_from="2022-04-09", test_until="2022-05-01")
    bounds = splits.bounds(rows([ms(9)]), by_date)
    midnights = [ms(9), ms(22), ms(29), ms(32)]
    found = parts([time + step for time in midnights for step in (-1, 0)], [], bounds)
    assert [part for _, part in found] == ["before", "train", "train", "valid", "valid", "test", "test", "after"]


def test_a_cut_by_date_without_ends_takes_all_rows():
    bounds = splits.bounds(rows([ms(9)]), params(by="date"))
    found = parts([0, ms(22) - 1, ms(22), ms(29), ms(29) + 10**12], [ms(29) - 1, ms(29) + 10**12], bounds)
    assert [part for _, part in found] == ["train", "train", "valid", None, "test", "test", "random"]


def test_rows_before_train_from_and_after_test_until_stand_apart_and_are_counted():
    by_date = params(by="date", train_from="2022-04-10", test_until="2022-04-29")
    times = [ms(9), ms(9, 23), ms(10), ms(22), ms(29), ms(29, 23), ms(30), ms(31)]
    bounds = splits.bounds(rows(times), by_date)
    counts = splits.summary(splits.temporal(rows(times), rows([ms(28), ms(29, 1), ms(30)]), bounds), bounds, by_date)
    assert counts == {
        **{"strategy": "temporal", "refit": "none", "by": "date"},
        **{"rows_before": 2, "rows_train": 1, "rows_valid": 1, "rows_test": 2, "rows_after": 2},
        **{"rows_random": 1, "rows_random_left_out": 2},
        **{"valid_from": "2022-04-22", "test_from": "2022-04-29"},
    }


@pytest.mark.parametrize("by", ["fraction", "date"])
def test_a_log_without_standard_rows_cannot_be_split(by):
    with pytest.raises(
        UserError,
        match="shown at random .* can judge a model but not train one; add rows .* `ingest.table.is_rand` to none",
    ):
        splits.bounds(rows([]), params(by=by))


@pytest.mark.parametrize(
    ("days", "empty"),
    [([23, 30], "train"), ([9, 30], "valid"), ([9, 23], "test"), ([9], "valid or test"), ([30], "train or valid")],
)
def test_an_empty_part_is_named_with_the_cut_and_the_log(days, empty):
    times = [ms(day) for day in days]
    bounds = splits.bounds(rows(times), params(by="date"))
    with pytest.raises(UserError) as caught:
        splits.summary(splits.temporal(rows(times), rows([]), bounds), bounds, params())
    log = f"{clock.day_of(times[0])} to {clock.day_of(times[-1])}"
    assert str(caught.value) == (
        f"no row falls into {empty} (valid_from 2022-04-22, test_from 2022-04-29; the log holds {log}: move the split)"
    )


def test_random_rows_do_not_fill_the_test_part():
    times = [ms(9), ms(23)]
    bounds = splits.bounds(rows(times), params(by="date"))
    with pytest.raises(UserError, match="no row falls into test "):
        splits.summary(splits.temporal(rows(times), rows([ms(30)]), bounds), bounds, params())


def test_rows_all_at_one_time_cannot_be_split_by_fraction():
    bounds = splits.bounds(rows([ms(9)] * 20), params())
    with pytest.raises(UserError, match="no row falls into train or valid"):
        splits.summary(splits.temporal(rows([ms(9)] * 20), rows([]), bounds), bounds, params())


@pytest.mark.parametrize(
    "wrong",
    [
        *[{"valid_from_fraction": value} for value in (0, 0.85, 0.9, 1, -0.1)],
        *[{"test_from_fraction": value} for value in (0.7, 0.6, 1)],
        *[{"valid_from": "2022-04-29"}, {"train_from": "2022-04-22"}, {"test_until": "2022-04-28"}, {"by": "row"}],
    ],
    ids=str,
)
def test_bounds_out_of_order_are_refused(wrong):
    with pytest.raises(ValidationError, match=r"must|Input"):
        params(**wrong)


def test_one_day_of_test_is_allowed():
    assert params(test_until="2022-04-29").test_until == date(2022, 4, 29)


@pytest.mark.parametrize(
    ("changes", "first", "last", "wrong"),
    [
        ({}, ms(8), ms(32), ""),
        ({}, ms(22), ms(29), ""),  # a date may be the first or last day itself
        ({}, ms(23) - 1, ms(29), ""),
        ({}, ms(23), ms(29), "`split.valid_from` is '2022-04-22': allowed .* 2022-04-23 to 2022-04-29"),
        ({}, ms(8), ms(29) - 1, "`split.test_from` is '2022-04-29': allowed .* 2022-04-08 to 2022-04-28"),
        ({}, ms(40), ms(41), "`split.valid_from` is .*; `split.test_from` is "),
        ({"train_from": "2022-04-07"}, ms(8), ms(32), "`split.train_from` is '2022-04-07'"),
        ({"test_until": "2022-06-01"}, ms(8), ms(32), "`split.test_until` is '2022-06-01'"),
        ({"by": "fraction"}, ms(40), ms(41), ""),
    ],
)
def test_dates_outside_the_log_are_named(changes, first, last, wrong):
    asked = params(**{"by": "date"} | changes)
    if wrong:
        with pytest.raises(UserError, match=wrong):
            splits.check_dates(asked, first, last)
    else:
        splits.check_dates(asked, first, last)


def test_days_are_those_of_utc8():
    assert clock.start_of_day_ms(date(2022, 4, 8)) == ms(8) == 1_649_347_200_000
    for time_ms in (ms(8), ms(8) - 1, ms(8) + DAY_MS - 1, 0, -1):
        assert clock.day_of(time_ms) == datetime.fromtimestamp(time_ms / 1000, UTC8).date()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    standard=st.lists(st.integers(0, 60), max_size=30),
    random=st.lists(st.integers(0, 60), max_size=10),
    cuts=st.lists(st.integers(0, 60), min_size=4, max_size=4, unique=True).map(sorted),
)
def test_each_row_is_in_one_part_or_left_out_and_parts_follow_in_time(standard, random, cuts):
    names = ("train_from_ms", "valid_from_ms", "test_from_ms", "end_ms")
    found = splits.temporal(rows(standard, 1), rows(random, 2), splits.Bounds(**dict(zip(names, cuts, strict=True))))
    found = found.to_pyarrow().to_pylist()
    of_standard = sorted((row["time_ms"], row["part"]) for row in found if row["user_idx"] == 1)
    of_random = [(row["time_ms"], row["part"]) for row in found if row["user_idx"] == 2]
    assert [time for time, _ in of_standard] == sorted(standard)
    assert sorted(time for time, _ in of_random) == sorted(random)
    for time, part in of_standard:
        assert (part == "before", part == "after") == (time < cuts[0], time >= cuts[3])
    inside = [splits.PARTS.index(part) for _, part in of_standard]
    assert inside == sorted(inside)
    for part, low, high in zip(ORDER, cuts, cuts[1:], strict=False):
        assert all((time >= low and time < high) == (found == part) for time, found in of_standard)
    assert all(part == ("random" if cuts[2] <= time < cuts[3] else None) for time, part in of_random)


# --- leave one out ---


def log(*users):
    """Standard rows with `positive`, from a drawing as "x+xx?+", ? unknown: a user each, a row a second, file order the
    reverse."""
    drawn = [(user, step, mark) for user, marks in enumerate(users, 1) for step, mark in enumerate(marks)]
    user, step, mark = (list(column) for column in zip(*drawn, strict=True))
    columns = {"user_idx": np.array(user, np.int32), "time_ms": np.array(step) * 1000, "row": -np.arange(len(user))}
    return ibis.memtable(pa.table(columns | {"positive": [None if m == "?" else m == "+" for m in mark]}))


def drawn(labelled, random=None):
    """The part of every row, a letter each, a string for each user."""
    random = rows([]) if random is None else random
    found = splits.leave_one_out(labelled, random.mutate(row=random.row.cast("int64")))
    out = {}
    for row in found.order_by("user_idx", "time_ms", "row").to_pyarrow().to_pylist():
        out[row["user_idx"]] = (
            out.get(row["user_idx"], "") + {"train": "n", "valid": "v", "test": "t", None: "-"}[row["part"]]
        )
    return list(out.values())


def test_leave_one_out_as_the_docstring_draws_it():
    assert drawn(log("x+x+x+xx+", "+x+xx")) == ["nnnnnvvvt", "nnnnn"]


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ("+++", "nvt"),
        ("++", "nn"),
        ("x", "n"),
        ("+x+x+x", "nnvvtt"),
        ("xx+++xx", "nnnvttt"),
        ("++++", "nnvt"),
        ("?+?+?+?", "nnnvvtt"),
        ("???", "nnn"),
        ("?++", "nnn"),
    ],
)
def test_a_part_begins_with_the_positive_that_is_asked(marks, expected):
    assert drawn(log(marks)) == [expected]


def test_positives_at_one_moment_are_told_apart_by_file_order():
    table = log("+++").mutate(time_ms=ibis.literal(7).cast("int64"))
    found = splits.leave_one_out(table, rows([])).order_by("row").to_pyarrow()["part"].to_pylist()
    assert found == ["train", "valid", "test"]


def test_leave_one_out_leaves_the_random_rows_out_and_says_so():
    table, random = log("x+x+x+", "++", "x"), rows([5, 9], 2)
    assert drawn(table, random) == ["nnnvvt", "n--n", "n"]
    settings = params(strategy="leave_one_out")
    assert splits.bounds(table, settings) is None
    found = splits.summary(splits.leave_one_out(table, random), None, settings)
    assert found["rows_random_left_out"] == 2
    assert found["rows_random"] == 0
    assert (found["users_with_enough_positives"], found["users_with_too_few_positives"]) == (1, 2)
    assert found["random_track"].startswith("left out: ")


def test_leave_one_out_without_a_user_to_ask_says_how_many_positives_are_needed():
    table = log("++", "x+")
    with pytest.raises(UserError, match="a user is asked from 3 positives on"):
        splits.summary(splits.leave_one_out(table, rows([])), None, params(strategy="leave_one_out"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("x+", min_size=1, max_size=12), min_size=1, max_size=5))
def test_leave_one_out_cuts_each_user_in_order(users):
    for marks, parts_ in zip(users, drawn(log(*users)), strict=True):
        assert "".join(sorted(parts_, key="nvt".index)) == parts_
        positive = [part for part, mark in zip(parts_, marks, strict=True) if mark == "+"]
        if marks.count("+") < 3:
            assert set(parts_) == {"n"}
        else:
            assert positive == ["n"] * (len(positive) - 2) + ["v", "t"]
            assert marks[parts_.index("v")] == marks[parts_.index("t")] == "+"
