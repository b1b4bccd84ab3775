"""How often do intervals hold the truth? Many small made-up worlds, each with users and videos of its own.

Videos differ in how often they are shown or watched, in how well they are liked, and in how far a model is wrong about
them; users in what they like and how well the model knows them. The truth is the mean over all worlds: what other users
and other videos of the same kind would give. For each metric and spread of the videos' weights: the share of 95 %
intervals that hold it, over users and videos and over users alone; the mean standard error over the spread of the
values; the median degrees of freedom. At last, of one world, the standard error beside the bootstrap: users and videos
drawn at once (pigeonhole, Owen, AoAS 2007), less two times the variance of (user, video) pairs drawn.

    python benchmarks/intervals.py [WORLDS]
"""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
import numpy as np

from nextreel.evaluation.intervals import Clusters, Sums
from nextreel.metrics import impressions as metrics
from nextreel.metrics.ranks import ndcg
from nextreel.metrics.ratios import Estimate, Parts

CONFIDENCE = 0.95
USERS, VIDEOS = 600, 1500
SPREADS = (0.7, 1.0, 1.3)  # of the log of a video's weight


def chosen(rng: np.random.Generator, spread: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The log weight of each video [VIDEOS], and n of them drawn by weight."""
    log_weight = spread * rng.normal(size=VIDEOS)
    weight = np.exp(log_weight)
    return log_weight, rng.choice(VIDEOS, n, p=weight / weight.sum())


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def next_item(rng: np.random.Generator, spread: float, per_user: int) -> tuple[Clusters, Clusters, dict[str, Estimate]]:
    """A model that finds a target the likelier the more popular it is; `per_user` cases each."""
    user = np.repeat(np.arange(USERS), per_user)
    log_weight, video = chosen(rng, spread, len(user))
    known = log_weight + rng.normal(size=VIDEOS)
    found = rng.random(len(user)) < sigmoid(known[video] - 3 + 0.5 * rng.normal(size=USERS)[user])
    rank = np.where(found, rng.integers(1, 11, len(user)), 0)
    return Clusters(user, 1 + video), Clusters(user), {"NDCG@10": Parts.of(ndcg(rank, 10)).estimate()}


def impressions(rng: np.random.Generator, spread: float, rows: int) -> tuple[Clusters, Clusters, dict[str, Estimate]]:
    """Some `rows` impressions a user."""
    user = np.repeat(np.arange(USERS), 1 + rng.poisson(rows * np.exp(0.7 * rng.normal(size=USERS) - 0.245)))
    _weight, video = chosen(rng, spread, len(user))
    quality, wrong = rng.normal(size=(2, VIDEOS))
    mood, insight = rng.normal(size=(2, USERS))
    label = rng.random(len(user)) < sigmoid(quality[video] + 0.5 * mood[user] - 1.3)
    score = quality[video] * (0.5 + 0.5 * insight[user]) + 0.7 * wrong[video] + rng.normal(size=len(user))
    gain = 0.3 * np.where(label, 1.0, -1.0) + 0.2 * score + 0.3 * rng.normal(size=len(user))
    tie = rng.integers(0, 2**60, len(user)).astype(np.uint64)
    weight = np.bincount(user)[user].astype(float)
    said = metrics.threshold_scores(label, sigmoid(score), 0.6)
    found = {
        "GAUC": metrics.grouped_auc(label, score, user, USERS).estimate(weight, within_users=True),
        "AUC": metrics.auc(label, score).estimate(),
        "nDCG@5": metrics.grouped_ndcg(label, score, user, tie, USERS, 5).estimate(),
        "WTG@5": metrics.grouped_top_mean(gain, score, user, tie, USERS, 5).estimate(),
        "F1": said["f1"].estimate(),
        "precision": said["precision"].estimate(),
        "RMSE": metrics.mse(score, gain).estimate().root(),
        "XAUC": metrics.xauc(score, gain).estimate(),
    }
    return Clusters(user, 1 + video), Clusters(user), found


WORLDS = {
    "next item, 1 case a user": (next_item, 1),
    "next item, 4 cases a user": (next_item, 4),
    "impressions, 20 a user": (impressions, 20),
    "impressions, 3 a user": (impressions, 3),
}


def rows(n_worlds: int) -> Iterator[str]:
    """A line a metric, kind of world and spread."""
    for name, (world, size) in WORLDS.items():
        for spread in SPREADS:
            found: dict[str, list[tuple[float, float, float, float, float]]] = {}
            for seed in range(n_worlds):
                both, users, estimates = world(np.random.default_rng(seed), spread, size)
                for metric, each in estimates.items():
                    two, one = both.sums(each), users.sums(each)
                    of_world = (*two.reach(CONFIDENCE), *one.reach(CONFIDENCE), *two.error(), *two.degrees())
                    found.setdefault(metric, []).append((each.value, *of_world))
            for metric, values in found.items():
                value, reach, alone, error, degrees = np.array(values).T
                off = np.abs(value - value.mean())
                held = f"{(off <= reach).mean():.1%} | {(off <= alone).mean():.1%}"
                spreads = f"{np.sqrt((error**2).mean()) / value.std():.2f} | {np.median(degrees):.0f}"
                yield f"| {name} | {spread} | {metric} | {held} | {spreads} |"


def bootstrap(n_resamples: int) -> None:
    """The standard error of AUC in one world, by formula and by resampling."""
    rng = np.random.default_rng(0)
    user, video = rng.integers(0, 200, 4000), chosen(rng, 0.7, 4000)[1]
    label = rng.random(4000) < sigmoid(rng.normal(size=VIDEOS)[video])
    score = label + rng.normal(size=VIDEOS)[video] + rng.normal(size=200)[user] + rng.normal(size=4000)
    sums: Sums = Clusters(user, 1 + video).sums(metrics.auc(label, score).estimate())
    cell, n_cells = np.unique(user * VIDEOS + video, return_inverse=True)[1], len(np.unique(user * VIDEOS + video))
    ways: dict[str, list[float]] = {"at once": [], "pairs": []}
    for _resample in range(n_resamples):
        drawn = [np.bincount(rng.integers(0, n, n), minlength=n) for n in (200, VIDEOS, n_cells)]
        for way, times in (("at once", drawn[0][user] * drawn[1][video]), ("pairs", drawn[2][cell])):
            again = np.repeat(np.arange(4000), times)
            ways[way].append(metrics.auc(label[again], score[again]).estimate().value)
    expected = np.sqrt(np.var(ways["at once"]) - 2 * np.var(ways["pairs"]))
    print(f"\nAUC of one world: standard error {sums.error()[0]:.4f}, by {n_resamples} resamples {expected:.4f}")


def main() -> None:
    print("| world | spread | metric | held | users alone | error / spread of values | degrees |\n" + "|---" * 7 + "|")
    for row in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 1000):
        print(row, flush=True)
    bootstrap(2000)


if __name__ == "__main__":
    main()
