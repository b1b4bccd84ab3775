"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere."""

import io
import sys
from collections.abc import Iterator, Sequence
from functools import partial
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


def bar(doing: str, total: int | None = None, unit: str = " batches", done: int = 0) -> tqdm:
    """A bar to be updated by hand and closed; nothing is shown for work that is soon done.

    unit: "B" counts bytes, shown as MB or GB. done: how many of `total` an earlier run did.
    """
    new = partial(tqdm, desc=doing, total=total, unit=unit, unit_scale=unit == "B", initial=done, leave=False)
    if sys.stderr.isatty():
        return new(delay=1)
    every = _SECONDS_BETWEEN_LINES
    return new(
        delay=every, mininterval=every, ascii=True,
        file=_Lines(), bar_format="{desc}: {n_fmt}/{total_fmt}, {rate_fmt}, {remaining} left",
    )  # fmt: skip


def track(items: Sequence[T], doing: str) -> Iterator[T]:
    """Yield `items`, a batch each, showing progress on standard error."""
    with bar(doing, total=len(items)) as shown:
        for item in items:
            yield item
            shown.update()
