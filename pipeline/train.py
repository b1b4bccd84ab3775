"""Train one neural model on train, its epoch chosen on valid; its answers, its loss curve and its worth on valid."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params, name: str) -> None:
    runtime.prepare(params.threads, params.cpu_isa)
    from nextreel import files, models
    from nextreel.cases.store import Store
    from nextreel.nn import recommender, trainer
    from nextreel.scoring import predict, validation
    from nextreel.scoring.sets import EvalSet, ShownPairs

    module = models.module(name)
    settings: recommender.NeuralParams = params.section(f"train.{name}", module.Params, defaults="model")
    data = Path("data")
    store = Store.load(data / "inputs" / name)
    asked, shown = EvalSet.load(data, params.seed), ShownPairs.load(data)
    curves = {asked.seed: Path("plots/curves") / f"{name}.csv"}  # of the first seed
    predict.fit_and_predict(
        name, module.Model, settings, store, asked, shown, settings.seeds, data,
        lambda seed: trainer.Session(lambda model: validation.validate(model, store, asked), curves.get(seed)),
    )  # fmt: skip
    fitted = module.Model.load(data / "models" / name / "train")
    worth = {"epochs": fitted.params.epochs} | validation.of_ranks(data / "ranks" / f"{name}.parquet", asked)
    files.write_json(Path("metrics/valid") / f"{name}.json", worth)


stage.run(main)
