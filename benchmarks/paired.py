"""Estimates from the same rows, with intervals over users and videos, and their differences to one of them."""

from collections.abc import Iterable

import numpy as np

from nextreel.evaluation.intervals import Clusters, Sums
from nextreel.metrics.ratios import Estimate


def texts(estimates: Iterable[Estimate], clusters: Clusters, minus: int, confidence: float) -> list[str]:
    """Each value with its interval, and its paired difference to the one at `minus`, as two cells of a table."""
    found = list(estimates)
    sums = Sums.stack([clusters.sums(each) for each in found])
    everyone = np.arange(len(found))
    apart = sums.differences(everyone, np.full(len(found), minus)).reach(confidence)
    base = found[minus].value
    return [
        f"{each.value:.4f} ({each.value - reach:.4f} to {each.value + reach:.4f}) | "
        + (
            ""
            if at == minus
            else f"{each.value - base:+.4f} ({each.value - base - d:+.4f} to {each.value - base + d:+.4f})"
        )
        for at, (each, reach, d) in enumerate(zip(found, sums.reach(confidence), apart, strict=True))
    ]
