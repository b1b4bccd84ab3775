"""Run the committed pipeline on real rows: `make slice` writes README's tables of them into experiments/real-slice.md.

A cell is a label and whether models are refitted for test; each is run from raw files to metrics in a clone of its own
and written as soon as it has finished. Finished cells are skipped, those of another state of the pipeline
(`clones.state`), or of other data, are run anew.
"""

import hashlib
import re
import sys
from pathlib import Path

from nextreel import evaluation, labels
from nextreel.errors import UserError
from nextreel.files import read_json, replacing
from nextreel.params import Params
from nextreel.reporting import clones, readme

BOOK = Path("experiments/real-slice.md")
START, END = "<!-- slice: make slice -->", "<!-- /slice -->"
SOURCE = "long_view"  # the label that the data bring along
REFITS = ("none", "train_valid")
_CELL = re.compile(r"<!-- cell: ([^\n]+) -->\n(.*?)\n<!-- /cell -->", re.DOTALL)


def run(data: Path, label: str, refit: str, confidence: float) -> str:
    """Markdown of a cell: the tables and the time."""
    changes = {"ingest.layout": "kuairand", "ingest.path": str(data), "label.positive": label, "split.refit": refit}
    with clones.clone("slice") as folder:
        seconds = clones.repro(folder, changes)
        tables = readme.of_models(folder / "metrics", confidence)
        by_stage = {path.stem: read_json(path)["seconds"] for path in (folder / "logs").glob("*.json")}
    longest = sorted(by_stage.items(), key=lambda item: (-item[1], item[0]))
    stages = ", ".join(f"{name} {took:.0f}" for name, took in longest if took >= 1)
    text = [f"### `label.positive: {label}`, `split.refit: {refit}`"]
    for name, table in tables.items():
        text += [f"{name.capitalize()}:", table]
    return "\n\n".join([*text, f"Seconds: {seconds:.0f} in all; {stages}."])


def told(cells: dict[str, str]) -> str:
    """What stands between the marks: the cells by name, each between marks of its own."""
    return "\n\n".join(f"<!-- cell: {name} -->\n{text}\n<!-- /cell -->" for name, text in cells.items())


def fill(data: Path, book: Path, label: str, state: str, confidence: float) -> str:
    """Write the tables of all cells into `book`, cell by cell; what then stands there.

    label: `label.positive` as committed; confidence: of the intervals.
    """
    state = f"{state} {fingerprint(data)}"
    wanted = [(name, refit) for refit in REFITS for name in dict.fromkeys([label, SOURCE])]
    cells = dict(_CELL.findall(book.read_text(encoding="utf-8").split(START)[1].split(END)[0]))
    cells = {name: text for name, text in cells.items() if name.endswith(state)}
    for number, (positive, refit) in enumerate(wanted, 1):
        name = f"{positive}, {refit}, {state}"
        about = f"{positive}, refit {refit} ({number} of {len(wanted)})"
        if name in cells:
            print(f"{about}: there already", flush=True)
            continue
        print(f"{about}: begins", flush=True)
        cells[name] = run(data, positive, refit, confidence)
        with replacing(book) as temporary:
            text = readme.between(book.read_text(encoding="utf-8"), START, END, told(cells))
            temporary.write_text(text, encoding="utf-8")
        print(f"{about}: written", flush=True)
    return told(cells)


def fingerprint(data: Path) -> str:
    """A short name of a folder's files, by name and bytes in each. Raises UserError where there is none."""
    files = sorted((str(path.relative_to(data)), path.stat().st_size) for path in data.rglob("*") if path.is_file())
    if not files:
        raise UserError(
            f"{data} holds no files; give the folder of the logs: make slice DATA=/path/to/kuairand-pure-slice/data"
        )
    return hashlib.sha256(repr(files).encode()).hexdigest()[:8]


def main(data: str) -> str | None:
    """What went wrong, None if nothing."""

    def work() -> None:
        params = Params.load(Path("params.yaml"))
        label = params.section("label", labels.Params).positive
        confidence = params.section("evaluate", evaluation.Params).confidence
        state = clones.state(clones.git(Path(), "show", "HEAD:dvc.lock"))
        print("\n" + fill(Path(data).expanduser().resolve(), BOOK, label, state, confidence))

    return clones.command(work, "the cell that was running")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
