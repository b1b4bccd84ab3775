"""What the label stage writes: sequences, cases, targets, catalogue and impressions."""

from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis import _

from nextreel import arrays, engine, labels
from nextreel.cases import protocols
from nextreel.cases.protocols import Log, Questions
from nextreel.errors import UserError

_COLUMNS = ["user_idx", "video_idx", "time_ms", "tab", "positive"]


def fit(parts: ir.Table, params: labels.Params, leave_one_out: bool) -> dict[str, np.ndarray]:
    """`labels.by_duration` fitted on train; under leave-one-out the bounds of positives stay those that cut the log."""
    train = parts.filter(_.part == "train")
    return labels.by_duration(parts, train, params, parts if leave_one_out else train)


def write(
    con: engine.Connection, labelled: ir.Table, data: Path, asked: protocols.Params, leave_one_out: bool
) -> Questions:
    """Write into the folder `data`, whose `tables` are read:

    sequences/             every user's standard events, see `sequences.Events`
    protocols.parquet          protocol, user_id and the columns of `protocols.Cases`
    targets.parquet        case_id, video_idx
    catalogue.parquet      video_idx, video_id, first_part: see `protocols.Catalogue`
    impressions.parquet    case_id, video_idx, track (standard, random), time_ms, row, label, wtr, wtg: what was shown

    Under leave-one-out there are no impressions, since a part begins with a positive, and any video may be recommended.

    Raises UserError where train, valid or test has no positive to learn from or to ask for.
    """
    log, random = (_log(labelled.filter(kind)) for kind in (_.part != "random", _.part == "random"))
    user_id, video_id = (
        np.insert(arrays.load(data / f"tables/{name}s.parquet", columns=[f"{name}_id"])[f"{name}_id"], 0, 0)
        for name in ("user", "video")
    )  # by user_idx and video_idx; 0 is padding
    n_users = len(user_id) - 1
    questions = protocols.build(log, random, n_users, asked.targets, impressions=not leave_one_out)
    next_item = questions.protocol == "next_item"
    counts = {"train": int(log.positive[log.part == protocols.PARTS.index("train")].sum())}
    counts |= {part: int((next_item & (questions.cases.part == part)).sum()) for part in ("valid", "test")}
    without = [part for part, count in counts.items() if not count]
    if without:
        dropped = sum(questions.dropped_seen.values())
        raise UserError(
            f"no usable positive in {', '.join(without)} ({dropped} were dropped because the user had seen the video):"
            " choose another `label.positive` or a lower threshold, or move the split"
        )
    log.events(n_users).save(data / "sequences")
    about = {"protocol": questions.protocol, "user_id": user_id[questions.cases.user_idx]}
    arrays.write({**about, **questions.cases.columns()}, data / "cases.parquet")
    targets = {"case_id": questions.target_case_id, "video_idx": questions.target_video_idx}
    arrays.write(targets, data / "targets.parquet")
    catalogue = log.catalogue(video_id)
    if leave_one_out:
        catalogue.first_part[catalogue.first_part < len(protocols.PARTS)] = 0
    rows = {
        "video_idx": np.arange(len(video_id), dtype=np.int32),
        "video_id": video_id,
        "first_part": catalogue.first_part,
    }
    arrays.write({name: column[1:] for name, column in rows.items()}, data / "catalogue.parquet")
    impressions = _impressions(labelled, questions)
    engine.write(con, impressions, data / "impressions.parquet", ["case_id", "time_ms", "row"])
    return questions


def _log(rows: ir.Table) -> Log:
    codes = ibis.cases(*((_.part == part, code) for code, part in enumerate(protocols.PARTS)), else_=-1).cast("int8")
    tab = _.tab.fill_null(protocols.NO_TAB)
    table = rows.order_by("user_idx", "time_ms", "row").mutate(tab=tab).select(*_COLUMNS, part=codes).to_pyarrow()
    return Log(**{name: table[name].to_numpy() for name in (*_COLUMNS, "part")})


def _impressions(labelled: ir.Table, questions: Questions) -> ir.Table:
    shown = questions.protocol != "next_item"
    some = questions.cases.where(shown)
    protocol = questions.protocol[shown]
    part = np.where(protocol == "random", "random", some.part)
    track = np.where(protocol == "random", "random", "standard")
    keys = {
        "user_idx": some.user_idx,
        "part": pa.array(part.tolist(), pa.string()),
        "case_id": some.case_id,
        "track": pa.array(track.tolist(), pa.string()),
    }
    rows = labelled.join(ibis.memtable(pa.table(keys)), ["user_idx", "part"])
    return rows.select("case_id", "video_idx", "track", "time_ms", "row", label=_.positive, wtr=_.wtr, wtg=_.wtg)


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
    """The rule of the label and what was fitted on what, positive shares by part, their evenness over duration, the
    cases asked and dropped."""
    counts = labelled.group_by("part").aggregate(rows=_.count(), positives=_.positive.sum()).order_by("part")
    out: dict[str, object] = {"positive": positive, "positives_fitted_on": "all rows" if leave_one_out else "train"}
    out |= {f"positive_share_{row['part']}": row["positives"] / row["rows"] for row in counts.to_pyarrow().to_pylist()}
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
    out |= {f"cases_{part}": int((next_item & (questions.cases.part == part)).sum()) for part in protocols.QUESTIONS}
    out |= {f"cases_dropped_seen_{part}": count for part, count in questions.dropped_seen.items()}
    return out
