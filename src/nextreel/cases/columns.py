"""The columns of the store, each declared once: its source, kind and size.

`label` writes them all; only models that name a new one are fitted anew. What a source lacks is no column.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis import _
from ibis.common.deferred import Deferred, deferrable

from nextreel.cases.store import UNKNOWN, Column, Kind, NamedColumns, Sets


@deferrable
def key(raw_id: ir.Value) -> ir.Value:
    """The number that ties and models take for a raw id: the id itself (int64); of an id that is text the first 64 bits
    of the MD5 of its UTF-8 bytes, the first byte being the highest (uint64).

    So it hangs on the id alone: not on the other ids, nor on the machine or the engine. That any two of three million
    texts share a key has a chance of one in four million; they would be one user to a model that knows users.
    """
    return raw_id if raw_id.type().is_integer() else ("0x" + raw_id.hexdigest("md5")[:16]).cast("uint64")


def feedback() -> Deferred:
    """How many of like, comment and forward an event got (SASRec4SV's auxiliary feedback); null if none is told."""
    told = [_.like, _.comment, _.forward]
    number = sum((each.cast("int8").fill_null(0) for each in told[1:]), told[0].cast("int8").fill_null(0))
    return ibis.ifelse(told[0].isnull() & told[1].isnull() & told[2].isnull(), None, number)


class Declared(NamedTuple):
    """A column of the labelled standard rows, or of a table of features."""

    value: Deferred  # null where unknown
    kind: Kind  # see `store.Column`; the ids of a set may be any, and are numbered by rank from 0
    size: int | None = None  # of an id; None: one more than the largest in the data
    ranked: bool = False  # an id that may be any number, and is numbered by rank from 0


DECLARED = {
    "events": {
        "video_idx": Declared(_.video_idx, "id"),
        "time_ms": Declared(_.time_ms, "number"),
        "positive": Declared(_.positive, "id", size=2),
        "tab": Declared(_.tab, "id"),
        "feedback": Declared(feedback(), "id"),
        "wtr": Declared(_.wtr, "number"),
        "wtg": Declared(_.wtg, "number"),
        "play_time_ms": Declared(_.play_time_ms, "number"),
    },
    "videos": {
        "video_key": Declared(key(_.video_id), "number"),
        "author": Declared(_.author_id, "id", ranked=True),
        "tags": Declared(_.tags, "set"),
        "duration_ms": Declared(_.duration_ms, "number"),
        "upload_day": Declared(_.upload_date.epoch_days(), "number"),  # since 1970
    },
    "users": {
        "user_key": Declared(key(_.user_id), "number"),
    },
}
ROWS = {"events": ["user_idx", "time_ms", "row"], "videos": ["video_idx"], "users": ["user_idx"]}


def read(
    rows: ir.Table, table: str, beside: Mapping[str, ir.Value | Deferred] = MappingProxyType({})
) -> tuple[NamedColumns, dict[str, Column], dict[str, np.ndarray]]:
    """The declared columns of a table, in order of ROWS, and what they are by `<table>/<name>`; those of videos and
    users begin with a row of padding. And what else is asked of the same rows, without padding."""
    declared = DECLARED[table]
    wanted = {name: each.value for name, each in declared.items()} | {f"beside {name}": x for name, x in beside.items()}
    found = rows.order_by(*ROWS[table]).select(**wanted).to_pyarrow()
    columns, about = NamedColumns(), {}
    for name, each in declared.items():
        values = found[name].combine_chunks()
        if values.null_count == len(values) > 0:
            continue  # the source does not say
        columns[name], size = _sets(values) if each.kind == "set" else _ids(values, each)
        about[f"{table}/{name}"] = Column(each.kind, size)
        if table != "events":
            columns[name] = _padded(columns[name])
    return columns, about, {name: found[f"beside {name}"].to_numpy() for name in beside}


def _ids(values: pa.Array, declared: Declared) -> tuple[np.ndarray, int]:
    """The values and their size. An unknown id is UNKNOWN, an unknown number NaN."""
    if declared.kind == "number":
        return values.to_numpy(zero_copy_only=False), 0
    if declared.ranked:
        ids, number = np.unique(values.drop_null().to_numpy(), return_inverse=True)
        array = np.full(len(values), UNKNOWN, np.int32)
        array[values.is_valid().to_numpy(zero_copy_only=False)] = number
        return array, len(ids)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if values.null_count:
        values = values.fill_null(UNKNOWN)
    array = values.to_numpy(zero_copy_only=False)
    return array, declared.size or int(array.max(initial=UNKNOWN)) + 1


def _sets(values: pa.ListArray) -> tuple[Sets, int]:
    """Ids by rank from 0, each once a row, and how many there are."""
    flat = values.flatten()
    known = flat.is_valid().to_numpy(zero_copy_only=False)
    row = values.value_parent_indices().to_numpy()[known]
    ids, number = np.unique(flat.drop_null().to_numpy(), return_inverse=True)
    row, number = np.divmod(np.unique(row * np.int64(len(ids)) + number), max(len(ids), 1))
    length = np.bincount(row, minlength=len(values))
    return Sets(number.astype(np.int32), np.concatenate([[0], length.cumsum()])), len(ids)


def _padded(column: np.ndarray | Sets) -> np.ndarray | Sets:
    if isinstance(column, Sets):
        return Sets(column.values, np.insert(column.offsets, 0, 0))
    return np.insert(column, 0, 0)
