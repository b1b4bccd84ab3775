"""The tables of README.md, from the committed metrics: `make table`."""

import csv
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import NamedTuple

from nextreel import evaluation
from nextreel.files import read_json, replacing
from nextreel.params import Params
from nextreel.reporting import book, clones, worlds_table
from nextreel.reporting.worlds_table import Cell, Made

NOTHING = "-"  # where there is no value
COLUMNS = ("ndcg@10", "hr@10", "hr@50", "list_value@10", "coverage@10", "unreachable_share", "valid_ndcg@10")


class Estimate(NamedTuple):
    """A model's headline metric with its interval, NaN where there are too few users for one."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> str:
        return NOTHING if isnan(self.low) else f"{self.low:.4f} to {self.high:.4f}"


def stages(metrics: Path, confidence: float) -> str:
    """Markdown: from the best channel to the pool, the ranking stage and the ceilings; every task side by side."""
    next_item, standard, random = (_by_model(metrics / name) for name in ("models", "impressions", "random"))
    about = read_json(metrics / "rank.json")
    channels = sorted({key.split("_recall@")[0] for key in read_json(metrics / "recall.json") if "_recall@" in key})
    channel = max((name for name in channels if name in next_item), key=lambda name: next_item[name]["valid_ndcg@10"])
    rows = {
        f"{channel}, the best channel": channel,
        "pool, in the order of its channels": "pool",
        "**two_stage**, the pool in the order of the blend": "two_stage",
        "exhaustive, the same without a pool": "exhaustive",
        f"{about['ranker']}, the ranker alone": str(about["ranker"]),
        "oracle_ranker, the pool by the true P(positive given shown)": "oracle_ranker",
        "oracle_laws, what can be known without the hidden state": "oracle_laws",
        "oracle, with the hidden state": "oracle",
    }
    columns = (
        ("next video: ndcg@10", next_item, "ndcg@10"),
        ("worth of the first 10: list_value@10", next_item, "list_value@10"),
        ("impressions: gauc", standard, "gauc"),
        ("shown at random: gauc", random, "gauc"),
    )
    lines = ["| stage | " + " | ".join(head for head, *_rest in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for label, name in rows.items():
        if name in next_item:
            cells = [_with_reach(found.get(name, {}), metric) for _head, found, metric in columns]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    chosen = "chosen on valid" if about["weight_from"] == "valid" else about["weight_from"]
    how = f"{about['weight']:.3g}, {chosen}"
    lines += ["", f"Test; ± half of the {percent(confidence)} interval. Weight of exposure: {how}."]
    return "\n".join(lines)


def _with_reach(found: Mapping[str, float | None], metric: str) -> str:
    value, reach = found.get(metric), found.get(f"{metric}_half_width")
    return _digits(value) if reach is None else f"{_digits(value)} ± {reach:.4f}"


def results(metrics: Path, confidence: float) -> str:
    """Markdown: a row a model, best first, with the interval of ndcg@10 on test at `confidence`."""
    own = estimates(metrics, "next_item")
    found = _by_model(metrics / "models")
    best_first = sorted(found, key=lambda name: (-found[name]["ndcg@10"], name))
    lines = ["| model | " + " | ".join((COLUMNS[0], f"{percent(confidence)} interval", *COLUMNS[1:])) + " |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for name in best_first:
        first, *rest = (_digits(found[name].get(column)) for column in COLUMNS)
        lines.append(f"| {name} | " + " | ".join((first, own[name].interval, *rest)) + " |")
    test = next(iter(found.values()))
    lines += [
        "",
        f"{test['n_cases']:.0f} test cases; {test['cold_share']:.1%} of the targets lie outside the catalogue.",
    ]
    return "\n".join(lines)


def impressions(metrics: Path, confidence: float) -> str:
    """Markdown: a row a model, the best on test first, standard and random track side by side, intervals at
    `confidence`."""
    standard, random = (_by_model(metrics / protocol) for protocol in ("impressions", "random"))
    intervals = {protocol: estimates(metrics, protocol) for protocol in ("impressions", "random")}
    interval = f"{percent(confidence)} interval"
    heads = f"gauc | {interval} | auc | ndcg@5 | wtg@5 | ece | no_opinion_share"
    heads += f" | gauc, known videos | gauc, new ones | gauc, random | {interval} | auc, random"
    lines = [f"| model | {heads} |", "|---" * 13 + "|"]
    by_video = _by_video(metrics)
    for name in sorted(standard, key=lambda name: (-(standard[name]["gauc"] or 0), name)):
        cells = [name]
        for protocol, found, columns in (
            ("impressions", standard[name], ("auc", "ndcg@5", "wtg@5", "ece", "no_opinion_share")),
            ("random", random.get(name, {}), ("auc",)),
        ):
            own = intervals[protocol].get(name)
            cells += [_digits(found.get("gauc")), own.interval if own else NOTHING]
            cells += [_digits(found.get(column)) for column in columns]
            if protocol == "impressions":
                cells += [_digits(by_video.get((name, videos))) for videos in ("known", "new")]
        lines.append("| " + " | ".join(cells) + " |")
    n_rows = [f"{next(iter(found.values()), {'rows': 0})['rows']:,.0f}" for found in (standard, random)]
    return "\n".join([*lines, "", f"{n_rows[0]} impressions of test, {n_rows[1]} shown at random."])


def _digits(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def _by_video(metrics: Path) -> dict[tuple[str, str], float]:
    """(model, known or new) -> GAUC among such videos."""
    with (metrics / "by_video.csv").open(encoding="utf-8") as file:
        return {(row["model"], row["videos"]): float(row["value"]) for row in csv.DictReader(file) if row["value"]}


def _by_model(folder: Path) -> dict[str, dict[str, float]]:
    return {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}


def estimates(metrics: Path, protocol: str) -> dict[str, Estimate]:
    """Each model's own row of the comparison under a protocol."""
    with (metrics / "comparison.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"] == protocol]
    return {
        row["model"]: Estimate(*(float(row[column] or "nan") for column in Estimate._fields))
        for row in rows
        if not row["minus"]
    }


def statistics(metrics: Path) -> str:
    """Markdown: the size and shape of the data."""
    eda, ingest = read_json(metrics / "eda.json"), read_json(metrics / "ingest.json")
    rows = {
        "users, videos with an event": f"{eda['users']:,}, {eda['videos']:,}",
        "interactions": f"{eda['interactions']:,} ({eda['positive_share']:.1%} positive)",
        "rows of randomly exposed videos": f"{ingest['rows_random']:,}",
        "density": f"{eda['density']:.2%}",
        "user features, video features": f"{eda['user_features']}, {eda['video_features']}",
        "days": f"{eda['days']}, {eda['first_day']} to {eda['last_day']}",
        "events a user, a session (median)": f"{eda['events_per_user_p50']}, {eda['events_per_session_p50']}",
        "events taken by the top 1 %, 20 % of videos": f"{eda['popularity_top_1_percent_share']:.1%},"
        f" {eda['popularity_top_20_percent_share']:.1%} (Gini {eda['popularity_gini']:.2f})",
    }
    if "cold_share" in eda:
        rows["events of videos first logged that day"] = f"{eda['cold_share']:.1%}"
    if "next_tag_asked" in eda:
        hit_rates = f"{eda['next_tag_hr@1_in_order']:.1%} in order, {eda['next_tag_hr@1_shuffled_mean']:.1%} shuffled"
        rows["next tag guessed from the last one"] = hit_rates
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def worlds(found: Mapping[Made, Sequence[Cell]], state: str, confidence: float) -> str:
    """Markdown: the mean of each headline metric over worlds by system, best first, with its interval at `confidence`,
    and which systems lead; empty where no world has been run.

    found: of one kind, see `worlds_table.read`; state: of the pipeline that the other tables are of.
    """
    if not found:
        return ""
    (made, cells), *_ = found.items()
    by_metric = {metric: worlds_table.summary(cells, metric, confidence) for metric in worlds_table.HEADLINES}
    by_metric = {metric: systems for metric, systems in by_metric.items() if systems}
    interval = f"{percent(confidence)} interval"
    heads = " | ".join(f"{metric.replace('_random', ', random')} | {interval}" for metric in by_metric)
    lines = [f"| model | {heads} |", "|---" * (1 + 2 * len(by_metric)) + "|"]
    for name in next(iter(by_metric.values())):
        row = [name]
        for systems in by_metric.values():
            over = systems.get(name)
            row += [NOTHING, NOTHING] if over is None else [_digits(over.mean), Estimate(*over[:3]).interval]
        lines.append("| " + " | ".join(row) + " |")
    seeds = sorted({cell.world for cell in cells})
    told = f"{len(seeds)} worlds (`simulate.seed` {', '.join(map(str, seeds))}), `model.seeds` {made.seeds}"
    if made.state != state:
        told += ", run before the tables above"
    leads = [
        f"{metric.replace('_random', ', random')}: "
        + ", ".join(f"{name} in {over.leads}" for name, over in systems.items() if over.leads)
        for metric, systems in by_metric.items()
    ]
    return "\n".join([*lines, "", f"{told}. Who leads, by {'; by '.join(leads)}."])


def percent(share: float) -> str:
    """`99.5 %` for .995; ten digits, so that no rounding error of the product shows."""
    return f"{100 * share:.10g} %"


def of_models(metrics: Path, confidence: float) -> dict[str, str]:
    """The tables of models by name."""
    return {
        "stages": stages(metrics, confidence),
        "results": results(metrics, confidence),
        "impressions": impressions(metrics, confidence),
    }


def update(text: str, metrics: Path, state: str, confidence: float) -> str:
    """`text` with every table between its marks.

    state: of the pipeline, see `clones.state`; confidence: of the intervals in `metrics`, which do not name it
    themselves.
    """
    tables = of_models(metrics, confidence) | {
        "statistics": statistics(metrics),
        "worlds": worlds(worlds_table.read(metrics / "worlds.csv"), state, confidence),
    }
    for name, table in tables.items():
        text = book.between(text, f"<!-- {name}: make table -->", f"<!-- /{name} -->", table)
    return text


if __name__ == "__main__":
    readme = Path("README.md")
    intervals_at = Params.load(Path("params.yaml")).section("evaluate", evaluation.Params).confidence
    with replacing(readme) as temporary:
        state = clones.state(Path("dvc.lock").read_text(encoding="utf-8"))
        text = update(readme.read_text(encoding="utf-8"), Path("metrics"), state, intervals_at)
        temporary.write_text(text, encoding="utf-8")
