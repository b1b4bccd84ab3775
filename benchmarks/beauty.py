"""Amazon Beauty as published for S3-Rec (a user a line, `user item item ...` in order): every model by leave-one-out,
over the whole catalogue without seen videos; fitted on train (all but each user's last two), and refitted on valid too.

    python benchmarks/beauty.py FOLDER/Beauty.txt [--models sasrec,itemcf] [--device cuda] [--jobs 8] [--out FOLDER]

STUDY holds every setting. Of a model's grid the setting with the highest NDCG@10 on valid is chosen, the mean over its
seeds, and goes on to the refit. `sasrec + itemcf` adds up the two with one weight, chosen on valid.

A cell (model, setting, seed, refit) is a folder of --out with the fitted model, its ranks and its row, whole or absent;
rows.csv holds all rows. Finished cells are skipped; one whose code or settings have changed is another cell. A study
that was begun on one --device goes on on another. --users and --epochs are for a short trial. The whole study takes
hours on a processor: a line tells each cell's minutes, beside as many others as --jobs says.

The set has no times: an event's place in its user's line stands for seconds. --out, data/beauty by
default, gets beauty.csv in log-*, which the pipeline reads, too:

    dvc exp run -S ingest.layout=table -S ingest.path=/absolute/beauty.csv -S split.strategy=leave_one_out
"""

import argparse
import csv
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
from nextreel import runtime
from nextreel.params import Params

params = Params.load(ROOT / "params.yaml")
runtime.prepare(params.threads, params.cpu_isa)

import fused
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import settings

from nextreel import datasets, engine, files, labels, models, splits
from nextreel.cases import protocols, write
from nextreel.cases.store import Store
from nextreel.contract import Model, Training
from nextreel.datasets import table
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics.ranks import hit, ndcg
from nextreel.metrics.ratios import Parts
from nextreel.nn import device, recommender, trainer
from nextreel.schema import FIRST_MS
from nextreel.scoring import validation
from nextreel.scoring.retrieve import target_ranks
from nextreel.scoring.sets import EvalSet

CONFIDENCE = 0.95
CHOICE = "chosen on valid"  # a fit on train, judged on valid alone
REFITS = ("none", "train_valid")  # judged on test: the same fit, and one on train and valid
FUSED = "sasrec + itemcf"
BOTH = ("sasrec", "itemcf")  # of which it is made
# Of all neural models, over `settings.PLAIN`; every prefix of a window is a sample.
NEURAL: dict[str, Any] = {"history": "positives", "length": 50, "width": 64, "dropout": 0.5}


class Studied(NamedTuple):
    """A model of the tables. What neither `fixed` nor `grid` says comes from params.yaml."""

    module: str
    fixed: Mapping[str, Any]
    grid: Mapping[str, tuple[Any, ...]]  # all combinations are tried on valid
    seeds: int
    in_print: str  # NDCG@10 and where


STUDY = {
    "most_popular": Studied("most_popular", {}, {}, 1, ".0063"),
    "bpr_mf": Studied(
        "bpr_mf", {"factors": 64, "iterations": 100},
        {"lr": (0.02, 0.05, 0.1), "regularization": (0.003, 0.01, 0.03)}, 3, ".019",
    ),
    # Weighted by recency: .043 with settings chosen on test.
    "itemcf": Studied(
        "itemcf", {"neighbours": 200, "window": 20, "passed_weight": 0.0},
        {"recency": (0.4, 0.5, 0.6, 0.7, 0.8), "shrink": (10, 20, 50, 100), "decay": (0.5, 0.7, 0.9)}, 1,
        ".0409 (ItemKNN)",
    ),
    "gru4rec": Studied(
        "gru4rec",
        {**NEURAL, "layers": 1, "loss": "softmax", "lr": 2e-3, "batch_size": 128, "epochs": 75, "patience": 10},
        {}, 3, ".014 (S3-Rec's table); aim .034",
    ),
    # BSARec's road (Shin et al., AAAI 2024): cross-entropy over all items, dropout .5, 2 blocks, 1 head, 65 epochs.
    "sasrec": Studied(
        "sasrec",
        {**NEURAL, "block": "standard", "blocks": 2, "heads": 1, "loss": "softmax", "batch_size": 128,
         "epochs": 75, "patience": 10},
        {"lr": (1e-3, 2e-3)}, 3, ".0531 (eSASRec's repository), .0611 (BSARec); aim .060",
    ),
    # As published (Kang & McAuley, ICDM 2018): one negative a target, until 20 epochs bring nothing.
    "sasrec_bce": Studied(
        "sasrec",
        {**NEURAL, "block": "standard", "blocks": 2, "heads": 1, "loss": "bce", "negatives": 1, "lr": 1e-3,
         "batch_size": 128, "epochs": 200, "patience": 20},
        {}, 3, ".0318 (S3-Rec's table)",
    ),
}  # fmt: skip
# Code that a cell rests on, under src/nextreel, beside its model's own file.
_CODE = ("cases/*.py", "contract.py", "datasets/*.py", "labels.py", "metrics/ranks.py", "scoring/*.py", "splits.py")


class Cell(NamedTuple):
    """What is fitted once."""

    name: str  # of STUDY
    setting: Mapping[str, Any]  # out of its grid
    seed: int
    refit: str  # of REFITS, or CHOICE

    @property
    def told(self) -> str:
        """Its setting in words."""
        return ", ".join(f"{key} {value}" for key, value in self.setting.items())


class Bench:
    """The log, prepared once, and the cells of its folder."""

    def __init__(self, asked: argparse.Namespace) -> None:
        """asked: see `main`."""
        self.given, self.out = asked, asked.out
        self.log = digest([asked.source.read_bytes(), str(asked.users).encode(), code(_CODE)])
        data = asked.out / f"log-{self.log}"
        if not data.exists():
            with files.replacing(data) as folder:
                prepare(asked.source, folder, asked.users)
        self.store, self.asked = Store.load(data / "store"), EvalSet.load(data, params.seed)
        self.rows: list[dict[str, Any]] = []  # of this run, finished ones first

    def fit_all(self, cells: Iterable[Cell]) -> None:
        """Fit those that are not there, as many at once as `--jobs` says."""
        missing = [cell for cell in cells if not (self.folder(cell) / "row.json").exists()]
        if self.given.jobs == 1:
            for cell in missing:
                self.fit(cell)
            return
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.given.jobs, spawn) as pool:
            for _done in pool.map(fit_one, [self.given] * len(missing), missing):
                pass

    def fit(self, cell: Cell) -> None:
        """Write the folder of a cell."""
        print(f"{cell.name}, {cell.told or 'one setting'}, seed {cell.seed}, {cell.refit}: begins", flush=True)
        started = time.monotonic()
        model, found = self._fitted(cell)
        with files.replacing(self.folder(cell)) as temporary:
            temporary.mkdir(parents=True)
            if cell.refit != "none":
                model.save(temporary / "model")
            part = "valid" if cell.refit == CHOICE else "test"
            ranks = target_ranks(model, self.store, self.asked, part, part)
            np.save(temporary / f"{part}.npy", ranks)
            minutes = (time.monotonic() - started) / 60
            about = cell._asdict() | {"setting": cell.told, "device": self.given.device, "minutes": minutes}
            write_row(temporary, about | found | measured(part, ranks))

    def _fitted(self, cell: Cell) -> tuple[Model, dict[str, Any]]:
        """The model, and what its row says beside the metrics."""
        asked, rng = self.settings(cell), np.random.default_rng(cell.seed)
        fit = models.module(STUDY[cell.name].module).Model.fit
        if cell.refit == CHOICE:
            curve = self.out / "curves" / f"{self.folder(cell).name}.csv"
            session = trainer.Session(lambda model: validation.validate(model, self.store, self.asked), curve)
            model = fit(asked, Training(self.store.fitted_on("train"), rng, session))
            return model, {"epochs": getattr(model.params, "epochs", "")}
        first = row_of(self.folder(cell._replace(refit=CHOICE)))
        about = {key: first[key] for key in ("epochs", "valid_ndcg@10")}
        if cell.refit == "none":
            return self.load(cell), about | {"minutes": first["minutes"]}
        if first["epochs"]:
            asked = asked.model_copy(update={"epochs": first["epochs"]})
        return fit(asked, Training(self.store.fitted_on(cell.refit), rng)), about

    def settings(self, cell: Cell) -> Any:
        """The section of a cell's model."""
        name, fixed = STUDY[cell.name].module, {**STUDY[cell.name].fixed, **cell.setting}
        owner = models.module(name).Params
        if not issubclass(owner, recommender.NeuralParams):
            return owner.model_validate({**params.get(f"recall.{name}"), **fixed})
        epochs = {"epochs": self.given.epochs} if self.given.epochs else {}
        return settings.neural(name, {**fixed, "device": self.given.device, **epochs})

    def folder(self, cell: Cell) -> Path:
        """Of a cell: another log, other settings or other code is another folder."""
        studied = STUDY[cell.name]
        asked = self.settings(cell)
        own = (f"models/{studied.module}.py", *(["nn/*.py"] if isinstance(asked, recommender.NeuralParams) else []))
        state = digest([self.log.encode(), asked.model_dump_json(exclude={"device"}).encode(), code(own)])
        return self.out / "cells" / f"{cell.name}-{cell.seed}-{cell.refit.replace(' ', '_')}-{state}"

    def load(self, cell: Cell) -> Model:
        fitted = self.folder(cell._replace(refit=CHOICE) if cell.refit == "none" else cell)
        model: Model = models.module(STUDY[cell.name].module).Model.load(fitted / "model")
        return model

    def on_valid(self, cells: list[Cell]) -> float:
        """NDCG@10, the mean over cells."""
        return float(np.mean([self.told(self.folder(cell))["valid_ndcg@10"] for cell in cells]))

    def told(self, folder: Path) -> dict[str, Any]:
        """A finished row; it is in rows.csv and printed the first time that it is asked for."""
        row = row_of(folder)
        if row not in self.rows:
            self.rows.append(row)
            write_rows(self.out / "rows.csv", self.rows)
            about = ", ".join([row["name"], row["setting"] or "one setting", f"seed {row['seed']}", row["refit"]])
            metrics = ", ".join(f"{key} {row[key]:.4f}" for key in ("valid_ndcg@10", "ndcg@10") if key in row)
            print(f"{about}: {metrics}, {row['minutes']:.2f} minutes", flush=True)
        return row

    def fuse(self, cells: Mapping[str, Cell], how: fused.How | None, on_valid: float = 0.0) -> Path:
        """The folder of two fits added up: their ranks on valid in every way (`how` None), or on test in the one that
        is worth `on_valid` there."""
        one, other = (self.folder(cells[name]) for name in BOTH)
        told = "every way, the best one" if how is None else str(how)
        state = digest([one.name.encode(), other.name.encode(), told.encode(), Path(fused.__file__).read_bytes()])
        cell = cells[BOTH[0]]._replace(name=FUSED)
        refit = cell.refit.replace(" ", "_")
        folder = self.out / "cells" / f"{FUSED.replace(' ', '')}-{cell.seed}-{refit}-{state}"
        if not (folder / "row.json").exists():
            started = time.monotonic()
            ways, part = (fused.WAYS, "valid") if how is None else ([how], "test")
            both = [self.load(cells[name]) for name in BOTH]
            ranks = fused.target_ranks(both[0], both[1], self.store, self.asked.of(part), part, ways)
            with files.replacing(folder) as temporary:
                temporary.mkdir(parents=True)
                np.save(temporary / f"{part}.npy", np.array(ranks) if how is None else ranks[0])
                row = {"name": FUSED, "setting": told, "seed": cell.seed, "refit": cell.refit, "epochs": ""}
                row |= {"valid_ndcg@10": on_valid, "device": "cpu"}
                row |= measured(part, max(ranks, key=lambda rank: float(ndcg(rank, 10).mean())))
                write_row(temporary, row | {"minutes": (time.monotonic() - started) / 60})
        self.told(folder)
        return folder


def fit_one(asked: argparse.Namespace, cell: Cell) -> None:
    """`Bench.fit` in a process of its own."""
    Bench(asked).fit(cell)


def row_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "row.json").read_text(encoding="utf-8"))
    return found


def digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:12]


@cache  # what runs is the code of the start, whatever is edited meanwhile
def code(patterns: tuple[str, ...]) -> bytes:
    """What files of the library hold."""
    found = sorted(path for pattern in patterns for path in (ROOT / "src/nextreel").glob(pattern))
    return b"\0".join(path.read_bytes() for path in found)


def measured(part: str, rank: np.ndarray) -> dict[str, float]:
    """The metrics of a part that its row holds."""
    if part == "valid":
        return {"valid_ndcg@10": float(ndcg(rank, 10).mean())}
    return {"hr@10": float(hit(rank, 10).mean()), "ndcg@10": float(ndcg(rank, 10).mean())}


def write_row(folder: Path, row: Mapping[str, Any]) -> None:
    (folder / "row.json").write_text(json.dumps(row) + "\n", encoding="utf-8")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = ("name", "setting", "seed", "refit", "epochs", "hr@10", "ndcg@10", "valid_ndcg@10", "device", "minutes")
    with files.replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def prepare(source: Path, data: Path, users: int | None) -> None:
    """Everything that `label` writes of the first users' lines, all where none is said."""
    lines = [np.array(line.split(), np.int64) for line in source.read_text(encoding="ascii").splitlines()[:users]]
    n_events = np.array([len(line) - 1 for line in lines])
    place = np.arange(n_events.sum()) - np.repeat(n_events.cumsum() - n_events, n_events)
    rows = pa.table({
        "user_id": np.repeat([line[0] for line in lines], n_events),
        "video_id": np.concatenate([line[1:] for line in lines]),
        "time_ms": FIRST_MS + 1_000 * place,
    })  # fmt: skip
    data.mkdir(parents=True)
    pacsv.write_csv(rows, data / "beauty.csv")
    con = engine.connect(params.section("engine", engine.Params), params.threads, data)
    ingest = params.section("ingest", datasets.Params)
    ingest = ingest.model_copy(update={"layout": "table", "path": str(data / "beauty.csv")})
    tables = datasets.write_tables(con, table.read(con, ingest), data / "tables")
    every = params.section("label", labels.Params).model_copy(update={"positive": "all"})
    labelled = labels.label_all(tables["interactions"], every)
    parts = splits.leave_one_out(labelled, tables["random"])
    found = labels.label(parts, write.fit(parts, every, leave_one_out=True), every)
    write.write(con, found, data, params.section("cases", protocols.Params), leave_one_out=True)
    print(f"{len(lines)} users, {len(rows)} events", flush=True)


def combinations(grid: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for values in product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def seeds_of(name: str, setting: Mapping[str, Any]) -> list[Cell]:
    return [Cell(name, setting, params.seed + more, CHOICE) for more in range(STUDY[name].seeds)]


def studied(bench: Bench, names: Iterable[str]) -> dict[str, list[Cell]]:
    """The cells of each model's chosen setting, by seed, all fitted."""
    grids = {name: [seeds_of(name, setting) for setting in combinations(STUDY[name].grid)] for name in names}
    bench.fit_all(cell for grid in grids.values() for cells in grid for cell in cells)
    fits = {name: max(grid, key=bench.on_valid) for name, grid in grids.items()}
    for refit in REFITS:
        wanted = [cell._replace(refit=refit) for cells in fits.values() for cell in cells]
        bench.fit_all(wanted)
        for cell in wanted:
            bench.told(bench.folder(cell))
    return fits


def studied_together(bench: Bench, fits: Mapping[str, list[Cell]]) -> tuple[str, dict[str, list[Path]]]:
    """The way that is best on valid over all seeds, and by refit the folders of its ranks on test."""
    by_seed = [{"sasrec": cell, "itemcf": fits["itemcf"][0]} for cell in fits["sasrec"]]
    ranks = [np.load(bench.fuse(pair, None) / "valid.npy") for pair in by_seed]  # [ways, n] each
    on_valid = np.array([ndcg(rank, 10).mean(1) for rank in ranks])  # [seeds, ways]
    best = int(on_valid.mean(0).argmax())
    how, folders = fused.WAYS[best], dict[str, list[Path]]()
    for refit in REFITS:
        pairs = [{name: cell._replace(refit=refit) for name, cell in pair.items()} for pair in by_seed]
        folders[refit] = [
            bench.fuse(*each) for each in zip(pairs, [how] * len(pairs), on_valid[:, best].tolist(), strict=True)
        ]
    return str(how), folders


def tables(bench: Bench, found: Mapping[str, Mapping[str, list[Path]]], told: Mapping[str, str]) -> None:
    """Print a table a refit: the mean over seeds, intervals over users and videos."""
    asked = bench.asked.of("test")
    clusters = Clusters(asked.cases.user_idx, asked.target)
    for refit in REFITS:
        print(f"\n`split.refit: {refit}`, {len(asked.cases)} users\n")
        print("| model | setting | seeds | HR@10 | NDCG@10 (95 %) | by seed | valid NDCG@10 | minutes | in print |")
        print("|---" * 9 + "|")
        gains = {}
        for name, folders in found.items():
            ranks = np.stack([np.load(folder / "test.npy") for folder in folders[refit]])
            rows = [row_of(folder) for folder in folders[refit]]
            gains[name] = ndcg(ranks, 10).mean(0)
            text = interval(clusters, gains[name])
            each = ", ".join(f"{value:.4f}" for value in ndcg(ranks, 10).mean(1))
            valid = np.mean([row["valid_ndcg@10"] for row in rows])
            minutes = sum(row["minutes"] for row in rows)
            in_print = STUDY[name].in_print if name in STUDY else "aim .063"
            cells = [name, told[name], len(ranks), f"{hit(ranks, 10).mean():.4f}", text, each]
            print("| " + " | ".join(map(str, [*cells, f"{valid:.4f}", f"{minutes:.1f}", in_print])) + " |")
        if FUSED in gains:
            print(f"\n{FUSED} minus sasrec: {interval(clusters, gains[FUSED] - gains['sasrec'])}")


def interval(clusters: Clusters, values: np.ndarray) -> str:
    """The mean of values [n] with its interval."""
    estimate = Parts.of(values).estimate()
    (reach,) = clusters.sums(estimate).reach(CONFIDENCE)
    return f"{estimate.value:.4f} ({estimate.value - reach:.4f} to {estimate.value + reach:.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--models", default=",".join(STUDY), help="of those in STUDY")
    parser.add_argument("--users", type=int, help="the first lines of the file alone")
    parser.add_argument("--epochs", type=int, help="of all neural models, at most")
    parser.add_argument(
        "--device", choices=get_args(device.Name), default="cpu", help="where neural models are trained"
    )
    parser.add_argument("--jobs", type=int, default=1, help="cells that are fitted at once")
    parser.add_argument("--out", type=Path, default=ROOT / "data/beauty")
    asked = parser.parse_args()
    names = asked.models.split(",")
    if unknown := [name for name in names if name not in STUDY]:
        sys.exit(f"--models is {asked.models!r}; {', '.join(unknown)} is none of {', '.join(STUDY)}")
    started = time.monotonic()
    bench = Bench(asked)
    fits = studied(bench, names)
    found = {
        name: {refit: [bench.folder(cell._replace(refit=refit)) for cell in cells] for refit in REFITS}
        for name, cells in fits.items()
    }
    told = {name: cells[0].told for name, cells in fits.items()}
    if fits.keys() >= set(BOTH):
        told[FUSED], found[FUSED] = studied_together(bench, fits)
    tables(bench, found, told)
    fitting = sum(row["minutes"] for row in bench.rows if row["refit"] != "none")  # those were fitted for the choice
    print(f"\n{fitting / 60:.1f} hours for all cells, {(time.monotonic() - started) / 60:.1f} minutes in this run")


if __name__ == "__main__":
    main()
