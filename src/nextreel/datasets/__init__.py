"""Raw files -> the tables of `nextreel.schema`. The only home of raw names; one module a layout.

A layout module offers `inspect(params)`, which finds the files and checks their headers within seconds, `time_range`,
and `read(con, params)`, which yields the tables.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

import ibis
import ibis.expr.types as ir

from nextreel import engine, schema
from nextreel.errors import UserError
from nextreel.files import replacing
from nextreel.params import Name, Section, Share
from nextreel.progress import track
from nextreel.raw.intake import REASONS, Intake, Rejects


class Names(Section):
    """The section `ingest.table`: what the columns of a log of your own are called."""

    user_id: Name
    user_id_type: Literal["number", "text"]
    video_id: Name
    video_id_type: Literal["number", "text"]
    time: Name
    time_unit: Literal["ms", "s", "datetime"]
    play_time: Name | None
    duration: Name | None
    watch_unit: Literal["ms", "s"]  # of play time and duration
    is_rand: Name | None  # 1: the video was exposed at random
    tab: Name | None
    click: Name | None
    long_view: Name | None
    like: Name | None
    follow: Name | None
    comment: Name | None
    forward: Name | None
    hate: Name | None
    null: list[Name | None]  # words for a missing value, beside the empty one

    @property
    def null_words(self) -> list[str]:
        """`null` as spelled in files; YAML reads null, NULL and Null as the same nothing."""
        return [spelled for word in self.null for spelled in (["null", "NULL", "Null"] if word is None else [word])]


class Params(Section):
    layout: Literal["kuairand", "table"]
    path: Name  # a folder with the raw files; for a table also a file
    max_rejected_share: Share  # of a file's rows: more bad ones (repeats do not count) stop the run
    table: Names  # how `layout` table reads its columns


@dataclass(frozen=True)
class Source:
    """What a layout's `read` returns."""

    tables: dict[str, ir.Table]  # by the names of `schema.TABLES`; what the source lacks is left out
    intake: Intake  # what was read, and what was rejected
    logs: Sequence[Path]  # the files whose rows are events; the others hold features
    licence: str
    citation: str
    hint: Callable[[Rejects], str] = lambda _rejects: ""  # what a layout adds to the sentence about them

    @property
    def rows_read(self) -> int:
        """Data lines of the logs."""
        return sum(file.n_rows for file in self.intake.files if file.path in self.logs)

    def rejected(self, logs: bool = True) -> dict[str, int]:
        """Rows of the logs, or of the other files, that were rejected, by reason."""
        names = {file.name for file in self.intake.files if file.path in self.logs}
        mine = [reject for reject in self.intake.rejects() if (reject.file in names) == logs]
        return {reason: sum(reject.n for reject in mine if reject.reason == reason) for reason in REASONS}


def layout(params: Params) -> ModuleType:
    """The module that reads `params.layout`."""
    return import_module(f"nextreel.datasets.{params.layout}")


def where_sought(path: str) -> str:
    """What to add where `ingest.path` names nothing: where a relative path was sought; nothing for an absolute one."""
    if Path(path).is_absolute():
        return ""
    return (
        f"; a relative path is sought in {Path.cwd()}, and `dvc exp run --temp` and `--queue` run in a copy that holds"
        " only what git tracks: give an absolute path"
    )


def check_rejected(source: Source, max_rejected_share: float) -> None:
    """Raise UserError, with a summary by reason, where a file has more bad rows than allowed."""
    lines, rejects = [], source.intake.rejects()
    for file in source.intake.files:
        bad = [r for r in rejects if r.file == file.name and r.reason != "repeated"]
        n_bad = sum(reject.n for reject in bad)
        if n_bad > max_rejected_share * file.n_rows:
            lines.append(f"  {file.path}: {n_bad} of {file.n_rows} rows ({n_bad / file.n_rows:.2%})")
            lines += [f"    {_sentence(reject)}{source.hint(reject)}" for reject in bad]
    if lines:
        raise UserError(
            "too many rows cannot be used:\n" + "\n".join(lines) + "\n  allowed is `ingest.max_rejected_share` ="
            f" {max_rejected_share:g} of a file's rows. All of them are in data/quarantine.parquet; mend the file, or"
            " raise the share if you can spare the rows"
        )


def _sentence(reject: Rejects) -> str:
    where = f" in {reject.column}" if reject.column else ""
    value = "" if reject.value is None else f": {reject.value[:100]}"
    words = f"{reject.n} {reject.reason.replace('_', ' ')}{where}, the first on line {reject.line}{value}"
    return words + _hint(reject.reason, reject.value or "")


def _hint(reason: str, value: str) -> str:
    if reason == "out_of_range":
        return _other_unit(value)
    if reason == "wrong_cells" and '\\"' in value:
        return ' (a quote within quotes is written twice in a CSV file, "", and not \\")'
    return ""


def _other_unit(value: str) -> str:
    """A hint where a value would be a time in another unit."""
    try:
        number = float(value)
    except ValueError:
        return ""  # a date
    units = {"seconds": number * 1_000, "microseconds": number / 1_000}
    found = [unit for unit, time_ms in units.items() if schema.FIRST_MS <= time_ms <= schema.LAST_MS]
    return f" ({found[0]}? milliseconds are expected)" if found else ""


def write_tables(con: engine.Connection, source: Source, folder: Path) -> dict[str, ir.Table]:
    """Write every table of the schema, without rows where the source lacks it, checked as written: all or none."""
    with replacing(folder) as temporary:
        for name, wanted in track(list(schema.TABLES.items()), "writing tables"):
            path = temporary / f"{name}.parquet"
            engine.write(con, source.tables.get(name, schema.empty(wanted)), path, schema.ORDER[name])
            schema.check(path, name)
    return {name: engine.read(con, folder / f"{name}.parquet") for name in schema.TABLES}


def write_quarantine(con: engine.Connection, source: Source, path: Path) -> None:
    """Write every rejected row: file, line, column (null: the line as a whole), value, reason."""
    engine.write(con, source.intake.quarantine(), path, ["file", "line"])


def manifest(source: Source) -> dict[str, object]:
    """What the tables were made from: bytes, SHA-256 and data lines of each file, the licence and what to cite."""
    files = {
        file.name: {"bytes": file.n_bytes, "sha256": file.sha256, "rows": file.n_rows} for file in source.intake.files
    }
    return {"licence": source.licence, "citation": source.citation, **files}


def summary(source: Source, tables: dict[str, ir.Table]) -> dict[str, int]:
    """What was read, kept and rejected, flat: `rows_read` = `rows_kept` + every `rows_<reason>`; of the files of
    features only what was rejected."""
    counts = {name: tables[name].count().execute() for name in ("interactions", "random", "users", "videos")}
    known = tables["interactions"].duration_ms.count().execute()
    return {
        "rows_read": source.rows_read,
        "rows_kept": counts["interactions"] + counts["random"],
        **{f"rows_{reason}": n for reason, n in source.rejected().items()},
        **{f"feature_rows_{reason}": n for reason, n in source.rejected(logs=False).items()},
        "rows_standard": counts["interactions"],
        "rows_random": counts["random"],
        "rows_standard_without_duration": counts["interactions"] - known,
        "users": counts["users"],
        "videos": counts["videos"],
    }


def index(con: engine.Connection, kind: str, rows: ir.Table, features: ir.Table | None = None) -> ir.Table:
    """`<kind>_id` and `<kind>_idx` = 1 + the id's rank among all ids of the rows and of the features, one row an id.

    Texts are in order of their UTF-8 bytes, and none is read as a number: `00012` and `12` are two ids.
    """
    key = f"{kind}_id"
    ids = rows.select(key)
    if features is not None:  # most ids are there, and need not be made distinct
        known = features.select(key)
        ids = known.union(ids.anti_join(known, key).distinct())
    else:
        ids = ids.distinct()
    ranked = ids.mutate(**{f"{kind}_idx": (ibis.row_number().over(order_by=key) + 1).cast("int32")})
    return con.create_table(f"{kind}_ids", ranked)


def event_tables(events: ir.Table, repeats: ir.Table) -> dict[str, ir.Table]:
    """`interactions` and `random` from events with `is_rand`, without the repeats, see `Intake.repeats`.

    Repeats go last of all: DuckDB takes an anti join to leave a fifth of the rows, and would then hold the log in
    memory to look up the ids in it.
    """
    tracks = {"interactions": events.filter(~events.is_rand), "random": events.filter(events.is_rand)}
    return {name: schema.conform(rows, schema.TABLES[name]).anti_join(repeats, "row") for name, rows in tracks.items()}
