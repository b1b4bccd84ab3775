import numpy as np
import pytest

from nextreel import arrays
from nextreel.contract import Training
from nextreel.models import most_popular
from nextreel.scoring import order
from nextreel.two_stage import rerank


class Favourite:
    """Likes videos the more, the larger their number."""

    def score(self, pairs):
        return pairs.video_idx.astype(np.float32)


def ranked(scorer, world, folder, **by_cut):
    """The lists and ranks of the system on the pools in pool.parquet; one scorer is fitted on train."""
    fitted = {"train": scorer} | by_cut
    rerank.rerank(fitted, "ranker", world.store, world.asked, folder / "pool.parquet", folder / "system")
    return [arrays.load(folder / f"system/{kind}.parquet") for kind in ("lists", "ranks")]


def test_the_ranker_orders_the_pool_and_no_more(cycle, tmp_path):
    """Every pool holds the case's target and video 60; a target is ranked by its place among the two."""
    asked = cycle.asked
    n = len(asked.cases)
    target = np.where(asked.target > 0, asked.target, 1)
    first = np.stack([target, np.full(n, 60)], 1)
    first[target == 60, 1] = 59
    arrays.write(
        {
            "case_id": np.repeat(asked.cases.case_id, 2),
            "video_idx": first.ravel().astype(np.int32),
            "rank": np.tile(np.array([1, 2], np.int32), n),
        },
        tmp_path / "pool.parquet",
    )
    listed, marked = ranked(Favourite(), cycle, tmp_path)
    assert (listed["video_idx"].reshape(n, 2) == -np.sort(-first, axis=1)).all()
    assert listed["rank"].tolist() == [1, 2] * n
    assert marked["case_id"].tolist() == asked.cases.case_id[asked.target > 0].tolist()
    assert (marked["rank"] == np.where(marked["video_idx"] == 60, 1, 2)).all()


def test_a_target_outside_the_pool_is_a_miss(cycle, tmp_path):
    asked = cycle.asked
    n = len(asked.cases)
    other = np.where(asked.target == 7, 8, 7).astype(np.int32)
    pool = {"case_id": asked.cases.case_id, "video_idx": other, "rank": np.ones(n, np.int32)}
    arrays.write(pool, tmp_path / "pool.parquet")
    _listed, marked = ranked(Favourite(), cycle, tmp_path)
    assert (marked["rank"] == order.MISS).all()


def write_pools(cases, path, videos):
    """The same pool for all of these cases."""
    n = len(cases)
    pool = {
        "case_id": np.repeat(cases.case_id, len(videos)),
        "video_idx": np.tile(np.array(videos, np.int32), n),
        "rank": np.tile(np.arange(1, len(videos) + 1, dtype=np.int32), n),
    }
    arrays.write(pool, path)


class NoOpinion:
    def score(self, pairs):
        return np.full(len(pairs), -np.inf, np.float32)


def test_without_an_opinion_the_pool_s_own_order_stands(cycle, tmp_path):
    write_pools(cycle.asked.cases, tmp_path / "pool.parquet", [9, 3, 50, 1])
    listed, _marked = ranked(NoOpinion(), cycle, tmp_path)
    assert listed["video_idx"].reshape(-1, 4).tolist() == [[9, 3, 50, 1]] * len(cycle.asked.cases)


class Aloof(Favourite):
    def score(self, pairs):
        return -super().score(pairs)


def test_each_part_is_ranked_by_the_fit_that_may_answer_it(cycle, tmp_path):
    write_pools(cycle.asked.cases, tmp_path / "pool.parquet", [9, 3])
    listed, _marked = ranked(Favourite(), cycle, tmp_path, train_valid=Aloof())
    first = listed["video_idx"][listed["rank"] == 1]
    assert (first == np.where(cycle.asked.cases.part == "valid", 9, 3)).all()


@pytest.mark.parametrize("left_out", ["all", "valid"])
def test_cases_without_a_candidate_are_misses(cycle, tmp_path, left_out):
    """No channel has one for a whole part, or for anybody."""
    cases = cycle.asked.cases
    keep = cases.part != left_out if left_out != "all" else np.zeros(len(cases), bool)
    write_pools(cases.where(keep), tmp_path / "pool.parquet", [9, 3])
    model = most_popular.Model.fit(most_popular.Params(), Training(cycle.store.fitted_on("train"), None))
    listed, marked = ranked(model, cycle, tmp_path)
    assert set(listed["case_id"]) == set(cases.case_id[keep])
    missing = ~np.isin(marked["case_id"], cases.case_id[keep])
    assert (marked["rank"][missing] == order.MISS).all()
