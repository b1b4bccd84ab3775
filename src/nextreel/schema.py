"""The tables that ingest writes, the same for every source.

`!` marks a column that is never null. Elsewhere null means that the source does not say; it is never zero.
`user_id` and `video_id` are the source's own: int64, or string where its ids are text (IDS). `user_idx` and `video_idx`
are 1 + the rank of that id, so that 0 can mean padding.
Times are unix milliseconds; days are days in UTC+8, where the app's users live.
"""

from collections.abc import Sequence
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow.parquet as pq

IDS = ("user_id", "video_id")  # int64 in the schemas below, but a table may hold string in its place

INTERACTIONS = ibis.schema(
    {
        "user_idx": "!int32",
        "video_idx": "!int32",
        "time_ms": "!int64",  # when the video was shown
        "row": "!int64",  # position in the source's files, in their order: breaks ties of time
        "tab": "int16",  # the scenario of the app
        "click": "boolean",
        "like": "boolean",
        "follow": "boolean",
        "comment": "boolean",
        "forward": "boolean",
        "hate": "boolean",
        "long_view": "boolean",
        "profile_enter": "boolean",
        "play_time_ms": "int64",  # may exceed the duration: videos loop
        "duration_ms": "int64",  # null where unknown
        "profile_stay_ms": "int64",
        "comment_stay_ms": "int64",
    }
)
RANDOM = INTERACTIONS  # videos exposed at random

_USER_NUMBERS = ["follow_user_num", "fans_user_num", "friend_user_num", "register_days"]
USERS = ibis.schema(
    {
        "user_idx": "!int32",
        "user_id": "!int64",
        "user_active_degree": "string",
        "is_lowactive_period": "boolean",
        "is_live_streamer": "boolean",
        "is_video_author": "boolean",
        **dict.fromkeys(_USER_NUMBERS, "int64"),
        **{f"{name}_range": "string" for name in _USER_NUMBERS},
        **{f"onehot_feat{i}": "int32" for i in range(18)},
    }
)

CATEGORY_LEVELS = (1, 2, 3, 4)  # from the widest to the narrowest
VIDEOS = ibis.schema(
    {
        "video_idx": "!int32",
        "video_id": "!int64",
        "author_id": "int64",
        "video_type": "string",
        "upload_date": "date",
        "upload_type": "string",
        "visible_status": "int32",
        "duration_ms": "int64",  # null where unknown
        "width": "int32",  # pixels
        "height": "int32",
        "music_id": "int64",
        "music_type": "int32",
        "tags": "array<int32>",
        "caption": "string",
        "cover_text": "string",
        **{f"category_{level}_id": "int32" for level in CATEGORY_LEVELS},
        **{f"category_{level}_name": "string" for level in CATEGORY_LEVELS},
    }
)

SEARCHES = ibis.schema(
    {
        "user_idx": "!int32",
        "time_ms": "!int64",
        "row": "!int64",
        "session_id": "int64",
        "keywords": "array<int32>",
        "source": "string",
        "video_idx": "int32",
        "item_type": "string",
        "n_clicks": "int32",
    }
)

# What only a simulator knows, whole enough to compute interest and exposure for any (event, video) without its
# parameters. `simulation.world` defines each term.
TRUTH_EVENTS = ibis.schema(
    {
        "user_idx": "!int32",
        "time_ms": "!int64",
        "day": "!int32",  # whose videos and freshness the policy used
        "topic_before": "!int16",  # topic of the session's previous video; -1 at its start
    }
)
TRUTH_USERS = ibis.schema({"user_idx": "!int32", "taste": "array<float64>", "topic_probability": "array<float64>"})
TRUTH_VIDEOS = ibis.schema(
    {
        "video_idx": "!int32",
        "topic": "!int16",
        "vector": "array<float64>",
        "quality": "!float64",
        "exposure_weight": "!float64",
        "upload_day": "!int32",
        "true_duration_ms": "!int64",
        "log_wtr_offset": "!float64",
        "skip_mean_ms": "!float64",
    }
)
TRUTH_TOPICS = ibis.schema({"topic": "!int16", "next_probability": "array<float64>", "sequence_strength": "!float64"})

TABLES = {
    "interactions": INTERACTIONS,
    "random": RANDOM,
    "users": USERS,
    "videos": VIDEOS,
    "searches": SEARCHES,
    "truth_events": TRUTH_EVENTS,
    "truth_users": TRUTH_USERS,
    "truth_videos": TRUTH_VIDEOS,
    "truth_topics": TRUTH_TOPICS,
}
# A total order of each table's rows: the order they are written in.
ORDER = {
    "interactions": ["user_idx", "time_ms", "row"],
    "random": ["user_idx", "time_ms", "row"],
    "users": ["user_idx"],
    "videos": ["video_idx"],
    "searches": ["user_idx", "time_ms", "row"],
    "truth_events": ["user_idx", "time_ms", "day", "topic_before"],
    "truth_users": ["user_idx"],
    "truth_videos": ["video_idx"],
    "truth_topics": ["topic"],
}


# What a value may be, by the column's name, in any table; both ends are allowed.
FIRST_MS, LAST_MS = 946_684_800_000, 4_102_444_800_000  # years 2000 to 2100: seconds or microseconds fall outside
INT16, INT32, INT64 = 2**15 - 1, 2**31 - 1, 2**63 - 1
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(["user_idx", "video_idx"], (1, INT32)),
    **dict.fromkeys(["user_id", "video_id"], (0, INT64)),
    "time_ms": (FIRST_MS, LAST_MS),
    "row": (1, INT64),
    "tab": (0, INT16),
    "duration_ms": (1, INT32),
    **dict.fromkeys(["play_time_ms", "profile_stay_ms", "comment_stay_ms", "width", "height"], (0, INT32)),
    "topic_before": (-1, INT16),
    "topic": (0, INT16),
    "true_duration_ms": (1, INT32),
}
# Columns that no two rows share together; where none are named, those of ORDER.
KEYS = {
    "interactions": ["user_idx", "time_ms", "video_idx"],
    "random": ["user_idx", "time_ms", "video_idx"],
    "truth_events": [],  # two exposures of a user may fall on the same millisecond
}


def conform(table: ir.Table, schema: ibis.Schema) -> ir.Table:
    """`table` with exactly the schema's columns, in its order and with its types, ids that are text kept; one that it
    lacks is null."""
    columns = {
        name: table[name].cast(dtype) if name in table.columns else ibis.null(dtype)
        for name, dtype in _with_ids_of(table.schema(), schema).items()
    }
    return table.select(**columns)


def _with_ids_of(found: ibis.Schema, schema: ibis.Schema) -> ibis.Schema:
    """The schema of a table whose columns are `found`: with string for each id that is string there."""
    text = {name for name in IDS if name in schema and name in found and found[name].is_string()}
    return ibis.schema({name: "!string" if name in text else dtype for name, dtype in schema.items()})


def empty(schema: ibis.Schema) -> ir.Table:
    """A table without rows, for what a source lacks."""
    return ibis.memtable(schema.to_pyarrow().empty_table())


def check(path: Path, name: str) -> None:
    """Raise ValueError where a table written as `name` differs from its schema: columns, types, nulls, ranges, order or
    keys. That is a bug of the reader of the source, never a mistake of its user.

    Nulls and ranges are read from the files' statistics; only the columns of order and key are read.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    for file in files:
        parquet = pq.ParquetFile(file)
        written = ibis.Schema.from_pyarrow(parquet.schema_arrow)
        schema = _with_ids_of(written, TABLES[name])
        found, wanted = ({c: t.copy(nullable=True) for c, t in each.items()} for each in (written, schema))
        if found != wanted:
            raise ValueError(f"{name}: columns {found} differ from the schema {wanted}")
        for group in range(parquet.metadata.num_row_groups):
            if parquet.metadata.row_group(group).num_rows:  # an empty one has no statistics
                _check_statistics(parquet.metadata.row_group(group), schema, name)
    _check_order(files, ORDER[name], KEYS.get(name, ORDER[name]), name)


def _check_statistics(group: pq.RowGroupMetaData, schema: ibis.Schema, name: str) -> None:
    for at in range(group.num_columns):
        column, found = group.column(at).path_in_schema, group.column(at).statistics
        if column not in schema.names:
            continue  # the elements of a list
        if not schema[column].nullable and found.null_count:
            raise ValueError(f"{name}: {column} must not be null; {found.null_count} rows are")
        if column not in RANGES or schema[column].is_string() or not found.has_min_max:
            continue
        low, high = RANGES[column]
        if not low <= found.min <= found.max <= high:
            raise ValueError(f"{name}: {column} goes from {found.min} to {found.max}; allowed is {low} to {high}")


def _check_order(files: Sequence[Path], order: Sequence[str], key: Sequence[str], name: str) -> None:
    """Every row must stand above the one before it in `order`, and no two may share the `key`: rows that share its
    columns in `order` lie together, so that only those are compared in the rest."""
    shared, rest = [c for c in order if c in key], [c for c in key if c not in order]
    run = {c: np.zeros(0, np.int64) for c in (*order, *rest)}  # the last rows, alike in `shared`, so far
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(1 << 20, columns=list(run)):
            rows = {c: np.concatenate([run[c], batch[c].to_numpy()]) for c in run}
            above = np.zeros(len(rows[order[0]]) - 1, bool)
            alike = np.ones_like(above)
            for c in order:
                above |= alike & (rows[c][1:] > rows[c][:-1])
                alike &= rows[c][1:] == rows[c][:-1]
            if not (above if key else above | alike).all():
                raise ValueError(f"{name}: rows are not in order of {', '.join(order)}, or two are alike in it")
            if not key:
                run = {c: column[-1:] for c, column in rows.items()}
                continue
            alike = np.logical_and.reduce([rows[c][1:] == rows[c][:-1] for c in shared])
            number = np.concatenate([[0], (~alike).cumsum()])
            together = np.flatnonzero(np.concatenate([[False], alike]) | np.concatenate([alike, [False]]))
            keys = np.stack([number[together], *(rows[c][together] for c in rest)])
            if np.unique(keys, axis=1).shape[1] < len(together):
                raise ValueError(f"{name}: two rows share {', '.join(key)}")
            run = {c: column[number == number[-1]] for c, column in rows.items()}
