"""Run the committed pipeline on real rows: `make slice` writes README's tables of them into experiments/real-slice.md.

A cell is a label and whether models are refitted for test; each is run from raw files to metrics in a clone of its own
and written as soon as it has finished. Finished cells are skipped, those of another state of the pipeline
(`clones.state`), or of other data, are run anew.
"""

import sys
from functools import partial
from pathlib import Path

from nextreel import evaluation, labels
from nextreel.files import read_json
from nextreel.params import Params
from nextreel.reporting import book, clones, readme

BOOK = Path("experiments/real-slice.md")
SOURCE = "long_view"  # the label that the data bring along
REFITS = ("none", "train_valid")


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


def fill(data: Path, path: Path, label: str, state: str, confidence: float) -> str:
    """Write the tables of all cells into the book at `path`, cell by cell; what then stands there.

    label: `label.positive` as committed; confidence: of the intervals.
    """
    wanted = {
        f"{name}, {refit}": partial(run, data, name, refit, confidence)
        for refit in REFITS
        for name in dict.fromkeys([label, SOURCE])
    }
    return book.told(book.Book(path, "slice").fill(f"{state} {book.fingerprint(data)}", wanted))


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
