"""The columns of the store that each model names and the cuts that it is to be fitted on, and no others."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import files, models
    from nextreel.cases import store
    from nextreel.nn import wide
    from nextreel.parts import cuts_to_fit

    recommending = {"trees", *params.get("candidates.from"), params.get("rank.model"), params.get("rank.exposure")}
    named = {"oracle": ("events/positive", "events/time_ms"), "trees": wide.COLUMNS}  # trees: whether or not there are
    for name in params.get("recall"):
        module = models.module(name)
        named[name] = module.Model.columns(params.section(f"recall.{name}", module.Params))
    for name in params.get("train"):
        module = models.module(name)
        named[name] = module.Model.columns(params.section(f"train.{name}", module.Params, defaults="model"))
    with files.replacing(Path("data/inputs")) as folder:
        for name, columns in named.items():
            cuts = cuts_to_fit(params.get("split.refit"), recommends=name in recommending)
            store.link(Path("data/store"), folder / name, columns, cuts)


stage.run(main)
