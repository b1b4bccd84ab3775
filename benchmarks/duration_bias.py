"""Which watch label orders a user's videos most as their true interest does, at several strengths of duration bias?

Worlds of the size in params.yaml are simulated, ingested, split and labelled in a temporary folder, for each strength
and world seed. Each user's logged test rows of the standard track are ordered by a label and compared with the truth:

- concordance: the share of the user's pairs in the order of their interest, ties half; users with 2 or more rows
- top 5: the mean interest of the first 5, expected over the order of ties; users with more than 5 rows

Both are means over users, each counting once. Rows without a duration have no WTR or WTG and are left out of all. WTGs
are fitted on train with the shrinkage of params.yaml; nothing is tuned. Users of all seeds are resampled together;
differences are paired: of truncated labels to the capped WTR, of all others to the WTR without a cap.

    python benchmarks/duration_bias.py [SEEDS]
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
import numpy as np
from ibis import _

from nextreel import engine, evaluation, labelling, labels, schema, splits
from nextreel.datasets import kuairand, simulated
from nextreel.evaluation.intervals import bootstrap_means, interval
from nextreel.evaluation.oracle import Oracle
from nextreel.params import Params

STRENGTHS = (0.0, 0.5, 1.0, 2.0)
TOP = 5
WTR, CAPPED = "WTR", "WTR, capped at 1"
SCHEMES = {
    "WTG, 1 s, truncated (DVR)": {"bucket": "width", "bucket_width_s": 1, "truncate": True},
    "WTG, 1 s": {"bucket": "width", "bucket_width_s": 1, "truncate": False},
    "WTG, 60 s (SASRec4SV)": {"bucket": "width", "bucket_width_s": 60, "truncate": False},
    "WTG, 30 of equal frequency, truncated": {"bucket": "frequency", "n_buckets": 30, "truncate": True},
    "WTG, 30 of equal frequency (D2Q)": {"bucket": "frequency", "n_buckets": 30, "truncate": False},
}
params = Params.load(Path("params.yaml"))


def logged(strength: float, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], int]:
    """User [n] and true interest [n] of the test rows with a duration, the label [n] each order goes by, and how many
    rows had no duration. Rows lie in order of user."""
    world = params.section("simulate", simulated.Params).model_copy(update={"duration_bias": strength, "seed": seed})
    committed = params.section("label", labels.Params).model_copy(update={"wtr_cap": 1.0})
    con = engine.connect(params.section("engine", engine.Params), params.threads)
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        simulated.write(data / "raw", world)
        source = kuairand.read(con, data / "raw")
        for table, wanted in schema.TABLES.items():
            found = source.tables.get(table, schema.empty(wanted))
            engine.write(con, found, data / f"tables/{table}.parquet", schema.ORDER[table])
        rows, random = (engine.read(con, data / f"tables/{table}.parquet") for table in ("interactions", "random"))
        bounds = splits.bounds(rows, params.section("split", splits.Params))
        assert bounds is not None
        parts = splits.temporal(rows, random, bounds)
        orders: dict[str, np.ndarray] = {}
        for scheme, changes in SCHEMES.items():
            settings = committed.model_copy(update=changes)
            durations = labelling.fit(parts, settings, leave_one_out=False)
            labelled = labels.label(parts.filter(_.part == "test"), durations, settings)
            arrow = labelled.order_by("user_idx", "time_ms", "row").to_pyarrow()
            test = {column: arrow[column].to_numpy() for column in arrow.column_names}
            orders[scheme] = test["wtg"]
        known = np.isfinite(test["duration_ms"].astype(float))
        oracle = Oracle(data, committed.model_copy(update={"positive": "all"}))
        interest = oracle.interest(test["user_idx"], test["time_ms"], test["video_idx"])
        video = np.searchsorted(oracle.videos["video_idx"], test["video_idx"])
        offset = oracle.videos["log_wtr_offset"][video]
    con.disconnect()
    ratio = test["play_time_ms"] / test["duration_ms"]
    orders = {
        "raw watch time": test["play_time_ms"],
        CAPPED: test["wtr"],
        WTR: ratio,
        **orders,
        "WTR over the truth's median for its duration": ratio / np.exp(offset),
        "the truth's interest": interest,
    }
    return test["user_idx"][known], interest[known], {key: value[known] for key, value in orders.items()}, sum(~known)


def concordance(order: np.ndarray, interest: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Per user with 2 or more rows [U] the share of pairs that both [n] order alike, ties half; user [n] ascends."""
    _users, owner, count = np.unique(user, return_inverse=True, return_counts=True)
    end = count.cumsum()[owner]
    later = end - np.arange(len(user)) - 1  # rows of the same user that follow
    left = np.repeat(np.arange(len(user)), later)
    right = left + 1 + np.arange(len(left)) - np.repeat(later.cumsum() - later, later)
    alike = np.sign(order[left] - order[right]) * np.sign(interest[left] - interest[right])
    n_pairs = count * (count - 1) // 2
    total = np.bincount(owner[left], (1 + alike) / 2, len(count))
    return total[n_pairs > 0] / n_pairs[n_pairs > 0]


def top_interest(order: np.ndarray, interest: np.ndarray, user: np.ndarray) -> np.ndarray:
    """For each user with more than TOP rows [U] the mean interest of the TOP highest. user [n] ascends."""
    _users, owner, count = np.unique(user, return_inverse=True, return_counts=True)
    _groups, group, size = np.unique(np.stack([owner, order]), axis=1, return_inverse=True, return_counts=True)
    expected = (np.bincount(group, interest) / size)[group]  # of a row drawn from those that tie with it
    sorted_rows = np.lexsort((-order, owner))
    place = np.arange(len(owner)) - (count.cumsum() - count)[owner]  # owner ascends before and after sorting
    first = np.bincount(owner, np.where(place < TOP, expected[sorted_rows], 0.0)) / TOP
    return first[count > TOP]


def mean_interest(interest: np.ndarray, user: np.ndarray) -> np.ndarray:
    """The mean interest of each user with more than TOP rows [U]: what a random order gets."""
    _users, owner, count = np.unique(user, return_inverse=True, return_counts=True)
    return (np.bincount(owner, interest) / count)[count > TOP]


def cells(values: list[np.ndarray], baseline: list[int], confidence: float) -> tuple[list[str], list[str]]:
    """Each seed's values [U, m] -> means as text [m] with interval and seeds' range; differences to columns [m]."""
    stacked = np.concatenate(values)
    means = bootstrap_means(stacked, np.arange(len(stacked)), 1000, np.random.default_rng(params.seed))
    by_seed = np.stack([each.mean(0) for each in values])
    columns = stacked.mean(0), *interval(means, confidence), by_seed.min(0), by_seed.max(0)
    absolute = [
        f"{mean:.4f} ({low:.4f} to {high:.4f}; {least:.4f}-{most:.4f})"
        for mean, low, high, least, most in np.stack(columns, axis=1)
    ]
    apart = stacked.mean(0) - stacked.mean(0)[baseline]
    differences = np.stack([apart, *interval(means - means[:, baseline], confidence)], axis=1)
    return absolute, [f"{mean:+.4f} ({low:+.4f} to {high:+.4f})" for mean, low, high in differences]


def main() -> None:
    n_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    first_seed = params.section("simulate", simulated.Params).seed
    confidence = params.section("evaluate", evaluation.Params).confidence
    notes = []
    print(f"| bias | order by | concordance ({confidence:.0%}; seeds) | minus its WTR |", end="")
    print(f" interest of the top {TOP} ({confidence:.0%}; seeds) | minus its WTR |\n|---|---|---|---|---|---|")
    for strength in STRENGTHS:
        concordances, tops = [], []
        counted = np.zeros(4, int)
        for seed in range(first_seed, first_seed + n_seeds):
            user, interest, orders, n_unknown = logged(strength, seed)
            concordances.append(np.stack([concordance(order, interest, user) for order in orders.values()], axis=1))
            top = [top_interest(order, interest, user) for order in orders.values()]
            tops.append(np.stack([*top, mean_interest(interest, user)], axis=1))
            counted += [len(user), n_unknown, len(concordances[-1]), len(tops[-1])]
        names = [*orders, "a random order"]
        baseline = [names.index(CAPPED if "truncated" in name else WTR) for name in names]
        pairs = [np.pad(each, ((0, 0), (0, 1)), constant_values=0.5) for each in concordances]  # a random order's
        columns = (*cells(pairs, baseline, confidence), *cells(tops, baseline, confidence))
        for row in zip(names, *columns, strict=True):
            print(f"| {strength:g} | {' | '.join(row)} |", flush=True)
        rows, unknown, two, more = counted
        notes.append(
            f"bias {strength:g}: {rows} rows, {unknown} more without duration, {two} users with 2 rows or more,"
            f" {more} with more than {TOP}"
        )
    print(f"\nworld seeds {first_seed} to {first_seed + n_seeds - 1}", *notes, sep="\n- ")


if __name__ == "__main__":
    main()
