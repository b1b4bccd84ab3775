"""The way from raw files to cases, beside other tools in the same run: seconds, peak memory, and how they grow.

    python benchmarks/tables.py S M L          # sizes of `simulate.scale`; --repeats 3 by default
    python benchmarks/tables.py L --before ../other     # beside ingest of another checkout

ingest    checks, quarantine, repeats, ids, sort; beside a bare conversion of the same CSV files to Parquet by polars,
          DuckDB and pandas, which check nothing
split and label    beside one DuckDB script that does the same job in SQL: parts, z-scores by bucket, lists by user,
          impressions, catalogue, first positives

own log   the same events as a CSV of one's own, ids as numbers and as texts of 32 characters

Every job is a process of its own; the tools take turns, and medians are shown. Truth files are put aside: no source but
the simulator has them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
LOG_TYPES = {
    **dict.fromkeys(["user_id", "video_id", "time_ms", "play_time_ms", "duration_ms"], "Int64"),
    **dict.fromkeys(["profile_stay_time", "comment_stay_time"], "Int64"),
    **dict.fromkeys(["date", "hourmin"], "Int32"),
    "tab": "Int16",
    **dict.fromkeys(["is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate"], "Int8"),
    **dict.fromkeys(["long_view", "is_profile_enter", "is_rand"], "Int8"),
}


def polars(raw: Path, out: Path) -> None:
    import polars as pl

    for path in raw.glob("*.csv"):
        types = {c: getattr(pl, t) for c, t in LOG_TYPES.items()} if path.name.startswith("log") else None
        pl.scan_csv(path, schema_overrides=types).sink_parquet(out / f"{path.stem}.parquet")


def duckdb(raw: Path, out: Path) -> None:
    con = _connect(out)
    sql = {"Int64": "BIGINT", "Int32": "INTEGER", "Int16": "SMALLINT", "Int8": "TINYINT"}
    declared = ", ".join(f"'{c}': '{sql[t]}'" for c, t in LOG_TYPES.items())
    for path in raw.glob("*.csv"):
        types = f", types={{{declared}}}" if path.name.startswith("log") else ""
        con.execute(f"COPY (FROM read_csv('{path}'{types})) TO '{out / path.stem}.parquet' (COMPRESSION zstd)")


def pandas(raw: Path, out: Path) -> None:
    import pandas as pd

    for path in raw.glob("*.csv"):
        types = {c: t.lower() for c, t in LOG_TYPES.items()} if path.name.startswith("log") else None
        pd.read_csv(path, dtype=types).to_parquet(out / f"{path.stem}.parquet", compression="zstd")


def bare_sql(tables: Path, out: Path) -> None:
    """What `split` and `label` make of the tables with the committed params, statistics unshrunk."""
    con = _connect(out)
    rows, random = (f"read_parquet('{tables / name}.parquet')" for name in ("interactions", "random"))
    valid, test = con.execute(f"SELECT quantile_cont(time_ms, [.7, .85]) FROM {rows}").fetchall()[0][0]
    part = f"CASE WHEN time_ms < {valid} THEN 'train' WHEN time_ms < {test} THEN 'valid' ELSE 'test' END"
    con.execute(
        f"COPY (SELECT *, {part} AS part FROM {rows} UNION ALL SELECT *, 'random' FROM {random} WHERE time_ms >= {test}"
        f" ORDER BY user_idx, time_ms, row) TO '{out}/parts.parquet' (COMPRESSION zstd)"
    )
    parts = f"read_parquet('{out}/parts.parquet')"
    known = f"{parts} WHERE part = 'train' AND duration_ms IS NOT NULL AND play_time_ms IS NOT NULL"
    con.execute(
        "CREATE TABLE numbered AS SELECT duration_ms, (sum(n) OVER (ORDER BY duration_ms) - n) * 30 // sum(n) OVER ()"
        f" AS bucket FROM (SELECT duration_ms, count(*) AS n FROM {known} GROUP BY 1)"
    )
    con.execute(
        "CREATE TABLE buckets AS SELECT bucket, min(duration_ms) AS from_ms, avg(play_time_ms) AS mean,"
        " stddev_samp(play_time_ms) AS std, quantile_cont(play_time_ms, .8) AS bound"
        f" FROM (SELECT * FROM {known}) JOIN numbered USING (duration_ms) GROUP BY 1"
    )
    labelled = (
        "(SELECT p.*, least(play_time_ms / duration_ms, 1) AS wtr, bound, bucket, CASE WHEN std > 0 THEN"
        f" (play_time_ms - mean) / std ELSE 0 END AS wtg FROM {parts} p ASOF LEFT JOIN buckets ON duration_ms >="
        " from_ms)"
    )
    positive = "(play_time_ms > bound)"
    for name, query in {
        "sequences": "SELECT user_idx, list(video_idx), list(time_ms), list(positive) FROM (SELECT user_idx, video_idx,"
        f" time_ms, {positive} AS positive FROM {labelled} WHERE part <> 'random' ORDER BY user_idx, time_ms, row)"
        " GROUP BY user_idx",
        "impressions": f"SELECT user_idx, part, video_idx, time_ms, row, {positive} AS label, wtr, wtg, bucket"
        f" FROM {labelled} WHERE part <> 'train' ORDER BY user_idx, part, time_ms, row",
        "catalogue": "SELECT video_idx, min(CASE part WHEN 'train' THEN 1 WHEN 'valid' THEN 2 ELSE 3 END) FROM"
        f" {parts} WHERE part <> 'random' GROUP BY 1 ORDER BY 1",
        "cases": f"SELECT user_idx, part, arg_min(video_idx, time_ms), min(time_ms) FROM {labelled} WHERE {positive}"
        " AND part IN ('valid', 'test') GROUP BY 1, 2",
        "shares": f"SELECT duration_ms, count(*), sum({positive}::INT) FROM {labelled} WHERE part <> 'random'"
        " GROUP BY 1",
    }.items():
        con.execute(f"COPY ({query}) TO '{out}/{name}.parquet' (COMPRESSION zstd)")


def _connect(out: Path) -> Any:
    import duckdb

    return duckdb.connect(config={"threads": THREADS, "memory_limit": "2GB", "temp_directory": str(out)})


PEERS: dict[str, Callable[[Path, Path], None]] = {"polars": polars, "duckdb": duckdb, "pandas": pandas, "sql": bare_sql}


def measure(command: list[str], cwd: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB of a process."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=cwd, env=os.environ | {"POLARS_MAX_THREADS": str(THREADS)})
    _pid, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.monotonic() - started, used.ru_maxrss / 1024


def params_of(checkout: Path, folder: Path, size: str, **ingest: object) -> None:
    """Write the params of a checkout into a folder where its stages are to run."""
    params = yaml.safe_load((checkout / "params.yaml").read_text(encoding="utf-8"))
    params["simulate"]["scale"] = size
    names = ingest.pop("table", {})
    params["ingest"] |= ingest | {"table": params["ingest"]["table"] | names}
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def own_logs(raw: Path, folder: Path, size: str) -> dict[str, Path]:
    """A CSV of one's own with ids as numbers and as texts; the folder where ingest reads each, by job."""
    jobs = {}
    for kind, id_ in (("number", "{}"), ("text", "md5({}::VARCHAR)")):
        jobs[f"own log, {kind} ids"] = place = folder / kind
        path = place / "log.csv"
        names = {"play_time": "play_time_ms", "duration": "duration_ms", "user_id_type": kind, "video_id_type": kind}
        params_of(ROOT, place, size, layout="table", path=str(path), table=names)
        ids = ", ".join(f"{id_.format(c)} AS {c}" for c in ("user_id", "video_id"))
        logs = ", ".join(f"'{log}'" for log in sorted(raw.glob("log_standard_*.csv")))
        _connect(place).execute(
            f"COPY (SELECT {ids}, time_ms, play_time_ms, duration_ms FROM read_csv([{logs}])) TO '{path}'"
        )
    return jobs


def at_size(size: str, repeats: int, folder: Path, before: Path | None) -> None:
    params_of(ROOT, folder, size)
    seconds, peak = measure([sys.executable, str(ROOT / "pipeline/simulate.py")], folder)
    raw, out = folder / "data/raw/simulated", folder / "peer"
    print(f"\n{size}: {sum(path.stat().st_size for path in raw.glob('*.csv')) / 1e6:,.0f} MB of CSV")
    print(f"{'job':24}{'seconds':>10}{'peak MB':>10}{'times':>8}")
    print(f"{'simulate':24}{seconds:10.1f}{peak:10.0f}")
    for truth in raw.glob("truth_*"):
        truth.unlink()
    others = {name: (ROOT, place) for name, place in own_logs(raw, folder, size).items()}
    if before:
        others["ingest before"] = before, folder / "before"
        params_of(before, folder / "before", size, path=str(raw))
    taken: dict[str, list[tuple[float, float]]] = {}
    for _repeat in range(repeats):
        for name, (checkout, place) in others.items():
            command = [sys.executable, str(checkout / "pipeline/ingest.py")]
            taken.setdefault(name, []).append(measure(command, place))
        for name, source in (("polars", raw), ("duckdb", raw), ("pandas", raw), ("ingest", None), ("sql", None)):
            out.mkdir()
            tables = source or folder / "data/tables"
            job = [__file__, "--peer", name, str(tables), str(out)] if name in PEERS else [f"{ROOT}/pipeline/{name}.py"]
            taken.setdefault(name, []).append(measure([sys.executable, *job], folder))
            shutil.rmtree(out)
        each = [measure([sys.executable, str(ROOT / f"pipeline/{stage}.py")], folder) for stage in ("split", "label")]
        taken.setdefault("split and label", []).append((sum(s for s, _m in each), max(m for _s, m in each)))
    beside = {"ingest": "ingest before" if before else "polars", "split and label": "sql"}
    beside["own log, text ids"] = "own log, number ids"
    for name, runs in taken.items():
        seconds, peak = median(s for s, _m in runs), max(m for _s, m in runs)
        ratios = (
            [own[0] / peer[0] for own, peer in zip(runs, taken[beside[name]], strict=True)] if name in beside else []
        )
        ratio = f"{median(ratios):8.2f} {beside[name]}" if ratios else ""
        print(f"{name:24}{seconds:10.1f}{peak:10.0f}{ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description="see the top of the file")
    parser.add_argument("sizes", nargs="*", default=["S", "M", "L"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="whose ingest runs beside")
    parser.add_argument(
        "--peer", nargs=3, metavar=("NAME", "SOURCE", "OUT"), help="run one job; used by the script itself"
    )
    asked = parser.parse_args()
    if asked.peer:
        name, source, out = asked.peer
        PEERS[name](Path(source), Path(out))
        return
    for size in asked.sizes:
        with tempfile.TemporaryDirectory() as folder:
            at_size(size, asked.repeats, Path(folder), asked.before and asked.before.absolute())


if __name__ == "__main__":
    main()
