"""What the studies start from: a simulated world in a folder of its own, from raw files to parts."""

from pathlib import Path

import ibis.expr.types as ir

from nextreel import arrays, datasets, engine, labels, splits
from nextreel.cases import protocols, write
from nextreel.datasets import kuairand
from nextreel.params import Params
from nextreel.simulation import generator


def parts(con: engine.Connection, data: Path, params: Params, **changes: float) -> ir.Table:
    """All rows with their part, of the world of params.yaml with some of its `simulate` changed; `data` gets the
    tables."""
    generator.write(data / "raw", params.section("simulate", generator.Params).model_copy(update=changes))
    ingest = params.section("ingest", datasets.Params).model_copy(update={"path": str(data / "raw")})
    tables = datasets.write_tables(con, kuairand.read(con, ingest), data / "tables")
    standard, random = tables["interactions"], tables["random"]
    bounds = splits.bounds(standard, params.section("split", splits.Params))
    assert bounds is not None, "the studies cut by time"
    return splits.temporal(standard, random, bounds)


def labelled(con: engine.Connection, data: Path, params: Params, **changes: float) -> ir.Table:
    """The labelled rows of `parts`; `data` gets what the label stage writes too."""
    rows, settings = parts(con, data, params, **changes), params.section("label", labels.Params)
    durations = write.fit(rows, settings, leave_one_out=False)
    arrays.write(durations, data / "durations.parquet")
    found = labels.label(rows, durations, settings)
    write.write(con, found, data, params.section("cases", protocols.Params), leave_one_out=False)
    return found
