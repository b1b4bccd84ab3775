"""A grid of settings of a neural model, the best by valid: `make sweep` writes experiments/sweeps.csv.

The grids are in experiments/grids.yaml. Each cell is an experiment of DVC, queued and run in a clone of the last
commit: only the stages that the model needs, fitted on train alone, judged on valid alone. Its row is written as soon
as it has run; cells that have their rows are skipped, so that the same command goes on where it was stopped. Rows of
another state of the pipeline (`clones.state`) or another log stay, and count for nothing.
"""

import csv
import functools
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from nextreel.errors import UserError
from nextreel.files import write_csv
from nextreel.params import Params, from_yaml, nearest
from nextreel.reporting import book, clones

GRIDS, TABLE = Path("experiments/grids.yaml"), Path("experiments/sweeps.csv")
ALWAYS = {"split.refit": "none"}  # a choice is made on valid: nothing is fitted on it, and test stays unseen
BEST = "valid_ndcg@10"
METRICS = ("epochs", BEST, "valid_hr@10")  # of metrics/valid/<model>.json, which the model's own stage writes


class Row(NamedTuple):
    """A finished cell: the state of the pipeline, the log and what else was changed, the model, its settings."""

    state: str
    log: str
    model: str
    settings: str
    metrics: tuple[float, ...]  # METRICS

    @property
    def cell(self) -> tuple[str, ...]:
        return self[:4]


class FailedError(UserError):
    """An experiment did not run to its end, such as where the loss is no number."""


def grids(path: Path) -> dict[str, list[tuple[str, ...]]]:
    """The cells of each grid by its name, as what follows `dvc exp run -S`: every combination of its values, or of the
    values of each of its parts. Raises UserError where the file holds no grids."""
    try:
        found = from_yaml(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} is no YAML that can be read: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} must hold grids by name; it holds {type(found).__name__}")
    cells = {}
    for name, grid in found.items():
        parts = grid if isinstance(grid, list) else [grid]
        if not parts or not all(_is_part(part) for part in parts):
            raise UserError(f"{path}: `{name}` must hold lists of values by key, such as `model.lr: [0.001, 0.003]`")
        cells[name] = [cell for part in parts for cell in _combinations(part)]
    return cells


def _is_part(part: object) -> bool:
    return isinstance(part, dict) and bool(part) and all(isinstance(x, list) and x for x in part.values())


def _combinations(part: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, ...]]:
    for values in itertools.product(*part.values()):
        yield tuple(f"{key}={_hydra(value)}" for key, value in zip(part, values, strict=True))


def _hydra(value: Any) -> str:
    """A value as Hydra reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(_hydra, value))}]"
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def begin(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change a clone's params.yaml, run what the experiments have in common, and commit it: else each of them would run
    it again."""
    clones.change(folder, changes)
    if subprocess.run([sys.executable, "-m", "dvc", "repro", "inputs"], cwd=folder, check=False).returncode:
        raise UserError("the stages before training did not run to their end; what stopped them is told above")
    who = ["-c", "user.name=sweep", "-c", "user.email=sweep@localhost"]
    clones.git(folder, *who, "commit", "--quiet", "--all", "--no-verify", "--message", "what all cells have in common")


def experiment(folder: Path, name: str, model: str, cell: Sequence[str]) -> tuple[float, ...]:
    """Queue an experiment under a name of its own in a clone and run the queue; its METRICS.

    Raises UserError where DVC refuses it, FailedError where it fails.
    """
    settings = [word for setting in cell for word in ("-S", setting)]
    _dvc(folder, "exp", "run", "--queue", "--name", name, *settings, f"train@{model}")
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "dvc", "exp", "run", "--run-all", "--jobs", "1"], cwd=folder, check=False
        )
    except BaseException:  # a worker of DVC goes on by itself
        _dvc(folder, "queue", "stop", "--kill")
        raise
    found = shown(_dvc(folder, "exp", "show", "--json"), name, f"metrics/valid/{model}.json")
    if ran.returncode or found is None:
        raise FailedError(f"{' '.join(cell)} did not run to its end; what stopped it is told above")
    return found


def shown(told: str, name: str, path: str) -> tuple[float, ...] | None:
    """METRICS of the experiment of a name in what `dvc exp show --json` prints; None where it has failed."""
    for commit in json.loads(told):
        for each in commit.get("experiments") or []:
            if each["name"] != name:
                continue
            data = (each["revs"] or [{}])[0].get("data") or {}
            metrics = (data.get("metrics") or {}).get(path, {}).get("data")
            return tuple(float(metrics[key]) for key in METRICS) if metrics else None
    return None


def _dvc(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"dvc {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def read(path: Path) -> list[Row]:
    """The rows of the file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [
            Row(row["state"], row["log"], row["model"], row["settings"], tuple(float(row[key]) for key in METRICS))
            for row in csv.DictReader(file)
        ]


def write(path: Path, rows: Sequence[Row]) -> None:
    about = {name: np.array([getattr(row, name) for row in rows]) for name in Row._fields[:4]}
    metrics = {key: np.array([row.metrics[at] for row in rows]) for at, key in enumerate(METRICS)}
    write_csv(path, about | metrics | {"epochs": metrics["epochs"].astype(int)})


def fill(
    path: Path, wanted: Sequence[Row], measured: Callable[[int, Row], tuple[float, ...]]
) -> tuple[list[Row], list[str]]:
    """The rows of all cells: those that are in the table at `path`, and what `measured` finds of the others, written
    there one by one; and what went wrong with those that have failed, which are tried again the next time.

    wanted: rows without metrics; measured: of the position and the row of one.
    """
    rows, failures = read(path), []
    for number, row in enumerate(wanted, 1):
        about = f"{row.settings} ({number} of {len(wanted)})"
        if any(row.cell == other.cell for other in rows):
            print(f"{about}: there already", flush=True)
            continue
        print(f"{about}: begins", flush=True)
        try:
            done = row._replace(metrics=measured(number, row))
        except FailedError as error:
            failures.append(str(error))
            print(f"{about}: failed", flush=True)
            continue
        rows.append(done)
        write(path, rows)
        print(f"{about}: {BEST} {done.metrics[METRICS.index(BEST)]:.4f}", flush=True)
    asked = {row.cell for row in wanted}
    return [row for row in rows if row.cell in asked], failures


def table(rows: Sequence[Row]) -> str:
    """Markdown: a row a cell, the best on valid first, and how to have it."""
    best_first = sorted(rows, key=lambda row: (-row.metrics[METRICS.index(BEST)], row.settings))
    lines = [f"| settings | {' | '.join(METRICS)} |", "|---" * (1 + len(METRICS)) + "|"]
    for row in best_first:
        epochs, *others = row.metrics
        lines.append(f"| {row.settings} | {epochs:.0f} | {' | '.join(f'{value:.4f}' for value in others)} |")
    if best_first:
        settings = " ".join(f"-S {setting}" for setting in best_first[0].settings.split())
        lines += ["", f"The best on valid, {best_first[0].model} on {best_first[0].log}: dvc exp run {settings}"]
    return "\n".join(lines)


def main(grid: str, model: str, data: str, layout: str, settings: str) -> str | None:
    """What went wrong, None if nothing."""

    def work() -> None:
        found, models = grids(GRIDS), Params.load(Path("params.yaml")).get("train")
        for key, value, allowed in (("GRID", grid, found), ("MODEL", model, models)):
            if value not in allowed:
                raise UserError(f"{key} is {value!r}; allowed: {', '.join(allowed)}{nearest(value, allowed)}")
        asked = clones.asked(data, layout, settings)
        log = book.fingerprint(Path(asked["ingest.path"])) if data else "params.yaml"
        log = " ".join([log, *(f"{key}={value}" for key, value in asked.items() if key != "ingest.path")])
        state = clones.state(clones.git(Path(), "show", "HEAD:dvc.lock"))
        wanted = [Row(state, log, model, " ".join(cell), ()) for cell in found[grid]]
        with clones.clone("sweep") as folder:
            once = functools.cache(
                functools.partial(begin, folder, {**ALWAYS, **asked})
            )  # not at all where every row is there

            def measured(number: int, row: Row) -> tuple[float, ...]:
                once()
                return experiment(folder, f"cell-{number}", model, row.settings.split())

            rows, failures = fill(TABLE, wanted, measured)
        print("\n" + table(rows))
        if failures:
            raise UserError("\n".join(failures))

    return clones.command(work, "the cell that was running")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
