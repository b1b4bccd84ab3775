"""The ceiling of the two-stage system: how often the target is among the first k of each channel and of the pool."""

import numpy as np

from nextreel import metrics
from nextreel.answers import Exam

KS = (50, 100, 200, 500)


def table(exam: Exam, ranks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns channel, part, k, recall from each case's target rank [n] in every channel; one target a case, so recall
    is the hit rate. Targets outside the catalogue are misses."""
    rows = [
        (channel, part, k, float(metrics.hit(rank[exam.cases.part == part], k).mean()))
        for channel, rank in ranks.items()
        for part in ("test", "valid")
        for k in KS
    ]
    names = ("channel", "part", "k", "recall")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def summary(table: dict[str, np.ndarray]) -> dict[str, float]:
    """Flat: `<channel>_recall@<k>` on test, `valid_<channel>_recall@<k>` on valid."""
    rows = zip(*(column.tolist() for column in table.values()), strict=True)
    return {f"{'' if part == 'test' else 'valid_'}{channel}_recall@{k}": recall for channel, part, k, recall in rows}
