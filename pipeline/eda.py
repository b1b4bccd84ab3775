"""What the log looks like: its numbers, charts and pictures. Nothing later rests on them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    import numpy as np

    from nextreel import arrays, eda, engine, files, labels
    from nextreel.reporting import eda as pictures

    data, plots = Path("data"), Path("plots")
    con = engine.connect(params.section("engine", engine.Params), params.threads, Path(".work"))
    parts = engine.read(con, data / "parts.parquet")
    users, videos = (engine.read(con, data / "tables" / f"{name}.parquet") for name in ("users", "videos"))
    label = labels.usable(parts, params.section("label", labels.Params))
    labelled = labels.label(parts, arrays.load(data / "durations.parquet"), label)
    standard = labelled.filter(labelled.part != "random")
    settings = params.section("eda", eda.Params)
    found = eda.explore(standard, users, videos, settings, np.random.default_rng(params.seed))
    files.write_json(Path("metrics/eda.json"), found.numbers)
    for name in ("by_hour", "by_day", "cold_by_day"):
        files.write_csv(plots / f"{name}.csv", found.tables[name])
    with files.replacing(plots / "eda") as folder:
        folder.mkdir()
        pictures.draw(found, folder)


stage.run(main)
