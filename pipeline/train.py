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
    from nextreel.contract import Judge
    from nextreel.nn import checkpoint, recommender
    from nextreel.scoring import predict, validation
    from nextreel.scoring.sets import EvalSet, ShownPairs

    module = models.module(name)
    settings: recommender.NeuralParams = params.section(f"train.{name}", module.Params, defaults="model")
    data, inputs, kept = Path("data"), Path("data/inputs") / name, Path(".work/checkpoints") / name
    store = Store.load(inputs)
    asked, shown = EvalSet.load(data, params.seed), ShownPairs.load(data)
    showings = validation.Showings.load(data, store, shown)
    judges = ("impressions", "valid_outcomes") if issubclass(module.Model, Judge) else ()  # its heads, on valid
    read = [inputs, *(data / f"{table}.parquet" for table in ("cases", "catalogue", "targets", *judges))]
    key = checkpoint.digest([name, settings.model_dump(), params.seed, params.threads, params.cpu_isa], read)
    curve, rates = Path(f"plots/curves/{name}.csv"), Path(f"logs/train@{name}")
    predict.fit_and_predict(
        name, module.Model, settings, store, asked, shown, settings.seeds, data,
        lambda seed, cut: validation.session(store, asked, showings, seed, cut, key, curve, rates, kept),
    )  # fmt: skip
    fitted = module.Model.load(data / "models" / name / "train")
    worth = {"epochs": fitted.params.epochs} | validation.of_ranks(data / "ranks" / f"{name}.parquet", asked)
    files.write_json(Path("metrics/valid") / f"{name}.json", worth)
    files.remove(kept)  # only now: a stage that is killed later need not train again


stage.run(main)
