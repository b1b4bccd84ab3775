"""Means over cases with their intervals, of many models at once, and what sets the models apart."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nextreel.arrays import Columns
from nextreel.evaluation import Params
from nextreel.evaluation.intervals import bootstrap_means, enough_users, interval, mean, simultaneous_interval

Values = Mapping[str, Columns]  # model -> metric -> each case's value [n], NaN where it has none


@dataclass(frozen=True)
class Estimates:
    """m means, each of a (model, metric). The bounds and resamples of too few users are NaN."""

    keys: list[tuple[str, str]]
    value: np.ndarray  # [m]
    low: np.ndarray
    high: np.ndarray
    resampled: np.ndarray  # [R, m]

    @classmethod
    def of(
        cls, values: Values, user_idx: np.ndarray, params: Params, seed: int, weights: Columns | None = None
    ) -> "Estimates":
        """Means over cases, with bootstrap intervals over users. user_idx [n].

        weights: metric -> weight [n] of each case in its mean, 1 where it is not named.
        """
        keys = [(model, metric) for model, metrics in values.items() for metric in metrics]
        table = np.stack([values[model][metric] for model, metric in keys], axis=1)
        n_cases = len(table)
        value = np.empty(len(keys))
        resampled = np.empty((params.n_resamples, len(keys)))
        weighted = weights or {}
        for name in {metric if metric in weighted else "" for _model, metric in keys}:
            mine = np.array([(metric if metric in weighted else "") == name for _model, metric in keys])
            weight = weighted.get(name, np.ones(n_cases))
            value[mine] = mean(table[:, mine], weight)
            rng = np.random.default_rng(seed)  # the same resamples for all columns
            resampled[:, mine] = bootstrap_means(table[:, mine], user_idx, params.n_resamples, rng, weight)
        resampled[:, ~enough_users(table, user_idx)] = np.nan
        low, high = interval(resampled, params.confidence)
        return cls(keys, value, low, high, resampled)

    def table(self) -> Columns:
        """model, metric, value, low, high."""
        model, metric = np.array(self.keys).T
        return {"model": model, "metric": metric, "value": self.value, "low": self.low, "high": self.high}

    def of_model(self, name: str) -> dict[str, float]:
        """metric -> value, and `<metric>_half_width` of its interval."""
        out: dict[str, float] = {}
        for at, (model, metric) in enumerate(self.keys):
            if model == name:
                out |= {metric: float(self.value[at])}
                out |= {f"{metric}_half_width": float(self.high[at] - self.low[at]) / 2}
        return out

    def comparison(self, metric: str, confidence: float) -> Columns:
        """One metric of every model, and of every pair of models the paired difference: model, minus (empty for a
        model on its own), metric, value, low, high, and low_corrected, high_corrected for the number of pairs."""
        mine = [at for at, key in enumerate(self.keys) if key[1] == metric]
        names = np.array([self.keys[at][0] for at in mine])
        value, means = self.value[mine], self.resampled[:, mine]
        pairs = [(left, right) for left in range(len(names)) for right in range(len(names)) if left != right]
        left, right = np.array(pairs, dtype=int).reshape(-1, 2).T
        difference, differences = value[left] - value[right], means[:, left] - means[:, right]
        low, high = interval(np.hstack([means, differences]), confidence)
        corrected = simultaneous_interval(differences, difference, confidence)
        alone = np.full(len(names), np.nan)
        return {
            "metric": np.full(len(names) + len(left), metric),
            "model": np.concatenate([names, names[left]]),
            "minus": np.concatenate([np.full(len(names), ""), names[right]]),
            "value": np.concatenate([value, difference]),
            "low": low,
            "high": high,
            "low_corrected": np.concatenate([alone, corrected[0]]),
            "high_corrected": np.concatenate([alone, corrected[1]]),
        }


EMPTY: Columns = {name: np.array([]) for name in ("model", "metric", "value", "low", "high")}


def stack(tables: list[Columns]) -> Columns:
    """Tables with the same columns, one below the other."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def labelled(table: Columns, **labels: str) -> Columns:
    """The table behind constant columns."""
    n_rows = len(next(iter(table.values())))
    return {**{name: np.full(n_rows, label) for name, label in labels.items()}, **table}
