"""KuaiRand's layout (Gao et al., CIKM 2022; kuairand.com), as published and as `simulated` writes it.

A folder with any non-empty subset of the logs, and the features where there are any:
    log_standard_*.csv  log_random_*.csv  user_features_*.csv  video_features_basic_*.csv
    kuairand_video_captions.csv  kuairand_video_categories.csv
The monthly video statistics include the test days and are not read. `date` and `hourmin` disagree with `time_ms` in
one row of six; only `time_ms` is used.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis import _

from nextreel import engine, schema
from nextreel.datasets import Params, Source, event_tables, index, where_sought
from nextreel.errors import UserError
from nextreel.raw import filebytes, listing, sources
from nextreel.raw.columns import EXACT, Column, Format
from nextreel.raw.intake import Intake
from nextreel.schema import INT16, INT32

LICENCE = "CC BY-SA 4.0"
CITATION = "Gao et al., KuaiRand, CIKM 2022, doi 10.1145/3511808.3557624"

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
_COUNT, _TEXT = Column(-EXACT, EXACT), Column(reads="text")
_KEY, _NUMBER = Column(0, EXACT, required=True), Column(-INT32, INT32)
_TIME = Column(schema.FIRST_MS, schema.LAST_MS, required=True)
_LOG: Format = {
    **{"user_id": _KEY, "video_id": _KEY, "time_ms": _TIME},
    **dict.fromkeys(_FLAGS, Column(0, 1)),
    **dict.fromkeys(_AMOUNTS, Column(0, INT32)),
    **{"tab": Column(0, INT16), "is_rand": Column(0, 1, required=True)},
}
_EVENT = ["user_id", "video_id", "time_ms"]

_USER_FLAGS = ["is_lowactive_period", "is_live_streamer", "is_video_author"]
_USERS: Format = {
    c: _TEXT if kind.is_string() else _COUNT if kind.is_int64() else _NUMBER
    for c, kind in schema.USERS.items()
    if c != "user_idx"
} | {"user_id": _KEY}
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
_VIDEOS: Format = {
    **{"video_id": _KEY, "author_id": _COUNT, "visible_status": _NUMBER, "video_duration": Column(0, INT32)},
    **{"server_width": Column(0, INT32), "server_height": Column(0, INT32), "music_id": _COUNT, "music_type": _NUMBER},
    **dict.fromkeys(["video_type", "upload_dt", "upload_type", "tag"], _TEXT),
}
_CAPTIONS: Format = {"final_video_id": _KEY, "caption": _TEXT, "show_cover_text": _TEXT}
_LEVELS = dict(zip(("first", "second", "third", "fourth"), schema.CATEGORY_LEVELS, strict=True))
_CATEGORIES: Format = {
    "final_video_id": _KEY,
    **{f"{level}_level_category_id": _NUMBER for level in _LEVELS},
    **{f"{level}_level_category_name": _TEXT for level in _LEVELS},
}
_FILES = {  # a folder's, by what they are called before the ending
    "log_standard_*": _LOG,
    "log_random_*": _LOG,
    "user_features_*": _USERS,
    "video_features_basic_*": _VIDEOS,
    "kuairand_video_captions": _CAPTIONS,
    "kuairand_video_categories": _CATEGORIES,
}
_UNREAD = ("video_features_statistic_*",)
_UNKNOWN = -124  # KuaiRand's mark of a value that it does not give
_TRUTH = ("truth_events", "truth_users", "truth_videos", "truth_topics")


@dataclass(frozen=True)
class Files:
    """The raw files of one folder."""

    logs: list[Path]
    users: list[Path]  # one or none, as the rest
    videos: list[Path]
    captions: list[Path]
    categories: list[Path]
    truth: dict[str, Path] = field(default_factory=dict)


def inspect(params: Params) -> Files:
    """Find the files and check their headers. Raises UserError that names what is missing and where it was sought."""
    folder = Path(params.path)
    if not folder.is_dir():
        packed = folder.is_file() and folder.suffix in (".gz", ".tgz", ".tar", ".zip")
        raise UserError(
            f"`ingest.path` is {params.path!r}, which is {'an archive: unpack it first' if packed else 'no folder'};"
            " point it at KuaiRand's `data` folder (dvc exp run -S ingest.path=/path/to/KuaiRand-Pure/data);"
            f" `dvc repro` makes data/raw/simulated, the default{where_sought(params.path)}"
        )
    left = listing.files(folder)
    found = {kind: [path for path in left if _is(path, folder, kind)] for kind in (*_FILES, *_UNREAD)}
    logs = found["log_standard_*"] + found["log_random_*"]
    if not logs:
        inner = folder / "data"
        hint = f"; did you mean {inner}?" if any(_is(path, inner, "log_*") for path in left) else ""
        raise UserError(f"{folder}: no log_standard_*.csv or log_random_*.csv{hint}")
    truth = {name: folder / f"{name}.parquet" for name in _TRUTH if folder / f"{name}.parquet" in left}
    known = {*truth.values(), *(path for paths in found.values() for path in paths)}
    for path in truth.values():
        filebytes.schema(path)  # of the simulator, and so no other than it writes, if it is one at all
    listing.refuse(
        folder, [path for path in left if path not in known],
        f"KuaiRand's files are called {', '.join(f'{kind}.csv' for kind in _FILES)} (.csv.gz will do), side by side",
    )  # fmt: skip
    for kind, paths in found.items():
        if len(paths) > 1 and not kind.startswith(("log_", *_UNREAD)):
            raise UserError(f"{folder}: one {kind}.csv is expected, found {', '.join(path.name for path in paths)}")
        for path in paths if kind in _FILES else ():
            filebytes.check_header(path, _FILES[kind])
    return Files(
        logs,
        users=found["user_features_*"],
        videos=found["video_features_basic_*"],
        captions=found["kuairand_video_captions"],
        categories=found["kuairand_video_categories"],
        truth=truth,
    )


def _is(path: Path, folder: Path, kind: str) -> bool:
    """Whether a file lies in the folder itself and is a CSV file of a kind, in capitals or not."""
    return path.parent == folder and listing.form(path) == "csv" and fnmatch(path.name.lower(), f"{kind}.csv*")


def time_range(con: engine.Connection, params: Params) -> tuple[int, int] | None:
    """First and last plausible `time_ms` of the logs, None where they hold none."""
    return sources.time_range(con, inspect(params).logs, "time_ms", _TIME)


def read(con: engine.Connection, params: Params) -> Source:
    """Read a folder into tables; rows that cannot be used go into quarantine, see `nextreel.raw`.

    Raises UserError where files or columns are missing, or no log has any row.
    """
    files, intake = inspect(params), Intake(con, Path(params.path))
    rows = intake.read(files.logs, _LOG)
    repeats = intake.repeats(rows, _EVENT)
    if not any(file.n_rows for file in intake.files):
        raise UserError(f"{params.path}: the logs have a header but no rows")
    users = intake.first_of(intake.read(files.users, _USERS), ["user_id"])
    videos = intake.first_of(intake.read(files.videos, _VIDEOS), ["video_id"])
    user_ids, video_ids = index(con, "user", rows, users), index(con, "video", rows, videos)
    events = _events(rows.join(user_ids, "user_id").join(video_ids, "video_id"))
    about = _videos(video_ids.left_join(videos, "video_id"))
    for paths, columns, renamed in (
        (files.captions, _CAPTIONS, _captions),
        (files.categories, _CATEGORIES, _categories),
    ):
        if paths:
            extra = intake.first_of(intake.read(paths, columns), ["final_video_id"])
            about = about.left_join(renamed(extra), "video_id").drop("video_id_right")
    tables = {
        **event_tables(events, repeats),
        "users": schema.conform(_users(user_ids.left_join(users, "user_id")), schema.USERS),
        "videos": schema.conform(about, schema.VIDEOS),
    }
    for name, path in files.truth.items():
        truth = engine.read(con, path)
        if "user_id" in truth.columns:
            truth = truth.join(user_ids, "user_id")
        if "video_id" in truth.columns:
            truth = truth.join(video_ids, "video_id")
        tables[name] = schema.conform(truth, schema.TABLES[name])
    if files.truth:
        return Source(tables, intake, files.logs, "made up by nextreel: no rights, no evidence about users", "")
    return Source(tables, intake, files.logs, LICENCE, CITATION)


def _events(rows: ir.Table) -> ir.Table:
    flags = {new: rows[old] == 1 for old, new in _FLAGS.items()}
    amounts = {new: rows[old] for old, new in _AMOUNTS.items()}
    amounts["duration_ms"] = amounts["duration_ms"].nullif(0)  # KuaiRand writes 0 where it does not know
    return rows.select("user_idx", "video_idx", "time_ms", "row", is_rand=_.is_rand == 1, **flags, **amounts)


def _users(rows: ir.Table) -> ir.Table:
    # is_live_streamer is 1 or _UNKNOWN
    return rows.mutate(**{c: ibis.cases((rows[c] == 1, True), (rows[c] == 0, False)) for c in _USER_FLAGS})


def _videos(rows: ir.Table) -> ir.Table:
    numbers = {new: rows[old] for old, new in _VIDEO_NUMBERS.items()}
    numbers["duration_ms"] = numbers["duration_ms"].nullif(0)
    return rows.select(
        "video_idx", "video_type", "upload_type", **numbers,
        upload_date=_.upload_dt.nullif("").try_cast("date"),
        tags=_.tag.nullif("").split(",").map(lambda tag: tag.try_cast("int32")),
    )  # fmt: skip


def _captions(rows: ir.Table) -> ir.Table:
    return rows.select("caption", video_id=_.final_video_id, cover_text=_.show_cover_text)


def _categories(rows: ir.Table) -> ir.Table:
    ids = {f"category_{n}_id": rows[f"{level}_level_category_id"].nullif(_UNKNOWN) for level, n in _LEVELS.items()}
    names = {f"category_{n}_name": rows[f"{level}_level_category_name"] for level, n in _LEVELS.items()}
    return rows.select(video_id=_.final_video_id, **ids, **names)
