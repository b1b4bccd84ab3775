"""Raw files -> data/tables: checked rows, repeats dropped, ids numbered; what was rejected is kept aside."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import datasets, engine, files

    settings = params.section("ingest", datasets.Params)
    con = engine.connect(params.section("engine", engine.Params), params.threads, Path(".work"))
    source = datasets.layout(settings).read(con, settings)
    datasets.write_quarantine(con, source, Path("data/quarantine.parquet"))
    datasets.check_rejected(source, settings.max_rejected_share)
    tables = datasets.write_tables(con, source, Path("data/tables"))
    files.write_json(Path("metrics/ingest.json"), datasets.summary(source, tables))
    files.write_json(Path("metrics/manifest.json"), datasets.manifest(source))


stage.run(main)
