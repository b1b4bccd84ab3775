"""The committed pipeline, run from its start in a clone that goes with the process: nothing here is touched."""

import hashlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from nextreel.errors import UserError
from nextreel.files import working_folder
from nextreel.params import Params, from_yaml

# Stages whose code and results say nothing of how models do: a changed report runs no world again.
_BESIDE = ("check", "eda")


@contextmanager
def clone(kind: str) -> Iterator[Path]:
    """Yield a clone of the last commit, in a folder of its own under .work; what killed runs of the same kind left
    there is removed first."""
    with working_folder(Path(".work"), kind) as folder:
        git(Path(), "clone", "--quiet", ".", str(folder / "clone"))
        yield folder / "clone"


def command(work: Callable[[], None], goes_on_with: str) -> str | None:
    """Do some work cell by cell; what went wrong, None if nothing. goes_on_with: what a second start begins with."""
    try:
        tell_uncommitted()
        work()
    except UserError as error:
        return f"\nerror: {error}\n"
    except KeyboardInterrupt:
        return f"\nstopped; the same command goes on with {goes_on_with}\n"
    return None


def tell_uncommitted() -> None:
    """Say so where there is more than the last commit, which is what runs."""
    if git(Path(), "status", "--porcelain"):
        print("uncommitted changes are no part of this: what runs is the last commit", flush=True)


def asked(data: str, layout: str, settings: str) -> dict[str, Any]:
    """The changes that a command's DATA, LAYOUT and SET stand for: a log in place of the one in params.yaml, and
    `key=value`s with spaces between. Raises UserError."""
    changes: dict[str, Any] = {}
    if data:
        changes = {"ingest.layout": layout or "kuairand", "ingest.path": str(Path(data).expanduser().resolve())}
    elif layout:
        raise UserError(f"LAYOUT is {layout!r}, but there is no DATA: give the log, DATA=/path/to/it")
    for word in shlex.split(settings):
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(
                f"SET holds {word!r}; allowed: key=value, such as SET='model.dropout=0.2 label.positive=click'"
            )
        changes[key] = from_yaml(value)
    return changes


def change(folder: Path, changes: Mapping[str, Any]) -> None:
    """Write values by the dotted keys of params.yaml into a clone's. Raises UserError where there is no such key."""
    path = folder / "params.yaml"
    values = Params.load(path)
    for key, value in changes.items():
        values.get(key)
        *above, last = key.split(".")
        section: Any = values.raw
        for name in above:
            section = section[name]
        section[last] = value
    if changes:
        path.write_text(json.dumps(values.raw, indent=2) + "\n", encoding="utf-8")  # JSON is YAML, in any version


def repro(folder: Path, changes: Mapping[str, Any] | None = None) -> float:
    """Run every stage in a clone, with some keys changed; the seconds that it took. Raises UserError where there is no
    such key, or a stage fails."""
    change(folder, changes or {})
    started = time.monotonic()
    if subprocess.run([sys.executable, "-m", "dvc", "repro", "--force"], cwd=folder, check=False).returncode:
        raise UserError("the pipeline did not run to its end; what stopped it is told above")
    return time.monotonic() - started


def state(lock: str) -> str:
    """A short name of what results rest on: the code, params and data of every stage, as a dvc.lock holds them."""
    stages = {name: stage for name, stage in yaml.safe_load(lock)["stages"].items() if name not in _BESIDE}
    return hashlib.sha256(json.dumps(stages, sort_keys=True).encode()).hexdigest()[:12]


def git(folder: Path, *arguments: str) -> str:
    """What git prints. Raises UserError where it fails."""
    done = subprocess.run(["git", *arguments], cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout
