"""The protocols `impressions` and `random`: the videos really shown to each user in a part, ordered by score.

Both judge the same scores, of models frozen before the part (see `parts.answering`) and histories frozen at the user's
first row of the part. The videos of `random` were chosen by nobody: what is measured there is free of exposure bias,
and nothing is fitted on them.

The system `as_of` alone reads histories up to each row. On standard rows its GAUC is biased downwards, and AUC hardly:
a row's outcome is in the scores of the user's later rows and never in its own. Outcomes of `random` are in no history.

A part of the impressions is `valid` or `test` (standard rows) or `random`. A row whose label is unknown belongs to
none: it is scored, and not judged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from nextreel import arrays
from nextreel.arrays import Columns
from nextreel.cases.asked import Catalogue
from nextreel.cases.store import UNKNOWN
from nextreel.clock import days_of
from nextreel.evaluation import Params
from nextreel.evaluation.calibration import N_BINS, Calibration
from nextreel.evaluation.estimates import Estimates, labelled, stack
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics import impressions as metrics
from nextreel.metrics import ratios
from nextreel.metrics.ratios import Estimate, Parts
from nextreel.parts import PARTS
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
    label: np.ndarray  # [m] 0, 1 or UNKNOWN
    wtr: np.ndarray  # [m] at most `label.wtr_cap`, NaN where unknown
    wtg: np.ndarray  # [m] the gain of `labels.REFERENCE` whatever the label, NaN where unknown
    tie: np.ndarray  # [m] uint64, see `order.tie_hash`
    known: np.ndarray  # [m] bool: the video had an event before the case's part began
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
        catalogue = Catalogue.load(data)
        tie = order.tie_hash(key[row], catalogue.video_key[shown.video_idx])
        known = catalogue.first_part[shown.video_idx] < _number_of(cases.part)[row]
        label = np.nan_to_num(outcomes["label"].astype(float), nan=UNKNOWN).astype(np.int8)
        wtr, wtg = outcomes["wtr"], outcomes["wtg"]
        return cls(
            row, shown.video_idx, shown.time_ms, label, wtr, wtg, tie, known,
            cases.case_id, np.where(random, "random", cases.part), cases.user_idx,
        )  # fmt: skip

    def rows(self, part: str) -> np.ndarray:
        """Which rows [m] belong to a part."""
        return np.asarray((self.part == part)[self.case] & (self.label != UNKNOWN))

    @property
    def n_rows(self) -> np.ndarray:
        """The rows of each case [n] that belong to a part."""
        return np.bincount(self.case[self.label != UNKNOWN], minlength=len(self.case_id))

    def where(self, keep: np.ndarray) -> "Impressions":
        """Some of the rows; the cases stay."""
        names = ("case", "video_idx", "time_ms", "label", "wtr", "wtg", "tie", "known")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})

    def load_scores(self, path: Path) -> dict[int, np.ndarray]:
        """Seed -> the score [m] of each row, from a model's table; NaN where it has no opinion."""
        table = arrays.load(path, columns=["seed", "impression", "score"])
        found = {}
        for seed in np.unique(table["seed"]):
            mine = table["seed"] == seed
            score = np.full(len(self.case), np.nan, table["score"].dtype)
            score[table["impression"][mine]] = table["score"][mine]
            found[int(seed)] = score
        return found

    def filled(self, score: np.ndarray) -> np.ndarray:
        """score [m] with the median of the case where there is no opinion, 0 where the case has none at all: to know
        nothing of a video says neither good nor bad of it."""
        return metrics.with_medians(score, self.case, len(self.case_id))


def _number_of(part: np.ndarray) -> np.ndarray:
    """The positions in PARTS of their names [n]."""
    names = np.array(PARTS)
    by_name = np.argsort(names)
    return np.asarray(by_name[np.searchsorted(names, part, sorter=by_name)])


def headline_parts(rows: Impressions, score: np.ndarray) -> Parts:
    """HEADLINE of each case, by row. score [m]."""
    return metrics.grouped_auc(rows.label, score, rows.case, len(rows.case_id))


def headline_estimate(rows: Impressions, parts: Parts) -> Estimate:
    """The mean of HEADLINE over cases, weighted by their impressions."""
    return parts.estimate(rows.n_rows[rows.case].astype(float), within_users=True)


def case_parts(rows: Impressions, score: np.ndarray) -> dict[str, Parts]:
    """The metrics of each case, by row; their means over cases are the results. score [m]."""
    n = len(rows.case_id)
    auc = headline_parts(rows, score)
    ndcg = metrics.grouped_ndcg(rows.label, score, rows.case, rows.tie, n, K)
    both_classes = np.bincount(rows.case, auc.share, n)[rows.case] > 0
    gain = (rows.wtg, score, rows.case, rows.tie, n)
    return {
        HEADLINE: auc,
        f"ndcg@{K}": Parts(ndcg.part * both_classes, ndcg.share * both_classes),
        f"ndcg@{K}_all_users": ndcg,
        **{f"wtg@{k}": metrics.grouped_top_mean(*gain, k) for k in (K, 2 * K)},
        **{f"dcwtg@{k}": metrics.grouped_discounted_sum(*gain, k) for k in (K, 2 * K)},
    }


def per_case(rows: Impressions, parts: Mapping[str, Parts]) -> Columns:
    """Each case's metrics [n]; NaN where it has none."""
    return {metric: found.by_group(rows.case, len(rows.case_id)) for metric, found in parts.items()}


def together(rows: Impressions, score: np.ndarray, calibration: Calibration | None) -> dict[str, Estimate | float]:
    """Metrics of all rows as one. Without a calibration those of the scores' order alone: on valid itself what scores
    meant there would be no result.

    ECE has no interval. It takes every bin's gap as positive, so noise alone raises it, and where there is no gap it
    has no slope.
    """
    found: dict[str, Estimate | float] = {"auc": metrics.auc(rows.label, score).estimate()}
    if calibration:
        probability = calibration.probability(score)
        for name, threshold in (("half", PLAIN), ("best", calibration.threshold)):
            for metric, parts in metrics.threshold_scores(rows.label, probability, threshold).items():
                estimate = parts.estimate()
                found[f"{metric}_at_{name}"] = estimate._replace(value=float(np.nan_to_num(estimate.value)))
        found["ece"] = metrics.expected_calibration_error(metrics.reliability(rows.label, probability, N_BINS))
        expected = calibration.watch_ratio(score)
        found["wtr_rmse"] = metrics.mse(expected, rows.wtr).estimate().root()
        found["wtr_mae"] = metrics.mae(expected, rows.wtr).estimate()
    return found | {"wtr_xauc": metrics.xauc(score, rows.wtr).estimate()}


class ImpressionResults:
    """The scores of several models, each case's metrics, and what follows from them."""

    def __init__(self, impressions: Impressions, scores: Mapping[str, dict[int, np.ndarray]], params: Params) -> None:
        """scores: model -> what `Impressions.load_scores` returns."""
        self.impressions = impressions
        self.opinions = scores
        self.scores = {
            name: {seed: impressions.filled(score) for seed, score in by_seed.items()}
            for name, by_seed in scores.items()
        }
        self.params = params
        self.values: dict[str, dict[int, Columns]] = {}
        self._rows = {part: keep for part in SHOWN_IN if (keep := impressions.rows(part)).any()}
        self.of = {part: self._estimates(keep) for part, keep in self._rows.items()}
        for name, by_seed in track(list(self.scores.items()), "judging impressions"):
            for part, metric, found in self._judged(name, by_seed):
                self.of[part].add(name, metric, found)

    def _estimates(self, keep: np.ndarray) -> Estimates:
        """Of some of the rows; an impression's video is the one that was shown."""
        shown = self.impressions
        clusters = Clusters(shown.user_idx[shown.case[keep]], shown.video_idx[keep])
        return Estimates(clusters, self.params.confidence, HEADLINE)

    def _judged(self, name: str, by_seed: Mapping[int, np.ndarray]) -> Iterator[tuple[str, str, Estimate | float]]:
        """part, metric and the mean over seeds of a model; keeps the values of its cases."""
        values: dict[int, Columns] = {seed: {} for seed in by_seed}
        for part, keep in self._rows.items():
            rows, fitted = self.impressions.where(keep), {}
            if part != "valid" and "valid" in self._rows:
                fitted = self._calibrations[name]
            each = []
            for seed, score in by_seed.items():
                parts = case_parts(rows, score[keep])
                for metric, value in per_case(rows, parts).items():  # NaN in cases of other parts
                    values[seed][metric] = np.fmax(values[seed].get(metric, np.nan), value)
                means = {metric: found.estimate() for metric, found in parts.items() if metric != HEADLINE}
                means[HEADLINE] = headline_estimate(rows, parts[HEADLINE])
                each.append({**means, **together(rows, score[keep], fitted.get(seed))})
            for metric in each[0]:
                yield part, metric, _mean([found[metric] for found in each])
        self.values[name] = values

    def table(self) -> Columns:
        """Every metric: part, model, metric, value, low, high. Those that are fitted on valid have no row of it."""
        return stack([labelled(found.table(), part=part) for part, found in self.of.items()])

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
        shown = (HEADLINE, f"{HEADLINE}_half_width", f"ndcg@{K}", f"wtg@{K}", "auc")
        unknown = [np.isnan(score[self._rows[part]]).mean() for score in self.opinions[name].values()]
        shares = {"no_opinion_share": float(np.mean(unknown)), "rows": int(self._rows[part].sum())}
        fitted = {key: found[key] for key in ("ece",) if key in found}  # where valid has rows to fit to
        return {key: found[key] for key in shown} | fitted | shares

    def comparison(self, part: str) -> Columns:
        """HEADLINE of every model and pair of models, see `Estimates.comparison`."""
        return self.of[part].comparison

    @cached_property
    def by_day(self) -> Columns:
        """HEADLINE on test by the day of the impression: day, rows, model, metric, value, low, high."""
        day = days_of(self.impressions.time_ms)
        return self._by("day", {str(today): day == today for today in np.unique(day[self.impressions.rows("test")])})

    @cached_property
    def by_video(self) -> Columns:
        """HEADLINE on test among videos with an event before test, and among new ones: videos (known or new), model,
        metric, value, low, high, n rows."""
        known = self.impressions.known
        return self._by("videos", {"known": known, "new": ~known})

    def _by(self, name: str, groups: Mapping[str, np.ndarray]) -> Columns:
        """HEADLINE of the rows of test that are in each group [m]."""
        on_test, tables = self.impressions.rows("test"), []
        for group, inside in groups.items():
            keep = on_test & inside
            rows, found = self.impressions.where(keep), self._estimates(keep)
            for model, by_seed in self.scores.items():
                each = [headline_estimate(rows, headline_parts(rows, score[keep])) for score in by_seed.values()]
                found.add(model, HEADLINE, ratios.mean(each))
            tables.append({**labelled(found.table(), **{name: group}), "n": np.full(len(self.scores), keep.sum())})
        return stack(tables)

    def per_user(self, name: str, seed: int) -> Columns:
        """Every case with its metrics and its number of rows."""
        impressions = self.impressions
        values = dict(self.values[name][seed])
        about = {"user_idx": impressions.user_idx, "case_id": impressions.case_id}
        return {"part": impressions.part, **about, "rows": impressions.n_rows, "auc": values.pop(HEADLINE), **values}


def _mean(by_seed: list[Estimate | float]) -> Estimate | float:
    estimates = [found for found in by_seed if isinstance(found, Estimate)]
    numbers = [found for found in by_seed if not isinstance(found, Estimate)]
    return float(np.mean(numbers)) if numbers else ratios.mean(estimates)
