"""What the label stage writes: the store, cases, targets, catalogue, impressions and, apart, their outcomes."""

from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis import _

from nextreel import arrays, engine, labels
from nextreel.cases import columns, protocols
from nextreel.cases.asked import NO_TAB
from nextreel.cases.protocols import Log, Questions
from nextreel.cases.store import UNKNOWN, Column, NamedColumns, Store
from nextreel.errors import UserError
from nextreel.parts import PARTS, QUESTIONS, RANDOM


def fit(parts: ir.Table, params: labels.Params, leave_one_out: bool) -> dict[str, np.ndarray]:
    """`labels.by_duration` fitted on train; under leave-one-out the bounds of positives stay those that cut the log."""
    train = parts.filter(_.part == "train")
    return labels.by_duration(parts, train, params, parts if leave_one_out else train)


def write(
    con: engine.Connection, labelled: ir.Table, data: Path, params: protocols.Params, leave_one_out: bool
) -> Questions:
    """Write into the folder `data`, whose `tables` are read:

    store/                 what is known of events, videos and users, see `cases.store`
    cases.parquet          protocol, user_id, user_key and the columns of `asked.Cases`; a row a case_id, from 0 on
    targets.parquet        case_id, video_idx
    catalogue.parquet      video_idx, video_id, video_key, first_part: see `asked.Catalogue`
    impressions.parquet    impression (from 0), case_id, video_idx, track (standard, random), time_ms, tab
                           (what was shown)
    outcomes.parquet       impression, label (null: unknown), wtr, wtg, z, duration_ms, bucket, play_time_ms: what came
                           of it, see `labels.label`; nothing that fits or scores reads them
    valid_outcomes.parquet its rows of the part valid, impression to play_time_ms: what may be chosen and calibrated by

    Raw ids are for people; what is fitted or breaks ties has their keys, see `columns.key`.

    Under leave-one-out there are no impressions, since a part begins with a positive, and any video may be recommended.

    Raises UserError where train, valid or test has no positive to learn from or to ask for.
    """
    log, events, about = _log(labelled.filter(_.part != RANDOM))
    random, _columns, _about = _log(labelled.filter(_.part == RANDOM))
    tables = {"events": events}
    for name in ("videos", "users"):
        tables[name], more, _beside = columns.read(engine.read(con, data / f"tables/{name}.parquet"), name)
        about |= more
    user_key, video_key = tables["users"]["user_key"], tables["videos"]["video_key"]
    about["events/video_idx"] = Column("id", len(video_key))
    n_users = len(user_key) - 1
    questions = protocols.build(log, random, n_users, params.targets, impressions=not leave_one_out)
    next_item = questions.protocol == "next_item"
    counts = {"train": int(log.positive[log.part == PARTS.index("train")].sum())}
    counts |= {part: int((next_item & (questions.cases.part == part)).sum()) for part in ("valid", "test")}
    without = [part for part, count in counts.items() if not count]
    if without:
        dropped = sum(questions.dropped_seen.values())
        raise UserError(
            f"no usable positive in {', '.join(without)} ({dropped} were dropped because the user had seen the video):"
            " choose another `label.positive` or a lower threshold, or move the split"
        )
    Store(log.offsets(n_users), log.cuts(n_users, leave_one_out), tables, about).save(data / "store")
    user_idx = questions.cases.user_idx
    keys = {"user_id": _ids(con, data, "user").take(user_idx - 1), "user_key": user_key[user_idx]}
    arrays.write({"protocol": questions.protocol, **keys, **questions.cases.columns()}, data / "cases.parquet")
    targets = {"case_id": questions.target_case_id, "video_idx": questions.target_video_idx}
    arrays.write(targets, data / "targets.parquet")
    first_part = log.first_part(len(video_key) - 1)
    if leave_one_out:
        first_part[first_part < len(PARTS)] = 0
    catalogue = {
        "video_idx": np.arange(1, len(video_key), dtype=np.int32),
        "video_id": _ids(con, data, "video"),
        "video_key": video_key[1:],
        "first_part": first_part[1:],
    }
    arrays.write(catalogue, data / "catalogue.parquet")
    shown = con.create_table("shown", _impressions(labelled, questions))
    shown_columns = ["impression", "case_id", "video_idx", "track", "time_ms", "tab"]
    engine.write(con, shown.select(shown_columns), data / "impressions.parquet", ["impression"])
    names = ("wtr", "wtg", "z", "duration_ms", "bucket", "play_time_ms")
    outcomes = shown.select("impression", *names, label=_.positive).relocate("label", after="impression")
    engine.write(con, outcomes, data / "outcomes.parquet", ["impression"])
    on_valid = shown.filter(_.part == "valid").select("impression", *names, label=_.positive)
    engine.write(con, on_valid, data / "valid_outcomes.parquet", ["impression"])
    return questions


def _ids(con: engine.Connection, data: Path, kind: str) -> pa.ChunkedArray:
    """The raw ids of all users or videos in order of their index, as Arrow: in numpy each text would be an object."""
    table = engine.read(con, data / f"tables/{kind}s.parquet").order_by(f"{kind}_idx")
    return table.select(f"{kind}_id").to_pyarrow()[f"{kind}_id"]


def _log(rows: ir.Table) -> tuple[Log, NamedColumns, dict[str, Column]]:
    """Standard or random rows with their columns of the store."""
    part = ibis.cases(*((_.part == part, code) for code, part in enumerate(PARTS)), else_=-1).cast("int8")
    events, about, keys = columns.read(rows, "events", {"user_idx": _.user_idx, "part": part})
    user_idx = keys["user_idx"]
    video_idx, time_ms = events["video_idx"], events["time_ms"]
    positive = events.get("positive", np.full(len(user_idx), UNKNOWN)) == 1
    tab = events.get("tab", np.full(len(user_idx), NO_TAB, np.int16))
    return Log(user_idx, video_idx, time_ms, tab, positive, keys["part"]), events, about


def _impressions(labelled: ir.Table, questions: Questions) -> ir.Table:
    """The rows shown to the cases of the protocols on impressions, numbered in order of (case, time, file order)."""
    shown = questions.protocol != "next_item"
    some = questions.cases.where(shown)
    is_random = questions.protocol[shown] == "random"
    keys = {
        "user_idx": some.user_idx,
        "part": pa.array(np.where(is_random, RANDOM, some.part).tolist(), pa.string()),
        "case_id": some.case_id,
        "track": pa.array(np.where(is_random, "random", "standard").tolist(), pa.string()),
    }
    rows = labelled.join(ibis.memtable(pa.table(keys)), ["user_idx", "part"])
    number = ibis.row_number().over(order_by=["case_id", "time_ms", "row"])
    return rows.mutate(impression=number, tab=_.tab.fill_null(NO_TAB))


def chart(by_duration: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Deciles of duration with their positive share, named so that a chart sorts them."""
    seconds = zip(by_duration["decile"], by_duration["from_ms"] / 1000, by_duration["to_ms"] / 1000, strict=True)
    names = [f"{decile:02}: {low:.1f}-{high:.1f} s" for decile, low, high in seconds]
    return {
        "duration": np.array(names),
        "rows": by_duration["rows"],
        "positive_share": by_duration["positive_share"],
    }


def summary(
    labelled: ir.Table, questions: Questions, by_duration: dict[str, np.ndarray], positive: str, leave_one_out: bool
) -> dict[str, object]:
    """The rule of the label and what was fitted on what, the share of rows whose label is unknown, positive shares by
    part of the others, their evenness over duration, the cases asked and dropped."""
    parts = labelled.group_by("part").aggregate(rows=_.count(), known=_.positive.count(), positives=_.positive.sum())
    counts = parts.order_by("part").to_pyarrow().to_pylist()
    rows, known = (sum(row[name] for row in counts) for name in ("rows", "known"))
    out: dict[str, object] = {"positive": positive, "positives_fitted_on": "all rows" if leave_one_out else "train"}
    out["unknown_label_share"] = 1 - known / rows
    out |= {f"positive_share_{row['part']}": row["positives"] / row["known"] for row in counts if row["known"]}
    share = by_duration["positive_share"]
    if not len(share):
        out["watch_time"] = labels.NO_WATCH_TIME
    else:
        out["wtg_fitted_on"] = "train"
        lowest, highest = float(share.min()), float(share.max())
        out |= {"positive_share_lowest_decile": lowest, "positive_share_highest_decile": highest}
        if lowest > 0:
            out["positive_share_max_to_min"] = highest / lowest
    next_item = questions.protocol == "next_item"
    out |= {f"cases_{part}": int((next_item & (questions.cases.part == part)).sum()) for part in QUESTIONS}
    out |= {f"cases_dropped_seen_{part}": count for part, count in questions.dropped_seen.items()}
    return out
