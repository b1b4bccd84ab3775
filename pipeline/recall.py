"""Fit one counting or factor model on train; its lists and target ranks."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import stage
from nextreel.params import Params


def main(params: Params, name: str) -> None:
    from nextreel import answers, files, models

    module = models.module(name)
    exam = answers.Exam.load(Path("data"), params.seed)
    settings = params.section(f"recall.{name}", module.Params)
    model = module.Model.fit(exam.events.train(), exam.n_videos, settings)
    with files.replacing(Path("data/models") / name) as folder:
        model.save(folder)
    lists, ranks = (Path("data") / kind / f"{name}.parquet" for kind in ("lists", "ranks"))
    answers.write(model, name, exam, lists, ranks)


stage.run(main)
