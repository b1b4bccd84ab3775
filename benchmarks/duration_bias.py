"""Which watch label orders videos most as the true interest in them does, at several strengths of duration bias?

Worlds of the size in params.yaml are simulated, ingested, split and labelled in a temporary folder, for each strength
and world seed. Test rows are ordered by a label and compared with the truth; those of the standard track, and those
of a log of videos exposed at random, as large as the standard one. Rows without a duration have no WTR or WTG and are
left out of all. WTGs are fitted on train, with the shrinkage of params.yaml where none is named; nothing is tuned.

- Spearman, all rows: of label and interest over all users' rows, the mean over worlds
- Spearman, duration: the same of label and duration, which says nothing about interest: a fair label has 0
- Spearman, within users: each user's own; users with 10 or more rows
- concordance: the share of the user's pairs in the order of their interest, ties half; users with 2 or more rows
- top 5: the mean interest of the first 5, expected over the order of ties; users with more than 5 rows

The last three are means over the users of all worlds, each counting once. Ties share their mean rank. Users are
resampled, for all rows within their world; seeds are the range over worlds. Differences are paired: to raw watch time,
and to the WTR with the same w (of truncated labels to the capped WTR, of all others to the WTR without a cap).

    python benchmarks/duration_bias.py [SEEDS]
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
import numpy as np
import worlds
from ibis import _
from scipy.stats import spearmanr

from nextreel import engine, evaluation, labels
from nextreel.cases import write
from nextreel.oracle.truth import Oracle
from nextreel.params import Params
from nextreel.simulation import generator

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
TRACKS = {"test": {}, "random": {"random_share": 1.0}}  # the part whose rows are ordered; what its worlds change
N_RESAMPLES = 1_000
LEAST_ROWS = 10  # of a user whose rank correlation counts
TOP = 5
RAW, WTR, CAPPED = "raw watch time", "WTR", "WTR, capped at 1"
SECOND = {"bucket": "width", "bucket_width_s": 1, "truncate": False}
THIRTY = {"bucket": "frequency", "n_buckets": 30, "truncate": False}
TRUNCATED, SMOOTH = {"truncate": True}, {"shrinkage": 5_000}  # rows; about what 1 s holds at the median duration
SCHEMES = {
    "WTG, 1 s, truncated (DVR)": SECOND | TRUNCATED,
    "WTG, 1 s, truncated, shrinkage 5,000": SECOND | TRUNCATED | SMOOTH,
    "WTG, 1 s": SECOND,
    "WTG, 1 s, shrinkage 5,000": SECOND | SMOOTH,
    "WTG, 60 s (SASRec4SV)": SECOND | {"bucket_width_s": 60},
    "WTG, 30 of equal frequency, truncated": THIRTY | TRUNCATED,
    "WTG, 30 of equal frequency (D2Q)": THIRTY,
    "WTG, 300 of equal frequency": THIRTY | {"n_buckets": 300},
}
params = Params.load(Path("params.yaml"))


class Logged(NamedTuple):
    """Rows with a duration, in order of user."""

    user: np.ndarray  # [n]
    interest: np.ndarray  # [n] the truth's
    duration_ms: np.ndarray  # [n]
    orders: dict[str, np.ndarray]  # the label [n] that each order goes by
    n_unknown: int  # rows without a duration


def logged(part: str, changes: dict[str, float]) -> Logged:
    """The rows of a part, in a world with these changes."""
    committed = params.section("label", labels.Params).model_copy(update={"positive": "wtg"})
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        con = engine.connect(params.section("engine", engine.Params), params.threads, data)
        parts = worlds.parts(con, data, params, **changes)
        orders: dict[str, np.ndarray] = {}
        for scheme, bucketing in SCHEMES.items():
            settings = committed.model_copy(update=bucketing)
            durations = write.fit(parts, settings, leave_one_out=False)
            labelled = labels.label(parts.filter(_.part == part), durations, settings)
            arrow = labelled.order_by("user_idx", "time_ms", "row").to_pyarrow()
            rows = {column: arrow[column].to_numpy() for column in arrow.column_names}
            orders[scheme] = rows["z"]
        oracle = Oracle(data, committed.model_copy(update={"positive": "all"}))
        interest = oracle.interest(rows["user_idx"], rows["time_ms"], rows["video_idx"])
        video = np.searchsorted(oracle.videos["video_idx"], rows["video_idx"])
        offset = oracle.videos["log_wtr_offset"][video]
    con.disconnect()
    ratio = rows["play_time_ms"] / rows["duration_ms"]
    orders = {
        RAW: rows["play_time_ms"],
        CAPPED: rows["wtr"],
        WTR: ratio,
        **orders,
        "WTR over the truth's median for its duration": ratio / np.exp(offset),
        "the truth's interest": interest,
        "a random order": np.random.default_rng(params.seed).random(len(ratio)),
    }
    known = np.isfinite(rows["duration_ms"].astype(float))
    user, interest, duration_ms = (column[known] for column in (rows["user_idx"], interest, rows["duration_ms"]))
    return Logged(user, interest, duration_ms, {key: value[known] for key, value in orders.items()}, sum(~known))


def ties(value: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number [n] of each distinct (group, value), ascending from 0, and the group [T] of each number."""
    ascending = np.lexsort((value, group))
    ordered, of_group = value[ascending], group[ascending]
    first = np.concatenate([[True], (ordered[1:] != ordered[:-1]) | (of_group[1:] != of_group[:-1])])
    number = np.empty(len(value), np.int64)
    number[ascending] = first.cumsum() - 1
    return number, of_group[first]


def centred_ranks(number: np.ndarray, group: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The mean rank of each row's `ties` [n] within its group, less the group's mean, where row i is there times[i]
    times."""
    tied = np.bincount(number, times, len(group))
    size = np.bincount(group, tied)
    middle = tied.cumsum() - tied / 2
    return (middle - (size.cumsum() - size / 2)[group])[number]


def spearman(order: np.ndarray, truth: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Of each user with LEAST_ROWS rows [U]."""
    _users, owner, count = np.unique(user, return_inverse=True, return_counts=True)
    once = np.ones(len(user))
    left, right = (centred_ranks(*ties(value, owner), once) for value in (order, truth))
    together, alone, other = (np.bincount(owner, a * b) for a, b in ((left, right), (left, left), (right, right)))
    enough = count >= LEAST_ROWS
    return together[enough] / np.sqrt(alone[enough] * other[enough])


def bootstrap_spearman(orders: list[np.ndarray], truths: list[np.ndarray], user: np.ndarray) -> np.ndarray:
    """Over all rows, of each truth and order, as they are and in each resample of users: [1 + R, truths, orders]."""
    _users, owner = np.unique(user, return_inverse=True)
    n_users, everyone = owner[-1] + 1, np.zeros(len(owner), np.int64)
    numbers = [ties(value, everyone) for value in (*truths, *orders)]
    rng = np.random.default_rng(params.seed)
    found = np.empty((1 + N_RESAMPLES, len(truths), len(orders)))
    for resample in range(1 + N_RESAMPLES):
        drawn = rng.integers(0, n_users, n_users) if resample else np.arange(n_users)
        times = np.bincount(drawn, minlength=n_users)[owner].astype(float)
        ranks = np.stack([centred_ranks(*number, times) for number in numbers])
        # einsum, not @: on shared cores a BLAS spends most of its time on threads that wait
        sums = np.einsum("ti,mi->tm", ranks[: len(truths)] * times, ranks)
        squares = np.einsum("mi,mi,i->m", ranks, ranks, times)
        correlations = sums / np.sqrt(squares[: len(truths), None] * squares)
        found[resample] = correlations[:, len(truths) :]
    return found


def concordance(order: np.ndarray, truth: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Of each user with 2 or more rows [U] the share of pairs in the same order by both, ties half; user ascends."""
    _users, owner, count = np.unique(user, return_inverse=True, return_counts=True)
    end = count.cumsum()[owner]
    later = end - np.arange(len(user)) - 1  # rows of the same user that follow
    left = np.repeat(np.arange(len(user)), later)
    right = left + 1 + np.arange(len(left)) - np.repeat(later.cumsum() - later, later)
    alike = np.sign(order[left] - order[right]) * np.sign(truth[left] - truth[right])
    n_pairs = count * (count - 1) // 2
    total = np.bincount(owner[left], (1 + alike) / 2, len(count))
    return total[n_pairs > 0] / n_pairs[n_pairs > 0]


def top_interest(order: np.ndarray, interest: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Of each user with more than TOP rows [U] the mean interest of the TOP highest. user [n] ascends."""
    _users, owner, count = np.unique(user, return_inverse=True, return_counts=True)
    number, _of_user = ties(order, owner)
    expected = (np.bincount(number, interest) / np.bincount(number))[number]  # of a row drawn from those it ties with
    sorted_rows = np.lexsort((-order, owner))
    place = np.arange(len(owner)) - (count.cumsum() - count)[owner]  # owner ascends before and after sorting
    first = np.bincount(owner, np.where(place < TOP, expected[sorted_rows], 0.0)) / TOP
    return first[count > TOP]


class Measured(NamedTuple):
    """A measure of each order [m]."""

    value: np.ndarray  # [m]
    by_seed: np.ndarray  # [seeds, m]
    resampled: np.ndarray  # [R, m]


def over_rows(of_seeds: list[Logged]) -> list[Measured]:
    """Spearman with interest and with duration, each the mean of the worlds'."""
    found = np.stack([
        bootstrap_spearman([*rows.orders.values()], [rows.interest, rows.duration_ms], rows.user) for rows in of_seeds
    ])  # fmt: skip
    return [Measured(each[:, 0].mean(0), each[:, 0], each[:, 1:].mean(0)) for each in np.moveaxis(found, 2, 0)]


def over_users(measure: Callable[..., np.ndarray], of_seeds: list[Logged]) -> Measured:
    """The mean of a measure of each user."""
    values = [
        np.stack([measure(order, rows.interest, rows.user) for order in rows.orders.values()], axis=1)
        for rows in of_seeds
    ]
    stacked = np.concatenate(values)
    rng, n = np.random.default_rng(params.seed), len(stacked)
    times = (np.bincount(rng.integers(0, n, n), minlength=n) for _resample in range(N_RESAMPLES))
    resampled = np.stack([each @ stacked / n for each in times])
    return Measured(stacked.mean(0), np.stack([each.mean(0) for each in values]), resampled)


def measures(of_seeds: list[Logged]) -> dict[str, Measured]:
    interest, duration = over_rows(of_seeds)
    return {
        "Spearman, all rows": interest,
        "Spearman, duration": duration,
        "Spearman, within users": over_users(spearman, of_seeds),
        "concordance": over_users(concordance, of_seeds),
        f"interest of the top {TOP}": over_users(top_interest, of_seeds),
    }


def interval(resampled: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bounds [m] of resampled values [R, m]."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def cells(measured: Measured, baselines: dict[str, np.ndarray], confidence: float) -> dict[str, list[str]]:
    """Title -> the text for each order [m]: its value, and what it is above its baseline, a column [m] by name."""
    value, by_seed, resampled = measured
    columns = value, *interval(resampled, confidence), by_seed.min(0), by_seed.max(0)
    texts = {
        f"{confidence:.0%}; seeds": [
            f"{mean:.4f} ({low:.4f} to {high:.4f}; {least:.4f}-{most:.4f})"
            for mean, low, high, least, most in zip(*columns, strict=True)
        ]
    }
    for name, column in baselines.items():
        apart = value - value[column], *interval(resampled - resampled[:, column], confidence)
        texts[f"minus {name}"] = [
            f"{mean:+.4f} ({low:+.4f} to {high:+.4f})" for mean, low, high in zip(*apart, strict=True)
        ]
    return texts


def check(rows: Logged) -> None:
    """Spearman as scipy has it: of all rows, and of the first users."""
    some = np.isin(rows.user, np.unique(rows.user)[:100])
    user, interest = rows.user[some], rows.interest[some]
    found = bootstrap_spearman([*rows.orders.values()], [rows.interest], rows.user)[0, 0]
    for order, over_all in zip(rows.orders.values(), found, strict=True):
        assert np.isclose(over_all, spearmanr(order, rows.interest).statistic)
        own = [spearmanr(order[some][user == one], interest[user == one]).statistic for one in np.unique(user)]
        enough = np.unique(user, return_counts=True)[1] >= LEAST_ROWS
        assert np.allclose(spearman(order[some], interest, user), np.array(own)[enough])


def study(part: str, seeds: range, confidence: float) -> None:
    """Print a table for each measure and title: orders by strengths."""
    table: dict[tuple[str, str], list[list[str]]] = {}
    for strength in STRENGTHS:
        of_seeds = [logged(part, {"duration_bias": strength, "seed": seed, **TRACKS[part]}) for seed in seeds]
        names = [*of_seeds[0].orders]
        same_w = [CAPPED if "truncated" in name else WTR for name in names]
        baselines = {RAW: np.full(len(names), names.index(RAW)), "its WTR": np.array([*map(names.index, same_w)])}
        for measure, measured in measures(of_seeds).items():
            for title, column in cells(measured, baselines, confidence).items():
                table.setdefault((measure, title), []).append(column)
        counts = [np.unique(rows.user, return_counts=True)[1] for rows in of_seeds]
        users = [sum(int((count >= least).sum()) for count in counts) for least in (2, TOP + 1, LEAST_ROWS)]
        print(
            f"- {part}, bias {strength:g}: {sum(map(sum, counts))} rows, {sum(r.n_unknown for r in of_seeds)} more"
            f" without duration; {users} users with at least 2, {TOP + 1}, {LEAST_ROWS} rows",
            flush=True,
        )
    for (measure, title), columns in table.items():
        print(f"\n| {part}: {measure} ({title}) | {' | '.join(f'bias {strength:g}' for strength in STRENGTHS)} |")
        print("|---" * (1 + len(STRENGTHS)) + "|")
        for row in zip(names, *columns, strict=True):
            print(f"| {' | '.join(row)} |", flush=True)
    print()


def main() -> None:
    first_seed = params.section("simulate", generator.Params).seed
    seeds = range(first_seed, first_seed + (int(sys.argv[1]) if len(sys.argv) > 1 else 3))
    check(logged("test", {"n_rows": 20_000}))
    for part in TRACKS:
        study(part, seeds, params.section("evaluate", evaluation.Params).confidence)


if __name__ == "__main__":
    main()
