"""How fast does SASRec train? Beside RecTools, in the same run, system after system in turns.

Ours with `cpu_isa` native and portable, and with `model.device: cuda` where `--systems` names it; RecTools'
`SASRecModel`, and the flat network of its `fast_transformers` in the barest loop. All 64 wide, 2 blocks of 2 heads,
feed-forward 64 to 64, dropout .2, batches of 128 windows, Adam at .001, fp32. The log is made up in ML-100K's shape
(943 users, 1,682 items, 100,000 events); of each user the last 50 or 200 targets are trained. Targets a second, by the
wall and by the processor's time (which other work on the machine disturbs least, with one thread): the median over
rounds of the median epoch, the first left out. Loss: mean of the last epoch, where bce is the mean of a target's and a
negative's. The peers get an environment of their own in FOLDER, and threads that sleep while they wait, as ours do.

    python benchmarks/training.py FOLDER [--systems native,cuda] [--threads 2] [--rounds 3] [--epochs 6]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime

RECTOOLS, TORCH = "rectools[torch]==0.19.0", "torch==2.13.0"
LENGTHS, LOSSES = (50, 200), ("softmax", "bce")
OURS, PEERS = ("native", "portable", "cuda"), ("SASRecModel", "flat")
N_USERS, N_ITEMS, N_EVENTS = 943, 1682, 100_000


def write_log(path: Path) -> None:
    """user, item [E] in order of time: lengths as ML-100K's (20 to 737, median 65), popularity by Zipf, and three of
    four items from the same of 41 genres as the one before."""
    import numpy as np

    rng = np.random.default_rng(0)
    length = np.clip(rng.lognormal(np.log(65), 1.0, N_USERS), 20, 737)
    length = np.maximum(20, (length * N_EVENTS / length.sum()).astype(int))
    user = np.repeat(np.arange(N_USERS), length)
    popularity = 1 / np.arange(1, N_ITEMS + 1) ** 0.8
    item = rng.choice(N_ITEMS, len(user), p=popularity / popularity.sum())
    n_genres = 41
    leads = np.flatnonzero((rng.random(len(user)) < 0.25) | (np.diff(user, prepend=-1) != 0))
    genre = np.repeat(item[leads] % n_genres, np.diff(np.append(leads, len(user))))
    np.savez(path, user=user, item=item - item % n_genres + np.minimum(genre, N_ITEMS - 1 - (item - item % n_genres)))


def train_ours(log: Path, system: str, length: int, loss: str, epochs: int, threads: int) -> None:
    """Print the targets of an epoch, and the end and loss of each."""
    runtime.prepare(threads, "portable" if system == "portable" else "native")
    import time

    import numpy as np
    import settings

    from nextreel.cases.store import Column, NamedColumns, Store
    from nextreel.contract import Training
    from nextreel.models import sasrec
    from nextreel.nn import trainer

    made = np.load(log)
    stop = np.searchsorted(made["user"], np.arange(N_USERS), side="right")
    n_events = np.minimum(np.diff(stop, prepend=0), length)
    at = np.concatenate([np.arange(end - n, end) for n, end in zip(n_events, stop, strict=True)])
    offsets = np.concatenate([[0, 0], n_events.cumsum()])
    events = NamedColumns(
        video_idx=(made["item"][at] + 1).astype(np.int32),
        time_ms=np.arange(len(at)),
        positive=np.ones(len(at), np.int8),
    )
    about = {"events/video_idx": Column("id", N_ITEMS + 1), "events/positive": Column("id", 2)}
    store = Store(offsets, {"start": offsets[:-1], "train": offsets[1:]}, {"events": events}, about)
    params = settings.neural(
        "sasrec",
        {"lr": 0.001, "epochs": epochs, "batch_size": 128, "patience": epochs, "width": 64}
        | {"device": "cuda" if system == "cuda" else "cpu"}
        | {"length": length, "dropout": 0.2, "history": "all", "passed_weight": 0}
        | {"loss": loss, "negatives": 1, "block": "standard", "blocks": 2, "heads": 2},
    )
    ends: list[tuple[float, float]] = []

    def measure(model: sasrec.Model) -> trainer.Measured:
        ends.append((time.perf_counter(), time.process_time()))
        return {"next_item": {"ndcg@10": float(len(ends))}}

    with tempfile.TemporaryDirectory() as folder:
        curve = Path(folder) / "curve.csv"
        session = trainer.Session(measure, curve)
        sasrec.Model.fit(params, Training(store.fitted_on("train"), np.random.default_rng(0), session))
        losses = [float(line.split(",")[2]) for line in curve.read_text().split()[1:]]
    of_bce = 2 if loss == "bce" else 1  # ours is a target's and its negative's sum
    print(json.dumps({"targets": len(at), "ends": ends, "losses": [value / of_bce for value in losses]}))


def peers_python(folder: Path) -> Path:
    """The interpreter of the peers' environment, which is made where there is none."""
    python = folder / "peers/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "peers")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", RECTOOLS, TORCH], check=True)
    return python


def train(log: Path, python: Path, system: str, *settings: object) -> tuple[float, float, float]:
    """Targets a second by the wall and by the processor, and the last loss, of one training in a process of its own.

    settings: length, loss, epochs and threads.
    """
    here = Path(__file__)
    script = [sys.executable, str(here)] if system in OURS else [str(python), str(here.with_name("training_peers.py"))]
    done = subprocess.run(
        [*script, "--train", str(log), system, *map(str, settings)],
        env=os.environ | {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": str(settings[-1])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{system}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    wall, processor = (
        found["targets"] / statistics.median(end - start for start, end in pairwise(clock))
        for clock in zip(*found["ends"], strict=True)
    )
    return wall, processor, found["losses"][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--systems", default="native,portable,SASRecModel,flat", help="in turns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    systems = asked.systems.split(",")
    if unknown := [name for name in systems if name not in (*OURS, *PEERS)]:
        sys.exit(f"--systems is {asked.systems!r}; {', '.join(unknown)} is none of {', '.join([*OURS, *PEERS])}")
    asked.folder.mkdir(parents=True, exist_ok=True)
    log = asked.folder / "log.npz"
    python = peers_python(asked.folder) if {*systems} & {*PEERS} else Path(sys.executable)
    write_log(log)
    first = systems[0]
    ratio = f"{first} / this"
    print(f"| loss | length | system | targets/s | range | {ratio} | by the processor | {ratio} | loss |")
    print("|---" * 9 + "|", flush=True)
    for loss in LOSSES:
        for length in LENGTHS:
            taken: dict[str, list[tuple[float, float, float]]] = {system: [] for system in systems}
            for _ in range(asked.rounds):
                for system, found in taken.items():
                    found.append(train(log, python, system, length, loss, asked.epochs, asked.threads))
            middle = {
                system: [statistics.median(x) for x in zip(*found, strict=True)] for system, found in taken.items()
            }
            for system, (wall, processor, last) in middle.items():
                span = f"{min(taken[system])[0]:,.0f} to {max(taken[system])[0]:,.0f}"
                of_wall, of_processor = middle[first][0] / wall, middle[first][1] / processor
                cells = [loss, str(length), system, f"{wall:,.0f}", span, f"{of_wall:.2f}"]
                cells += [f"{processor:,.0f}", f"{of_processor:.2f}", f"{last:.4f}"]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--train":
        path, system, length, loss, epochs, threads = sys.argv[2:]
        train_ours(Path(path), system, int(length), loss, int(epochs), int(threads))
    else:
        main()
