"""What does a catalogue cost in training? The step of SASRec by the size of its table, and an epoch at size L.

64 wide, 2 blocks of 2 heads, dropout .2, batches of 128 windows of 50 inputs, every event a target, sampled_softmax
with 512 shared uniform negatives, tied table, fp32, `cpu_isa` native. The log is made up: 1,000 users, each video at
least once, the rest by Zipf (exponent .8). All is the real fit: vocabulary, lessons, trainer, a copy of the weights.

By size: 4.5 million events, of which those of 29 users are targets, so that an epoch has about 20 steps; each fit in a
process of its own; the median of 3 epochs (of adam: 1) after the first. By the wall and by the processor's time, which
other work on the machine disturbs least. Peak: resident memory of the process, in MiB.

At size L: one epoch of KuaiRand-1K's shape, 11,713,045 events of 4,369,953 videos, all targets; once with a row for
each video, once with rows for those of 3 events or more and 2^18 rows for the others.

    python benchmarks/table_size.py sizes [THREADS]
    python benchmarks/table_size.py L [THREADS]
"""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime

N_USERS = 1_000
SIZES, EVENTS, TRAINED = (100_000, 1_000_000, 4_369_953), 4_500_000, 29  # users whose events are targets
EPOCHS = {"adam": 2, "rowwise_adagrad": 4}
L_VIDEOS, L_EVENTS = 4_369_953, 11_713_045
BATCH, LENGTH = 128, 50


def train(n_videos: int, n_events: int, n_trained: int, epochs: int, threads: int, changes: dict[str, object]) -> None:
    """Print the rates of each epoch, the processor seconds at its end, those of the whole fit by the wall and by the
    processor, and the peak, as JSON."""
    runtime.prepare(threads, "native")
    import resource
    import time

    import numpy as np
    import settings

    from nextreel.cases.store import Column, Histories, NamedColumns, Store
    from nextreel.contract import Training
    from nextreel.models import sasrec
    from nextreel.nn import trainer

    rng = np.random.default_rng(0)
    by_zipf = (n_videos * rng.random(n_events - n_videos) ** 5).astype(np.int32)
    video_idx = 1 + np.concatenate([np.arange(n_videos, dtype=np.int32), by_zipf])
    rng.shuffle(video_idx)
    offsets = np.concatenate([[0], np.linspace(0, n_events, N_USERS + 1).astype(np.int64)])
    positive = np.zeros(n_events, np.int8)
    positive[: offsets[1 + n_trained]] = 1
    events = NamedColumns(video_idx=video_idx, time_ms=np.arange(n_events), positive=positive)
    videos = NamedColumns(video_key=np.arange(n_videos + 1))
    about = {"events/video_idx": Column("id", n_videos + 1), "events/positive": Column("id", 2)}
    store = Store(offsets, {}, {"events": events, "videos": videos}, about)
    params = settings.neural(
        "sasrec",
        {"lr": 0.001, "epochs": epochs, "batch_size": BATCH, "patience": epochs, "width": 64, "device": "cpu"}
        | {"length": LENGTH, "dropout": 0.2, "history": "all", "passed_weight": 0}
        | {"loss": "sampled_softmax", "negatives": 512, "table_optimizer": "rowwise_adagrad", "table_lr": 0.05}
        | {"block": "standard", "blocks": 2, "heads": 2}
        | changes,
    )
    ends: list[float] = []

    def measure(model: sasrec.Model) -> trainer.Measured:
        ends.append(time.process_time())
        return {"next_item": {"ndcg@10": 0.0}}  # the first epoch is the best one

    histories = Histories(store, offsets[:-1], offsets[1:])
    with tempfile.TemporaryDirectory() as folder:
        session = trainer.Session(measure, rates=Path(folder) / "rates.csv")
        began = time.perf_counter(), time.process_time()
        sasrec.Model.fit(params, Training(histories, rng, session))
        fitted = time.perf_counter() - began[0], time.process_time() - began[1]
        assert session.rates is not None
        with session.rates.open() as file:
            rates = [{key: float(value) for key, value in line.items()} for line in csv.DictReader(file)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"rates": rates, "ends": ends, "fit": fitted, "peak": peak}))


def run(*settings: object) -> dict[str, Any]:
    """What `train` found in a process of its own."""
    script = [sys.executable, __file__, "--train", *(json.dumps(each) for each in settings)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{settings} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def by_size(threads: int) -> None:
    print(
        "| videos | table_optimizer | ms a step | range | by the processor | targets/s | peak MB |\n" + "|---" * 7 + "|"
    )
    for n_videos in SIZES:
        for optimizer in EPOCHS:
            found = run(n_videos, EVENTS, TRAINED, EPOCHS[optimizer], threads, {"table_optimizer": optimizer})
            later = found["rates"][1:]
            wall = [1000 * line["seconds"] / line["batches"] for line in later]
            processor = statistics.median(
                1000 * (end - start) / line["batches"]
                for (start, end), line in zip(pairwise(found["ends"]), later, strict=True)
            )
            cells = [
                f"{n_videos:,}",
                optimizer,
                f"{statistics.median(wall):.0f}",
                f"{min(wall):.0f} to {max(wall):.0f}",
            ]
            peak = f"{found['peak']:,}"
            rate = statistics.median(line["targets_per_s"] for line in later)
            print(f"| {' | '.join([*cells, f'{processor:.0f}', f'{rate:,.0f}', peak])} |", flush=True)


def size_l(threads: int) -> None:
    print(
        "| rows of ids | targets | epoch, s | targets/s | whole fit, s | by the processor, s | peak MB |\n"
        + "|---" * 7
        + "|"
    )
    for name, changes in {"all": {}, "shared": {"own_row_from": 3, "hashed_rows": 1 << 18}}.items():
        found = run(L_VIDEOS, L_EVENTS, N_USERS, 1, threads, changes)
        (line,), (wall, processor) = found["rates"], found["fit"]
        peak = f"{found['peak']:,}"
        cells = [name, f"{line['targets']:,.0f}", f"{line['seconds']:.0f}", f"{line['targets_per_s']:,.0f}"]
        print(f"| {' | '.join([*cells, f'{wall:.0f}', f'{processor:.0f}', peak])} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--train":
        train(*(json.loads(each) for each in sys.argv[2:]))
    else:
        {"sizes": by_size, "L": size_l}[sys.argv[1]](int([*sys.argv, "2"][2]))
