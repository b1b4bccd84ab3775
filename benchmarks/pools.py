"""Which channels make the best pool: recall@500 of every model and of every pair, fused as the pipeline fuses them, and
how far each lies from the best pair on valid, with its interval at 95 % over users and videos.

    python benchmarks/pools.py

Reads data/lists of a finished `dvc repro`. Choose on valid; test stands beside it.
"""

import sys
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
from nextreel import arrays
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics.ranks import hit
from nextreel.metrics.ratios import Parts
from nextreel.params import Params
from nextreel.scoring.order import listed_rank
from nextreel.scoring.sets import EvalSet
from nextreel.two_stage import fusion

K = 500
CONFIDENCE = 0.95


def main() -> None:
    """A row a pool, the best on valid first."""
    params, data = Params.load(ROOT / "params.yaml"), ROOT / "data"
    asked = EvalSet.load(data, params.seed)
    asked = asked.where(asked.cases.part != "next")
    ids = asked.cases.case_id
    within: list[tuple[str, str, object]] = [("seed", "=", params.seed), ("case_id", "<=", ids[-1])]
    names = [name for family in ("recall", "train") for name in params.get(family)]
    lists = {name: arrays.load(data / f"lists/{name}.parquet", within) for name in names}
    pools = {name: lists[name] for name in names}
    pools |= {f"{a} + {b}": fusion.fuse({a: lists[a], b: lists[b]}, K, asked.tie) for a, b in combinations(names, 2)}
    hits = {name: hit(listed_rank(pool, ids, asked.target), K) for name, pool in pools.items()}
    valid, test = (asked.cases.part == part for part in ("valid", "test"))
    clusters = Clusters(asked.cases.user_idx[valid], asked.target[valid])
    best = max((name for name in hits if "+" in name), key=lambda name: hits[name][valid].mean())
    print(f"| channels | recall@{K}, valid | test | minus {best}, valid |\n|---|---|---|---|")
    for name, hit_at in sorted(hits.items(), key=lambda item: -item[1][valid].mean()):
        apart = Parts.of((hit_at - hits[best])[valid]).estimate()
        reach = float(clusters.sums(apart).reach(CONFIDENCE)[0])
        print(f"| {name} | {hit_at[valid].mean():.4f} | {hit_at[test].mean():.4f} | {apart.value:+.4f} ± {reach:.4f} |")


if __name__ == "__main__":
    main()
