"""KuaiRand's layout (Gao et al., CIKM 2022; kuairand.com), as published and as `simulated` writes it.

A folder with any non-empty subset of the logs, and the user and video features where there are any:
    log_standard_*.csv  log_random_*.csv  user_features_*.csv  video_features_basic_*.csv
The monthly video statistics include the test days and are not read. `date` and `hourmin` disagree with `time_ms` in
one row of six; only `time_ms` is used.
"""

from dataclasses import dataclass, field
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis import _

from nextreel import engine, schema
from nextreel.datasets import Bad, Source
from nextreel.errors import UserError

_FLAGS = {
    "is_click": "click",
    "is_like": "like",
    "is_follow": "follow",
    "is_comment": "comment",
    "is_forward": "forward",
    "is_hate": "hate",
    "long_view": "long_view",
    "is_profile_enter": "profile_enter",
}
_AMOUNTS = {
    "tab": "tab",
    "play_time_ms": "play_time_ms",
    "duration_ms": "duration_ms",
    "profile_stay_time": "profile_stay_ms",
    "comment_stay_time": "comment_stay_ms",
}
_KEYS = ["user_id", "video_id", "time_ms"]
_LOG = [*_KEYS, *_FLAGS, *_AMOUNTS, "is_rand"]

_USER_FLAGS = ["is_lowactive_period", "is_live_streamer", "is_video_author"]
_USER_TEXT = ["user_active_degree", *(c for c in schema.USERS.names if c.endswith("_range"))]
_USER_NUMBERS = [c for c in schema.USERS.names if c not in {"user_idx", *_USER_TEXT}]
_VIDEO_NUMBERS = {
    "video_id": "video_id",
    "author_id": "author_id",
    "visible_status": "visible_status",
    "video_duration": "duration_ms",
    "server_width": "width",
    "server_height": "height",
    "music_id": "music_id",
    "music_type": "music_type",
}
_VIDEO_TEXT = ["video_type", "upload_dt", "upload_type", "tag"]

_FIRST_MS, _LAST_MS = (
    946_684_800_000,
    4_102_444_800_000,
)  # years 2000 to 2100: seconds or microseconds fall outside
_INT16, _INT32, _EXACT = 2**15 - 1, 2**31 - 1, 2**53  # a DOUBLE holds integers exactly up to 2**53
_NEVER_NEGATIVE = {"video_duration", "server_width", "server_height"}
_TRUTH = ("truth_events", "truth_users", "truth_videos", "truth_topics")


@dataclass(frozen=True)
class Files:
    """The raw files of one folder."""

    logs: list[Path]
    users: Path | None
    videos: Path | None
    truth: dict[str, Path] = field(default_factory=dict)


def inspect(folder: Path) -> Files:
    """Find the files and check their headers. Raises UserError that names what is missing and where it was sought."""
    if not folder.is_dir():
        raise UserError(
            f"`ingest.path` is {str(folder)!r}, which is no folder; point it at KuaiRand's `data` folder"
            " (dvc exp run -S ingest.path=/path/to/KuaiRand-Pure/data)"
        )
    logs = sorted(folder.glob("log_standard_*.csv")) + sorted(folder.glob("log_random_*.csv"))
    if not logs:
        inner = folder / "data"
        hint = f"; did you mean {inner}?" if any(inner.glob("log_*.csv")) else ""
        raise UserError(f"{folder}: no log_standard_*.csv or log_random_*.csv{hint}")
    for log in logs:
        engine.check_header(log, _LOG)
    users = _feature_file(folder, "user_features", [*_USER_NUMBERS, *_USER_TEXT])
    videos = _feature_file(folder, "video_features_basic", [*_VIDEO_NUMBERS, *_VIDEO_TEXT])
    truth = {name: folder / f"{name}.parquet" for name in _TRUTH if (folder / f"{name}.parquet").exists()}
    return Files(logs, users, videos, truth)


def _feature_file(folder: Path, name: str, columns: list[str]) -> Path | None:
    found = sorted(folder.glob(f"{name}_*.csv"))
    if len(found) > 1:
        raise UserError(f"{folder}: one {name}_*.csv is expected, found {', '.join(path.name for path in found)}")
    if found:
        engine.check_header(found[0], columns)
    return found[0] if found else None


def time_range(con: engine.Connection, folder: Path) -> tuple[int, int] | None:
    """First and last plausible `time_ms` of the logs, None where they hold none."""
    return engine.time_range(con, inspect(folder).logs, "time_ms", (_FIRST_MS, _LAST_MS))


def read(con: engine.Connection, folder: Path) -> Source:
    """Read a folder into tables. Rows that cannot be used are dropped and counted by reason:

    `unreadable`: text in a number, or a wrong number of cells; `invalid`: a missing key, a fraction, a flag other than
    0 or 1, a negative or impossible amount or time; `repeated`: a later row of the same (user, video, time_ms).

    Raises UserError where files or columns are missing, or no log has any row.
    """
    files = inspect(folder)
    bad: Bad = {}
    scans = [engine.scan_csv(con, log, dict.fromkeys(_LOG, "DOUBLE"), has_text=False) for log in files.logs]
    parts, offset = [], 0
    for scan in scans:
        rules = _log_rules(scan.table)
        parts.append(_keep(scan, rules, bad).mutate(row=_.row + offset))
        offset += scan.n_lines
    rows_read = sum(scan.n_lines for scan in scans)
    if not rows_read:
        raise UserError(f"{folder}: the logs have a header but no rows")
    valid = ibis.union(*parts) if len(parts) > 1 else parts[0]
    first = ibis.window(group_by=_KEYS, order_by="row")
    kept = con.create_table(
        "kept_rows", valid.mutate(n=ibis.row_number().over(first)).filter(_.n == 0).drop("n"), temp=True
    )
    unreadable = sum(len(scan.rejected) for scan in scans)
    unusable = sum(n_bad for n_bad, _rows, _example in bad.values())
    dropped = {
        "unreadable": unreadable,
        "invalid": unusable - unreadable,
        "repeated": rows_read - unusable - kept.count().execute(),
    }

    users = _features(con, files.users, schema.USERS, _USER_NUMBERS, _USER_TEXT, bad)
    videos = _features(con, files.videos, schema.VIDEOS, list(_VIDEO_NUMBERS), _VIDEO_TEXT, bad)
    user_ids = _index(con, "user", kept, users)
    video_ids = _index(con, "video", kept, videos)
    events = _events(kept.join(user_ids, "user_id").join(video_ids, "video_id"))
    tables = {
        "interactions": schema.conform(events.filter(_.is_rand == 0), schema.INTERACTIONS),
        "random": schema.conform(events.filter(_.is_rand == 1), schema.RANDOM),
        "users": schema.conform(_users(user_ids.left_join(users, "user_id")), schema.USERS),
        "videos": schema.conform(_videos(video_ids.left_join(videos, "video_id")), schema.VIDEOS),
    }
    for name, path in files.truth.items():
        truth = con.read_parquet(str(path))
        if "user_id" in truth.columns:
            truth = truth.join(user_ids, "user_id")
        if "video_id" in truth.columns:
            truth = truth.join(video_ids, "video_id")
        tables[name] = schema.conform(truth, schema.TABLES[name])
    bad_features = sum(n_bad for n_bad, _rows, _example in bad.values()) - unusable
    return Source(tables, rows_read, dropped, bad_features, bad)


def _integral(column: ir.NumericColumn, low: float, high: float) -> ir.BooleanValue:
    # By remainder: floor() would become a cast to an integer, which fails on nan, inf and 1e300.
    return (column >= low) & (column <= high) & (column % 1 == 0)


def _log_rules(table: ir.Table) -> dict[str, ir.BooleanValue]:
    """Column -> whether its value can be used. Null passes where the schema lets it."""
    rules = {key: _integral(table[key], 0, _EXACT) for key in ("user_id", "video_id")}
    rules["time_ms"] = _integral(table.time_ms, _FIRST_MS, _LAST_MS)
    rules["is_rand"] = _integral(table.is_rand, 0, 1)
    for key in _FLAGS:
        rules[key] = table[key].isnull() | _integral(table[key], 0, 1)
    for key in _AMOUNTS:
        rules[key] = table[key].isnull() | _integral(table[key], 0, _INT16 if key == "tab" else _INT32)
    return rules


def _keep(scan: engine.Scan, rules: dict[str, ir.BooleanValue], bad: Bad) -> ir.Table:
    """The scan's usable rows; its bad ones are counted in `bad` with an example."""
    usable = ibis.and_(*(rule.fill_null(False) for rule in rules.values()))
    unusable = scan.table.filter(~usable)
    n_invalid = unusable.count().execute()
    n_bad = n_invalid + len(scan.rejected)
    if n_bad:
        examples = [(line, reason) for line, reason in scan.rejected.items()][:1]
        if n_invalid:
            tested = {f"ok_{c}": rule.fill_null(False) for c, rule in rules.items()}
            row = unusable.order_by("row").limit(1).mutate(**tested).to_pyarrow().to_pylist()[0]
            column = next(c for c in rules if not row[f"ok_{c}"])
            examples.append((scan.line_of(row["row"]), f"{column} = {row[column]}"))
        line, reason = min(examples)
        example = f"line {line}: {reason}"
        bad[scan.path] = (n_bad, scan.n_lines, example)
    return scan.table.filter(usable)


def _features(
    con: engine.Connection,
    path: Path | None,
    columns: ibis.Schema,
    numbers: list[str],
    text: list[str],
    bad: Bad,
) -> ir.Table:
    """One row an id, the first in file order; no rows where there is no file."""
    key = columns.names[1]
    types = dict.fromkeys(numbers, "DOUBLE") | dict.fromkeys(text, "VARCHAR")
    if path is None:
        return schema.empty(ibis.schema({c: "float64" if t == "DOUBLE" else "string" for c, t in types.items()}))
    scan = engine.scan_csv(con, path, types, has_text=True)
    rules = {}
    for c in numbers:
        high = _EXACT if columns[_VIDEO_NUMBERS.get(c, c)].is_int64() else _INT32
        rules[c] = scan.table[c].isnull() | _integral(scan.table[c], 0 if c in _NEVER_NEGATIVE else -high, high)
    rules[key] = _integral(scan.table[key], 0, _EXACT)
    usable = _keep(scan, rules, bad)
    first = ibis.window(group_by=key, order_by="row")
    return usable.mutate(n=ibis.row_number().over(first)).filter(_.n == 0).drop("n", "row")


def _index(con: engine.Connection, kind: str, kept: ir.Table, features: ir.Table) -> ir.Table:
    """`<kind>_id` and `<kind>_idx` = 1 + the id's rank among all ids of logs and features."""
    key = f"{kind}_id"
    ids = kept.select(key).union(features.select(key), distinct=True)
    ranked = ids.mutate(**{f"{kind}_idx": ibis.row_number().over(order_by=key) + 1})
    return con.create_table(f"{kind}_ids", ranked, temp=True)


def _events(rows: ir.Table) -> ir.Table:
    flags = {new: (rows[old] == 1) for old, new in _FLAGS.items()}
    amounts = {new: rows[old].cast("int64") for old, new in _AMOUNTS.items()}
    amounts["duration_ms"] = amounts["duration_ms"].nullif(0)  # KuaiRand writes 0 where it does not know
    time_ms = rows.time_ms.cast("int64")
    return rows.select("user_idx", "video_idx", "row", "is_rand", time_ms=time_ms, **flags, **amounts)


def _users(rows: ir.Table) -> ir.Table:
    # is_live_streamer is 1 or -124, KuaiRand's mark of a value that it does not give.
    return rows.mutate(**{c: ibis.cases((rows[c] == 1, True), (rows[c] == 0, False)) for c in _USER_FLAGS})


def _videos(rows: ir.Table) -> ir.Table:
    renamed = {new: rows[old].cast("int64") for old, new in _VIDEO_NUMBERS.items()}
    renamed["duration_ms"] = renamed["duration_ms"].nullif(0)
    return rows.select(
        "video_idx", "video_type", "upload_type", **renamed,
        upload_date=_.upload_dt.nullif("").try_cast("date"),
        tags=_.tag.nullif("").split(",").map(lambda tag: tag.try_cast("int32")),
    )  # fmt: skip
