"""Run the committed pipeline in other worlds of the same laws: `make worlds` writes metrics/worlds.csv.

Each world is a `simulate.seed`, run from raw files to metrics in a clone of its own. Its rows are written as soon as
its run has finished; worlds that have their rows are skipped, so that the same command goes on where it was stopped.
Rows of another state of the pipeline (`clones.state`) or number of training seeds are dropped.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nextreel import evaluation
from nextreel.errors import UserError
from nextreel.params import Params
from nextreel.reporting import clones, readme, worlds_table
from nextreel.reporting.worlds_table import Cell, Made

WORLDS = (42, 43, 44, 45, 46)
TABLE = Path("metrics/worlds.csv")


def run(world: int, seeds: int) -> tuple[list[Cell], float]:
    """The cells of a world, and the seconds that they took: none for the world of the committed run, whose metrics are
    there."""
    committed = Params.load(Path("params.yaml"))
    if (committed.get("simulate.seed"), committed.get("model.seeds")) == (world, seeds):
        return worlds_table.collect(world, Path("metrics")), 0.0
    with clones.clone("worlds") as folder:
        seconds = clones.repro(folder, {"simulate.seed": world, "model.seeds": seeds})
        return worlds_table.collect(world, folder / "metrics"), seconds


def fill(
    path: Path, worlds: Sequence[int], made: Made, measured: Callable[[int, int], tuple[list[Cell], float]] = run
) -> list[Cell]:
    """The cells of all worlds: those that are in the table at `path`, and what `measured` finds of the others, written
    there world by world."""
    before = worlds_table.read(path)
    cells = before.pop(made, [])
    stale = sum(map(len, before.values()))
    if stale:
        print(f"{path}: {stale} rows are of another state of the pipeline or number of seeds, and are dropped")
    for number, world in enumerate(worlds, 1):
        name = f"world {world} ({number} of {len(worlds)})"
        if any(cell.world == world for cell in cells):
            print(f"{name}: there already", flush=True)
            continue
        print(f"{name}: begins", flush=True)
        found, seconds = measured(world, made.seeds)
        cells = [*cells, *found]
        worlds_table.write(path, made, cells)
        print(f"{name}: {len(found)} systems, {seconds / 60:.1f} minutes", flush=True)
    return cells


def main(seeds: str) -> str | None:
    """What went wrong, None if nothing."""

    def work() -> None:
        if not seeds.isdecimal() or int(seeds) < 1:
            raise UserError(f"SEEDS is {seeds!r}; allowed: an integer, at least 1")
        made = Made(clones.state(clones.git(Path(), "show", "HEAD:dvc.lock")), int(seeds))
        cells = fill(TABLE, WORLDS, made)
        confidence = Params.load(Path("params.yaml")).section("evaluate", evaluation.Params).confidence
        print("\n" + readme.worlds({made: cells}, made.state, confidence))

    return clones.command(work, "the world that was running")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
