"""Raw files -> data/tables: checked rows, repeats dropped, ids numbered."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import stage
from nextreel.params import Params


def main(params: Params) -> None:
    from nextreel import datasets, engine, files, schema

    settings = params.section("ingest", datasets.Params)
    con = engine.connect(params.section("engine", engine.Params), params.threads)
    source = datasets.layout(settings).read(con, Path(settings.path))
    datasets.check_bad_rows(source, settings.max_rejected_share)
    for name, wanted in schema.TABLES.items():
        table = source.tables.get(name, schema.empty(wanted))
        schema.check(table, wanted, name)
        engine.write(con, table, Path("data/tables") / f"{name}.parquet", schema.ORDER[name])
    files.write_json(Path("metrics/ingest.json"), datasets.summary(source))


stage.run(main)
