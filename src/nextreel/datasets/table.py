"""A log of your own: a CSV or Parquet file, or a folder of them, a row an event; `ingest.table` names its columns.

User, video and time are enough. Without a watch time every row is a positive, see `labels.usable`.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ibis
import ibis.expr.types as ir

from nextreel import engine, schema
from nextreel.datasets import Names, Params, Source, event_tables, index, where_sought
from nextreel.errors import UserError
from nextreel.raw import filebytes, listing, sources
from nextreel.raw.columns import Column, Format, Reads
from nextreel.raw.intake import Intake, Rejects
from nextreel.schema import INT16, INT32, INT64

FLAGS = ("click", "long_view", "like", "follow", "comment", "forward", "hate", "is_rand")
_FLAG = Column(0, 1, reads="flag")
_KEYS = {"number": Column(0, INT64, required=True), "text": Column(required=True, reads="text")}
_UNITS: dict[str, Reads] = {"ms": "integer", "s": "seconds", "datetime": "datetime"}


@dataclass(frozen=True)
class Layout:
    """Your column of each of ours that you have, and what it may hold."""

    names: dict[str, str]
    columns: Format

    @classmethod
    def of(cls, names: Names) -> "Layout":
        watch = Column(0, INT32, reads=_UNITS[names.watch_unit])
        time = Column(schema.FIRST_MS, schema.LAST_MS, True, _UNITS[names.time_unit])
        ours = {
            **{"user_id": _KEYS[names.user_id_type], "video_id": _KEYS[names.video_id_type], "time": time},
            **{"play_time": watch, "duration": watch},
            **{"tab": Column(0, INT16), **dict.fromkeys(FLAGS, _FLAG)},
        }
        found = {name: theirs for name in ours if (theirs := getattr(names, name)) is not None}
        return cls(found, {theirs: ours[name] for name, theirs in found.items()})


def inspect(params: Params) -> list[Path]:
    """Find the files and check their headers. Raises UserError that names what is missing and where it was sought."""
    path = Path(params.path)
    files = listing.files(path) if path.is_dir() else [path] if path.is_file() else []
    unread = [file for file in files if listing.form(file) is None]
    wanted = f"`ingest.layout` table takes a file that ends in {', '.join(listing.ENDINGS)}, or a folder of them"
    if path.is_dir():
        listing.refuse(path, unread, wanted)
        wanted = f"there is no file in it; {wanted}"
    if not files or unread:
        raise UserError(f"`ingest.path` is {params.path!r}; {wanted}{where_sought(params.path)}")
    layout = Layout.of(params.table)
    twice = {theirs for theirs in layout.names.values() if list(layout.names.values()).count(theirs) > 1}
    if twice:
        raise UserError(f"`ingest.table` gives {', '.join(sorted(twice))} to more than one of its keys")
    for file in files:
        filebytes.check_header(file, layout.columns)
    return files


def time_range(con: engine.Connection, params: Params) -> tuple[int, int] | None:
    """First and last plausible time, None where there is none."""
    layout = Layout.of(params.table)
    name = layout.names["time"]
    return sources.time_range(con, inspect(params), name, layout.columns[name], quoted=True)


def read(con: engine.Connection, params: Params) -> Source:
    """Read a log into tables; rows that cannot be used go into quarantine, see `nextreel.raw`.

    Raises UserError where files or columns are missing, or there is no row.
    """
    files, layout, path = inspect(params), Layout.of(params.table), Path(params.path)
    intake = Intake(con, path if path.is_dir() else path.parent, params.table.null_words)
    rows = intake.read(files, layout.columns, {theirs: ours for ours, theirs in layout.names.items()}, quoted=True)
    repeats = intake.repeats(rows, ["user_id", "video_id", "time"])
    if not any(file.n_rows for file in intake.files):
        raise UserError(f"{params.path}: there are columns but no rows")
    user_ids, video_ids = index(con, "user", rows), index(con, "video", rows)
    events = _events(rows.join(user_ids, "user_id").join(video_ids, "video_id"))
    tables = {
        **event_tables(events, repeats),
        "users": schema.conform(user_ids, schema.USERS),
        "videos": schema.conform(video_ids, schema.VIDEOS),
    }
    return Source(tables, intake, files, "its owner's", "none given", partial(_hint, layout))


_MISSING = {"null", "none", "na", "n/a", "nan", "nil", "\\n", "-", "?", "undefined", "missing"}


def _hint(layout: Layout, reject: Rejects) -> str:
    """What may be meant by cells that are no numbers."""
    ours = next((ours for ours, theirs in layout.names.items() if theirs == reject.column), None)
    if reject.reason not in ("not_a_number", "wrong_type", "inexact"):
        return ""
    if (reject.value or "").lower() in _MISSING:
        return f" (a word for a missing value? Name it in `ingest.table.null`: {[reject.value]})"
    return f" (ids that are text: `ingest.table.{ours}_type` text)" if ours in ("user_id", "video_id") else ""


def _events(rows: ir.Table) -> ir.Table:
    found = {name: rows[name] == 1 for name in FLAGS if name in rows.columns}
    found |= {f"{name}_ms": rows[name] for name in ("time", "play_time") if name in rows.columns}
    if "duration" in rows.columns:
        found["duration_ms"] = rows.duration.nullif(0)
    if "tab" in rows.columns:
        found["tab"] = rows.tab
    found["is_rand"] = found["is_rand"].fill_null(False) if "is_rand" in found else ibis.literal(False)
    return rows.select("user_idx", "video_idx", "row", **found)
