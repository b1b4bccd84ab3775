"""What the evaluate stage writes: metrics, plots and every user's own values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextreel import files
from nextreel.arrays import Columns, Writer
from nextreel.evaluation import lists, pool_size
from nextreel.evaluation.estimates import EMPTY, labelled, stack
from nextreel.evaluation.impressions import HEADLINE, ImpressionResults
from nextreel.evaluation.next_item import NextItemResults

LEAST_ROWS = 100  # of a bin in the picture of calibration
PROTOCOL_OF = {"test": "impressions", "random": "random"}  # part -> protocol


def write(
    root: Path,
    next_item: NextItemResults,
    shown: ImpressionResults | None,
    beyond: Columns,
    by_pool: Columns,
    by_head: Columns,
) -> None:
    """Everything. `shown` is None where there are no impressions; beyond: what `lists.table` returns; by_pool: what
    `pool_size.table` does; by_head: what `heads.table` does."""
    write_headlines(root / "metrics", next_item, shown, beyond)
    write_tables(root / "metrics", next_item, shown, {"lists": beyond, "two_stage": by_pool, "heads": by_head})
    write_charts(root / "plots", next_item, shown, pool_size.chart(by_pool))
    write_per_user(root / "data", next_item, shown)


def write_headlines(folder: Path, next_item: NextItemResults, shown: ImpressionResults | None, beyond: Columns) -> None:
    """models/, impressions/ and random/<model>.json: a small table each, for `dvc metrics show` and `diff`."""
    with files.replacing(folder / "models") as models:
        for name in next_item.ranks:
            of_lists = lists.headline(beyond, name)
            files.write_json(models / f"{name}.json", next_item.headline(name) | of_lists | next_item.cold_share())
    for part, protocol in PROTOCOL_OF.items():
        with files.replacing(folder / protocol) as models:
            models.mkdir()
            if shown and part in shown.of:
                for name in shown.scores:
                    files.write_json(models / f"{name}.json", shown.headline(name, part))


def write_tables(
    folder: Path, next_item: NextItemResults, shown: ImpressionResults | None, others: Mapping[str, Columns]
) -> None:
    """CSV files with every metric, interval, difference, day and seed; others: by the names of their files."""
    by_day = [labelled(next_item.by_day(), protocol="next_item")]
    comparison = [labelled(next_item.comparison(), protocol="next_item")]
    if shown:
        by_day.append(labelled(shown.by_day, protocol="impressions"))
        comparison += [
            labelled(shown.comparison(part), protocol=protocol)
            for part, protocol in PROTOCOL_OF.items()
            if part in shown.of
        ]
    tables = {
        "next_item": next_item.table(),
        "impressions": shown.table() if shown else EMPTY,
        "calibration": shown.reliability if shown else EMPTY,
        "by_day": stack(by_day),
        "by_video": shown.by_video if shown else EMPTY,
        "by_seed": next_item.by_seed(),
        "comparison": stack(comparison),
    }
    for name, table in {**tables, **others}.items():
        files.write_csv(folder / f"{name}.csv", table)


def write_charts(folder: Path, next_item: NextItemResults, shown: ImpressionResults | None, by_pool: Columns) -> None:
    """CSV files for `dvc plots`, with the columns that dvc.yaml draws whether or not there is a point in them. by_pool:
    what `pool_size.chart` returns."""
    charts = {"models": best_first(next_item.comparison()), "two_stage": by_pool}
    for part, protocol in PROTOCOL_OF.items():
        known = shown and part in shown.of
        charts[protocol] = (
            best_first(shown.comparison(part)) if shown and known else _no_points(HEADLINE, "low", "high")
        )
    on_test = shown and "test" in shown.of
    charts["aging"] = _aging(shown) if shown and on_test else _no_points("day", HEADLINE)
    charts["calibration"] = _calibration(shown) if shown and on_test else _no_points("predicted", "observed")
    for name, chart in charts.items():
        files.write_csv(folder / f"{name}.csv", chart)


def _no_points(*columns: str) -> Columns:
    """The chart of a protocol that has no impressions."""
    return {name: np.array([]) for name in ("model", *columns)}


def best_first(comparison: Columns) -> Columns:
    """Every model on its own with its interval: model, the metric, low, high."""
    own = np.flatnonzero(comparison["minus"] == "")
    order = own[np.argsort(-comparison["value"][own], kind="stable")]
    metric = str(comparison["metric"][0])
    names = {"model": "model", "value": metric, "low": "low", "high": "high"}
    return {name: comparison[column][order] for column, name in names.items()}


def _aging(shown: ImpressionResults) -> Columns:
    """HEADLINE on impressions by test day."""
    by_day = shown.by_day
    return {"model": by_day["model"], "day": by_day["day"], HEADLINE: by_day["value"]}


def _calibration(shown: ImpressionResults) -> Columns:
    """Observed by predicted share of positives on test, of bins that hold enough rows to tell, and the line on which
    both are equal."""
    found = shown.reliability
    told = (found["part"] == "test") & (found["rows"] >= LEAST_ROWS)
    points = {name: found[name][told] for name in ("model", "predicted", "observed")}
    ends = np.array([0.0, points["predicted"].max(initial=0)])
    return stack([points, {"model": np.full(2, "as predicted"), "predicted": ends, "observed": ends}])


def write_per_user(data: Path, next_item: NextItemResults, shown: ImpressionResults | None) -> None:
    """data/per_user.parquet: every model's values of every case, for anyone's own analysis, a row each: protocol, part,
    model, seed, user_idx, user_id, case_id, metric, value. README.md says which metrics there are."""
    cases = pq.read_table(data / "cases.parquet", columns=["user_id"], partitioning=None)
    user_id = cases["user_id"]  # by case_id; as Arrow, since it may be text
    with Writer(data / "per_user.parquet") as writer:
        for name, by_seed in next_item.ranks.items():
            for seed in by_seed:
                writer.add(_rows("next_item", name, seed, next_item.per_user(name, seed), user_id))
        if shown:
            for name, scores in shown.scores.items():
                for seed in scores:
                    writer.add(_rows("impressions", name, seed, shown.per_user(name, seed), user_id))


def _rows(protocol: str, model: str, seed: int, columns: Columns, user_id: pa.ChunkedArray) -> dict[str, Any]:
    """Long rows from a column a metric; values that are not there are left out."""
    metrics = [name for name in columns if name not in ("part", "user_idx", "case_id")]
    value = np.stack([columns[name].astype(float) for name in metrics])  # [metrics, n]
    metric, case = np.nonzero(~np.isnan(value))
    return {
        "protocol": np.full(len(case), protocol),
        "model": np.full(len(case), model),
        "seed": np.full(len(case), seed),
        "part": columns["part"][case],
        "user_idx": columns["user_idx"][case],
        "user_id": user_id.take(columns["case_id"][case]),
        "case_id": columns["case_id"][case],
        "metric": np.array(metrics)[metric],
        "value": value[metric, case],
    }
