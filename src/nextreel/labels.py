"""Watch time -> fair labels. Fitted on train, applied to every row; under leave-one-out the bounds of positives are
fitted on all rows, since the positives make the split.

- A gain (DVR; Zheng et al., MM 2022) is (w - mean_b) / std_b over the duration bucket b, where w is the play time,
  truncated at the duration or not. 0 where std is 0. A label's own is `z`.
- positive: every rule is a bound on play time that depends on the duration alone, except `click` and `long_view`,
  which keep the logged value.

A row that lacks what the rule asks for, play time, duration or the logged value, is unknown: `positive` is null,
neither positive nor negative. A log without any watch time is another matter: see `usable`.

What models are judged by beside the label is the same whatever the label, so that metrics compare models:

- WTG, the watch-time gain: the gain of REFERENCE.
- WTR, the watch-time ratio: play_time / duration, at most `wtr_cap`: above 1 a video loops.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import ibis
import ibis.expr.types as ir
import numpy as np
from ibis import _
from pydantic import Field, ModelWrapValidatorHandler, model_validator

from nextreel.errors import UserError
from nextreel.params import Float, NonNegativeFloat, PositiveFloat, PositiveInt, Section

SMOOTHING = 0.25  # width of the neighbourhood of a bucket, in log duration: buckets within some 25 % of its length
ROUNDING = 1e-12  # of the mean square: a smaller variance is what float64 leaves of none
NEVER = np.inf


class Scheme(Section):
    """What a play time is compared with."""

    bucket: Literal["width", "frequency"]
    bucket_width_s: PositiveInt  # by width
    n_buckets: PositiveInt  # by equal frequency
    truncate: bool  # w at the duration
    shrinkage: NonNegativeFloat  # a bucket is mixed with this many rows like its neighbours'


REFERENCE = Scheme(bucket="frequency", bucket_width_s=1, n_buckets=30, truncate=False, shrinkage=50)
GAINS = ("wtg", "wtg_quantile", "dvr", "sasrec4sv")  # rules by duration buckets
_PUBLISHED = {"wtg_threshold": 1.0, "bucket": "width", "shrinkage": 0}
PUBLISHED: dict[str, dict[str, Any]] = {
    "dvr": _PUBLISHED | {"bucket_width_s": 1, "truncate": True},  # Zheng et al., MM 2022
    "sasrec4sv": _PUBLISHED | {"bucket_width_s": 60, "truncate": False},  # SASRec4SV's own code
}


class Params(Scheme):
    """The section `label`. A published rule fixes the keys that it is about, whichever allowed values they have."""

    positive: Literal["wtg_quantile", "wtg", "dvr", "sasrec4sv", "wtr", "long_view", "click", "all"]
    quantile: Annotated[Float, Field(gt=0, lt=1)]  # the top share of each bucket that `wtg_quantile` takes
    wtg_threshold: Float  # standard deviations
    wtr_threshold: NonNegativeFloat
    wtr_cap: PositiveFloat | None  # None: WTR has no bound

    @model_validator(mode="wrap")
    @classmethod
    def _published(cls, values: dict[str, Any], validated: ModelWrapValidatorHandler[Self]) -> Self:
        written = validated(values)
        fixed = PUBLISHED.get(written.positive)
        return validated(values | fixed) if fixed else written


@dataclass(frozen=True)
class Buckets:
    """Watch time by duration bucket, [B] each, in order of duration."""

    scheme: Scheme
    from_ms: np.ndarray  # the shortest duration seen in train
    number: np.ndarray  # of the bucket within its scheme
    n: np.ndarray  # train rows
    mean_ms: np.ndarray
    std_ms: np.ndarray

    def of(self, duration_ms: np.ndarray) -> np.ndarray:
        """The bucket [n] of each duration [n]; where train had none, the nearest."""
        if self.scheme.bucket == "width":
            wanted = duration_ms // (1000 * self.scheme.bucket_width_s)
        else:
            wanted = np.searchsorted(self.from_ms, duration_ms, side="right") - 1
        right = np.searchsorted(self.number, wanted).clip(0, len(self.number) - 1)
        left = (right - 1).clip(0)
        nearer_left = np.abs(wanted - self.number[left]) <= np.abs(self.number[right] - wanted)
        return np.where(nearer_left & (self.number[right] != wanted), left, right)


NO_WATCH_TIME = "the log has no watch time: WTR and WTG are left out"
NEEDS_WATCH_TIME = ("wtr", *GAINS)


def usable(rows: ir.Table, params: Params) -> Params:
    """The params, with every row a positive where the log holds no watch time and the rule needs one.

    Raises UserError where the log has watch times but not the reaction that the rule is about.
    """
    known = rows.aggregate(
        watch_time=(_.play_time_ms.notnull() & _.duration_ms.notnull()).sum(),
        click=_.click.count(),
        long_view=_.long_view.count(),
    ).to_pyarrow()
    counts = {name: known[name][0].as_py() or 0 for name in known.column_names}
    if params.positive == "all" or counts.get(params.positive, counts["watch_time"]):
        return params
    if counts["watch_time"]:
        raise UserError(
            f"`label.positive` is {params.positive!r}, which the log does not say; allowed with its watch times:"
            f" {', '.join(NEEDS_WATCH_TIME)}, all"
        )
    return params.model_copy(update={"positive": "all"})


def watch_ms(scheme: Scheme) -> ir.IntegerValue:
    """The play time that counts."""
    return ibis.least(_.play_time_ms, _.duration_ms) if scheme.truncate else _.play_time_ms


def statistics(train: ir.Table, scheme: Scheme) -> dict[str, np.ndarray]:
    """Rows, sum and sum of squares of watch time for each duration: exact integers, so that no engine or number of
    threads changes a bit. Arrays in order of `duration_ms`; the sums hold Python integers."""
    by_duration = (
        train.filter(_.duration_ms.notnull() & _.play_time_ms.notnull())
        .mutate(w=watch_ms(scheme))
        .group_by("duration_ms")
        .aggregate(
            n=_.count(),
            sum=_.w.sum().cast("string"),
            sum_of_squares=(_.w.cast("decimal(38, 0)") * _.w).sum().cast("string"),
        )
        .order_by("duration_ms")
        .to_pyarrow()
    )
    exact = {key: np.array([int(x) for x in by_duration[key].to_pylist()], object) for key in ("sum", "sum_of_squares")}
    return {"duration_ms": by_duration["duration_ms"].to_numpy(), "n": by_duration["n"].to_numpy(), **exact}


def fit(stats: dict[str, np.ndarray], scheme: Scheme) -> Buckets:
    """Mean and standard deviation (ddof 1) of watch time for each bucket.

    A bucket of n rows is mixed with `shrinkage` rows whose moments are those of the buckets around it, weighted by
    their rows and by a Gaussian of width SMOOTHING in log duration. With shrinkage 0 this is DVR's own definition.
    """
    duration_ms, n = stats["duration_ms"], stats["n"]
    if scheme.bucket == "width":
        number = duration_ms // (1000 * scheme.bucket_width_s)
    else:
        number = (n.cumsum() - n) * scheme.n_buckets // max(n.sum(), 1)
    first = np.flatnonzero(np.diff(number, prepend=-1))
    if not len(first):
        none = np.array([])
        return Buckets(scheme, none, none, none, none, none)
    n, total, squares = (np.add.reduceat(stats[key], first) for key in ("n", "sum", "sum_of_squares"))
    moments = np.stack([total.astype(float), squares.astype(float)])  # [2, B], sums
    moments, weight = _shrink(moments, n.astype(float), np.log(np.maximum(duration_ms[first], 1)), scheme.shrinkage)
    mean, square = moments / weight
    variance = square - mean**2
    variance = np.where(variance > ROUNDING * square, variance, 0.0) * weight / np.maximum(weight - 1, 1)
    from_ms, number = duration_ms[first], number[first]
    if scheme.bucket == "frequency":
        number = np.arange(len(first))
    return Buckets(scheme, from_ms, number, n, mean, np.sqrt(variance))


def _shrink(moments: np.ndarray, n: np.ndarray, place: np.ndarray, pseudo_rows: float) -> tuple[np.ndarray, np.ndarray]:
    if pseudo_rows == 0:
        return moments, n
    near = np.empty_like(moments)
    for block in np.array_split(np.arange(len(n)), len(n) // 1000 + 1):  # a block at a time: [1000, B], not [B, B]
        kernel = np.exp(-0.5 * ((place[block, None] - place[None, :]) / SMOOTHING) ** 2)
        # einsum, not @: the same bytes whatever number of threads a BLAS takes
        near[:, block] = np.einsum("mj,ij->mi", moments, kernel) / np.einsum("j,ij->i", n, kernel)
    return moments + pseudo_rows * near, n + pseudo_rows


def quantile_groups(stats: dict[str, np.ndarray], buckets: Buckets) -> np.ndarray:
    """A group [n] for each duration [n]: its bucket, joined with the next ones until `shrinkage` rows are together."""
    group_of = np.zeros(len(buckets.n), np.int64)
    group, together = 0, 0
    for bucket, n in enumerate(buckets.n):
        group_of[bucket] = group
        together += n
        if together >= buckets.scheme.shrinkage:
            group, together = group + 1, 0
    if together and group:  # too few are left at the end: they join the group before
        group_of[group_of == group] = group - 1
    return group_of[buckets.of(stats["duration_ms"])]


def logged_bounds_ms(duration_ms: np.ndarray, positive: str) -> np.ndarray:
    """KuaiRand's definitions of `click` and `long_view` as bounds on play time; `all` is above any."""
    if positive == "all":
        return np.full(len(duration_ms), -1.0)
    short_ms, least_ms = (7_000, 7_001) if positive == "click" else (18_000, 18_000)
    return np.where(duration_ms <= short_ms, duration_ms, least_ms) - 1.0


def bounds_ms(
    duration_ms: np.ndarray, params: Params, buckets: Buckets, quantile_bound: np.ndarray | None = None
) -> np.ndarray:
    """A row is positive if its play time is above this bound [n] for its duration [n]; NEVER if none suffices."""
    if params.positive in ("all", "click", "long_view"):
        return logged_bounds_ms(duration_ms, params.positive)
    if params.positive == "wtr":
        return params.wtr_threshold * duration_ms
    if params.positive == "wtg_quantile":
        assert quantile_bound is not None
        return quantile_bound
    bucket = buckets.of(duration_ms)
    mean, std = buckets.mean_ms[bucket], buckets.std_ms[bucket]
    flat = NEVER if params.wtg_threshold >= 0 else -1.0  # z is 0 there
    bound = np.where(std > 0, mean + params.wtg_threshold * std, flat)
    return np.where(bound >= duration_ms, NEVER, bound) if params.truncate else bound


def by_duration(rows: ir.Table, train: ir.Table, params: Params, positives_from: ir.Table) -> dict[str, np.ndarray]:
    """For each duration in `rows` the label's bucket, numbered in order of duration, its mean and deviation, and those
    of REFERENCE, all fitted on `train`; and the bound above which a row is positive, fitted on `positives_from`."""
    known = rows.filter(_.duration_ms.notnull()).select("duration_ms").distinct().order_by("duration_ms")
    duration_ms = known.to_pyarrow()["duration_ms"].to_numpy()
    stats = statistics(train, params)
    buckets = fit(stats, params)
    reference = fit(stats if params.truncate == REFERENCE.truncate else statistics(train, REFERENCE), REFERENCE)
    if not len(buckets.n):
        duration_ms = duration_ms[:0]  # no watch time in train: no row has a gain
    bucket, at = buckets.of(duration_ms), reference.of(duration_ms)
    bounding = buckets
    if positives_from is not train:
        stats = statistics(positives_from, params)
        bounding = fit(stats, params)
    quantile_bound = None
    if params.positive == "wtg_quantile":
        quantile_bound = _quantile_bounds(positives_from, params.quantile, stats, bounding, duration_ms)
    return {
        "duration_ms": duration_ms,
        "bucket": bucket,
        "mean_ms": buckets.mean_ms[bucket],
        "std_ms": buckets.std_ms[bucket],
        "reference_mean_ms": reference.mean_ms[at],
        "reference_std_ms": reference.std_ms[at],
        "positive_above_ms": bounds_ms(duration_ms, params, bounding, quantile_bound),
    }


def label_all(rows: ir.Table, params: Params) -> ir.Table:
    """The rows with labels fitted on all of them: what leave-one-out cuts by."""
    return label(rows, by_duration(rows, rows, params, rows), params)


def _quantile_bounds(
    rows: ir.Table, top_share: float, stats: dict[str, np.ndarray], buckets: Buckets, duration_ms: np.ndarray
) -> np.ndarray:
    """The top share's bound within each group, on untruncated play time: a video watched to its end is no tie."""
    group = quantile_groups(stats, buckets)
    mapping = ibis.memtable({"duration_ms": stats["duration_ms"], "group": group})
    bound = (
        rows.join(mapping, "duration_ms")
        .group_by("group")
        .aggregate(bound=_.play_time_ms.quantile(1 - top_share))
        .order_by("group")
        .to_pyarrow()
    )
    present, above = bound["group"].to_numpy(), bound["bound"].to_numpy()
    first_of_bucket = np.searchsorted(buckets.of(stats["duration_ms"]), buckets.of(duration_ms))
    return above[np.searchsorted(present, group[first_of_bucket])]


def label(parts: ir.Table, durations: dict[str, np.ndarray], params: Params) -> ir.Table:
    """The rows with `positive` (null: unknown), `wtr` and `wtg` (null without duration or play time), and the label's
    own `bucket` and gain `z`, null under a rule that has none."""
    rows = parts.left_join(ibis.memtable(durations), "duration_ms").drop("duration_ms_right")
    wtr = _.play_time_ms / _.duration_ms.cast("float64")
    positive = {
        "all": ibis.literal(True),
        "click": _.click,
        "long_view": _.long_view,
    }.get(params.positive, _.play_time_ms > _.positive_above_ms)
    own = params.positive in GAINS
    return rows.mutate(  # SQL's LEAST passes over nulls, so they are kept by hand
        wtr=ibis.ifelse(wtr.notnull(), ibis.least(wtr, params.wtr_cap or NEVER), None),
        wtg=_gain(_.play_time_ms, _.reference_mean_ms, _.reference_std_ms),
        z=_gain(watch_ms(params), _.mean_ms, _.std_ms) if own else ibis.null("float64"),
        bucket=_.bucket if own else ibis.null("int64"),
        positive=positive,
    )


def _gain(watch: ir.IntegerValue, mean_ms: ir.FloatingValue, std_ms: ir.FloatingValue) -> ir.FloatingValue:
    known = _.play_time_ms.notnull() & mean_ms.notnull()
    return ibis.ifelse(known, ibis.ifelse(std_ms > 0, (watch - mean_ms) / std_ms, 0.0), None)


def share_by_duration(labelled: ir.Table, n_groups: int = 10) -> dict[str, np.ndarray]:
    """The positive share by decile of duration, over rows with a duration and a known label: a fair label is about
    even."""
    counts = (
        labelled.filter(_.duration_ms.notnull() & _.positive.notnull())
        .group_by("duration_ms")
        .aggregate(rows=_.count(), positives=_.positive.sum())
        .order_by("duration_ms")
        .to_pyarrow()
    )
    duration_ms, rows, positives = (counts[name].to_numpy() for name in ("duration_ms", "rows", "positives"))
    if not len(rows):
        none = np.zeros(0, np.int64)
        return dict.fromkeys(("decile", "from_ms", "to_ms", "rows", "positives", "positive_share"), none)
    place = np.arange(1, n_groups) / n_groups * (rows.sum() - 1)  # of the cuts among all rows, between two of them
    below, above = (
        duration_ms[np.searchsorted(rows.cumsum(), at, "right")] for at in (np.floor(place), np.ceil(place))
    )
    cuts = below + (above - below) * (place - np.floor(place))
    decile = 1 + np.searchsorted(cuts, duration_ms, "left")
    first = np.flatnonzero(np.diff(decile, prepend=0))
    rows, positives = (np.add.reduceat(each, first) for each in (rows, positives))
    last = np.append(first[1:], len(decile)) - 1
    return {
        **{"decile": decile[first], "from_ms": duration_ms[first], "to_ms": duration_ms[last]},
        **{"rows": rows, "positives": positives, "positive_share": positives / rows},
    }
