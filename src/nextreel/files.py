"""Files that are whole or absent: written under a temporary name, then renamed; folders that go with their process."""

import csv
import errno
import fcntl
import glob
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nextreel.errors import UserError

METRIC_DIGITS = 5
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}  # of a disk that takes no more, or fails
_MORE = bytes(1 << 20)  # a full disk may still take a few bytes
_LOCK = "lock"  # of a working folder, in it


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block ends well, remove it if not.

    What a killed run left of the same path is removed too. Raises OSError, in place of what the block raises, where the
    disk is at fault.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        remove(left)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if temporary.is_dir():
            remove(path)  # a folder cannot be renamed over another
        temporary.replace(path)
    except Exception as error:
        _blame_disk(error, temporary, path)
        raise
    finally:
        remove(temporary)


def _blame_disk(error: Exception, temporary: Path, path: Path) -> None:
    """Raise OSError if the disk would not take more of what was being written. The disk itself is asked: each library
    has its own words for a write that fails, some have none."""
    if isinstance(error, UserError) or getattr(error, "errno", None) is not None:
        return
    written = [each for each in temporary.rglob("*") if each.is_file()] if temporary.is_dir() else [temporary]
    try:
        for each in written or [temporary / "more"]:
            with each.open("ab") as file:
                file.write(_MORE)
                file.flush()
                os.fsync(file.fileno())
    except OSError as refused:
        if refused.errno in DISK:
            raise OSError(refused.errno, refused.strerror, str(path)) from error


@contextmanager
def working_folder(parent: Path, kind: str) -> Iterator[Path]:
    """Yield a new folder in `parent` for what need not outlive the process; remove it when the block ends.

    What killed runs left of the same kind is removed first. Whoever runs holds a lock on its own folder, which the
    system takes back when the process ends, however it ends; a process number may by then be another process's, or one
    of another container.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / f"{kind}.lock").open("w") as door:  # one at a time: a folder is new before it is locked
        fcntl.flock(door, fcntl.LOCK_EX)
        for left in parent.glob(f"{kind}-*"):
            if not _in_use(left):
                shutil.rmtree(left, ignore_errors=True)  # its run may be removing it, too
        folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=parent.absolute()))
        lock = (folder / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _in_use(folder: Path) -> bool:
    """Whether another run holds a working folder; one that cannot be told is left alone."""
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def remove(path: Path) -> None:
    """Delete a file or a folder; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write a flat JSON object, floats rounded to `METRIC_DIGITS` digits so that diffs stay readable, NaN as null."""
    rounded = {k: _rounded(v) if isinstance(v, float) else v for k, v in values.items()}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(rounded, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, METRIC_DIGITS)


def write_csv(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write equally long columns, floats with `METRIC_DIGITS` digits, NaN as nothing."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*(column.tolist() for column in columns.values()), strict=True):
            writer.writerow([_text(x) if isinstance(x, float) else x for x in row])


def _text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.{METRIC_DIGITS}f}"


def read_json(path: Path) -> dict[str, float]:
    """Read a flat JSON object written by `write_json`; null is None."""
    values: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return values
