"""Train one neural model on train, choosing the epoch on valid; its lists, target ranks and loss curve."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import stage
from nextreel.params import Params


def main(params: Params, name: str) -> None:
    from nextreel import runtime

    runtime.prepare(params.threads, params.cpu_isa)
    import numpy as np

    from nextreel import answers, files, models
    from nextreel.evaluation import next_item

    module = models.module(name)
    settings = params.section(f"train.{name}", module.Params, defaults="model")
    exam = answers.Exam.load(Path("data"), params.seed)
    model = module.Model.fit(
        exam.events.train(),
        exam.n_videos,
        settings,
        np.random.default_rng(params.seed),
        lambda model: next_item.validate(model, exam),
        Path("plots/curves") / f"{name}.csv",
        name,
    )
    with files.replacing(Path("data/models") / name) as folder:
        model.save(folder)
    lists, ranks = (Path("data") / kind / f"{name}.parquet" for kind in ("lists", "ranks"))
    answers.write(model, name, exam, lists, ranks)


stage.run(main)
