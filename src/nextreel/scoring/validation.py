"""How good a model in training is on valid: what its epoch is chosen by."""

from nextreel.cases.store import Store
from nextreel.contract import Scorer
from nextreel.metrics import ranks
from nextreel.scoring.retrieve import target_ranks
from nextreel.scoring.sets import EvalSet


def validate(model: Scorer, store: Store, asked: EvalSet) -> dict[str, float]:
    """Metrics on the valid part, to select by."""
    rank = target_ranks(model, store, asked, "valid", "validating")
    return {"hr@10": float(ranks.hit(rank, 10).mean()), "ndcg@10": float(ranks.ndcg(rank, 10).mean())}
