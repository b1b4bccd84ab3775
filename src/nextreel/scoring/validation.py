"""How good a model in training is on valid: what its epoch is chosen by."""

from nextreel.metrics import ranks
from nextreel.models import Scorer
from nextreel.scoring.sets import Exam, target_ranks


def validate(model: Scorer, exam: Exam) -> dict[str, float]:
    """Metrics on the valid part, to select by."""
    rank = target_ranks(model, exam, "valid", "validating")
    return {"hr@10": float(ranks.hit(rank, 10).mean()), "ndcg@10": float(ranks.ndcg(rank, 10).mean())}
