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
_ABOUT = (".md", ".rst", ".pdf", ".html", ".bib", ".py", ".ipynb", ".png", ".jpg", ".md5", ".sha256")
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
    something about the data. Links are followed; what is there twice is listed once, under its first name.

    Raises UserError where something is neither a file nor a folder, OSError where a folder may not be looked into.
    """
    found: list[Path] = []
    _walk(folder, found, {os.path.realpath(folder)})
    return sorted(found)


def _walk(folder: Path, found: list[Path], seen: set[str]) -> None:
    for path in sorted(folder.iterdir()):
        real = os.path.realpath(path)
        if real in seen or _is_about(path):
            continue
        seen.add(real)
        if path.is_dir():
            _walk(path, found, seen)
        else:
            _check_file(path)
            found.append(path)


def _check_file(path: Path) -> None:
    """Raise UserError where something that is to be read is no file: it may be a link to nothing, or never end."""
    if not path.is_file():
        kind = "a link that leads to nothing" if path.is_symlink() else "no plain file"
        raise UserError(f"{ascii(str(path))[1:-1]} is {kind}; move it out of the folder")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{ascii(str(path))[1:-1]}: the name is no UTF-8; rename the file or its folder") from None


def _is_about(path: Path) -> bool:
    name = path.name.lower()
    if name.startswith(".") or name in _MARKS:
        return True
    return form(path) is None and not path.is_dir() and (name.endswith(_ABOUT) or name.split(".")[0] in _PAPERS)


def refuse(folder: Path, unread: Iterable[Path], why: str) -> None:
    """Raise UserError that names the files of a folder that are not read, if there are any."""
    names = [str(path.relative_to(folder)) for path in unread]
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise UserError(
            f"{folder}: {', '.join(names[:5])}{more} would not be read: {why}; move what is no part of the data out of"
            " the folder"
        )
