"""The ceiling of the two-stage system: how often the target is among the first k of each channel and of the pool."""

import numpy as np

from nextreel.metrics.ranks import hit
from nextreel.scoring.sets import EvalSet
from nextreel.two_stage.fusion import FUSED

KS = (50, 100, 200, 500)
CHART_KS = (10, 20, *KS)


def summary(asked: EvalSet, ranks: dict[str, np.ndarray]) -> dict[str, float]:
    """Flat, from each case's target rank [n] in every channel: `<channel>_recall@<k>` on test, with `valid_` on valid.

    With one target a case recall is the hit rate. Targets outside the catalogue are misses.
    """
    return {
        f"{prefix}{channel}_recall@{k}": float(hit(rank[asked.cases.part == part], k).mean())
        for part, prefix in (("test", ""), ("valid", "valid_"))
        for channel, rank in ranks.items()
        for k in KS
    }


def chart(asked: EvalSet, ranks: dict[str, np.ndarray], pool_size: int) -> dict[str, np.ndarray]:
    """Recall on test by k, a line a channel, from each case's target rank [n]: columns model, k, recall.

    The fused pool ends at `pool_size`; a larger k would draw the cut as if it were a finding.
    """
    on_test = asked.cases.part == "test"
    points = [
        (name, k, hit(rank[on_test], k).mean())
        for name, rank in ranks.items()
        for k in CHART_KS
        if name != FUSED or k <= pool_size
    ]
    model, k, recall = zip(*points, strict=True)
    return {"model": np.array(model), "k": np.array(k), "recall": np.array(recall)}
