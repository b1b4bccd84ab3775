"""SASRec as in the textbook, on whatever log there is: `make sasrec` writes a table into experiments/textbook.md.

Leave-one-out; recall by ItemCF or BPR-MF; SASRec, trained on positives with one negative a target, orders the pool. The
other models stand beside it over the whole catalogue. A cell is a loss and a recall model on a log, run from raw files
to metrics in a clone of its own; finished cells are skipped, those of another state of the pipeline (`clones.state`)
are dropped.
"""

import csv
import sys
from functools import partial
from pathlib import Path
from typing import Any

from nextreel import evaluation
from nextreel.errors import UserError
from nextreel.params import Params
from nextreel.reporting import book, clones, readme

BOOK = Path("experiments/textbook.md")
LOSSES = ("bce", "bpr")
RECALL = ("itemcf", "bpr_mf")
COUNTING = ("most_popular", *RECALL)
# Kang & McAuley, ICDM 2018, sections III and IV: Adam, lr .001, batches of 128 users, width 50, 2 blocks, 1 head, a
# negative a target, until 20 epochs bring nothing on valid; dropout .5 for sparse logs (.2 for MovieLens-1M), length 50
# (200 there). L2 is `model.weight_decay`, 0 as in their code (`l2_emb`).
SETTINGS: dict[str, Any] = {
    "split.strategy": "leave_one_out",
    "split.refit": "none",  # the last item but one is history at test, and teaches nothing
    "cases.targets": "first",
    "train": {"gru4rec": {"layers": 1}, "sasrec": {"block": "standard", "blocks": 2, "heads": 1}},
    "model.lr": 0.001,
    "model.weight_decay": 0.0,
    "model.batch_size": 128,
    "model.epochs": 200,
    "model.patience": 20,
    "model.width": 50,
    "model.length": 50,
    "model.dropout": 0.5,
    "model.history": "positives",
    **{"model.inputs": [], "model.request": [], "model.videos": [], "model.id_dropout": 0.0},
    **{"model.own_row_from": 1, "model.hashed_rows": 0, "model.tied": True, "model.temperature": "none"},
    **{"model.schedule": "constant", "model.warmup_share": 0.0, "model.clip": "none"},
    **{"model.negatives_from": "uniform", "model.logq": "none", "model.table_optimizer": "adam"},
    "model.negatives": 1,
    "rank.model": "sasrec",
    "rank.weight": 0,  # the order is SASRec's alone
}
METRICS = ("hr@10", "ndcg@10", "hr@50", "ndcg@50")
ROWS = ("most_popular", "bpr_mf", "itemcf", "gru4rec", "sasrec", "two_stage", "oracle")


def changes(params: Params, loss: str, recall: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What differs from params.yaml, by its dotted keys. asked: see `clones.asked`; it has the last word."""
    counting = {name: params.get(f"recall.{name}") for name in COUNTING}
    channel = {"candidates.from": [recall], "rank.exposure": recall}
    return {**SETTINGS, "recall": counting, "model.loss": loss, **channel, **asked}


def run(loss: str, recall: str, asked: dict[str, Any], confidence: float) -> str:
    """Markdown of a cell."""
    with clones.clone("textbook") as folder:
        params = Params.load(folder / "params.yaml")
        seconds = clones.repro(folder, changes(params, loss, recall, asked))
        found = table(folder / "metrics", recall, confidence)
    told = "".join(f", `{key}: {value}`" for key, value in asked.items() if key != "ingest.path")
    return f"### `model.loss: {loss}`, recall by {recall}{told}\n\n{found}\n\n{seconds / 60:.1f} minutes."


def table(metrics: Path, recall: str, confidence: float) -> str:
    """Markdown: a row a model, on test, the intervals at `confidence`."""
    with (metrics / "next_item.csv").open(encoding="utf-8") as file:
        found = {(row["model"], row["metric"]): row for row in csv.DictReader(file) if row["part"] == "test"}
    names = {"two_stage": f"**two_stage**, the pool of {recall} in the order of sasrec"}
    lines = [f"| model | {' | '.join(METRICS)} | ndcg@10, {readme.percent(confidence)} interval |", "|---" * 6 + "|"]
    for name in ROWS:
        if (name, METRICS[0]) not in found:
            continue  # no oracle outside of a simulated world
        cells = [f"{float(found[name, metric]['value']):.4f}" for metric in METRICS]
        low, high = (float(found[name, "ndcg@10"][end] or "nan") for end in ("low", "high"))
        cells.append(readme.Estimate(float(found[name, "ndcg@10"]["value"]), low, high).interval)
        lines.append(f"| {names.get(name, name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(data: str, layout: str, loss: str, recall: str, settings: str) -> str | None:
    """What went wrong, None if nothing."""

    def work() -> None:
        for key, value, allowed in (("LOSS", loss, LOSSES), ("RECALL", recall, RECALL)):
            if value not in allowed:
                raise UserError(f"{key} is {value!r}; allowed: {', '.join(allowed)}")
        asked = clones.asked(data, layout, settings)
        log = book.fingerprint(Path(asked["ingest.path"])) if data else "params.yaml"
        told = " ".join(f"{key}={value}" for key, value in asked.items() if key != "ingest.path")
        name = ", ".join([loss, recall, *([told] if told else []), log])
        confidence = Params.load(Path("params.yaml")).section("evaluate", evaluation.Params).confidence
        state = clones.state(clones.git(Path(), "show", "HEAD:dvc.lock"))
        cells = book.Book(BOOK, "sasrec").fill(state, {name: partial(run, loss, recall, asked, confidence)})
        print("\n" + cells[f"{name}, {state}"])

    return clones.command(work, "the run from its start")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
