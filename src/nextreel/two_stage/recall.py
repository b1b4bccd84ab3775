"""The ceiling of the two-stage system: how often the target is among the first k of each channel and of the pool."""

import numpy as np

from nextreel.metrics.ranks import hit
from nextreel.scoring.sets import EvalSet
from nextreel.two_stage.fusion import FUSED

KS = (50, 100, 200, 500)
CHART_KS = (10, 20, *KS)


def summary(asked: EvalSet, ranks: dict[str, np.ndarray], pool_size: int) -> dict[str, float]:
    """Flat, from each case's target rank [n] in every channel: `<channel>_recall@<k>` on test, with `valid_` on valid.

    With one target a case recall is the hit rate. Targets outside the catalogue are misses. The fused pool has no value
    above `pool_size`, see `_within`.
    """
    return {
        f"{prefix}{channel}_recall@{k}": float(hit(rank[asked.cases.part == part], k).mean())
        for part, prefix in (("test", ""), ("valid", "valid_"))
        for channel, rank in ranks.items()
        for k in _within(channel, KS, pool_size)
    }


def chart(asked: EvalSet, ranks: dict[str, np.ndarray], pool_size: int) -> dict[str, np.ndarray]:
    """Recall on test by k, a line a channel, from each case's target rank [n]: columns model, k, recall. The line of
    the fused pool ends at `pool_size`, see `_within`."""
    on_test = asked.cases.part == "test"
    points = [
        (name, k, hit(rank[on_test], k).mean())
        for name, rank in ranks.items()
        for k in _within(name, CHART_KS, pool_size)
    ]
    model, k, recall = zip(*points, strict=True)
    return {"model": np.array(model), "k": np.array(k), "recall": np.array(recall)}


def _within(channel: str, ks: tuple[int, ...], pool_size: int) -> list[int]:
    """The k at which a channel's recall was measured. The fused pool is cut at `pool_size`: a larger k would show the
    cut as if it were a finding."""
    return [k for k in ks if channel != FUSED or k <= pool_size]
