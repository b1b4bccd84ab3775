"""A small world from raw files to the store, with what only its simulator knows."""

from types import SimpleNamespace

import pytest

from nextreel import datasets, engine, labels, splits
from nextreel.cases import protocols, write
from nextreel.cases.store import Store
from nextreel.datasets import kuairand
from nextreel.scoring.sets import EvalSet, ShownPairs
from nextreel.simulation import generator


@pytest.fixture(scope="session")
def small(committed, ingest, connect, tmp_path_factory):
    """data: the folder; label, store, asked, shown: what the stages make of it. Positives are long views."""
    folder = tmp_path_factory.mktemp("small")
    size = {"n_users": 200, "n_videos": 300, "n_rows": 20_000, "n_days": 10, "random_share": 0.1}
    generator.write(folder / "raw", generator.Params(**committed["simulate"] | size))
    con, data = connect(), folder / "data"
    datasets.write_tables(con, kuairand.read(con, ingest(folder / "raw")), data / "tables")
    tables = (engine.read(con, data / f"tables/{name}.parquet") for name in ("interactions", "random"))
    interactions, random = tables
    parts = splits.temporal(interactions, random, splits.bounds(interactions, splits.Params(**committed["split"])))
    label = labels.Params(**committed["label"] | {"positive": "long_view"})
    labelled = labels.label(parts, write.fit(parts, label, leave_one_out=False), label)
    write.write(con, labelled, data, protocols.Params(targets="first"), leave_one_out=False)
    asked, shown = EvalSet.load(data, 42), ShownPairs.load(data)
    return SimpleNamespace(data=data, label=label, store=Store.load(data / "store"), asked=asked, shown=shown)
