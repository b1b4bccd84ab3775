from dataclasses import replace

import numpy as np
import pytest

from nextreel import evaluation
from nextreel.cases import PARTS
from nextreel.engine import load
from nextreel.evaluation import next_item, recall


@pytest.fixture
def marks(cycle):
    """A model that ranks every target second, and one that never ranks any."""
    asked = np.flatnonzero(cycle.target)
    known = {"case_id": cycle.cases.case_id[asked], "video_idx": cycle.target[asked]}
    return {name: {**known, "rank": np.full(len(asked), rank)} for name, rank in (("second", 2), ("never", 0))}


def test_summary_by_hand(cycle, marks):
    shown = cycle.of("test").cases.case_id
    lists = {"case_id": np.repeat(shown, 2), "video_idx": np.tile([1, 2], len(shown))}
    found = next_item.summary(cycle, marks["second"], lists)
    assert found["hr@10"] == found["valid_hr@50"] == 1
    assert found["ndcg@10"] == pytest.approx(1 / np.log2(3))
    assert found["coverage@10"] == pytest.approx(2 / 60)
    assert found["valid_coverage@10"] == 0  # no list of a valid case was given
    assert found["cold_share"] == 0
    assert found["n_cases"] == (cycle.cases.part[cycle.target > 0] == "test").sum()
    assert next_item.summary(cycle, marks["never"], lists)["ndcg@50"] == 0


def test_a_cold_target_counts_as_a_miss_and_is_told(cycle):
    asked = cycle.of("test")
    assert 0 not in asked.target
    first_part = cycle.catalogue.first_part.copy()
    first_part[asked.target[0]] = len(PARTS)
    smaller = replace(cycle, catalogue=replace(cycle.catalogue, first_part=first_part))
    marks = {"case_id": cycle.cases.case_id[cycle.target > 0], "rank": np.zeros((cycle.target > 0).sum())}
    found = next_item.summary(smaller, marks, {"case_id": np.array([]), "video_idx": np.array([])})
    assert found["cold_share"] == pytest.approx((asked.target == asked.target[0]).mean())


def test_compare_tells_models_and_pairs(cycle, marks):
    settings = evaluation.Params(n_resamples=50, confidence=0.9)
    table = next_item.compare(cycle, marks, settings)
    rows = dict(zip(zip(table["model"], table["minus"], strict=True), table["ndcg@10"], strict=True))
    gain = 1 / np.log2(3)
    assert rows == pytest.approx(
        {("second", ""): gain, ("never", ""): 0, ("second", "never"): gain, ("never", "second"): -gain}
    )
    assert (table["low"] <= table["ndcg@10"] + 1e-12).all()
    assert (table["ndcg@10"] <= table["high"] + 1e-12).all()


def test_per_user_values_reproduce_the_summary(cycle, marks, tmp_path):
    next_item.write_per_user(cycle, marks, tmp_path / "per_user.parquet")
    table = load(tmp_path / "per_user.parquet", [("model", "=", "second"), ("part", "=", "test")])
    assert table["hr@10"].mean() == 1
    assert set(table["user_idx"]) == set(cycle.of("test").cases.user_idx)


def test_recall_by_part(cycle):
    rank = np.where(cycle.cases.part == "test", 60, 500)
    found = recall.summary(cycle, {"itemcf": rank})
    assert found["itemcf_recall@50"] == 0
    assert found["itemcf_recall@100"] == 1
    assert found["valid_itemcf_recall@200"] == 0
    assert found["valid_itemcf_recall@500"] == 1


def test_the_recall_chart_ends_the_fused_line_at_the_pool(cycle):
    rank = np.where(cycle.cases.part == "test", 60, 1)
    lines = recall.chart(cycle, {"itemcf": rank, "fused": rank}, pool_size=100)
    points = list(zip(*(lines[name].tolist() for name in ("model", "k", "recall")), strict=True))
    assert points[2:5] == [("itemcf", 50, 0), ("itemcf", 100, 1), ("itemcf", 200, 1)]
    assert points[6:] == [("fused", 10, 0), ("fused", 20, 0), ("fused", 50, 0), ("fused", 100, 1)]


def test_the_models_chart_leaves_pairs_out_and_starts_with_the_best(cycle, marks):
    settings = evaluation.Params(n_resamples=50, confidence=0.9)
    worst_first = dict(reversed(marks.items()))
    chart = next_item.chart(next_item.compare(cycle, worst_first, settings))
    assert list(chart) == ["model", "ndcg@10", "low", "high"]
    assert chart["model"].tolist() == ["second", "never"]
