"""How long do metrics and intervals take, and do other libraries find the same?

The metrics of one target a case at 10, 50 and 100, from lists of 100 as `data/lists` holds them, beside ir_measures and
ranx, which start from their own objects; then intervals over users and videos. Seconds are medians of 3 in one process.

    python benchmarks/metrics.py [CASES]
"""

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
import ir_measures
import numpy as np
import ranx
from ir_measures import RR, R, Success, nDCG

from nextreel.evaluation.intervals import Clusters
from nextreel.metrics import next_item, ranks
from nextreel.metrics.ratios import Parts
from nextreel.scoring.order import listed_rank

KS = (10, 50, 100)
OURS = {"hr": ranks.hit, "ndcg": ranks.ndcg, "mrr": next_item.reciprocal_rank, "recall": ranks.hit}
RANX = {"hr": "hit_rate", "ndcg": "ndcg", "mrr": "mrr", "recall": "recall"}
IR_MEASURES = {"hr": Success, "ndcg": nDCG, "mrr": RR, "recall": R}
N_VIDEOS = 20_011  # a prime, so that equal steps around the circle of videos make lists without doublets
LIST_LENGTH = 100
FARTHEST = 160  # a target's place on its case's way; those beyond the list are misses
N_USERS, CASES_PER_USER = 100_000, 3


def lists(n_cases: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """case_id, video_idx and rank of all entries, in order; each case's id and target [n]."""
    case_id = np.cumsum(rng.integers(1, 4, n_cases)).astype(np.int32)
    start, step = rng.integers(0, N_VIDEOS, n_cases), rng.integers(1, N_VIDEOS, n_cases)
    way = 1 + (start[:, None] + step[:, None] * np.arange(FARTHEST)) % N_VIDEOS
    listed = {
        "case_id": np.repeat(case_id, LIST_LENGTH),
        "video_idx": way[:, :LIST_LENGTH].ravel().astype(np.int32),
        "rank": np.tile(np.arange(1, LIST_LENGTH + 1, dtype=np.int32), n_cases),
    }
    return listed, case_id, way[np.arange(n_cases), rng.integers(0, FARTHEST, n_cases)].astype(np.int32)


def timed(what: str, work: Callable[[], Any], times: int = 3) -> Any:
    """What `work` returns; prints the median of its seconds."""
    seconds = []
    for _ in range(times):
        start = perf_counter()
        result = work()
        seconds.append(perf_counter() - start)
    print(f"{what:55}{np.median(seconds):8.2f} s", flush=True)
    return result


def ours(listed: dict[str, np.ndarray], case_id: np.ndarray, target: np.ndarray) -> dict[str, float]:
    rank = listed_rank(listed, case_id, target)
    return {f"{name}@{k}": float(metric(rank, k).mean()) for name, metric in OURS.items() for k in KS}


def by_ranx(qrels: ranx.Qrels, run: ranx.Run) -> dict[str, float]:
    found = ranx.evaluate(qrels, run, [f"{name}@{k}" for name in RANX.values() for k in KS])
    return {f"{name}@{k}": found[f"{theirs}@{k}"] for name, theirs in RANX.items() for k in KS}


def by_ir_measures(qrels: dict[str, dict[str, int]], run: dict[str, dict[str, float]]) -> dict[str, float]:
    found = ir_measures.calc_aggregate([measure @ k for measure in IR_MEASURES.values() for k in KS], qrels, run)
    return {f"{name}@{k}": found[measure @ k] for name, measure in IR_MEASURES.items() for k in KS}


def main() -> None:
    n_cases = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    rng = np.random.default_rng(0)
    listed, case_id, target = lists(n_cases, rng)
    print(f"{n_cases:,} cases, lists of {LIST_LENGTH}: {', '.join(OURS)} at {', '.join(map(str, KS))}")
    timed("nextreel, the target's rank in its list alone", lambda: listed_rank(listed, case_id, target))
    expected = timed("nextreel, from the columns of the lists", lambda: ours(listed, case_id, target))

    score = (-np.arange(1.0, LIST_LENGTH + 1)).tolist()
    names = listed["video_idx"].astype(str).reshape(n_cases, LIST_LENGTH).tolist()
    run = {str(case): dict(zip(videos, score, strict=True)) for case, videos in zip(case_id, names, strict=True)}
    qrels = {str(case): {str(video): 1} for case, video in zip(case_id, target, strict=True)}
    theirs = {"ir_measures": timed("ir_measures, from dictionaries", lambda: by_ir_measures(qrels, run))}
    made = timed("ranx, its objects from dictionaries, compiling once", lambda: (ranx.Qrels(qrels), ranx.Run(run)), 1)
    by_ranx(*made)
    theirs["ranx"] = timed("ranx, from its objects, compiled", lambda: by_ranx(*made))
    for library, found in theirs.items():
        worst = max(abs(found[name] - value) for name, value in expected.items())
        print(f"largest difference to {library}: {worst:.1e}")
        assert worst < 5e-6, {name: (value, found[name]) for name, value in expected.items()}

    user_idx = np.repeat(np.arange(N_USERS), CASES_PER_USER)
    video_idx, values = rng.integers(1, N_VIDEOS, len(user_idx)), rng.random(len(user_idx))
    print(f"{N_USERS:,} users, {CASES_PER_USER} cases each")
    clusters = timed("users and videos of the cases", lambda: Clusters(user_idx, video_idx))
    timed("the interval of a mean", lambda: clusters.sums(Parts.of(values).estimate()).reach(0.95))


main()
