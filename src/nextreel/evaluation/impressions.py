"""The protocols `impressions` and `random`: the videos really shown to each user in a part, ordered by score.

Both judge the same scores, of models frozen before the part (see `parts.answering`) and histories frozen at the user's
first row of the part. The videos of `random` were chosen by nobody: what is measured there is free of exposure bias,
and nothing is fitted on them.

A part of the impressions is `valid` or `test` (standard rows) or `random`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nextreel import arrays
from nextreel.arrays import Columns
from nextreel.cases.asked import Catalogue
from nextreel.clock import days_of
from nextreel.evaluation import Params
from nextreel.evaluation.calibration import N_BINS, Calibration
from nextreel.evaluation.estimates import Estimates, labelled, stack
from nextreel.evaluation.intervals import bootstrap_auc, enough_users, interval
from nextreel.metrics import impressions as metrics
from nextreel.progress import track
from nextreel.scoring import order
from nextreel.scoring.sets import ShownPairs

SHOWN_IN = ("valid", "test", "random")
K = 5
HEADLINE = "gauc"
PLAIN = 0.5  # the threshold that needs no choice


@dataclass(frozen=True)
class Impressions:
    """m rows of n cases, in order of case."""

    case: np.ndarray  # [m] position of each row's case
    video_idx: np.ndarray  # [m]
    time_ms: np.ndarray  # [m]
    label: np.ndarray  # [m] bool
    wtr: np.ndarray  # [m], NaN where unknown
    wtg: np.ndarray  # [m], NaN where unknown
    tie: np.ndarray  # [m] uint64, see `order.tie_hash`
    case_id: np.ndarray  # [n]
    part: np.ndarray  # [n] str, of SHOWN_IN
    user_idx: np.ndarray  # [n]

    @classmethod
    def load(cls, data: Path, seed: int) -> "Impressions":
        """Read what `label` wrote."""
        shown, outcomes = ShownPairs.load(data), arrays.load(data / "outcomes.parquet")
        of_track = arrays.load(data / "impressions.parquet", columns=["track"])["track"]
        cases, row = shown.cases, shown.row
        random = np.zeros(len(cases), bool)
        random[row] = of_track == "random"
        key = order.case_key(shown.user_key, cases.time_ms, seed)
        tie = order.tie_hash(key[row], Catalogue.load(data).video_key[shown.video_idx])
        label, wtr, wtg = outcomes["label"].astype(bool), outcomes["wtr"], outcomes["wtg"]
        return cls(
            row, shown.video_idx, shown.time_ms, label, wtr, wtg, tie,
            cases.case_id, np.where(random, "random", cases.part), cases.user_idx,
        )  # fmt: skip

    def rows(self, part: str) -> np.ndarray:
        """Which rows [m] belong to a part."""
        return np.asarray((self.part == part)[self.case])

    @property
    def n_rows(self) -> np.ndarray:
        """The rows of each case [n]."""
        return np.bincount(self.case, minlength=len(self.case_id))

    def where(self, keep: np.ndarray) -> "Impressions":
        """Some of the rows; the cases stay."""
        names = ("case", "video_idx", "time_ms", "label", "wtr", "wtg", "tie")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})

    def load_scores(self, path: Path) -> dict[int, np.ndarray]:
        """Seed -> the score [m] of each row, from a model's table; -inf where it has no opinion."""
        table = arrays.load(path)
        found = {}
        for seed in np.unique(table["seed"]):
            mine = table["seed"] == seed
            score = np.full(len(self.case), -np.inf, table["score"].dtype)
            score[table["impression"][mine]] = np.nan_to_num(table["score"][mine], nan=-np.inf)
            found[int(seed)] = score
        return found


def headline_per_case(rows: Impressions, score: np.ndarray) -> Columns:
    """Each case's HEADLINE [n]; NaN where it has none. score [m]."""
    return {HEADLINE: metrics.grouped_auc(rows.label, score, rows.case, len(rows.case_id))}  # weighted by impressions


def per_case(rows: Impressions, score: np.ndarray) -> Columns:
    """Each case's metrics [n]; NaN where it has none. score [m]."""
    n = len(rows.case_id)
    headline = headline_per_case(rows, score)
    auc = headline[HEADLINE]
    ndcg = metrics.grouped_ndcg(rows.label, score, rows.case, rows.tie, n, K)
    gain = (rows.wtg, score, rows.case, rows.tie, n)
    return {
        **headline,
        f"ndcg@{K}": np.where(np.isnan(auc), np.nan, ndcg),
        f"ndcg@{K}_all_users": np.where(rows.n_rows > 0, np.nan_to_num(ndcg), np.nan),
        **{f"wtg@{k}": metrics.grouped_top_mean(*gain, k) for k in (K, 2 * K)},
        **{f"dcwtg@{k}": metrics.grouped_discounted_sum(*gain, k) for k in (K, 2 * K)},
    }


def calibrated(rows: Impressions, score: np.ndarray, calibration: Calibration) -> dict[str, float]:
    """Metrics of all rows together, by what the scores meant on valid: on valid itself they would be no results."""
    probability = calibration.probability(score)
    found = {f"{name}_at_half": value for name, value in _at(rows.label, probability, PLAIN).items()}
    found |= {f"{name}_at_best": value for name, value in _at(rows.label, probability, calibration.threshold).items()}
    found["ece"] = metrics.expected_calibration_error(metrics.reliability(rows.label, probability, N_BINS))
    known = ~np.isnan(rows.wtr)
    wtr, expected = rows.wtr[known], calibration.watch_ratio(score[known])
    return {**found, "wtr_rmse": metrics.rmse(expected, wtr), "wtr_mae": metrics.mae(expected, wtr)}


def _at(label: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    return metrics.threshold_scores(label, probability, threshold)


def _mean(by_seed: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over seeds of every metric."""
    each = list(by_seed)
    return {metric: np.mean([values[metric] for values in each], axis=0) for metric in each[0]}


class ImpressionResults:
    """The scores of several models, each case's metrics, and what follows from them."""

    def __init__(
        self, impressions: Impressions, scores: Mapping[str, dict[int, np.ndarray]], params: Params, seed: int
    ) -> None:
        """scores: model -> what `Impressions.load_scores` returns. `seed` draws the resamples."""
        self.impressions = impressions
        self.scores = scores
        self.params = params
        self.seed = seed
        self.values = {
            name: {seed: per_case(impressions, score) for seed, score in by_seed.items()}
            for name, by_seed in track(list(scores.items()), "judging impressions")
        }
        asked = {part: (impressions.part == part) & (impressions.n_rows > 0) for part in SHOWN_IN}
        self.of = {part: self._estimates(cases) for part, cases in asked.items() if cases.any()}

    def _estimates(self, cases: np.ndarray) -> Estimates:
        """Of the mean over seeds of some cases' metrics."""
        mean = {name: _mean(by_seed.values()) for name, by_seed in self.values.items()}
        return self._over_users(mean, cases, self.impressions.n_rows)

    def _over_users(self, values: Mapping[str, Columns], cases: np.ndarray, n_rows: np.ndarray) -> Estimates:
        """values: model -> metric -> each case's [n]; the mean of HEADLINE weighs cases by their rows [n]."""
        some = {name: {metric: x[cases] for metric, x in columns.items()} for name, columns in values.items()}
        weights = {HEADLINE: n_rows[cases].astype(float)}
        return Estimates.of(some, self.impressions.user_idx[cases], self.params, self.seed, weights)

    def _auc(self, by_seed: Mapping[int, np.ndarray], keep: np.ndarray) -> tuple[float, float, float]:
        """The AUC of all rows together, as the mean over seeds, with its bounds, NaN of too few users."""
        rows = self.impressions.where(keep)
        user_idx = rows.user_idx[rows.case]
        value, resampled = [], []
        for score in by_seed.values():
            rng = np.random.default_rng(self.seed)
            value.append(metrics.auc(rows.label, score[keep]))
            resampled.append(bootstrap_auc(rows.label, score[keep], user_idx, self.params.n_resamples, rng))
        if not enough_users(np.zeros((len(user_idx), 1)), user_idx)[0]:
            return float(np.mean(value)), np.nan, np.nan
        low, high = interval(np.mean(resampled, axis=0)[:, None], self.params.confidence)
        return float(np.mean(value)), float(low[0]), float(high[0])

    def table(self) -> Columns:
        """Every metric: part, model, metric, value, low, high. Those of all rows together, AUC apart, have no interval;
        those that are fitted on valid have no row of it."""
        tables = []
        for part in self.of:
            tables.append(labelled(self.of[part].table(), part=part))
            keep = self.impressions.rows(part)
            for name in track(list(self.scores), f"judging all impressions of {part} together"):
                found = {"auc": self._auc(self.scores[name], keep)}
                found |= {key: (value, np.nan, np.nan) for key, value in self._pooled(name, part).items()}
                value, low, high = np.array(list(found.values())).T
                columns = {"metric": np.array(list(found)), "value": value, "low": low, "high": high}
                tables.append(labelled(columns, part=part, model=name))
        return stack(tables)

    def _pooled(self, name: str, part: str) -> dict[str, float]:
        """Metrics of all rows of a part together."""
        keep = self.impressions.rows(part)
        rows = self.impressions.where(keep)
        known = ~np.isnan(rows.wtr)
        each = []
        for seed, score in self.scores[name].items():
            fitted = {} if part == "valid" else calibrated(rows, score[keep], self._calibrations[name][seed])
            each.append({**fitted, "wtr_xauc": metrics.xauc(score[keep][known], rows.wtr[known])})
        return {metric: float(value) for metric, value in _mean(each).items()}

    @cached_property
    def _calibrations(self) -> dict[str, dict[int, Calibration]]:
        """Of each model and seed."""
        on_valid = self.impressions.rows("valid")
        rows = self.impressions.where(on_valid)
        return {
            name: {seed: Calibration.fit(rows.label, rows.wtr, score[on_valid]) for seed, score in by_seed.items()}
            for name, by_seed in self.scores.items()
        }

    @cached_property
    def reliability(self) -> Columns:
        """Predicted and observed share of positives by bin of probability, of each model's first seed."""
        tables = []
        for part in [name for name in self.of if name != "valid"]:
            keep = self.impressions.rows(part)
            for name, by_seed in self.scores.items():
                seed, score = next(iter(by_seed.items()))
                probability = self._calibrations[name][seed].probability(score[keep])
                table = metrics.reliability(self.impressions.label[keep], probability, N_BINS)
                tables.append(labelled(table, part=part, model=name))
        return stack(tables)

    def headline(self, name: str, part: str) -> dict[str, float]:
        """The flat metrics of a model."""
        found = self.of[part].of_model(name)
        keep = self.impressions.rows(part)
        shown = (HEADLINE, f"{HEADLINE}_half_width", f"ndcg@{K}", f"wtg@{K}")
        auc = np.mean([metrics.auc(self.impressions.label[keep], score[keep]) for score in self.scores[name].values()])
        return {key: found[key] for key in shown} | {"auc": float(auc), "rows": int(keep.sum())}

    def comparison(self, part: str) -> Columns:
        """HEADLINE of every model and pair of models, see `Estimates.comparison`."""
        return self.of[part].comparison(HEADLINE, self.params.confidence)

    @cached_property
    def by_day(self) -> Columns:
        """HEADLINE on test by the day of the impression: day, rows, model, metric, value, low, high."""
        on_test = self.impressions.rows("test")
        day = days_of(self.impressions.time_ms)
        tables = []
        for today in np.unique(day[on_test]):
            keep = on_test & (day == today)
            rows = self.impressions.where(keep)
            mean = {
                name: _mean(headline_per_case(rows, score[keep]) for score in by_seed.values())
                for name, by_seed in self.scores.items()
            }
            table = self._over_users(mean, rows.n_rows > 0, rows.n_rows).table()
            tables.append({**labelled(table, day=str(today)), "n": np.full(len(self.scores), keep.sum())})
        return stack(tables)

    def per_user(self, name: str, seed: int) -> Columns:
        """Every case with its metrics and its number of rows."""
        impressions = self.impressions
        values = dict(self.values[name][seed])
        about = {"user_idx": impressions.user_idx, "case_id": impressions.case_id}
        return {"part": impressions.part, **about, "rows": impressions.n_rows, "auc": values.pop(HEADLINE), **values}
