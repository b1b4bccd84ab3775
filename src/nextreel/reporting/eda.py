"""Pictures of what `eda` found, as PNG: white, 9 in wide, the same bytes from the same numbers."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from nextreel.arrays import Columns
from nextreel.eda import INFLUENCER_FANS, Findings

WIDTH_IN, DPI = 9.0, 120
BLUE, ORANGE, *_REST = sns.color_palette("colorblind").as_hex()
GREY = "#666666"
ROUND_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
ZERO_APART = 0.7  # bars: 0 has no place on a log axis
STYLE = {
    **sns.axes_style("white"),
    **{"font.family": "DejaVu Sans", "font.size": 11, "axes.titlesize": 12, "axes.labelsize": 11},
    **{"xtick.labelsize": 10, "ytick.labelsize": 10, "axes.titlepad": 10, "axes.spines.top": False},
    **{"axes.spines.right": False, "axes.grid.axis": "y", "axes.grid": True, "grid.color": "#e5e5e5"},
    **{"axes.edgecolor": GREY, "xtick.bottom": True, "ytick.left": True, "axes.axisbelow": True},
    **{"figure.constrained_layout.w_pad": 0.12, "figure.constrained_layout.h_pad": 0.1},  # inches
}
_THOUSANDS = FuncFormatter(lambda x, _at: f"{x:,.0f}")
_PERCENT = FuncFormatter(lambda x, _at: f"{100 * x:.6g}%")


def draw(found: Findings, folder: Path) -> None:
    """Write a picture for all that the source tells something about: lengths, popularity, fans, watch_time, repeats,
    dependence."""
    pictures = {
        "lengths": (["events_per_user", "events_per_session"], lengths),
        "popularity": (["popularity"], popularity),
        "fans": (["fans"], fans),
        "watch_time": (["watch_time"], watch_time),
        "repeats": (["repeats"], repeats),
        "dependence": (["dependence"], dependence),
    }
    for name, (tables, picture) in pictures.items():
        if all(_n_rows(found.tables[table]) for table in tables):
            save(picture, found, folder / f"{name}.png")


def save(picture: Callable[[Findings], Figure], found: Findings, path: Path) -> None:
    with mpl.rc_context(STYLE):
        picture(found).savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def lengths(found: Findings) -> Figure:
    figure, (left, right) = _panels(2)
    for axes, name, title in (
        (left, "events_per_user", "Events a user: median {}"),
        (right, "events_per_session", "Events a session: median {}"),
    ):
        _by_size(axes, found.tables[name])
        axes.set_title(title.format(f"{found.numbers[f'{name}_p50']:,}"))
        axes.set_xlabel(f"events a {name.rsplit('_', 1)[1]}")
    left.set_ylabel("share of users")
    right.set_ylabel("share of sessions")
    return figure


def popularity(found: Findings) -> Figure:
    figure, (left, right) = _panels(2)
    curve = found.tables["popularity"]
    left.plot(curve["rank"], curve["value"], color=BLUE, linewidth=2)
    left.set(xscale="log", yscale="log", xlabel="rank of the video", ylabel="events of the video")
    _log_ticks(left, "xy")
    left.set_title(f"Popularity: Gini {found.numbers['popularity_gini']:.2f}")
    right.plot(
        np.append(0, curve["top_share"]), np.append(0, curve["held_share"]), color=BLUE, linewidth=2, clip_on=False
    )
    for percent in (1, 20):
        share = float(str(found.numbers[f"popularity_top_{percent}_percent_share"]))
        right.plot(percent / 100, share, "o", color=ORANGE, markersize=7, zorder=3)
        right.annotate(
            f"top {percent}%: {share:.0%} of events",
            (percent / 100, share),
            xytext=(9, -6),
            textcoords="offset points",
            va="top",
        )
    _percent(right, "xy")
    right.set(xlim=(0, 1), ylim=(0, 1), xlabel="most popular videos, share of all", ylabel="share of events")
    top = float(str(found.numbers["popularity_top_1_percent_share"]))
    right.set_title(f"Top 1% of videos take {top:.0%} of events")
    return figure


def fans(found: Findings) -> Figure:
    figure, (axes,) = _panels(1)
    table = found.tables["fans"]
    _by_size(axes, table)
    for edge in np.flatnonzero(table["from"] == INFLUENCER_FANS) - 0.5:  # none where nobody comes near
        axes.axvline(edge, color=ORANGE, linewidth=2)
        axes.text(edge + 0.15, 0.97, f"{INFLUENCER_FANS:,} fans", transform=axes.get_xaxis_transform(), va="top")
    axes.set_title(f"Fans: {found.numbers['fans_1000_or_more_share']:.1%} of users have {INFLUENCER_FANS:,} or more")
    axes.set(xlabel="fans of a user", ylabel="share of users")
    return figure


def watch_time(found: Findings) -> Figure:
    figure, panels = _panels(3)
    table = found.tables["watch_time"]
    for axes, name, what, unit in zip(
        panels,
        ("play_s", "wtr", "wtg"),
        ("play_time", "wtr", "wtg"),
        ("Play time (s)", "WTR (play / duration)", "WTG (standard deviations)"),
        strict=True,
    ):
        x = table["duration_s"]
        axes.fill_between(x, table[f"{name}_p25"], table[f"{name}_p75"], color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(x, table[f"{name}_p50"], color=BLUE, linewidth=2, marker="o", markersize=3)
        axes.set(xscale="log", xlabel="duration (s)")
        _duration_ticks(axes, x)
        correlation = found.numbers.get(f"duration_{what}_spearman")
        rho = "" if correlation is None else f"\nrank correlation {correlation:+.2f}".replace("-", "\N{MINUS SIGN}")
        axes.set_title(f"{unit}{rho}")
    first, second, last = panels
    for axes in (first, second):
        axes.set_ylim(bottom=0)
    last.plot(table["duration_s"], table["wtg_mean"], color=ORANGE, linewidth=2, linestyle="--")
    figure.legend(
        handles=[*first.lines, first.collections[0], last.lines[-1]],
        labels=["median", "quartiles", "mean"],
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    return figure


def repeats(found: Findings) -> Figure:
    figure, (axes,) = _panels(1, height_in=3.0)
    table = found.tables["repeats"]
    bars = axes.barh(table["times"], table["share"], color=BLUE)
    axes.bar_label(bars, [f"{share:.2%}" for share in table["share"]], padding=5)
    axes.invert_yaxis()
    axes.grid(visible=False)
    _percent(axes, "x")
    axes.set(xlim=(0, 1.08), xlabel="share of (user, video) pairs", ylabel="times shown")
    axes.set_title(f"Repeats: {found.numbers['repeated_share']:.1%} of events show a video that the user has seen")
    return figure


def dependence(found: Findings) -> Figure:
    table = found.tables["dependence"]
    levels = [level for level in ("video", "tag") if (table["level"] == level).any()]
    figure, panels = _panels(len(levels))
    for axes, level in zip(panels, levels, strict=True):
        of = table["level"] == level
        kept, shuffled = table["hit_rate"][of][0], table["hit_rate"][of][1:]
        k = table["k"][of][0]
        heights = [kept, shuffled.mean()]
        bars = axes.bar(["in order", f"shuffled ({len(shuffled)} times)"], heights, color=[BLUE, GREY], width=0.6)
        axes.errorbar(1, shuffled.mean(), shuffled.std(ddof=1), color="black", capsize=6)
        axes.bar_label(bars, [f"{height:.1%}" for height in heights], padding=6)
        axes.margins(y=0.15)
        axes.grid(visible=False)
        _percent(axes, "y")
        axes.set_title({"video": "Next video", "tag": "Tag of the next video"}[level] + f": HR@{k} in valid")
        axes.set_ylabel(f"HR@{k}")
    figure.supxlabel("order of the events inside each session", fontsize=11)
    return figure


def _panels(n: int, height_in: float = 3.6) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, list(np.ravel(figure.subplots(1, n)))


def _by_size(axes: Axes, table: Columns) -> None:
    """Bars of equal width for bins of equal width in log value; ticks at powers of ten, where their bin begins."""
    at = np.arange(len(table["from"]), dtype=float)
    has_zero = table["from"][0] == 0
    at[0] -= ZERO_APART * has_zero
    axes.bar(at, table["share"], width=0.9, color=BLUE)
    tens = [(place - 0.5, start) for place, start in enumerate(table["from"].tolist()) if _is_power_of_ten(start)]
    if has_zero:
        tens.insert(0, (at[0], 0))
    axes.set_xticks([place for place, _start in tens], [f"{start:,}" for _place, start in tens])
    _percent(axes, "y")


def _is_power_of_ten(number: int) -> bool:
    return number > 0 and str(number).strip("0") == "1"


def _duration_ticks(axes: Axes, seconds: np.ndarray) -> None:
    inside = [tick for tick in ROUND_SECONDS if seconds.min() <= tick <= seconds.max()]
    wanted = inside or [round(float(seconds[0]), 1)]
    axes.set_xticks(wanted, [f"{tick:,g}" for tick in wanted])
    axes.xaxis.set_minor_locator(NullLocator())


def _log_ticks(axes: Axes, which: str) -> None:
    for axis in (getattr(axes, f"{name}axis") for name in which):
        axis.set_major_locator(LogLocator(numticks=12))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(_THOUSANDS)


def _percent(axes: Axes, which: str) -> None:
    for axis in (getattr(axes, f"{name}axis") for name in which):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(_PERCENT)


def _n_rows(table: Columns) -> int:
    return len(next(iter(table.values())))
