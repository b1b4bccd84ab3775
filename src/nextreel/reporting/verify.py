"""Run the committed pipeline again in a clone and compare: `make verify`.

Metrics must agree within TOLERANCE, whatever the processor; with `bytes`, as befits the machine that wrote them, every
committed file must be the same.
"""

import csv
import json
import sys
from pathlib import Path

from nextreel.errors import UserError
from nextreel.reporting import clones

TOLERANCE = 0.002
FOLDERS = ("metrics", "plots", "dvc.lock")


def values(folder: Path) -> dict[str, str | float]:
    """Every value of the metrics, by file and key."""
    found: dict[str, str | float] = {}
    for path in sorted(folder.rglob("*.json")):
        found |= {f"{path.relative_to(folder)} {key}": x for key, x in json.loads(path.read_text()).items()}
    for path in sorted(folder.rglob("*.csv")):
        with path.open(encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), 1):
                about = " ".join([f"row {number}", *(x for x in row.values() if x and not _is_number(x))])
                found |= {
                    f"{path.relative_to(folder)} {about} {key}": float(x) for key, x in row.items() if _is_number(x)
                }
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def differences(committed: dict[str, str | float], again: dict[str, str | float]) -> list[str]:
    """A line for each value that is gone, new, or further away than TOLERANCE."""
    found = []
    for name in sorted({*committed, *again}):
        before, after = committed.get(name), again.get(name)
        if isinstance(before, int | float) and isinstance(after, int | float):
            if abs(before - after) > TOLERANCE:
                found.append(f"{name}: {before} committed, {after} now, {after - before:+.5f}")
        elif before != after:
            found.append(f"{name}: {before} committed, {after} now")
    return found


def main(same_bytes: bool) -> str | None:
    """What went wrong, None if nothing."""
    try:
        clones.tell_uncommitted()
        with clones.clone("verify") as clone:
            committed = values(clone / "metrics")
            clones.repro(clone)
            again = values(clone / "metrics")
            changed = clones.git(clone, "status", "--porcelain", "--", *FOLDERS).split("\n")
    except UserError as error:
        return str(error)
    off = differences(committed, again)
    if off:
        return f"{len(off)} of {len(committed)} metrics differ by more than {TOLERANCE}:\n  " + "\n  ".join(off)
    others = [line[3:] for line in changed if line]
    print(f"all {len(committed)} metrics agree within {TOLERANCE}")
    if not others:
        print("and every byte of metrics, plots and dvc.lock is the same")
    elif same_bytes:
        return f"but these files have other bytes: {', '.join(others)}"
    else:
        print(f"other bytes, as another processor may give them: {', '.join(others)}")
    return None


if __name__ == "__main__":
    sys.exit(main("bytes" in sys.argv[1:]))
