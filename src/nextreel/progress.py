"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere."""

import io
import sys
from collections.abc import Iterator, Sequence
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


def bar(doing: str, total: int | None = None) -> tqdm:
    """A bar of batches, to be updated by hand and closed; nothing is shown for work that is soon done."""
    if sys.stderr.isatty():
        return tqdm(desc=doing, total=total, unit=" batches", delay=1, leave=False)
    every = _SECONDS_BETWEEN_LINES
    return tqdm(
        desc=doing, total=total, unit=" batches", delay=every, mininterval=every, leave=False, ascii=True,
        file=_Lines(), bar_format="{desc}: {n_fmt}/{total_fmt}, {rate_fmt}, {remaining} left",
    )  # fmt: skip


def track(items: Sequence[T], doing: str) -> Iterator[T]:
    """Yield `items`, a batch each, showing progress on standard error."""
    with bar(doing, total=len(items)) as shown:
        for item in items:
            yield item
            shown.update()
