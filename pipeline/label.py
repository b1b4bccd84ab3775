"""Labels fitted on train; cases, targets, catalogue, impressions and sequences for everything after."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import stage
from nextreel.params import Params


def main(params: Params) -> None:
    from nextreel import engine, files, labelling, labels

    settings = params.section("label", labels.Params)
    con = engine.connect(params.section("engine", engine.Params), params.threads)
    parts = engine.read(con, Path("data/parts.parquet"))
    users = engine.read(con, Path("data/tables/users.parquet"))
    durations = labels.by_duration(parts, settings)
    labelled = labels.label(parts, durations, settings)
    engine.write_arrays(durations, Path("data/durations.parquet"))
    questions = labelling.write(con, labelled, users.count().execute(), Path("data"))
    by_duration = labels.share_by_duration(labelled.filter(labelled.part != "random"))
    files.write_csv(Path("plots/label_by_duration.csv"), labelling.chart(by_duration))
    files.write_json(Path("metrics/label.json"), labelling.summary(labelled, questions, by_duration))


stage.run(main)
