"""Metrics of one target a case, and of a model in training: what its epoch is chosen by."""

import numpy as np

from nextreel import metrics
from nextreel.evaluation import Columns
from nextreel.exam import Exam, target_ranks
from nextreel.models import Scorer

KS = (10, 50)


def per_case(rank: np.ndarray) -> Columns:
    """Each case's metrics from its target's rank; any shape. With one target, recall@k is HR@k."""
    values = {f"hr@{k}": metrics.hit(rank, k) for k in KS} | {f"ndcg@{k}": metrics.ndcg(rank, k) for k in KS}
    return values | {"mrr@10": metrics.reciprocal_rank(rank, 10)}


def validate(model: Scorer, exam: Exam) -> dict[str, float]:
    """Metrics on the valid part, to select by."""
    values = per_case(target_ranks(model, exam, "valid", "validating"))
    return {name: float(values[name].mean()) for name in ("hr@10", "ndcg@10")}
