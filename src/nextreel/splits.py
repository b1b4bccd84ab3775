"""Which rows train, which select, which test.

**temporal**: a cut in time, the same for every user. `x` = a row, `|` = a bound; `train_from` and `test_until` are
optional and only cut by date.

              train_from        valid_from     test_from     test_until
    user 1  x     |   x  x   x x    |   x   x      |    x  x      |
    user 2        | x   x    x      |              | x      x     |  x
    user 3        |                 |  x  x        |   x          |

    before    x   |                 |              |              |
    train         |   x  x   x x    |              |              |
    valid         |                 |   x   x      |              |
    test          |                 |              |    x  x      |
    after         |                 |              |              |  x

Rows before and after are history, and seen, but teach no model and ask no question. User 3 is new in valid and has no
history in train: a model must answer all the same. Rows exposed at random stand apart as the part `random`, those at or
after `test_from`; the others are left out, since nothing may learn from them.

**leave_one_out**: a cut for each user, to compare with papers. `x` = a row, `+` = a positive one.

    user 1  x  +  x  +  x | +  x  x | +  x        train | valid | test: a part begins with the positive that is asked
    user 2  +  x  +  x  x                         too few positives: all train

Time is not respected between users: a model learns from what others did later. Rows exposed at random are left out.
"""

from itertools import pairwise
from typing import Literal, Self

import ibis
import ibis.expr.types as ir
from ibis import _
from pydantic import model_validator

from nextreel.clock import DAY_MS, day_of, start_of_day_ms
from nextreel.errors import UserError
from nextreel.params import Day, Float, Section
from nextreel.parts import PARTS, RANDOM

LEAST_POSITIVES = 3  # under leave_one_out: one to learn from, one to select by, one to test (as SASRec's own code)
_BEGINNING, _END = -(2**62), 2**62


class Params(Section):
    strategy: Literal["temporal", "leave_one_out"]
    refit: Literal["train_valid"] | None  # what every model is fitted on once more before it answers test
    by: Literal["fraction", "date"]
    valid_from_fraction: Float  # by fraction: of the standard rows by time
    test_from_fraction: Float
    train_from: Day | None  # by date: days in UTC+8, the first of each part
    valid_from: Day
    test_from: Day
    test_until: Day | None  # the last day of test

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.valid_from_fraction < self.test_from_fraction < 1:
            raise ValueError("0 < valid_from_fraction < test_from_fraction < 1 must hold")
        named = {name: getattr(self, name) for name in ("train_from", "valid_from", "test_from")}
        days = [(name, day) for name, day in named.items() if day is not None]
        for (earlier, first), (later, second) in pairwise(days):
            if first >= second:
                raise ValueError(f"`{earlier}` ({first}) must be before `{later}` ({second})")
        if self.test_until is not None and self.test_until < self.test_from:
            raise ValueError(f"`test_until` ({self.test_until}) must not be before `test_from` ({self.test_from})")
        return self


class Bounds(Section):
    """The parts in unix milliseconds: train is [train_from, valid_from), valid [valid_from, test_from),
    test [test_from, end)."""

    train_from_ms: int
    valid_from_ms: int
    test_from_ms: int
    end_ms: int


def bounds(interactions: ir.Table, params: Params) -> Bounds | None:
    """The bounds of the parts, None under leave_one_out. Raises UserError where all rows were shown at random."""
    time_ms = interactions.time_ms
    row = interactions.aggregate(
        n=_.count(),
        valid=time_ms.quantile(params.valid_from_fraction).ceil(),
        test=time_ms.quantile(params.test_from_fraction).ceil(),
    ).to_pyarrow()
    n, valid_from_ms, test_from_ms = (row[name][0].as_py() for name in ("n", "valid", "test"))
    if not n:
        raise UserError(
            "every row is of a video shown at random (in KuaiRand's layout: there is no log_standard_*.csv): such rows"
            " can judge a model but not train one; add rows to `ingest.path` of what the app chose to show, or set"
            " `ingest.table.is_rand` to none if its 1 says something else"
        )
    if params.strategy == "leave_one_out":
        return None
    if params.by == "fraction":
        return Bounds(
            train_from_ms=_BEGINNING,
            valid_from_ms=int(valid_from_ms),
            test_from_ms=int(test_from_ms),
            end_ms=_END,
        )
    return Bounds(
        train_from_ms=_BEGINNING if params.train_from is None else start_of_day_ms(params.train_from),
        valid_from_ms=start_of_day_ms(params.valid_from),
        test_from_ms=start_of_day_ms(params.test_from),
        end_ms=_END if params.test_until is None else start_of_day_ms(params.test_until) + DAY_MS,
    )


def check_dates(params: Params, first_ms: int, last_ms: int) -> None:
    """Raise UserError, with the log's days, where a date of the split lies outside them."""
    if params.strategy != "temporal" or params.by != "date":
        return
    first, last = day_of(first_ms), day_of(last_ms)
    outside = [
        f"`split.{name}` is '{day}'"
        for name in ("train_from", "valid_from", "test_from", "test_until")
        if (day := getattr(params, name)) is not None and not first <= day <= last
    ]
    if outside:
        raise UserError(f"{'; '.join(outside)}: allowed are the days of the log, {first} to {last}")


def temporal(interactions: ir.Table, random: ir.Table, bounds: Bounds) -> ir.Table:
    """The rows with their `part`: before, train, valid, test, after or random; null for random rows left out."""
    b, time_ms = bounds, _.time_ms
    standard = interactions.mutate(
        part=ibis.cases(
            (time_ms < b.train_from_ms, "before"),
            (time_ms < b.valid_from_ms, "train"),
            (time_ms < b.test_from_ms, "valid"),
            (time_ms < b.end_ms, "test"),
            else_="after",
        )
    )
    exposed = random.mutate(part=ibis.ifelse(time_ms.between(b.test_from_ms, b.end_ms - 1), "random", None))
    return standard.union(exposed)


def leave_one_out(labelled: ir.Table, random: ir.Table) -> ir.Table:
    """The rows with their `part`: train, valid or test; null for the random rows, all left out.

    labelled: the standard rows with `positive`. A user's test begins with its last positive, valid with the one before.
    """
    one = _.positive.fill_null(False).cast("int32")
    so_far = one.sum().over(group_by="user_idx", order_by=[_.time_ms, _.row], rows=(None, 0))
    counted = labelled.mutate(in_all=one.sum().over(group_by="user_idx"), so_far=so_far)
    to_come = _.in_all - _.so_far
    part = ibis.cases(
        (_.in_all < LEAST_POSITIVES, "train"), (to_come == 0, "test"), (to_come == 1, "valid"), else_="train"
    )
    standard = counted.mutate(part=part).select(*random.columns, "part")
    return standard.union(random.mutate(part=ibis.null("string")))


def summary(parts: ir.Table, bounds: Bounds | None, params: Params) -> dict[str, object]:
    """How the log was split, rows by part, and the first days of valid and test (temporal) or the users that are not
    asked (leave_one_out, where `bounds` is None).

    Raises UserError where train, valid or test is empty.
    """
    table = parts.aggregate(
        **{f"rows_{name}": (_.part == name).sum().fill_null(0) for name in (*PARTS, RANDOM)},
        rows_random_left_out=_.part.isnull().sum().fill_null(0),
        users=_.user_idx.nunique(where=_.part.notnull()),
        users_asked=_.user_idx.nunique(where=_.part == "test"),
        first_ms=_.time_ms.min(),
        last_ms=_.time_ms.max(),
    ).to_pyarrow()
    row = {name: int(table[name][0].as_py()) for name in table.column_names}
    first, last = day_of(row.pop("first_ms")), day_of(row.pop("last_ms"))
    users, asked = row.pop("users"), row.pop("users_asked")
    how: dict[str, object] = {"strategy": params.strategy, "refit": params.refit or "none"}
    if bounds is None:
        where: dict[str, object] = {"users_with_enough_positives": asked, "users_with_too_few_positives": users - asked}
        where["random_track"] = "left out: with a cut for each user no moment has all of train before it"
        hint = f"a user is asked from {LEAST_POSITIVES} positives on: choose another `label.positive`"
    else:
        how["by"] = params.by
        where = {f"{part}_from": day_of(getattr(bounds, f"{part}_from_ms")).isoformat() for part in ("valid", "test")}
        cut = ", ".join(f"{name} {day}" for name, day in where.items())
        hint = f"{cut}; the log holds {first} to {last}: move the split"
    empty = [part for part in ("train", "valid", "test") if not row[f"rows_{part}"]]
    if empty:
        raise UserError(f"no row falls into {' or '.join(empty)} ({hint})")
    return {**how, **row, **where}
