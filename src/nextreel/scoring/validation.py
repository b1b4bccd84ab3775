"""How good a model in training is on valid: what its epoch is chosen by."""

from pathlib import Path

import numpy as np

from nextreel import arrays
from nextreel.cases.store import Store
from nextreel.contract import Scorer
from nextreel.metrics import ranks
from nextreel.scoring.retrieve import target_ranks
from nextreel.scoring.sets import EvalSet


def validate(model: Scorer, store: Store, asked: EvalSet) -> dict[str, float]:
    """Metrics on the valid part, to select by."""
    return _metrics(target_ranks(model, store, asked, "valid", "validating"))


def of_ranks(path: Path, asked: EvalSet) -> dict[str, float]:
    """The same from a table of target ranks, see `predict.fit_and_predict`: over the cases of all its seeds."""
    table, valid = arrays.load(path), asked.of("valid").cases.case_id
    return {f"valid_{key}": value for key, value in _metrics(table["rank"][np.isin(table["case_id"], valid)]).items()}


def _metrics(rank: np.ndarray) -> dict[str, float]:
    return {"hr@10": float(ranks.hit(rank, 10).mean()), "ndcg@10": float(ranks.ndcg(rank, 10).mean())}
