"""What every stage script shares: its parameters, its errors without tracebacks, its time and memory log."""

import errno
import inspect
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from nextreel.errors import UserError
from nextreel.params import Params

_MADE, _GIVEN = Path("data"), Path("data/raw")  # files that stages make; those that a user may have put there
_NO_SPACE = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
_NOT_THERE = ("No files found", os.strerror(errno.ENOENT))  # how DuckDB puts it
_SPILLED = "max_temp_directory_size"  # how DuckDB puts it; it takes no more than there is on the disk
_CUT_SHORT = re.compile(r"^\d+ requested and \d+ written$")  # how numpy puts it
_LIMIT = re.compile(r"\(\S+ \S+/\S+ \S+ used\)")  # of engine.memory_limit
# A system that refuses or fails. What Python says of files that are there or not, or of another kind, may be a bug.
_SYSTEM = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ESTALE}


def run(main: Callable[..., None]) -> None:
    """Call `main(params, *command line arguments)` from the project's root, as DVC does.

    What a user can mend becomes one message and exit status 1, a UserError or what `_explained` knows; a bug keeps its
    traceback. Seconds and peak memory go to logs/, which git ignores: they differ from run to run and belong in no
    output.
    """
    arguments = sys.argv[1:]
    expected = [name for name in inspect.signature(main).parameters if name != "params"]
    if len(arguments) != len(expected):
        sys.exit(f"usage: python {sys.argv[0]} {' '.join(name.upper() for name in expected)}".rstrip())
    started = time.monotonic()
    try:
        main(Params.load(Path("params.yaml")), *arguments)
    except UserError as error:
        sys.exit(f"\nerror: {error}\n")
    except Exception as error:
        explained = _explained(error)
        if explained is None:
            raise
        sys.exit(f"\nerror: {explained}\n")
    _log("@".join([Path(sys.argv[0]).stem, *arguments]), time.monotonic() - started)


def _explained(error: Exception) -> str | None:
    """What happened to files, disk or memory, and what to do about it; None where only the code can be at fault."""
    said = _said(error)
    if any(words in str(error) for words in (*_NO_SPACE, _SPILLED)) or _CUT_SHORT.match(str(error)):
        where = "" if _named(error) else f" (in {_MADE}, metrics, plots, logs or .work)"
        return f"{said}{where}: free disk space, and run again"
    if isinstance(error, duckdb.OutOfMemoryException):
        if _LIMIT.search(said):
            return f"{said}: raise `engine.memory_limit` in params.yaml, and run again"
        return f"{said}: the machine has no memory left; close other programs or lower `engine.memory_limit`"
    if (missing := _missing(error)) is not None:
        return f"{missing} is missing: run `dvc repro`, which makes what a stage needs"
    if (damaged := _damaged(error)) is not None:
        return f"{damaged} is damaged ({said}): delete it and run `dvc repro`, which makes it again"
    if isinstance(error, duckdb.IOException) or (isinstance(error, OSError) and error.errno in _SYSTEM):
        return f"{said}: mend it and run again"
    return None


def _said(error: Exception) -> str:
    """The sentence of an error, with the file that it is about, without what an engine adds."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror} ({error.filename})"
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return re.sub(r"^(IO|Invalid Input|Out of Memory) Error: ", "", words.strip().split("\n")[0])


def _named(error: Exception) -> list[Path]:
    """The files that an error is about, as far as its library tells."""
    if isinstance(error, OSError) and error.filename is not None:
        return [Path(os.fsdecode(error.filename))] if isinstance(error.filename, str | bytes | os.PathLike) else []
    return [Path(name) for name in re.findall(r"""["']([^"'\n]*[/.][^"'\n]*)["']""", str(error))]


def _of_stages(path: Path) -> Path | None:
    """A file that stages make, relative to the project; None for any other, a temporary one of `files` included."""
    for data in (Path.cwd() / _MADE, _MADE.resolve()):
        if (Path.cwd() / path).is_relative_to(data):
            found = _MADE / (Path.cwd() / path).relative_to(data)
            given = found.is_relative_to(_GIVEN)
            return None if given or any(part.endswith(".tmp") for part in found.parts) else found
    return None


def _missing(error: Exception) -> Path | None:
    """The file of another stage that is not there, whoever tried to open it."""
    duckdb_misses = isinstance(error, duckdb.IOException) and any(words in str(error) for words in _NOT_THERE)
    if not isinstance(error, FileNotFoundError) and not duckdb_misses:
        return None
    named = _named(error) or [Path(str(error))]  # pyarrow says the name and nothing else
    for path in filter(None, map(_of_stages, named)):
        whole = path.parent if "*" in path.name else path  # a table may be a folder of files
        if not os.path.exists(whole):  # unlike Path.exists, says no where one may not look
            return whole
    return None


def _damaged(error: Exception) -> Path | None:
    """The Parquet or NumPy file of another stage that cannot be read. Found by reading: some errors name no file, and
    others are of a bug, on a file that is whole."""
    import pyarrow as pa  # not above: it loads numpy, which must wait for `runtime`

    unmapped = isinstance(error, ValueError) and "mmap length" in str(error)  # numpy's word for a file that is cut
    nameless = unmapped or type(error) is duckdb.Error or (isinstance(error, OSError) and error.errno is None)
    if not nameless and not isinstance(error, duckdb.Error | pa.ArrowInvalid):
        return None
    named = [path for path in filter(None, map(_of_stages, _named(error))) if path.is_file()]
    tried = named or (sorted(_MADE.rglob("*.npy" if unmapped else "*.parquet")) if nameless else [])
    return next((path for path in tried if _of_stages(path) and not _readable(path)), None)


def _readable(path: Path) -> bool:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".npy":
        try:
            np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError:
            return False
        return True
    try:
        with pq.ParquetFile(path) as file:
            for _batch in file.iter_batches():
                pass
    except (pa.ArrowInvalid, OSError) as error:
        return isinstance(error, OSError) and error.errno is not None  # kept from reading it
    return True


def _log(name: str, seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # ru_maxrss is in KiB on Linux
    path = Path("logs") / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"seconds": round(seconds, 2), "peak_memory_mb": round(peak)}) + "\n")
