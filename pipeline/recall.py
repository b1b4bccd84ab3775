"""Fit one counting or factor model on train; its lists and target ranks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import stage
from nextreel.params import Params


def main(params: Params, name: str) -> None:
    from nextreel import answers, models, splits
    from nextreel.exam import Exam

    module = models.module(name)
    settings = params.section(f"recall.{name}", module.Params)
    refit = params.section("split", splits.Params).refit
    exam = Exam.load(Path("data"), params.seed)
    answers.examine(name, module.Model, settings, exam, refit, Path("data"))


stage.run(main)
