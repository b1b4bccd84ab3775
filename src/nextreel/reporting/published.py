"""SASRec4SV as published, on whatever log there is: `make sasrec4sv` writes a table and curves into experiments.

One head on the watch-time ratio, without the next video and without counted inputs. The paper's days are 9 to 20 April
2022 for train, the 21st for valid, the 22nd for test; a log that does not hold them is cut in the same shape, its last
day being test. Beside the head stands what counting says of the same rows. A cell is a head on a log, run from raw
files to metrics in a clone of its own; finished cells are skipped, those of another state of the pipeline
(`clones.state`) are dropped.
"""

import csv
import sys
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from nextreel import clock, datasets, engine, evaluation, splits
from nextreel.cases.store import Store
from nextreel.errors import UserError
from nextreel.evaluation import heads
from nextreel.evaluation.impressions import Impressions
from nextreel.files import replacing
from nextreel.metrics.ratios import Estimate
from nextreel.params import Params
from nextreel.reporting import book, clones, readme
from nextreel.reporting.eda import BLUE, DPI, ORANGE, STYLE, WIDTH_IN
from nextreel.simulation import generator, world

BOOK = Path("experiments/sasrec4sv-published.md")
MODEL, CHANNEL = "sasrec4sv", "itemcf"
# Of each head, the measure that it is chosen by, on valid, and what the paper reports of test.
PAPER = {"binary": ("f1", 0.5765), "linear": ("rmse", 2.9390)}
METRICS = {"binary": ("f1", "precision", "recall", "accuracy", "log_loss"), "linear": ("rmse", "mae", "xauc")}
PRIOR = 20.0  # rows like all others beside a video's own
HEIGHT_IN = 3.4
# SASRec4SV (2023): Adam, lr .001, weight decay .001, 75 epochs, batches of 200 users, their last 500 events, WTR
# without a cap, WTG by buckets of 60 s; an event is the sum of its user, video, author, feedback and position. Width,
# blocks and dropout as in SASRec (Kang & McAuley, ICDM 2018).
SETTINGS: dict[str, Any] = {
    "split.strategy": "temporal",
    "split.by": "date",
    "split.refit": "none",
    "label.positive": "sasrec4sv",
    "label.wtr_cap": "none",
    "cases.targets": "first",
    "model.lr": 0.001,
    "model.weight_decay": 0.001,
    "model.epochs": 75,
    "model.patience": 75,
    "model.batch_size": 200,
    "model.width": 50,
    "model.length": 500,
    "model.dropout": 0.5,
    **{"model.inputs": ["user", "feedback"], "model.request": [], "model.videos": ["author"], "model.id_dropout": 0.0},
    **{"model.own_row_from": 1, "model.hashed_rows": 0, "model.tied": True, "model.temperature": "none"},
    **{"model.schedule": "constant", "model.warmup_share": 0.0, "model.clip": "none", "model.table_optimizer": "adam"},
    "candidates.from": [CHANNEL],
    **{"rank.model": "rates", "rank.exposure": CHANNEL},
}


class Days(NamedTuple):
    """The first day of train, of valid and of test, which is one day."""

    train_from: date
    valid_from: date
    test_from: date

    @classmethod
    def ending(cls, test: date) -> "Days":
        return cls(test - timedelta(13), test - timedelta(1), test)

    @property
    def keys(self) -> dict[str, str]:
        """Of the section `split`."""
        return {f"split.{name}": str(day) for name, day in self._asdict().items()} | {
            "split.test_until": str(self.test_from)
        }


PUBLISHED = Days.ending(date(2022, 4, 22))


def days_of(first: date, last: date) -> Days:
    """Of a log from one day to another."""
    return PUBLISHED if first <= PUBLISHED.train_from and PUBLISHED.test_from <= last else Days.ending(last)


def logged(params: Params) -> tuple[date, date]:
    """The first and the last day of the log that params name. Raises UserError where it holds none."""
    ingest = params.section("ingest", datasets.Params)
    if Path(ingest.path) == world.FOLDER:
        n_days = params.section("simulate", generator.Params).n_days
        return world.FIRST_DAY, world.FIRST_DAY + timedelta(n_days - 1)
    con = engine.connect(params.section("engine", engine.Params), params.threads, Path(".work"))
    found = datasets.layout(ingest).time_range(con, ingest)
    if found is None:
        raise UserError(f"{ingest.path} holds no rows")
    return clock.day_of(found[0]), clock.day_of(found[1])


def changes(params: Params, head: str, days: Days, asked: dict[str, Any]) -> dict[str, Any]:
    """What differs from params.yaml, by its dotted keys. asked: see `clones.asked`; it has the last word."""
    section = params.get(f"train.{MODEL}")
    alone = dict.fromkeys(section["weights"], 0.0) | {head: 1.0}
    own = {"heads": 1, "weights": alone, "wide": False, "shown_id_dropout": 0.0, "score": head, "chosen_by": head}
    recall = {name: params.get(f"recall.{name}") for name in (CHANNEL, "rates")}
    return {**SETTINGS, **days.keys, "recall": recall, "train": {MODEL: section | own}, **asked}


def run(head: str, asked: dict[str, Any], picture: Path) -> str:
    """Markdown of a cell; its curves are drawn."""
    with clones.clone(MODEL) as folder:
        clones.change(folder, {key: value for key, value in asked.items() if key.startswith("ingest.")})
        days = days_of(*logged(Params.load(folder / "params.yaml")))
        seconds = clones.repro(folder, changes(Params.load(folder / "params.yaml"), head, days, asked))
        params = Params.load(folder / "params.yaml")
        cut = params.section("split", splits.Params)  # SET may have changed it
        found = table(folder, head, params)
        with (folder / f"plots/curves/{MODEL}.csv").open(encoding="utf-8") as file:
            curve = list(csv.DictReader(file))
    write_picture(curve, head, picture)
    told = "".join(f", `{key}: {value}`" for key, value in asked.items() if key != "ingest.path")
    kept = next(line["epoch"] for line in curve if line["kept"] == "1")
    of_paper = (cut.train_from, cut.valid_from, cut.test_from) == PUBLISHED
    parts = f"Train from {cut.train_from or 'the start'}, valid {cut.valid_from}, test {cut.test_from}"
    return "\n\n".join(
        [
            f"### `{head}`{told}",
            f"{parts}{', the days of the paper' if of_paper else ''}. Epoch {kept} of {len(curve)} is kept.",
            found,
            f"![Loss of the head {head} by epoch]({picture.relative_to(BOOK.parent).as_posix()})",
            f"{seconds / 60:.1f} minutes.",
        ]
    )


def table(folder: Path, head: str, params: Params) -> str:
    """Markdown: the head, what counting says, and what was published; on test, intervals of the first measure."""
    settings = params.section("evaluate", evaluation.Params)
    with (folder / "metrics/heads.csv").open(encoding="utf-8") as file:
        own = {row["metric"]: row for row in csv.DictReader(file) if (row["part"], row["head"]) == ("test", head)}
    shown = Impressions.load(folder / "data", params.seed)
    rows, names = shown.rows("test"), METRICS[head]
    lines = [f"| | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    values = [f"{float(own[name]['value']):.4f}" for name in names]
    values[0] += f" ({float(own[names[0]]['low']):.4f} to {float(own[names[0]]['high']):.4f})"
    lines.append(f"| **{MODEL}**, {readme.percent(settings.confidence)} interval | {' | '.join(values)} |")
    truth = heads.HEADS[head].truth({"wtr": shown.wtr})[rows]
    for name, said in counted(Store.load(folder / "data/store"), head, shown.video_idx[rows]).items():
        found = heads.judged(heads.HEADS[head]._replace(kind="number" if head == "linear" else "share"), said, truth)
        values = [f"{each.value if isinstance(each, Estimate) else each:.4f}" for each in map(found.get, names)]
        lines.append(f"| {name} | {' | '.join(values)} |")
    lines.append(f"| published, on KuaiRand-1K | {PAPER[head][1]:.4f} |{' |' * (len(names) - 1)}")
    return "\n".join(lines)


def counted(store: Store, head: str, video_idx: np.ndarray) -> dict[str, np.ndarray]:
    """What the events of train say of showings of videos [m]: the mean over all, and over the video's with PRIOR rows
    like all; of WTR, or of whether it is above .5."""
    position, _owner = store.fitted_on("train").flat()
    value = heads.HEADS[head].truth({"wtr": np.asarray(store.events("wtr"))[position]}).astype(float)
    known = ~np.isnan(value)
    video, value = store.events("video_idx")[position][known], value[known]
    n, total = (np.bincount(video, of, store.n_videos + 1) for of in (None, value))
    mean = value.mean()
    by_video = (total + PRIOR * mean) / (n + PRIOR)
    return {"mean of all": np.full(len(video_idx), mean), "mean of the video": by_video[video_idx]}


def write_picture(curve: list[dict[str, str]], head: str, path: Path) -> None:
    """The head's loss on train and valid by epoch, and the measure by which one is kept, as PNG."""
    measure = PAPER[head][0]
    epoch = [int(line["epoch"]) for line in curve]
    kept = next(at for at, line in enumerate(curve) if line["kept"] == "1")
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary, mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, label, color in (("loss", "train", BLUE), ("valid_loss", "valid", ORANGE)):
            left.plot(epoch, [float(line[name]) for line in curve], color=color, label=label, linewidth=2)
        left.legend(frameon=False)
        left.set_title(f"Loss of the head {head}")
        values = [float(line[f"valid_{measure}"] or "nan") for line in curve]
        right.plot(epoch, values, color=ORANGE, linewidth=2)
        right.plot(epoch[kept], values[kept], "o", color=ORANGE, markersize=9, fillstyle="none", markeredgewidth=2)
        right.set_title(f"{measure.upper()} on valid; the ring is kept")
        for axes in (left, right):
            axes.set_xlabel("epoch")
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def main(data: str, layout: str, head: str, settings: str) -> str | None:
    """What went wrong, None if nothing."""

    def work() -> None:
        if head and head not in PAPER:
            raise UserError(f"HEAD is {head!r}; allowed: {', '.join(PAPER)}")
        asked = clones.asked(data, layout, settings)
        log = book.fingerprint(Path(asked["ingest.path"])) if data else "params.yaml"
        told = " ".join(f"{key}={value}" for key, value in asked.items() if key != "ingest.path")
        state = clones.state(clones.git(Path(), "show", "HEAD:dvc.lock"))
        about = [*([told] if told else []), log]
        picture = "-".join([log if data else "default", *told.split()])
        wanted = {
            ", ".join([name, *about]): partial(run, name, asked, BOOK.parent / BOOK.stem / f"{name}-{picture}.png")
            for name in ([head] if head else PAPER)
        }
        for text in book.Book(BOOK, MODEL).fill(state, wanted).values():
            print("\n" + text)

    return clones.command(work, "the run from its start")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
