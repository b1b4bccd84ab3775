import numpy as np

from nextreel.evaluation import pool_size

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
    chart = pool_size.chart(table, "sasrec")
    assert chart["k"].tolist() == [10, 50, 10, 50]
    assert chart["ndcg@10"].tolist() == [0.1, 0.2, 0.25, 0.25]
