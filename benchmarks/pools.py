"""Which channels make the best pool: recall@500 of every model and of every pair, fused as the pipeline fuses them.

    python benchmarks/pools.py

Reads data/lists of a finished `dvc repro`. Choose on valid; test stands beside it.
"""

import sys
from itertools import combinations
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
from nextreel import arrays
from nextreel.metrics.ranks import hit
from nextreel.params import Params
from nextreel.scoring.order import listed_rank
from nextreel.scoring.sets import EvalSet
from nextreel.two_stage import fusion

K = 500


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
    found = {}
    for name, pool in pools.items():
        hits = hit(listed_rank(pool, ids, asked.target), K)
        found[name] = [float(np.mean(hits[asked.cases.part == part])) for part in ("valid", "test")]
    print(f"| channels | recall@{K}, valid | test |\n|---|---|---|")
    for name, (valid, test) in sorted(found.items(), key=lambda item: -item[1][0]):
        print(f"| {name} | {valid:.4f} | {test:.4f} |")


if __name__ == "__main__":
    main()
