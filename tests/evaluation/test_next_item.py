from dataclasses import replace

import numpy as np
import pytest

from nextreel import arrays, evaluation
from nextreel.evaluation.next_item import NextItemResults, load_ranks
from nextreel.parts import PARTS

SETTINGS = evaluation.Params(confidence=0.9)
GAIN = 1 / np.log2(3)


@pytest.fixture
def asked(cycle):
    return cycle.asked


@pytest.fixture
def marks(asked):
    """A model that ranks every target second, and one that never ranks any."""
    n = (asked.target > 0).sum()
    return NextItemResults(asked, {"second": {42: np.full(n, 2)}, "never": {42: np.zeros(n, int)}}, SETTINGS)


def test_the_headline_by_hand(marks):
    assert marks.headline("second") == pytest.approx(
        {"ndcg@10": GAIN, "ndcg@10_half_width": 0, "hr@10": 1, "hr@50": 1, "valid_ndcg@10": GAIN, "valid_hr@10": 1,
         "unreachable_share": 0}
    )  # fmt: skip
    never = marks.headline("never")
    assert never.pop("unreachable_share") == 1
    assert not any(never.values())


def test_every_metric_of_both_parts_is_in_the_table(marks):
    table = marks.table()
    rows = dict(
        zip(zip(*(table[key] for key in ("part", "model", "metric")), strict=True), table["value"], strict=True)
    )
    assert len(rows) == 2 * 2 * 5
    assert rows["test", "second", "mrr@10"] == rows["valid", "second", "mrr@10"] == 0.5


def test_a_cold_target_is_told(asked):
    target = asked.of("test").target
    assert 0 not in target
    first_part = asked.catalogue.first_part.copy()
    first_part[target[0]] = len(PARTS)
    smaller = replace(asked, catalogue=replace(asked.catalogue, first_part=first_part))
    never = {"never": {42: np.zeros((asked.target > 0).sum(), int)}}
    assert NextItemResults(asked, never, SETTINGS).cold_share() == {"cold_share": 0, "n_cases": len(target)}
    found = NextItemResults(smaller, never, SETTINGS).cold_share()["cold_share"]
    assert found == pytest.approx((target == target[0]).mean())


def test_comparison_tells_models_and_pairs(marks):
    table = marks.comparison()
    rows = dict(zip(zip(table["model"], table["minus"], strict=True), table["value"], strict=True))
    assert rows == pytest.approx(
        {("second", ""): GAIN, ("never", ""): 0, ("second", "never"): GAIN, ("never", "second"): -GAIN}
    )
    assert (table["low"] <= table["value"] + 1e-12).all()
    assert (table["value"] <= table["high"] + 1e-12).all()


def test_seeds_are_averaged_case_by_case_and_told_apart(asked):
    n = (asked.target > 0).sum()
    marks = NextItemResults(asked, {"two": {42: np.full(n, 1), 43: np.full(n, 2)}}, SETTINGS)
    assert marks.headline("two")["ndcg@10"] == pytest.approx((1 + GAIN) / 2)
    by_seed = marks.by_seed()
    on_test = by_seed["part"] == "test"
    assert by_seed["seed"][on_test].tolist() == [42, 43]
    assert by_seed["value"][on_test] == pytest.approx([1, GAIN])
    assert (marks.on_test("two") == 1).all()


def test_days_add_up_to_the_whole(asked):
    """Half of the users are asked a day later."""
    shift = np.where(asked.cases.user_idx % 2, 0, 86_400_000)
    later = replace(asked, cases=replace(asked.cases, time_ms=asked.cases.time_ms + shift))
    rank = np.where(asked.cases.user_idx % 2, 1, 0)[asked.target > 0]
    table = NextItemResults(later, {"odd": {42: rank}}, SETTINGS).by_day()
    assert table["day"].tolist() == ["1970-01-01", "1970-01-02"]
    assert table["value"].tolist() == [1, 0]
    assert table["n"].sum() == len(later.of("test").target)


def test_per_user_values_reproduce_the_headline(asked, marks):
    rows = marks.per_user("second", 42)
    on_test = rows["part"] == "test"
    assert rows["ndcg@10"][on_test].mean() == pytest.approx(marks.headline("second")["ndcg@10"])
    assert set(rows["user_idx"][on_test]) == set(asked.of("test").cases.user_idx)


def test_ranks_are_read_by_seed(tmp_path):
    columns = {"seed": np.repeat([42, 43], 2), "case_id": np.tile([0, 1], 2), "rank": np.array([3, 0, 4, 5])}
    arrays.write(columns, tmp_path / "ranks.parquet")
    found = load_ranks(tmp_path / "ranks.parquet")
    assert {seed: rank.tolist() for seed, rank in found.items()} == {42: [3, 0], 43: [4, 5]}
