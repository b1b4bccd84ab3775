"""Labels fitted on train; the store of columns, cases, targets, catalogue and impressions for all that follows."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import arrays, engine, files, labels
    from nextreel.cases import protocols, write

    leave_one_out = params.get("split.strategy") == "leave_one_out"
    con = engine.connect(params.section("engine", engine.Params), params.threads, Path(".work"))
    parts = engine.read(con, Path("data/parts.parquet"))
    asked = params.section("label", labels.Params)
    settings = labels.usable(parts, asked)
    if settings != asked:
        print(f"{labels.NO_WATCH_TIME}, and every row is a positive")
    durations = write.fit(parts, settings, leave_one_out)
    labelled = labels.label(parts, durations, settings)
    arrays.write(durations, Path("data/durations.parquet"))
    targets = params.section("cases", protocols.Params)
    questions = write.write(con, labelled, Path("data"), targets, leave_one_out)
    by_duration = labels.share_by_duration(labelled.filter(labelled.part != "random"))
    files.write_csv(Path("plots/label_by_duration.csv"), write.chart(by_duration))
    summary = write.summary(labelled, questions, by_duration, settings.positive, leave_one_out)
    files.write_json(Path("metrics/label.json"), summary)


stage.run(main)
