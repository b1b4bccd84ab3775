"""metrics/worlds.csv: how every system does in several worlds, a row a cell of world x system."""

import csv
from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from nextreel.files import read_json, write_csv
from nextreel.systems import CEILING

# column -> where a system's metrics hold it: folder, key
COLUMNS = {
    **{key: ("models", key) for key in ("ndcg@10", "hr@10", "hr@50", "list_value@10", "coverage@10")},
    **{key: ("models", key) for key in ("unreachable_share", "valid_ndcg@10")},
    **{key: ("impressions", key) for key in ("gauc", "auc", "ndcg@5", "wtg@5", "no_opinion_share")},
    **{f"{key}_random": ("random", key) for key in ("gauc", "auc", "ndcg@5", "wtg@5")},
}
HEADLINES = ("ndcg@10", "gauc", "gauc_random", "list_value@10")  # the higher the better


class Made(NamedTuple):
    """How a row was made: what `clones.state` says of the pipeline, and `model.seeds`."""

    state: str
    seeds: int


class Cell(NamedTuple):
    """A system in a world; `values` by COLUMNS, NaN where it has none."""

    world: int
    model: str
    values: Mapping[str, float]


class Summary(NamedTuple):
    """A metric of a system over worlds, with a t interval, NaN in fewer than two worlds; in how many it leads."""

    mean: float
    low: float
    high: float
    leads: int


def collect(world: int, metrics: Path) -> list[Cell]:
    """The cells of a world, from the metrics of its run."""
    names = sorted(path.stem for path in (metrics / "models").glob("*.json"))
    folders = {folder for folder, _key in COLUMNS.values()}
    cells = []
    for name in names:
        paths = {folder: metrics / folder / f"{name}.json" for folder in folders}
        found = {folder: read_json(path) for folder, path in paths.items() if path.exists()}
        told = {column: found.get(folder, {}).get(key) for column, (folder, key) in COLUMNS.items()}
        cells.append(Cell(world, name, {column: nan if x is None else float(x) for column, x in told.items()}))
    return cells


def read(path: Path) -> dict[Made, list[Cell]]:
    """The cells of the file by how they were made; none where there is no file."""
    found: dict[Made, list[Cell]] = {}
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                values = {column: float(row.get(column) or "nan") for column in COLUMNS}
                made = Made(row["state"], int(row["seeds"]))
                found.setdefault(made, []).append(Cell(int(row["world"]), row["model"], values))
    return found


def write(path: Path, made: Made, cells: Sequence[Cell]) -> None:
    """The cells by world and model, and no others."""
    rows = sorted(cells, key=lambda cell: (cell.world, cell.model))
    about = {
        "state": np.array([made.state] * len(rows)),
        "seeds": np.array([made.seeds] * len(rows)),
        "world": np.array([cell.world for cell in rows]),
        "model": np.array([cell.model for cell in rows]),
    }
    write_csv(path, about | {column: np.array([cell.values[column] for cell in rows]) for column in COLUMNS})


def summary(cells: Sequence[Cell], metric: str, confidence: float) -> dict[str, Summary]:
    """model -> its metric over the worlds, the highest mean first; without those that have none.

    The interval is Student's t over worlds: what other worlds of the same laws would give. Systems that share the
    highest value of a world all lead there; a ceiling leads nothing.
    """
    known = [cell for cell in cells if not isnan(cell.values[metric])]
    best: dict[int, float] = {}
    for cell in known:
        if not cell.model.startswith(CEILING):
            best[cell.world] = max(best.get(cell.world, -np.inf), cell.values[metric])
    found = {}
    for model in {cell.model for cell in known}:
        mine = [cell for cell in known if cell.model == model]
        values = np.array([cell.values[metric] for cell in mine])
        n, mean = len(values), float(values.mean())
        reach = float(stats.t.isf((1 - confidence) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else nan
        ceiling = model.startswith(CEILING)
        leads = 0 if ceiling else sum(cell.values[metric] == best[cell.world] for cell in mine)
        found[model] = Summary(mean, mean - reach, mean + reach, leads)
    return dict(sorted(found.items(), key=lambda item: (-item[1].mean, item[0])))
