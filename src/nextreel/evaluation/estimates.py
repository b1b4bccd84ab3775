"""Metrics with their intervals, of many models at once, and what sets the models apart."""

from functools import cached_property

import numpy as np

from nextreel.arrays import Columns
from nextreel.evaluation.intervals import Clusters, Sums
from nextreel.metrics.ratios import Estimate


class Estimates:
    """The metrics of models, from the same rows. The bounds of too few users or videos are NaN."""

    def __init__(self, clusters: Clusters, confidence: float, headline: str = "", lowest: float = -np.inf) -> None:
        """clusters: of the rows; headline: the metric to compare models by; lowest: what no metric is below."""
        self._clusters, self._confidence, self._headline, self._lowest = clusters, confidence, headline, lowest
        self._found: dict[tuple[str, str], tuple[float, float]] = {}  # (model, metric) -> value, reach of its interval
        self._sums: dict[str, Sums] = {}  # model -> of its headline

    def add(self, model: str, metric: str, found: Estimate | float) -> None:
        """A metric; a plain number has no interval."""
        if not isinstance(found, Estimate):
            self._found[model, metric] = found, np.nan
            return
        sums = self._clusters.sums(found)
        self._found[model, metric] = found.value, float(sums.reach(self._confidence)[0])
        if metric == self._headline:
            self._sums[model] = sums

    def table(self) -> Columns:
        """model, metric, value, low, high."""
        model, metric = np.array(list(self._found)).T
        value, reach = np.array(list(self._found.values())).T
        return {"model": model, "metric": metric, **self._bounds(value, reach)}

    def _bounds(self, value: np.ndarray, reach: np.ndarray) -> Columns:
        return {"value": value, "low": np.maximum(value - reach, self._lowest), "high": value + reach}

    def of_model(self, name: str) -> dict[str, float]:
        """metric -> value, and `<metric>_half_width` of its interval."""
        out: dict[str, float] = {}
        for (model, metric), (value, reach) in self._found.items():
            if model == name:
                out |= {metric: value, f"{metric}_half_width": reach}
        return out

    @cached_property
    def comparison(self) -> Columns:
        """The headline of every model, and of every pair of models the paired difference: model, minus (empty for a
        model on its own), metric, value, low, high, and low_corrected, high_corrected for the number of pairs."""
        names = np.array(list(self._sums))
        value, reach = np.array([self._found[name, self._headline] for name in names]).T
        n = len(names)
        first, second = np.triu_indices(n, 1)
        sums = Sums.stack(list(self._sums.values())).differences(first, second)
        of_pair = np.zeros((n, n), int)
        of_pair[first, second] = of_pair[second, first] = np.arange(len(first))
        left, right = np.nonzero(~np.eye(n, dtype=bool))  # both ways round: as far apart
        apart, together = (
            of[of_pair[left, right]] for of in (sums.reach(self._confidence), sums.reach_together(self._confidence))
        )
        difference, own = value[left] - value[right], self._bounds(value, reach)
        alone = np.full(len(names), np.nan)
        return {
            "metric": np.full(len(names) + len(left), self._headline),
            "model": np.concatenate([names, names[left]]),
            "minus": np.concatenate([np.full(len(names), ""), names[right]]),
            "value": np.concatenate([value, difference]),
            "low": np.concatenate([own["low"], difference - apart]),
            "high": np.concatenate([own["high"], difference + apart]),
            "low_corrected": np.concatenate([alone, difference - together]),
            "high_corrected": np.concatenate([alone, difference + together]),
        }


EMPTY: Columns = {name: np.array([]) for name in ("model", "metric", "value", "low", "high")}


def stack(tables: list[Columns]) -> Columns:
    """Tables with the same columns, one below the other."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def labelled(table: Columns, **labels: str) -> Columns:
    """The table behind constant columns."""
    n_rows = len(next(iter(table.values())))
    return {**{name: np.full(n_rows, label) for name, label in labels.items()}, **table}
