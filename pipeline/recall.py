"""Fit one counting or factor model on train; its lists and target ranks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params, name: str) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import answers, models, splits
    from nextreel.exam import Exam, Shown

    module = models.module(name)
    settings = params.section(f"recall.{name}", module.Params)
    refit = params.section("split", splits.Params).refit
    n_seeds = int(params.get("model.seeds"))
    data = Path("data")
    exam, shown = Exam.load(data, params.seed), Shown.load(data)
    answers.examine(name, module.Model, settings, exam, shown, n_seeds, refit, data)


stage.run(main)
