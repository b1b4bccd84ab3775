"""The files that `evaluate` writes, held against what dvc.yaml draws of them."""

import csv

import numpy as np
import pytest
import yaml

from nextreel import evaluation
from nextreel.evaluation import outputs
from nextreel.evaluation.impressions import ImpressionResults, Impressions
from nextreel.evaluation.next_item import NextItemResults

SETTINGS = evaluation.Params(confidence=0.9)
BESIDE = {"intervals": {"model", "low", "high"}}  # what a template draws beside x and y; the others: lines by model
BY_POOL = {"model": np.array(["two_stage"]), "k": np.array([10]), "ndcg@10": np.array([0.1])}


@pytest.fixture(scope="module")
def drawn(root):
    """File -> the columns that dvc.yaml's `plots` draws of it."""
    entries = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    found = {path: options for entry in entries if isinstance(entry, dict) for path, options in entry.items()}
    return {
        path: {options["x"], options["y"]} | BESIDE.get(options["template"], {"model"})
        for path, options in found.items()
    }


@pytest.fixture
def by_rank(cycle):
    n = (cycle.asked.target > 0).sum()
    return NextItemResults(cycle.asked, {"one": {42: np.full(n, 2)}, "other": {42: np.zeros(n, int)}}, SETTINGS)


def by_score(parts):
    """Impressions of a user in each part: two videos, the first one a positive."""
    n = len(parts)
    label = np.tile([True, False], n)
    shown = Impressions(
        np.repeat(np.arange(n), 2), np.tile([1, 2], n), np.zeros(2 * n, np.int64), label, np.where(label, 0.8, 0.1),
        np.where(label, 1.0, -1.0), np.arange(2 * n).astype(np.uint64), np.ones(2 * n, bool), case_id=np.arange(n),
        part=np.array(parts), user_idx=np.arange(n),
    )  # fmt: skip
    score = np.where(label, 0.9, 0.2)
    return ImpressionResults(shown, {"one": {42: score}, "other": {42: -score}}, SETTINGS)


@pytest.mark.parametrize(
    "parts", [(), ("valid", "random"), ("valid", "test"), ("valid", "test", "random")], ids=lambda s: "-".join(s)
)
def test_a_chart_has_the_columns_that_are_drawn_with_and_without_impressions(tmp_path, drawn, by_rank, parts):
    outputs.write_charts(tmp_path / "plots", by_rank, by_score(parts) if parts else None, BY_POOL)
    written = sorted((tmp_path / "plots").iterdir())
    assert [path.stem for path in written] == ["aging", "calibration", "impressions", "models", "random", "two_stage"]
    for path in written:
        with path.open(encoding="utf-8") as file:
            header = next(csv.reader(file))
        assert drawn[f"plots/{path.name}"] <= set(header), path.name


def test_a_chart_without_impressions_has_no_points(tmp_path, by_rank):
    outputs.write_charts(tmp_path, by_rank, None, BY_POOL)
    for name in ("aging", "calibration", "impressions", "random"):
        assert len((tmp_path / f"{name}.csv").read_text(encoding="utf-8").splitlines()) == 1
