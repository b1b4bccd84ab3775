"""The protocols `impressions` and `random`: the videos really shown to each user in a part, ordered by score.

Both judge the same scores, of models frozen at the end of train and histories frozen at the user's first row of the
part. The videos of `random` were chosen by nobody: what is measured there is free of exposure bias, and nothing is
fitted on them.

A stretch of impressions is `valid` or `test` (standard rows) or `random`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from nextreel import arrays
from nextreel.cases.protocols import Catalogue
from nextreel.clock import days_of
from nextreel.evaluation import Columns, Params
from nextreel.evaluation.calibration import N_BINS, Calibration
from nextreel.evaluation.estimates import Estimates, labelled, stack
from nextreel.evaluation.intervals import bootstrap_auc, interval
from nextreel.metrics import impressions as metrics
from nextreel.progress import track
from nextreel.scoring import order
from nextreel.scoring.sets import ShownPairs

STRETCHES = ("valid", "test", "random")
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
    stretch: np.ndarray  # [n] str
    user_idx: np.ndarray  # [n]
    user_id: np.ndarray  # [n]

    @classmethod
    def load(cls, data: Path, seed: int) -> "Impressions":
        """Read what `label` wrote."""
        shown, outcomes = ShownPairs.load(data), arrays.load(data / "outcomes.parquet")
        track = arrays.load(data / "impressions.parquet", columns=["track"])["track"]
        cases, row = shown.cases, shown.row
        random = np.zeros(len(cases), bool)
        random[row] = track == "random"
        key = order.case_key(shown.user_id, cases.time_ms, seed)
        tie = order.tie_hash(key[row], Catalogue.load(data).video_id[shown.video_idx])
        label, wtr, wtg = outcomes["label"].astype(bool), outcomes["wtr"], outcomes["wtg"]
        return cls(
            row, shown.video_idx, shown.time_ms, label, wtr, wtg, tie,
            cases.case_id, np.where(random, "random", cases.part), cases.user_idx, shown.user_id,
        )  # fmt: skip

    def rows(self, stretch: str) -> np.ndarray:
        """Which rows [m] belong to a stretch."""
        return np.asarray((self.stretch == stretch)[self.case])

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
            score = np.full(len(self.case), -np.inf, np.float32)
            score[table["impression"][mine]] = np.nan_to_num(table["score"][mine], nan=-np.inf)
            found[int(seed)] = score
        return found


Measured = Callable[[Impressions, np.ndarray], Columns]  # rows and their scores [m] -> each case's metrics [n]


def headline_per_case(rows: Impressions, score: np.ndarray) -> Columns:
    """Each case's HEADLINE [n]; NaN where it has none. score [m]."""
    return {HEADLINE: metrics.grouped_auc(rows.label, score, rows.case, len(rows.case_id))}  # weighted by impressions


def per_case(rows: Impressions, score: np.ndarray) -> Columns:
    """Each case's metrics [n]; NaN where it has none. score [m]."""
    n = len(rows.case_id)
    headline = headline_per_case(rows, score)
    auc = headline[HEADLINE]
    ndcg = metrics.grouped_ndcg(rows.label, score, rows.case, rows.tie, n, K)
    shown = np.bincount(rows.case, minlength=n) > 0
    gain = (rows.wtg, score, rows.case, rows.tie, n)
    return {
        **headline,
        f"ndcg@{K}": np.where(np.isnan(auc), np.nan, ndcg),
        f"ndcg@{K}_all_users": np.where(shown, np.nan_to_num(ndcg), np.nan),
        **{f"wtg@{k}": metrics.grouped_top_mean(*gain, k) for k in (K, 2 * K)},
        **{f"dcwtg@{k}": metrics.grouped_discounted_sum(*gain, k) for k in (K, 2 * K)},
    }


def pooled(rows: Impressions, score: np.ndarray, calibration: Calibration) -> dict[str, float]:
    """Metrics of all rows together, by what the scores meant on valid."""
    probability = calibration.probability(score)
    found = {f"{name}_at_half": value for name, value in _at(rows.label, probability, PLAIN).items()}
    found |= {f"{name}_at_best": value for name, value in _at(rows.label, probability, calibration.threshold).items()}
    found["ece"] = metrics.expected_calibration_error(metrics.reliability(rows.label, probability, N_BINS))
    known = ~np.isnan(rows.wtr)
    wtr, expected = rows.wtr[known], calibration.watch_ratio(score[known])
    errors = {"wtr_rmse": metrics.rmse(expected, wtr), "wtr_mae": metrics.mae(expected, wtr)}
    return {**found, **errors, "wtr_xauc": metrics.xauc(score[known], wtr)}


def _at(label: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    return metrics.threshold_scores(label, probability, threshold)


class Judged:
    """Impressions with the scores of several models, and what follows from them."""

    def __init__(
        self, impressions: Impressions, scores: Mapping[str, dict[int, np.ndarray]], params: Params, seed: int
    ) -> None:
        """scores: model -> what `Impressions.load_scores` returns. `seed` draws the resamples."""
        self.impressions = impressions
        self.scores = scores
        self.params = params
        self.seed = seed
        known = [name for name in STRETCHES if impressions.rows(name).any()]
        self.of = {stretch: self._estimates(impressions.rows(stretch)) for stretch in known}

    def _estimates(self, keep: np.ndarray, measured: Measured = per_case) -> Estimates:
        """Of the mean over seeds of each case's metrics, on some of the rows."""
        rows = self.impressions.where(keep)
        values = {}
        for name, by_seed in track(list(self.scores.items()), "judging impressions"):
            each = [measured(rows, score[keep]) for score in by_seed.values()]
            values[name] = {metric: np.mean([found[metric] for found in each], axis=0) for metric in each[0]}
        n_rows = np.bincount(rows.case, minlength=len(rows.case_id)).astype(float)
        asked = n_rows > 0
        values = {
            name: {metric: column[asked] for metric, column in columns.items()} for name, columns in values.items()
        }
        return Estimates.of(values, rows.user_idx[asked], self.params, self.seed, {HEADLINE: n_rows[asked]})

    def _auc(self, by_seed: Mapping[int, np.ndarray], keep: np.ndarray) -> tuple[float, float, float]:
        """The AUC of all rows together with its bounds, as the mean over seeds."""
        rows = self.impressions.where(keep)
        user_idx = rows.user_idx[rows.case]
        value, resampled = [], []
        for score in by_seed.values():
            rng = np.random.default_rng(self.seed)
            value.append(metrics.auc(rows.label, score[keep]))
            resampled.append(bootstrap_auc(rows.label, score[keep], user_idx, self.params.n_resamples, rng))
        low, high = interval(np.mean(resampled, axis=0)[:, None], self.params.confidence)
        return float(np.mean(value)), float(low[0]), float(high[0])

    def table(self) -> Columns:
        """Every metric: stretch, model, metric, value, low, high; those of all rows together, AUC apart, have no
        interval."""
        tables = []
        for stretch in self.of:
            tables.append(labelled(self.of[stretch].table(), stretch=stretch))
            keep = self.impressions.rows(stretch)
            for name in track(list(self.scores), f"judging all impressions of {stretch} together"):
                found = {"auc": self._auc(self.scores[name], keep)}
                found |= {key: (value, np.nan, np.nan) for key, value in self._pooled(name, keep).items()}
                value, low, high = np.array(list(found.values())).T
                columns = {"metric": np.array(list(found)), "value": value, "low": low, "high": high}
                tables.append(labelled(columns, stretch=stretch, model=name))
        return stack(tables)

    def _pooled(self, name: str, keep: np.ndarray) -> dict[str, float]:
        rows = self.impressions.where(keep)
        each = [pooled(rows, score[keep], self._calibrations[name][seed]) for seed, score in self.scores[name].items()]
        return {metric: float(np.mean([values[metric] for values in each])) for metric in each[0]}

    @cached_property
    def _calibrations(self) -> dict[str, dict[int, Calibration]]:
        """Of each model and seed."""
        on_valid = self.impressions.rows("valid")
        rows = self.impressions.where(on_valid)
        return {
            name: {seed: Calibration.fit(rows.label, rows.wtr, score[on_valid]) for seed, score in by_seed.items()}
            for name, by_seed in self.scores.items()
        }

    def reliability(self) -> Columns:
        """Predicted and observed share of positives by bin of probability, of each model's first seed."""
        tables = []
        for stretch in [name for name in self.of if name != "valid"]:
            keep = self.impressions.rows(stretch)
            for name, by_seed in self.scores.items():
                seed, score = next(iter(by_seed.items()))
                probability = self._calibrations[name][seed].probability(score[keep])
                table = metrics.reliability(self.impressions.label[keep], probability, N_BINS)
                tables.append(labelled(table, stretch=stretch, model=name))
        return stack(tables)

    def headline(self, name: str, stretch: str) -> dict[str, float]:
        """The flat metrics of a model."""
        found = self.of[stretch].of_model(name)
        keep = self.impressions.rows(stretch)
        shown = (HEADLINE, f"{HEADLINE}_half_width", f"ndcg@{K}", f"wtg@{K}")
        auc = np.mean([metrics.auc(self.impressions.label[keep], score[keep]) for score in self.scores[name].values()])
        return {key: found[key] for key in shown} | {"auc": float(auc), "rows": int(keep.sum())}

    def comparison(self, stretch: str) -> Columns:
        """HEADLINE of every model and pair of models, see `Estimates.comparison`."""
        return self.of[stretch].comparison(HEADLINE, self.params.confidence)

    def by_day(self) -> Columns:
        """HEADLINE on test by the day of the impression: day, rows, model, metric, value, low, high."""
        on_test = self.impressions.rows("test")
        day = days_of(self.impressions.time_ms)
        tables = []
        for today in np.unique(day[on_test]):
            keep = on_test & (day == today)
            table = self._estimates(keep, headline_per_case).table()
            tables.append({**labelled(table, day=str(today)), "n": np.full(len(self.scores), keep.sum())})
        return stack(tables)

    def per_user(self, name: str, seed: int) -> Columns:
        """Every case with its metrics and its number of rows."""
        impressions = self.impressions
        values = per_case(impressions, self.scores[name][seed])
        n_rows = np.bincount(impressions.case, minlength=len(impressions.case_id))
        about = {"user_idx": impressions.user_idx, "user_id": impressions.user_id, "case_id": impressions.case_id}
        return {"part": impressions.stretch, **about, "rows": n_rows, "auc": values.pop("gauc"), **values}
