"""Give every row its part: train, valid, test or random."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import engine, files, labels, splits

    con = engine.connect(params.section("engine", engine.Params), params.threads, Path(".work"))
    interactions = engine.read(con, Path("data/tables/interactions.parquet"))
    random = engine.read(con, Path("data/tables/random.parquet"))
    settings = params.section("split", splits.Params)
    bounds = splits.bounds(interactions, settings)
    if bounds is None:
        labelled = labels.label_all(interactions, labels.usable(interactions, params.section("label", labels.Params)))
        parts = splits.leave_one_out(labelled, random)
    else:
        parts = splits.temporal(interactions, random, bounds)
    summary = splits.summary(parts, bounds, settings)
    engine.write(con, parts.filter(parts.part.notnull()), Path("data/parts.parquet"), ["user_idx", "time_ms", "row"])
    files.write_json(Path("metrics/split.json"), summary)


stage.run(main)
