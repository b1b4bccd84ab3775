"""Settings of neural models that benchmarks share. To be imported after `runtime.prepare`."""

from pathlib import Path
from typing import Any

from nextreel import models
from nextreel.nn.recommender import NeuralParams
from nextreel.params import Params

_PARAMS = Params.load(Path(__file__).resolve().parents[1] / "params.yaml")
# Items alone, scores are products, Adam at one rate.
PLAIN: dict[str, Any] = {
    **{"weight_decay": 0.0, "inputs": [], "request": [], "videos": [], "id_dropout": 0.0},
    **{"own_row_from": 1, "hashed_rows": 0, "tied": True, "temperature": None, "table_optimizer": "adam"},
    **{"negatives_from": "uniform", "logq": None, "schedule": "constant", "warmup_share": 0.0, "clip": None},
}


def neural(module: str, changes: dict[str, Any]) -> NeuralParams:
    """The section of a model: `changes`, else PLAIN, else params.yaml."""
    own = {**_PARAMS.get("model"), **_PARAMS.get(f"train.{module}"), **PLAIN, **changes}
    found: NeuralParams = models.module(module).Params.model_validate(own)
    return found
