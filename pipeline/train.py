"""Train one neural model on train, its epoch chosen on valid; its lists, target ranks and loss curve."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import stage
from nextreel.params import Params


def main(params: Params, name: str) -> None:
    from nextreel import runtime

    runtime.prepare(params.threads, params.cpu_isa)
    from nextreel import answers, models, splits
    from nextreel.evaluation import next_item
    from nextreel.exam import Exam
    from nextreel.nn import trainer

    module = models.module(name)
    settings = params.section(f"train.{name}", module.Params, defaults="model")
    refit = params.section("split", splits.Params).refit
    exam = Exam.load(Path("data"), params.seed)
    curve = Path("plots/curves") / f"{name}.csv"
    validation = trainer.Validation(lambda model: next_item.validate(model, exam), curve)
    answers.examine(name, module.Model, settings, exam, refit, Path("data"), validation=validation)


stage.run(main)
