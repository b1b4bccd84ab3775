"""The tables that ingest writes, the same for every source.

`!` marks a column that is never null. Elsewhere null means that the source does not say; it is never zero.
`user_idx` and `video_idx` are 1 + the rank of the raw id, so that 0 can mean padding.
Times are unix milliseconds; days are days in UTC+8, where the app's users live.
"""

import ibis
import ibis.expr.types as ir
import numpy as np

DAY_MS = 86_400_000
UTC8_MS = 8 * 3_600_000

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
# parameters. `datasets.simulated` defines each term.
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


def days(time_ms: np.ndarray) -> np.ndarray:
    """The day in UTC+8 of each time: datetime64[D]."""
    return ((time_ms + UTC8_MS) // DAY_MS).astype("datetime64[D]")


def conform(table: ir.Table, schema: ibis.Schema) -> ir.Table:
    """`table` with exactly the schema's columns, in its order and with its types."""
    return table.select(**{name: table[name].cast(dtype) for name, dtype in schema.items()})


def empty(schema: ibis.Schema) -> ir.Table:
    """A table without rows, for what a source lacks."""
    return ibis.memtable(schema.to_pyarrow().empty_table())


def check(table: ir.Table, schema: ibis.Schema, name: str) -> None:
    """Raise ValueError where columns, types or nulls differ from the schema: a bug of the reader, not of its user."""
    found = {column: dtype.copy(nullable=True) for column, dtype in table.schema().items()}
    wanted = {column: dtype.copy(nullable=True) for column, dtype in schema.items()}
    if found != wanted:
        raise ValueError(f"{name}: columns {found} differ from the schema {wanted}")
    required = [column for column, dtype in schema.items() if not dtype.nullable]
    nulls = table.aggregate(**{column: table[column].isnull().sum() for column in required}).to_pyarrow()
    holes = {column: count for column, (count,) in nulls.to_pydict().items() if count}
    if holes:
        raise ValueError(f"{name}: nulls in required columns {holes}")
