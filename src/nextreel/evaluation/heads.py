"""What the heads of a model say of impressions, held to what came of them: `metrics/heads.csv`.

A head that says how likely something is, by log-odds or a share: log loss; accuracy, precision, recall and F1 at even
odds; ECE, which has no interval (see `impressions.together`). One that says a number: root mean square error, mean
absolute error, XAUC. Nothing is calibrated before.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from scipy.special import expit

from nextreel import arrays
from nextreel.arrays import Columns
from nextreel.evaluation import Params
from nextreel.evaluation.calibration import N_BINS
from nextreel.evaluation.estimates import EMPTY, Estimates, labelled, stack
from nextreel.evaluation.impressions import PLAIN, Impressions
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics import impressions as metrics
from nextreel.metrics.ratios import Estimate

JUDGED_ON = ("test", "random")


class Said(NamedTuple):
    """How to read what a head says."""

    kind: Literal["log_odds", "share", "number"]
    truth: Callable[[Columns], np.ndarray]  # of outcomes [m], see `cases.write`; of shares 0 or 1; NaN where unknown


def _above(name: str, bound: float) -> Callable[[Columns], np.ndarray]:
    return lambda told: np.where(np.isnan(told[name]), np.nan, told[name] > bound)


def _number(name: str) -> Callable[[Columns], np.ndarray]:
    return lambda told: told[name]


def _complete(told: Columns) -> np.ndarray:
    known = (told["duration_ms"] > 0) & ~np.isnan(told["play_time_ms"])
    return np.where(known, told["play_time_ms"] >= told["duration_ms"], np.nan)


HEADS = {
    "positive": Said("log_odds", _number("label")),
    "binary": Said("log_odds", _above("wtr", 0.5)),
    "linear": Said("number", _number("wtr")),
    "relevant": Said("log_odds", _above("wtg", 1.0)),
    "gain": Said("number", _number("wtg")),
    "watch_time_ms": Said("number", _number("play_time_ms")),
    "watch_time_wtr": Said("number", _number("wtr")),
    "watch_time_wtg": Said("number", _number("wtg")),
    "watch_time_complete": Said("share", _complete),
    "watch_time_positive": Said("share", _number("label")),
}


def table(data: Path, shown: Impressions, models: Iterable[str], seed: int, params: Params) -> Columns:
    """part, head, model, metric, value, low, high: of the heads that tables of scores tell of, of a seed."""
    told = {name: values.astype(float) for name, values in arrays.load(data / "outcomes.parquet").items()}
    tables = []
    for model in models:
        path = data / f"scores/{model}.parquet"
        if names := [name for name in pq.read_schema(path).names if name in HEADS]:
            said = arrays.load(path, [("seed", "=", seed)], ["impression", *names])
            tables += _of_model(model, said.pop("impression"), said, shown, told, params)
    return stack(tables) if tables else {"part": np.array([]), "head": np.array([]), **EMPTY}


def _of_model(
    model: str, at: np.ndarray, said: Columns, shown: Impressions, told: Columns, params: Params
) -> list[Columns]:
    """at: of which impressions [m] the heads say something [m] each."""
    tables = []
    for part in JUDGED_ON:
        mine = shown.rows(part)[at]
        rows = at[mine]
        if not len(rows):
            continue
        clusters = Clusters(shown.user_idx[shown.case[rows]], shown.video_idx[rows])
        for name, values in said.items():
            found, truth = Estimates(clusters, params.confidence), HEADS[name].truth(told)[rows]
            for metric, value in judged(HEADS[name], values[mine].astype(float), truth).items():
                found.add(model, metric, value)
            tables.append(labelled(found.table(), part=part, head=name))
    return tables


def judged(head: Said, said: np.ndarray, truth: np.ndarray) -> dict[str, Estimate | float]:
    """The metrics of what a head says of rows [m]; those of an unknown truth, NaN, or of which it says nothing, are no
    part of them."""
    silent = np.isnan(said)
    said, truth = np.where(silent, 0.0, said), np.where(silent, np.nan, truth)
    if head.kind == "number":
        found: dict[str, Estimate | float] = {"rmse": metrics.mse(said, truth).estimate().root()}
        return found | {"mae": metrics.mae(said, truth).estimate(), "xauc": metrics.xauc(said, truth).estimate()}
    share = expit(said) if head.kind == "log_odds" else said
    known = ~np.isnan(truth)
    found = {"log_loss": metrics.log_loss(share, truth).estimate()}
    for metric, parts in metrics.threshold_scores(truth[known] > 0, share[known], PLAIN).items():
        found[metric] = parts.at(np.flatnonzero(known), len(truth)).estimate()
    reliability = metrics.reliability(truth[known], share[known], N_BINS)
    return found | {"ece": metrics.expected_calibration_error(reliability)}
