"""Fuse the lists of the channels into one pool a case; the recall of each is the ceiling of ranking."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import files
    from nextreel.scoring.sets import EvalSet
    from nextreel.two_stage import fusion, recall

    settings = params.section("candidates", fusion.Params)
    fusion.forget_others(Path(), {*params.get("recall"), *params.get("train")})
    asked = EvalSet.load(Path("data"), params.seed)
    lists = {name: Path("data/lists") / f"{name}.parquet" for name in settings.channels}
    ranks, n_empty = fusion.write(lists, asked, settings, Path("data/systems/pool"))
    files.write_csv(Path("plots/recall.csv"), recall.chart(asked, ranks, settings.pool_size))
    found = recall.summary(asked, ranks, settings.pool_size)
    files.write_json(Path("metrics/recall.json"), found | {"cases_without_candidates": n_empty})


stage.run(main)
