"""Raw files -> the tables of `nextreel.schema`. The only home of raw names; one module a layout.

A layout module offers `inspect(folder)`, which finds the files and checks their headers within seconds, and
`read(con, folder)`, which yields the tables.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

import ibis.expr.types as ir

from nextreel.errors import UserError
from nextreel.params import Section, Share


class Params(Section):
    layout: Literal["kuairand"]
    path: str  # the folder with the raw files
    max_rejected_share: Share  # of a file's rows: more bad ones (repeats do not count) stop the run


Bad = dict[Path, tuple[int, int, str]]  # file -> bad rows, all rows, the first bad one in words


@dataclass(frozen=True)
class Source:
    """What a layout's `read` returns."""

    tables: dict[str, ir.Table]  # by the names of `schema.TABLES`; what the source lacks is left out
    rows_read: int  # data lines of the logs
    rows_dropped: dict[str, int]  # by reason
    feature_rows_dropped: int  # of users and videos, unreadable or invalid
    bad: Bad


def layout(params: Params) -> ModuleType:
    """The module that reads `params.layout`."""
    return import_module(f"nextreel.datasets.{params.layout}")


def check_bad_rows(source: Source, max_rejected_share: float) -> None:
    """Raise UserError, with a line a file, where a file has more bad rows than allowed."""
    worst = {
        path: (bad, total, example)
        for path, (bad, total, example) in source.bad.items()
        if bad > max_rejected_share * total
    }
    if worst:
        lines = [
            f"  {path}: {bad} of {total} rows ({bad / total:.2%}); the first: {example}"
            for path, (bad, total, example) in worst.items()
        ]
        raise UserError(
            "too many rows cannot be used:\n" + "\n".join(lines) + f"\n  allowed is `ingest.max_rejected_share` ="
            f" {max_rejected_share:g} of a file's rows; mend the file, or raise the share if you can spare the rows"
        )


def summary(source: Source, tables: dict[str, ir.Table]) -> dict[str, int]:
    """What was read, kept and dropped, flat: `rows_read` = `rows_kept` + every `rows_dropped_<reason>`."""
    counts = {name: tables[name].count().execute() for name in ("interactions", "random", "users", "videos")}
    known = tables["interactions"].duration_ms.count().execute()
    return {
        "rows_read": source.rows_read,
        "rows_kept": counts["interactions"] + counts["random"],
        **{f"rows_dropped_{reason}": count for reason, count in source.rows_dropped.items()},
        "feature_rows_dropped": source.feature_rows_dropped,
        "rows_standard": counts["interactions"],
        "rows_random": counts["random"],
        "rows_standard_without_duration": counts["interactions"] - known,
        "users": counts["users"],
        "videos": counts["videos"],
    }
