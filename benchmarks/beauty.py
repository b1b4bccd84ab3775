"""Amazon Beauty as published for S3-Rec (a user a line, `user item item ...` in order) as a log of the layout `table`.

    python benchmarks/beauty.py FOLDER/Beauty.txt data/raw/beauty.csv
    dvc exp run -S ingest.layout=table -S ingest.path=data/raw/beauty.csv -S split.strategy=leave_one_out

The set has no times: an event's place in its user's line stands for seconds. EXPERIMENTS.md has the figures beside
those in print.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from nextreel import files
from nextreel.schema import FIRST_MS


def main(source: Path, target: Path) -> None:
    lines = [np.array(line.split(), np.int64) for line in source.read_text(encoding="ascii").splitlines()]
    n_events = np.array([len(line) - 1 for line in lines])
    place = np.arange(n_events.sum()) - np.repeat(n_events.cumsum() - n_events, n_events)
    table = pa.table({
        "user_id": np.repeat([line[0] for line in lines], n_events),
        "video_id": np.concatenate([line[1:] for line in lines]),
        "time_ms": FIRST_MS + 1_000 * place,
    })  # fmt: skip
    with files.replacing(target) as temporary:
        pacsv.write_csv(table, temporary)
    print(f"{len(lines)} users, {len(table)} events -> {target}")


main(*map(Path, sys.argv[1:]))
