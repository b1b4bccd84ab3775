"""What the studies start from: a simulated world in a folder of its own, from raw files to parts."""

from pathlib import Path

import ibis.expr.types as ir

from nextreel import engine, schema, splits
from nextreel.datasets import kuairand, simulated
from nextreel.params import Params


def parts(con: engine.Connection, data: Path, params: Params, **changes: float) -> ir.Table:
    """All rows with their part, of the world of params.yaml with some of its `simulate` changed; `data` gets the
    tables."""
    simulated.write(data / "raw", params.section("simulate", simulated.Params).model_copy(update=changes))
    source = kuairand.read(con, data / "raw")
    for name, wanted in schema.TABLES.items():
        table = source.tables.get(name, schema.empty(wanted))
        engine.write(con, table, data / f"tables/{name}.parquet", schema.ORDER[name])
    standard, random = (engine.read(con, data / f"tables/{name}.parquet") for name in ("interactions", "random"))
    bounds = splits.bounds(standard, params.section("split", splits.Params))
    assert bounds is not None, "the studies cut by time"
    return splits.temporal(standard, random, bounds)
