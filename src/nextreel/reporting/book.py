"""Results that are written cell by cell between two marks of a Markdown file, so that a stopped command goes on."""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from nextreel.errors import UserError
from nextreel.files import replacing

_CELL = re.compile(r"<!-- cell: ([^\n]+) -->\n(.*?)\n<!-- /cell -->", re.DOTALL)


class Book:
    """The cells of one command, `<!-- <mark>: make <mark> -->` to `<!-- /<mark> -->`: Markdown by name."""

    def __init__(self, path: Path, mark: str) -> None:
        self.path = path
        self.start, self.end = f"<!-- {mark}: make {mark} -->", f"<!-- /{mark} -->"

    def read(self) -> dict[str, str]:
        """The cells in order."""
        return dict(_CELL.findall(self.path.read_text(encoding="utf-8").split(self.start)[1].split(self.end)[0]))

    def write(self, cells: Mapping[str, str]) -> None:
        """These cells, and no others."""
        with replacing(self.path) as temporary:
            text = between(self.path.read_text(encoding="utf-8"), self.start, self.end, told(cells))
            temporary.write_text(text, encoding="utf-8")

    def fill(self, state: str, wanted: Mapping[str, Callable[[], str]]) -> dict[str, str]:
        """Make the cells that are missing and write each as soon as it has been made; all cells that then stand there.

        state: the end of a cell's name; cells whose names end otherwise are dropped. wanted: by the rest of the name.
        """
        cells = {name: text for name, text in self.read().items() if name.endswith(f", {state}")}
        for number, (name, make) in enumerate(wanted.items(), 1):
            about, full = f"{name} ({number} of {len(wanted)})", f"{name}, {state}"
            if full in cells:
                print(f"{about}: there already", flush=True)
                continue
            print(f"{about}: begins", flush=True)
            cells[full] = make()
            self.write(cells)
            print(f"{about}: written", flush=True)
        return cells


def told(cells: Mapping[str, str]) -> str:
    """What stands between the marks: each cell between marks of its own."""
    return "\n\n".join(f"<!-- cell: {name} -->\n{text}\n<!-- /cell -->" for name, text in cells.items())


def between(text: str, start: str, end: str, table: str) -> str:
    """`text` with a table between two marks."""
    before, rest = text.split(start)
    _old, after = rest.split(end)
    return f"{before}{start}\n{table}\n{end}{after}"


def fingerprint(data: Path) -> str:
    """A short name of a log's file, or of a folder's files, by name and bytes in each. Raises UserError where there is
    none."""
    paths, above = ([data], data.parent) if data.is_file() else (data.rglob("*"), data)
    files = sorted((str(path.relative_to(above)), path.stat().st_size) for path in paths if path.is_file())
    if not files:
        raise UserError(f"{data} holds no files; give the folder or file of the log: DATA=/path/to/its/data")
    return hashlib.sha256(repr(files).encode()).hexdigest()[:8]
