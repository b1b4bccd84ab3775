"""The ceiling of the two-stage system: how often the target is among the first k of each channel and of the pool."""

import numpy as np

from nextreel import metrics
from nextreel.exam import Exam

KS = (50, 100, 200, 500)


def summary(exam: Exam, ranks: dict[str, np.ndarray]) -> dict[str, float]:
    """Flat, from each case's target rank [n] in every channel: `<channel>_recall@<k>` on test, with `valid_` on valid.

    With one target a case recall is the hit rate. Targets outside the catalogue are misses.
    """
    return {
        f"{prefix}{channel}_recall@{k}": float(metrics.hit(rank[exam.cases.part == part], k).mean())
        for part, prefix in (("test", ""), ("valid", "valid_"))
        for channel, rank in ranks.items()
        for k in KS
    }


def chart(exam: Exam, ranks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bars of recall on test, named so that a chart sorts them by channel and k."""
    on_test = {name: rank[exam.cases.part == "test"] for name, rank in ranks.items()}
    bars = {f"{name} @{k:03}": metrics.hit(rank, k).mean() for name, rank in on_test.items() for k in KS}
    return {"channel @k": np.array(list(bars)), "recall": np.array(list(bars.values()))}
