"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere."""

import io
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 10.0


class _Lines(io.TextIOBase):
    """Turns tqdm's carriage returns into lines, for logs and pipes."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        return sys.stderr.write(f"{line}\n") if line else 0

    def flush(self) -> None:
        sys.stderr.flush()


def track(items: Iterable[T], doing: str, total: int | None = None, unit: str = "batch") -> Iterable[T]:
    """Yield `items`, showing progress on standard error; nothing is shown for work under a second or two."""
    if sys.stderr.isatty():
        return tqdm(items, desc=doing, total=total, unit=unit, delay=1, leave=False)
    every = _SECONDS_BETWEEN_LINES
    return tqdm(
        items, desc=doing, total=total, unit=unit, delay=every, mininterval=every, maxinterval=every, leave=False,
        ascii=True, file=_Lines(), bar_format="{desc}: {n_fmt}/{total_fmt} {unit}, {rate_fmt}, {remaining} left",
    )  # fmt: skip
