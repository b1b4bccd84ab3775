"""What every stage script shares: its parameters, its errors without tracebacks, its time and memory log."""

import errno
import inspect
import io
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

from nextreel.errors import UserError
from nextreel.params import Params

_MADE, _GIVEN = Path("data"), Path("data/raw")  # files that stages make; those that a user may have put there
_SPACE, _AGAIN = "free disk space, and run again", "mend it and run again"
# A system that refuses or fails, and what to do. What Python says of files that are there or not, or of another kind,
# may be a bug.
_ADVICE = {
    **dict.fromkeys([errno.ENOSPC, errno.EDQUOT], _SPACE),
    errno.EFBIG: "allow larger files (`ulimit -f`), and run again",
    errno.EROFS: "nothing can be written there; make it writable, and run again",
    **dict.fromkeys([errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOLCK], _AGAIN),
    errno.ESTALE: _AGAIN,
}
_BY_WORDS = {os.strerror(number): number for number in _ADVICE}
# How libraries end that are not written in Python: `... : No space left on device (os error 28)`.
_WORDS = re.compile(rf"(?:^|: |] )({'|'.join(map(re.escape, _BY_WORDS))})(?: \(os error \d+\))?\W*$", re.MULTILINE)
_SPILLED = "max_temp_directory_size"  # how DuckDB puts it; it takes no more than there is on the disk
_NO_MEMORY = re.compile("can't allocate memory|Cannot allocate memory|malloc of size")  # torch, the system, Arrow
_LIMIT = re.compile(r"\(\S+ \S+/\S+ \S+ used\)")  # of engine.memory_limit
_INTERRUPTED = 128 + signal.SIGINT  # exit status


def run(main: Callable[..., None]) -> None:
    """Call `main(params, *command line arguments)` from the project's root, as DVC does.

    What a user can mend becomes one message and exit status 1, a UserError or what `_explained` knows; Ctrl-C becomes
    one line; a bug keeps its traceback. Seconds and peak memory go to logs/, which git ignores: they differ from run to
    run and belong in no output.
    """
    arguments = sys.argv[1:]
    expected = [name for name in inspect.signature(main).parameters if name != "params"]
    if len(arguments) != len(expected):
        sys.exit(f"usage: python {sys.argv[0]} {' '.join(name.upper() for name in expected)}".rstrip())
    started = time.monotonic()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a message may hold what the terminal cannot show
    try:
        main(Params.load(Path("params.yaml")), *arguments)
        _log("@".join([Path(sys.argv[0]).stem, *arguments]), time.monotonic() - started)
    except UserError as error:
        sys.exit(f"\nerror: {error}\n")
    except (Exception, KeyboardInterrupt) as error:
        if any(isinstance(each, KeyboardInterrupt) for each in _chain(error)):  # DuckDB makes a RuntimeError of it
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is removed at the exit is to be removed
            print("\ninterrupted: the same command goes on with this stage", file=sys.stderr)
            sys.exit(_INTERRUPTED)
        explained = _explained(error)
        if explained is None:
            raise
        sys.exit(f"\nerror: {explained}\n")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _explained(error: BaseException) -> str | None:
    """What happened to files, disk or memory, and what to do about it; None where only the code can be at fault."""
    said = _said(error)
    if _SPILLED in str(error):
        return f"{said} (in .work): {_SPACE}"
    for each in _chain(error):  # an error of a disk may come to light as another one, of cleaning up
        if (advice := _ADVICE.get(_number(each) or 0)) is not None:
            where = "" if advice == _AGAIN or _named(each) else f" (in {_MADE}, metrics, plots, logs or .work)"
            return f"{_said(each)}{where}: {advice}"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return f"{said}: the machine has no such memory; close other programs, or make the data or the model smaller"
    if isinstance(error, duckdb.OutOfMemoryException):
        if _LIMIT.search(said):
            return f"{said}: raise `engine.memory_limit` in params.yaml, and run again"
        return f"{said}: the machine has no memory left; close other programs or lower `engine.memory_limit`"
    if (missing := _missing(error)) is not None:
        return f"{missing} is missing: run `dvc repro`, which makes what a stage needs"
    if (damaged := _damaged(error)) is not None:
        return f"{damaged}: delete it and run `dvc repro`, which makes it again"
    if isinstance(error, duckdb.IOException):
        return f"{said}: {_AGAIN}"
    return None


def _number(error: BaseException) -> int | None:
    """The system's number of what failed, whichever library says it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _WORDS.search(str(error))
    return _BY_WORDS[found[1]] if found else None


def _said(error: BaseException) -> str:
    """The sentence of an error, with the file that it is about, without what an engine adds."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror} ({error.filename})"
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return re.sub(r"^(IO|Invalid Input|Out of Memory) Error: ", "", words.strip().split("\n")[0])


def _named(error: BaseException) -> list[Path]:
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


def _missing(error: BaseException) -> Path | None:
    """The file of another stage that is not there, whoever tried to open it."""
    if not isinstance(error, FileNotFoundError):
        return None
    named = _named(error) or [Path(str(error))]  # pyarrow says the name and nothing else
    for path in filter(None, map(_of_stages, named)):
        if not os.path.exists(path):  # unlike Path.exists, says no where one may not look
            return path
    return None


def _damaged(error: BaseException) -> str | None:
    """Which file of another stage cannot be read, and why. Found by reading, since some errors name no file, and others
    are of a bug, on a file that is whole. A look at the head tells of most kinds; Parquet is read to its end, and so
    only where the error may be of it."""
    import pyarrow as pa  # not above: it loads numpy, which must wait for `runtime`

    tried = [path for kind in _HEADS for path in sorted(_MADE.rglob(f"*{kind}"))]
    nameless = type(error) is duckdb.Error or (isinstance(error, OSError) and error.errno is None)
    if nameless or isinstance(error, duckdb.Error | pa.ArrowInvalid):
        named = [path for path in _named(error) if path.suffix == ".parquet" and path.is_file()]
        tried += named or (sorted(_MADE.rglob("*.parquet")) if nameless else [])
    for path in filter(None, map(_of_stages, tried)):
        try:
            _HEADS.get(path.suffix, _read_parquet)(path)
        except Exception as damage:  # of whichever library
            if not isinstance(damage, OSError) or damage.errno is None:  # else it is kept from reading
                return f"{path} is damaged ({_said(damage)})"
    return None


def _read_parquet(path: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for _batch in file.iter_batches():
            pass


def _read_npy(path: Path) -> None:
    import numpy as np

    np.load(path, mmap_mode="r", allow_pickle=False)


def _read_safetensors(path: Path) -> None:
    import safetensors

    with safetensors.safe_open(path, "numpy"):
        pass


def _read_json(path: Path) -> None:
    json.loads(path.read_text(encoding="utf-8"))


_HEADS = {".json": _read_json, ".npy": _read_npy, ".safetensors": _read_safetensors}


def _log(name: str, seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # ru_maxrss is in KiB on Linux
    path = Path("logs") / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"seconds": round(seconds, 2), "peak_memory_mb": round(peak)}) + "\n")
