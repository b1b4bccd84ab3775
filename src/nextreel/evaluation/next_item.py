"""The protocol `first`: each case's target, ranked over the whole catalogue with seen videos left out."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nextreel import metrics
from nextreel.engine import Writer
from nextreel.evaluation import Params
from nextreel.evaluation.intervals import bootstrap_means, interval
from nextreel.exam import Exam, blocks
from nextreel.models import Scorer

KS = (10, 50)
HEADLINE = "ndcg@10"
Columns = dict[str, np.ndarray]


def per_case(rank: np.ndarray) -> Columns:
    """Each case's metrics [n] from its target's rank [n]."""
    return {f"hr@{k}": metrics.hit(rank, k) for k in KS} | {f"ndcg@{k}": metrics.ndcg(rank, k) for k in KS}


def summary(exam: Exam, marks: Columns, lists: Columns) -> dict[str, float]:
    """The flat metrics of a model: test, and valid with the prefix `valid_`.

    marks: case_id and rank of every target; lists: case_id and video_idx of at least the first 10 of every list.
    """
    out: dict[str, float] = {}
    for part, prefix in (("test", ""), ("valid", "valid_")):
        asked = exam.of(part)
        rank = marks["rank"][np.isin(marks["case_id"], asked.cases.case_id)]
        shown = lists["video_idx"][np.isin(lists["case_id"], asked.cases.case_id)]
        catalogue = exam.catalogue.of(part)
        values = {name: float(value.mean()) for name, value in per_case(rank).items()}
        values["coverage@10"] = metrics.coverage(shown, len(catalogue))
        values["cold_share"] = float(1 - np.isin(asked.target, catalogue).mean())
        values["n_cases"] = len(rank)
        out |= {prefix + name: value for name, value in values.items()}
    return out


def compare(exam: Exam, marks: Mapping[str, Columns], params: Params) -> Columns:
    """HEADLINE on test of every model with its interval, and of every pair the paired difference with its own.

    marks: model -> case_id and rank of every target. A row a comparison; `minus` is empty for a model on its own.
    """
    test = exam.of("test").cases
    names = list(marks)
    ranks = [mark["rank"][np.isin(mark["case_id"], test.case_id)] for mark in marks.values()]
    values = np.stack([per_case(rank)[HEADLINE] for rank in ranks], axis=1)
    means = bootstrap_means(values, test.user_idx, params.n_resamples, np.random.default_rng(exam.seed))
    pairs = [(left, right) for left in range(len(names)) for right in range(len(names)) if left != right]
    left, right = np.array(pairs, dtype=int).reshape(-1, 2).T
    low, high = interval(np.hstack([means, means[:, left] - means[:, right]]), params.confidence)
    mean = values.mean(0)
    return {
        "model": np.array([*names, *(names[i] for i in left)]),
        "minus": np.array([*("" for _ in names), *(names[i] for i in right)]),
        HEADLINE: np.concatenate([mean, mean[left] - mean[right]]),
        "low": low,
        "high": high,
    }


def chart(comparison: Columns) -> Columns:
    """HEADLINE of every model on its own with its interval, best first, from what `compare` returns."""
    own = np.flatnonzero(comparison["minus"] == "")
    best_first = own[np.argsort(-comparison[HEADLINE][own], kind="stable")]
    return {name: column[best_first] for name, column in comparison.items() if name != "minus"}


def write_per_user(exam: Exam, marks: Mapping[str, Columns], path: Path) -> None:
    """Every case's metrics for anyone's own analysis: model, part, user_idx, case_id, rank and the metrics."""
    with Writer(path) as writer:
        for name, mark in marks.items():
            case = np.searchsorted(exam.cases.case_id, mark["case_id"])
            about = {"part": exam.cases.part[case], "user_idx": exam.cases.user_idx[case], **mark}
            del about["video_idx"]
            writer.add({"model": np.full(len(case), name), **about, **per_case(mark["rank"])})


def validate(model: Scorer, exam: Exam) -> dict[str, float]:
    """Metrics on the valid part, to select by."""
    rank = np.concatenate([block.target_ranks() for block in blocks(model, exam, "valid", "validating")])
    return {name: float(value.mean()) for name, value in per_case(rank).items() if name.endswith("@10")}
