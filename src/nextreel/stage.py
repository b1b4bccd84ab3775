"""What every stage script shares: its parameters, its errors without tracebacks, its time and memory log."""

import errno
import inspect
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from duckdb import IOException, OutOfMemoryException  # a full disk; engine.memory_limit reached

from nextreel.errors import UserError
from nextreel.params import Params

_NOT_THE_CODE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}  # a full disk, no permission


def run(main: Callable[..., None]) -> None:
    """Call `main(params, *command line arguments)` from the project's root, as DVC does.

    A UserError or a full disk becomes one message and exit status 1. Seconds and peak memory go to logs/, which git
    ignores: they differ from run to run and belong in no output.
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
    except (IOException, OutOfMemoryException) as error:
        sys.exit(f"\nerror: {error}\nraise `engine.memory_limit` or free disk space, and run again\n")
    except OSError as error:
        if error.errno not in _NOT_THE_CODE:
            raise
        sys.exit(f"\nerror: {error.strerror} ({error.filename}): mend it and run again\n")
    _log("@".join([Path(sys.argv[0]).stem, *arguments]), time.monotonic() - started)


def _log(name: str, seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # ru_maxrss is in KiB on Linux
    path = Path("logs") / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"seconds": round(seconds, 2), "peak_memory_mb": round(peak)}) + "\n")
