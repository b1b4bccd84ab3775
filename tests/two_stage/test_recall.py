import numpy as np

from nextreel.two_stage import recall


def test_recall_by_part(cycle):
    asked = cycle.asked
    rank = np.where(asked.cases.part == "test", 60, 500)
    found = recall.summary(asked, {"itemcf": rank}, pool_size=500)
    assert found["itemcf_recall@50"] == 0
    assert found["itemcf_recall@100"] == 1
    assert found["valid_itemcf_recall@200"] == 0
    assert found["valid_itemcf_recall@500"] == 1


def test_the_fused_pool_has_no_recall_beyond_its_size(cycle):
    asked = cycle.asked
    rank = np.where(asked.cases.part == "test", 60, 1)
    found = {size: recall.summary(asked, {"itemcf": rank, "fused": rank}, size) for size in (500, 199, 20)}
    fused = {size: [key for key in keys if "fused" in key] for size, keys in found.items()}
    assert fused[500] == [f"{prefix}fused_recall@{k}" for prefix in ("", "valid_") for k in recall.KS]
    assert fused[199] == [f"{prefix}fused_recall@{k}" for prefix in ("", "valid_") for k in (50, 100)]
    assert fused[20] == []
    assert all(found[500][key] == value for size in (199, 20) for key, value in found[size].items())
    assert len(found[20]) == 2 * len(recall.KS)  # the channel's own lists are longer


def test_the_recall_chart_ends_the_fused_line_at_the_pool(cycle):
    asked = cycle.asked
    rank = np.where(asked.cases.part == "test", 60, 1)
    lines = recall.chart(asked, {"itemcf": rank, "fused": rank}, pool_size=100)
    points = list(zip(*(lines[name].tolist() for name in ("model", "k", "recall")), strict=True))
    assert points[2:5] == [("itemcf", 50, 0), ("itemcf", 100, 1), ("itemcf", 200, 1)]
    assert points[6:] == [("fused", 10, 0), ("fused", 20, 0), ("fused", 50, 0), ("fused", 100, 1)]
