"""Labels fitted on train; cases, targets, catalogue, impressions and sequences for everything after."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import stage
from nextreel.params import Params


def main(params: Params) -> None:
    from nextreel import cases, engine, files, labelling, labels, splits

    leave_one_out = params.section("split", splits.Params).strategy == "leave_one_out"
    con = engine.connect(params.section("engine", engine.Params), params.threads)
    parts = engine.read(con, Path("data/parts.parquet"))
    settings = labels.usable(parts, params.section("label", labels.Params))
    durations = labelling.fit(parts, settings, leave_one_out)
    labelled = labels.label(parts, durations, settings)
    engine.write_arrays(durations, Path("data/durations.parquet"))
    asked = params.section("cases", cases.Params)
    questions = labelling.write(con, labelled, Path("data"), asked, leave_one_out)
    by_duration = labels.share_by_duration(labelled.filter(labelled.part != "random"))
    files.write_csv(Path("plots/label_by_duration.csv"), labelling.chart(by_duration))
    files.write_json(Path("metrics/label.json"), labelling.summary(labelled, questions, by_duration, leave_one_out))


stage.run(main)
