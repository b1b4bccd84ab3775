"""What lies in a folder of raw files: every file in it is read, or named; none is passed over in silence."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from nextreel.errors import UserError

ENDINGS: dict[str, Literal["csv", "parquet"]] = {
    **dict.fromkeys((".csv", ".csv.gz"), "csv"),
    **dict.fromkeys((".parquet", ".parq", ".pq"), "parquet"),
}
_PAPERS = {"readme", "license", "licence", "citation", "changelog", "notice"}  # whatever they end in
_ABOUT = (".md", ".rst", ".pdf", ".html", ".bib", ".py", ".ipynb", ".sh", ".png", ".jpg", ".md5", ".sha256")
_MARKS = {"_success", "_metadata", "_common_metadata"}  # of the tools that write folders of Parquet files


def form(path: Path) -> Literal["csv", "parquet"] | None:
    """What a file is by the end of its name, in capitals or not; None for any other."""
    name = path.name.lower()
    return next((form for ending, form in ENDINGS.items() if name.endswith(ending)), None)


def compressed(path: Path) -> bool:
    """Whether a CSV file is a compressed one by its name."""
    return path.name.lower().endswith(".gz")


def files(folder: Path) -> list[Path]:
    """Every file in a folder and the folders in it, in order of its path, but for hidden ones and those that say
    something about the data. Links to folders are followed, each folder is entered once."""
    found, entered = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        entered.add(os.path.realpath(parent))
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(parent, name)) not in entered
        ]
        found += [Path(parent) / name for name in names if not _is_about(name)]
    return sorted(found)


def _is_about(name: str) -> bool:
    name = name.lower()
    return name.startswith(".") or name.endswith(_ABOUT) or name in _MARKS or name.split(".")[0] in _PAPERS


def refuse(folder: Path, unread: Iterable[Path], why: str) -> None:
    """Raise UserError that names the files of a folder that are not read, if there are any."""
    names = [str(path.relative_to(folder)) for path in unread]
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise UserError(
            f"{folder}: {', '.join(names[:5])}{more} would not be read: {why}; move what is no part of the data out of"
            " the folder"
        )
