from dataclasses import replace

import numpy as np
import pytest

from nextreel import arrays, evaluation, systems
from nextreel.evaluation import pool_size
from nextreel.evaluation.next_item import NextItemResults

CASES = np.array([3, 8])


def columns(rows):
    case_id, video_idx, rank = (np.array(column) for column in zip(*rows, strict=True))
    return {"case_id": case_id, "video_idx": video_idx, "rank": rank}


# The channels' order, and the ranker's: it puts the last of the pool first.
POOL = columns([(3, 10, 1), (3, 11, 2), (3, 12, 3), (8, 10, 1), (8, 13, 2)])
RANKED = columns([(3, 12, 1), (3, 10, 2), (3, 11, 3), (8, 13, 1), (8, 10, 2)])


def test_ranks_among_the_first_of_the_pool_by_hand():
    found = pool_size.ranks_by_pool_size(POOL, RANKED, CASES, np.array([11, 10]), [1, 2, 3])
    assert {k: rank.tolist() for k, rank in found.items()} == {1: [0, 1], 2: [2, 2], 3: [3, 2]}


def test_the_chart_has_a_level_line_for_the_whole_catalogue():
    table = {
        "pool_size": np.array(["10", "50", pool_size.WHOLE]),
        "ndcg@10": np.array([0.1, 0.2, 0.25]),
    }
    chart = pool_size.chart(table)
    assert chart["model"].tolist() == ["two_stage"] * 2 + ["exhaustive"] * 2
    assert chart["k"].tolist() == [10, 50, 10, 50]
    assert chart["ndcg@10"].tolist() == [0.1, 0.2, 0.25, 0.25]


def test_the_table_reads_the_system_s_lists_where_they_are_written(cycle, tmp_path):
    """Pools of the target and video 60; the ranker puts the target first, the channels put it last."""
    asked = cycle.asked
    n = len(asked.cases)
    target = np.where(asked.target == 60, 59, asked.target)
    case_id = np.repeat(asked.cases.case_id, 2)
    pool = {"case_id": case_id, "video_idx": np.stack([np.full(n, 60), target], 1).ravel()}
    ranked = {"case_id": case_id, "video_idx": np.stack([target, np.full(n, 60)], 1).ravel()}
    rank = np.tile(np.array([1, 2], np.int32), n)
    arrays.write(pool | {"rank": rank}, tmp_path / "systems/pool/lists.parquet")
    arrays.write(ranked | {"rank": rank}, tmp_path / "systems/two_stage/lists.parquet")
    lists = systems.tables(tmp_path, [])["lists"]
    assert lists == {name: tmp_path / f"systems/{name}/lists.parquet" for name in ("pool", "two_stage")}
    asked = replace(asked, target=np.where(asked.target > 0, target, 0))
    whole = {pool_size.EXHAUSTIVE: {42: np.full((asked.cases.part != "next").sum(), 2)}}
    results = NextItemResults(asked, whole, evaluation.Params(confidence=0.9))
    table = pool_size.table(tmp_path, results, 20)
    assert table["pool_size"].tolist() == ["10", "20", pool_size.WHOLE]
    assert table["ceiling"].tolist() == [1, 1, 1]
    assert table["ndcg@10"] == pytest.approx([1, 1, 1 / np.log2(3)])
    without = pool_size.table(
        tmp_path, NextItemResults(asked, {"model": whole[pool_size.EXHAUSTIVE]}, results.params), 20
    )
    assert without["pool_size"].tolist() == ["10", "20"]
