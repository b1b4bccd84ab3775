import json
from math import nan, sqrt

import pytest
from scipy import stats

from nextreel.reporting import readme, worlds_table
from nextreel.reporting.worlds_table import COLUMNS, Cell, Made

MADE = Made("abc", 3)


def cell(world, model, **values):
    known = {name.replace("ndcg", "ndcg@10"): value for name, value in values.items()}
    return Cell(world, model, dict.fromkeys(COLUMNS, nan) | known)


THREE = [
    *(cell(42, "sasrec", ndcg=0.1), cell(43, "sasrec", ndcg=0.2), cell(44, "sasrec", ndcg=0.6)),
    *(cell(42, "rates", ndcg=0.1, gauc=0.7), cell(43, "rates", ndcg=0.3, gauc=0.6), cell(44, "rates", ndcg=0.5)),
    *(cell(world, "oracle_laws", ndcg=0.9) for world in (42, 43, 44)),
]


def test_means_intervals_and_leads_by_hand():
    """sasrec .1, .2, .6: mean .3, variance ((.2)² + (.1)² + (.3)²) / 2 = .07; rates .1, .3, .5: mean .3, variance
    .04. In world 42 they share the lead, 43 is rates', 44 sasrec's; the ceiling leads nowhere."""
    found = worlds_table.summary(THREE, "ndcg@10", 0.95)
    assert list(found) == ["oracle_laws", "rates", "sasrec"]
    for model, variance in (("sasrec", 0.07), ("rates", 0.04)):
        reach = 4.302653 * sqrt(variance / 3)  # t of two degrees of freedom
        assert found[model][:3] == pytest.approx((0.3, 0.3 - reach, 0.3 + reach))
    assert stats.t.ppf(0.975, 2) == pytest.approx(4.302653)
    assert {model: over.leads for model, over in found.items()} == {"oracle_laws": 0, "rates": 2, "sasrec": 2}
    assert found["oracle_laws"].low == pytest.approx(0.9)


def test_a_system_without_a_metric_is_left_out_and_one_world_has_no_interval():
    found = worlds_table.summary(THREE, "gauc", 0.95)
    assert list(found) == ["rates"]
    assert found["rates"].leads == 2
    assert str(worlds_table.summary(THREE[:1], "ndcg@10", 0.95)["sasrec"].low) == "nan"


def test_cells_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "worlds.csv"
    worlds_table.write(path, MADE, THREE)
    (made, cells), *others = worlds_table.read(path).items()
    assert made == MADE
    assert others == []
    for found, written in zip(cells, sorted(THREE, key=lambda c: (c.world, c.model)), strict=True):
        assert (found.world, found.model) == (written.world, written.model)
        assert found.values == pytest.approx(written.values, nan_ok=True)


def test_cells_are_the_metrics_of_a_run(root, tmp_path):
    cells = worlds_table.collect(7, root / "metrics")
    assert [c.model for c in cells] == sorted(path.stem for path in (root / "metrics/models").glob("*.json"))
    for folder, key, column in (
        ("models", "ndcg@10", "ndcg@10"),
        ("impressions", "gauc", "gauc"),
        ("random", "auc", "auc_random"),
    ):
        found = json.loads((root / f"metrics/{folder}/sasrec.json").read_text())
        (mine,) = [c for c in cells if c.model == "sasrec"]
        assert mine.values[column] == found[key]
    (tmp_path / "models").mkdir()
    (tmp_path / "models/two_stage.json").write_text('{"ndcg@10": null, "hr@10": 0.5}')
    (alone,) = worlds_table.collect(7, tmp_path)
    assert alone.values == pytest.approx(dict.fromkeys(COLUMNS, nan) | {"hr@10": 0.5}, nan_ok=True)


def test_readme_says_what_the_worlds_say():
    table = readme.worlds({MADE: THREE}, "abc", 0.95).splitlines()
    assert table[0] == "| model | ndcg@10 | 95 % interval | gauc | 95 % interval |"
    assert table[2] == "| oracle_laws | 0.9000 | 0.9000 to 0.9000 | - | - |"
    assert table[3].startswith("| rates | 0.3000 | ")
    assert table[-1] == (
        "3 worlds (`simulate.seed` 42, 43, 44), `model.seeds` 3."
        " Who leads, by ndcg@10: rates in 2, sasrec in 2; by gauc: rates in 2."
    )
    assert "3, run before the tables above. Who" in readme.worlds({MADE: THREE}, "another", 0.95)


def test_without_worlds_the_table_is_empty():
    assert readme.worlds({}, "abc", 0.95) == ""
