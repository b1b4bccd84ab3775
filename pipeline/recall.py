"""Fit one counting or factor model; its lists, target ranks and scores of what was shown."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params, name: str) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import models
    from nextreel.cases.store import Store
    from nextreel.scoring import predict
    from nextreel.scoring.sets import EvalSet, ShownPairs

    module = models.module(name)
    settings = params.section(f"recall.{name}", module.Params)
    n_seeds = int(params.get("model.seeds"))
    data = Path("data")
    store = Store.load(data / "inputs" / name)
    asked, shown = EvalSet.load(data, params.seed), ShownPairs.load(data)
    predict.fit_and_predict(name, module.Model, settings, store, asked, shown, n_seeds, data)


stage.run(main)
