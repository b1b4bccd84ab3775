import numpy as np

from nextreel import arrays
from nextreel.cases.protocols import QUESTIONS
from nextreel.scoring import order
from nextreel.two_stage import rerank


class Favourite:
    """Likes videos the more, the larger their number."""

    def score(self, cases, histories, video_idx):
        return np.broadcast_to(video_idx.astype(np.float32), (len(cases), video_idx.shape[-1])).copy()


def test_the_ranker_orders_the_pool_and_no_more(cycle, tmp_path):
    """Every pool holds the case's target and video 60; a target is ranked by its place among the two."""
    n = len(cycle.cases)
    target = np.where(cycle.target > 0, cycle.target, 1)
    first = np.stack([target, np.full(n, 60)], 1)
    first[target == 60, 1] = 59
    arrays.write(
        {
            "case_id": np.repeat(cycle.cases.case_id, 2),
            "video_idx": first.ravel().astype(np.int32),
            "rank": np.tile(np.array([1, 2], np.int32), n),
        },
        tmp_path / "pool.parquet",
    )
    lists, ranks = tmp_path / "lists.parquet", tmp_path / "ranks.parquet"
    rerank.rerank(dict.fromkeys(QUESTIONS, Favourite()), "favourite", cycle, tmp_path / "pool.parquet", lists, ranks)
    listed, marked = arrays.load(lists), arrays.load(ranks)
    assert (listed["video_idx"].reshape(n, 2) == -np.sort(-first, axis=1)).all()
    assert listed["rank"].tolist() == [1, 2] * n
    assert marked["case_id"].tolist() == cycle.cases.case_id[cycle.target > 0].tolist()
    assert (marked["rank"] == np.where(marked["video_idx"] == 60, 1, 2)).all()


def test_a_target_outside_the_pool_is_a_miss(cycle, tmp_path):
    n = len(cycle.cases)
    other = np.where(cycle.target == 7, 8, 7).astype(np.int32)
    pool = {"case_id": cycle.cases.case_id, "video_idx": other, "rank": np.ones(n, np.int32)}
    arrays.write(pool, tmp_path / "pool.parquet")
    lists, ranks = tmp_path / "lists.parquet", tmp_path / "ranks.parquet"
    rerank.rerank(dict.fromkeys(QUESTIONS, Favourite()), "f", cycle, tmp_path / "pool.parquet", lists, ranks)
    assert (arrays.load(ranks)["rank"] == order.MISS).all()
