"""The two-stage system beside the same scores over the whole catalogue: what a pool of each size costs."""

from pathlib import Path

import numpy as np

from nextreel import arrays
from nextreel.arrays import Columns
from nextreel.evaluation.estimates import Estimates
from nextreel.evaluation.intervals import Clusters
from nextreel.evaluation.next_item import HEADLINE, NextItemResults
from nextreel.metrics import ranks
from nextreel.metrics.next_item import per_case
from nextreel.metrics.ratios import Parts
from nextreel.scoring import order

SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000)
WHOLE = "catalogue"
EXHAUSTIVE = "exhaustive"  # the system without a pool


def ranks_by_pool_size(
    pool: Columns, ranked: Columns, case_id: np.ndarray, target: np.ndarray, sizes: list[int]
) -> dict[int, np.ndarray]:
    """The rank [n] of each target among the first k of its pool, for each size k; MISS where it is not there.

    pool and ranked hold the same pairs of case_id and video_idx, `rank` by channels and by the ranker.
    """
    pair, wanted = (table["case_id"] << 32 | table["video_idx"] for table in (pool, ranked))
    by_pair = np.argsort(pair)
    place = pool["rank"][by_pair[np.searchsorted(pair, wanted, sorter=by_pair)]]  # of each ranked entry in its pool
    row = np.searchsorted(case_id, ranked["case_id"])
    found = {}
    for k in sizes:
        kept = np.flatnonzero(place <= k)
        by, rank = order.order(row[kept], -ranked["rank"][kept], lambda at: at.astype(np.uint64), k)
        entry = kept[by]
        listed = {"case_id": ranked["case_id"][entry], "video_idx": ranked["video_idx"][entry], "rank": rank}
        found[k] = order.listed_rank(listed, case_id, target)
    return found


def table(data: Path, results: NextItemResults, pool_size: int) -> Columns:
    """On test, by pool size: the ceiling (recall of the pool) and HEADLINE with its interval; the last row is the
    catalogue as the pool, where that was tried."""
    asked, params = results.eval_set.of("test"), results.params
    ids = asked.cases.case_id
    within: list[tuple[str, str, object]] = [("case_id", ">=", ids[0]), ("case_id", "<=", ids[-1])]
    columns = ["case_id", "video_idx", "rank"]
    pool = arrays.load(data / "systems/pool/lists.parquet", within, columns)
    ranked = arrays.load(data / "systems/two_stage/lists.parquet", within, columns)
    sizes = sorted({k for k in SIZES if k < pool_size} | {pool_size})
    by_size = {str(k): rank for k, rank in ranks_by_pool_size(pool, ranked, ids, asked.target, sizes).items()}
    if EXHAUSTIVE in results.ranks:
        by_size[WHOLE] = results.on_test(EXHAUSTIVE)
    estimates = Estimates(Clusters(asked.cases.user_idx, asked.target), params.confidence, lowest=0.0)
    for size, rank in by_size.items():
        estimates.add(size, "ceiling", Parts.of(ranks.hit(rank, np.iinfo(np.int32).max)).estimate())
        estimates.add(size, HEADLINE, Parts.of(per_case(rank)[HEADLINE]).estimate())
    found = estimates.table()
    ceiling, headline = (found["metric"] == name for name in ("ceiling", HEADLINE))
    return {
        "pool_size": found["model"][headline],
        "ceiling": found["value"][ceiling],
        HEADLINE: found["value"][headline],
        "low": found["low"][headline],
        "high": found["high"][headline],
    }


def chart(table: Columns) -> Columns:
    """HEADLINE by pool size, and of the whole catalogue as a level line: model, k, HEADLINE."""
    pools = table["pool_size"] != WHOLE
    k, n, whole = table["pool_size"][pools].astype(int), int(pools.sum()), table[HEADLINE][~pools]
    return {
        "model": np.repeat(["two_stage", EXHAUSTIVE][: 1 + len(whole)], n),
        "k": np.tile(k, 1 + len(whole)),
        HEADLINE: np.concatenate([table[HEADLINE][pools], np.repeat(whole, n)]),
    }
