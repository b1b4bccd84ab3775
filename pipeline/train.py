"""Train one neural model on train, its epoch chosen on valid; its lists, target ranks and loss curve."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params, name: str) -> None:
    runtime.prepare(params.threads, params.cpu_isa)
    from nextreel import answers, models, splits
    from nextreel.evaluation import validation
    from nextreel.exam import Exam, Shown
    from nextreel.nn import recommender, trainer

    module = models.module(name)
    settings: recommender.NeuralParams = params.section(f"train.{name}", module.Params, defaults="model")
    refit = params.section("split", splits.Params).refit
    data = Path("data")
    exam, shown = Exam.load(data, params.seed), Shown.load(data)
    curves = {exam.seed: Path("plots/curves") / f"{name}.csv"}  # of the first seed
    answers.examine(
        name, module.Model, settings, exam, shown, settings.seeds, refit, data,
        lambda seed: {"validation": trainer.Validation(lambda m: validation.validate(m, exam), curves.get(seed))},
    )  # fmt: skip


stage.run(main)
