"""The picture of the results in README.md, from the committed metrics: `make table`.

The same numbers give the same bytes, so a test can tell a stale picture by its pixels.
"""

from math import isfinite
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from nextreel import evaluation
from nextreel.files import replacing
from nextreel.params import Params
from nextreel.reporting.eda import BLUE, DPI, GREY, ORANGE, STYLE, WIDTH_IN
from nextreel.reporting.readme import Estimate, estimates, percent
from nextreel.systems import CEILING

HEIGHT_IN = 5.4
SIMULATED = "A simulated app: these numbers are no evidence about users."
# Larger type than in the other pictures, since a phone shows this one at a third of its width.
LARGE = {"font.size": 14, "axes.titlesize": 15, "xtick.labelsize": 13, "ytick.labelsize": 15, "axes.grid.axis": "x"}


class Panel(NamedTuple):
    """One protocol. The axis begins at `start`, the value of a useless model, and holds every interval whole."""

    protocol: str
    title: str
    start: float
    step: float


PANELS = (
    Panel("next_item", "Next video: NDCG@10", start=0.0, step=0.05),
    Panel("impressions", "Impressions: GAUC", start=0.5, step=0.1),
)


def write(metrics: Path, confidence: float, path: Path) -> None:
    """Draw the headline metrics of the models on test, with their intervals at `confidence`, as PNG."""
    with replacing(path) as temporary, mpl.rc_context(STYLE | LARGE):
        draw(metrics, confidence).savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def draw(metrics: Path, confidence: float) -> Figure:
    """A panel a protocol, a row a model in both, the best at the next video on top. A system that answers one protocol
    alone is left to the tables, unless all do."""
    of_protocol = [
        {name: each for name, each in estimates(metrics, panel.protocol).items() if isfinite(each.value)}
        for panel in PANELS
    ]
    first = of_protocol[0]
    answering_all = set(first).intersection(*(found for found in of_protocol if found))
    best_first = sorted(answering_all, key=lambda name: (-first[name].value, name))
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    for axes, panel, found in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, of_protocol, strict=True):
        _panel(axes, panel, [(row, name, found[name]) for row, name in enumerate(best_first) if name in found])
        for row in (row for row, name in enumerate(best_first) if name not in found):
            axes.text(panel.start, row, "  next video only", color=GREY, va="center", fontsize=12)
    axes.set_yticks(range(len(best_first)), best_first)
    axes.invert_yaxis()
    simulated = any(name.startswith(CEILING) for name in first)
    figure.supxlabel("\n".join(_caption(confidence, simulated)), fontsize=13)
    return figure


def _caption(confidence: float, simulated: bool) -> list[str]:
    lines = [f"Test period; lines are {percent(confidence)} intervals. A GAUC of 0.5 is chance."]
    if simulated:
        lines += ["The oracles are ceilings: with the simulator's hidden state, and with its laws alone.", SIMULATED]
    return lines


def _panel(axes: Axes, panel: Panel, found: list[tuple[int, str, Estimate]]) -> None:
    rows = [(row, name, each if isfinite(each.low) else each._replace(low=each.value, high=each.value))
            for row, name, each in found]  # fmt: skip
    for row, name, (value, low, high) in rows:
        ceiling = name.startswith(CEILING)
        color = ORANGE if ceiling else BLUE
        axes.plot([low, high], [row, row], color=color, linewidth=2.5, solid_capstyle="butt")
        axes.plot(value, row, "D" if ceiling else "o", color=color, markersize=6)
        at, side = (low, "right") if ceiling else (high, "left")
        offset = -10 if ceiling else 10
        axes.annotate(f"{value:.3f}", (at, row), (offset, 0), textcoords="offset points", ha=side, va="center")
        if name == CEILING:
            axes.axvline(value, color=ORANGE, linewidth=1.5, linestyle="--", zorder=1)
    lowest = min([panel.start, *(low for _row, _name, (_value, low, _high) in rows)])
    highest = max((high for _row, _name, (_value, _low, high) in rows), default=panel.start + panel.step)
    axes.set_xlim(lowest, highest + 0.04 * (highest - lowest))
    axes.xaxis.set_major_locator(MultipleLocator(panel.step))
    axes.tick_params(axis="y", length=0)
    axes.set_title(panel.title)


if __name__ == "__main__":
    params = Params.load(Path("params.yaml")).section("evaluate", evaluation.Params)
    write(Path("metrics"), params.confidence, Path("reports/results.png"))
