import numpy as np
import pytest

from nextreel import arrays
from nextreel.scoring import order
from nextreel.two_stage import rerank


@pytest.fixture
def favourite(cycle, blend_of, known):
    """Likes videos the more, the larger their number; all are shown alike."""
    return blend_of(cycle, known(np.arange(61.0)), known(np.ones(61), "share"))


def ranked(world, folder, blend, weight=0.0):
    """The lists and ranks of the system on the pools in pool.parquet."""
    rerank.rerank(blend, weight, world.asked, folder / "pool.parquet", folder / "system")
    return [arrays.load(folder / f"system/{kind}.parquet") for kind in ("lists", "ranks")]


def test_the_ranker_orders_the_pool_and_no_more(cycle, tmp_path, favourite):
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
    listed, marked = ranked(cycle, tmp_path, favourite)
    assert (listed["video_idx"].reshape(n, 2) == -np.sort(-first, axis=1)).all()
    assert listed["rank"].tolist() == [1, 2] * n
    assert marked["case_id"].tolist() == asked.cases.case_id[asked.target > 0].tolist()
    assert (marked["rank"] == np.where(marked["video_idx"] == 60, 1, 2)).all()


def test_a_target_outside_the_pool_is_a_miss(cycle, tmp_path, favourite):
    asked = cycle.asked
    n = len(asked.cases)
    other = np.where(asked.target == 7, 8, 7).astype(np.int32)
    pool = {"case_id": asked.cases.case_id, "video_idx": other, "rank": np.ones(n, np.int32)}
    arrays.write(pool, tmp_path / "pool.parquet")
    _listed, marked = ranked(cycle, tmp_path, favourite)
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


def test_each_part_is_ranked_by_the_fit_that_may_answer_it(cycle, tmp_path, blend_of, known):
    write_pools(cycle.asked.cases, tmp_path / "pool.parquet", [9, 3])
    even = known(np.ones(61), "share")
    by_cut = {"train_valid": (known(-np.arange(61.0)), even)}
    listed, _marked = ranked(cycle, tmp_path, blend_of(cycle, known(np.arange(61.0)), even, **by_cut))
    first = listed["video_idx"][listed["rank"] == 1]
    assert (first == np.where(cycle.asked.cases.part == "test", 3, 9)).all()


def test_exposure_counts_by_its_weight(cycle, tmp_path, blend_of, known):
    """Video 9 is liked by .5 more; video 3 is shown more often."""
    write_pools(cycle.asked.cases, tmp_path / "pool.parquet", [9, 3])
    liked, often = np.zeros(61), np.ones(61)
    liked[9], often[3] = 0.5, 3.0
    blend = blend_of(cycle, known(liked), known(often, "share"))  # r is log 4 - log 2 more, or less where 3 is seen
    for weight, first in ((0.0, 9), (0.7, 9), (0.75, 3)):
        listed, _marked = ranked(cycle, tmp_path, blend, weight)
        reference = np.exp(np.concatenate([blend.references(part, cycle.asked) for part in ("valid", "test", "next")]))
        tenth_is_one = np.isin(listed["case_id"], cycle.asked.cases.case_id[reference == 1])
        assert tenth_is_one.mean() > 0.9
        assert (listed["video_idx"][tenth_is_one & (listed["rank"] == 1)] == first).all()


def test_impressions_are_scored_like_pools(cycle, tmp_path, blend_of, known, shown_all):
    liked, often = np.random.default_rng(0).random((2, 61))
    blend, shown = blend_of(cycle, known(liked), known(often, "share")), shown_all(cycle, [9, 3, 5], [0, 0, 0]).shown
    rerank.score_shown(blend, 2.0, shown, cycle.asked, tmp_path)
    scores = arrays.load(tmp_path / "two_stage/scores.parquet")
    assert sorted(scores["impression"]) == list(range(len(shown.row)))
    write_pools(cycle.asked.cases, tmp_path / "pool.parquet", [9, 3, 5])
    listed, _marked = ranked(cycle, tmp_path, blend, 2.0)
    key = shown.cases.case_id[shown.row[scores["impression"]]] * 100 + shown.video_idx[scores["impression"]]
    of_pool = listed["case_id"] * 100 + listed["video_idx"]
    at = np.searchsorted(of_pool, key, sorter=np.argsort(of_pool))
    np.testing.assert_array_equal(listed["score"][np.argsort(of_pool)[at]], scores["score"])


def test_trees_have_tables_of_their_own_where_they_are(cycle, tmp_path, blend_of, known, shown_all):
    """Alone, and the mean of both without exposure; those of an earlier run are removed."""
    liked, grown, often = np.random.default_rng(0).random((3, 61)).astype(np.float32)
    shown = shown_all(cycle, [9, 3, 5], [0, 0, 0]).shown
    two = known(liked), known(often, "share")
    rerank.score_shown(blend_of(cycle, *two, known(grown)), 2.0, shown, cycle.asked, tmp_path)
    found = {name: arrays.load(tmp_path / name / "scores.parquet") for name in ("two_stage", "trees", "ranker")}
    video_idx = shown.video_idx[found["trees"]["impression"]]
    np.testing.assert_array_equal(found["trees"]["score"], grown[video_idx])
    mean = (liked.astype(float) + grown) / 2
    np.testing.assert_array_equal(found["ranker"]["score"], mean[video_idx].astype(np.float32))
    assert (found["two_stage"]["score"] > found["ranker"]["score"]).any()
    rerank.score_shown(blend_of(cycle, *two), 2.0, shown, cycle.asked, tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        *("ranker", "trees", "two_stage", "two_stage/scores.parquet"),
    ]


@pytest.mark.parametrize("left_out", ["all", "valid"])
def test_cases_without_a_candidate_are_misses(cycle, tmp_path, left_out, favourite):
    """No channel has one for a whole part, or for anybody."""
    cases = cycle.asked.cases
    keep = cases.part != left_out if left_out != "all" else np.zeros(len(cases), bool)
    write_pools(cases.where(keep), tmp_path / "pool.parquet", [9, 3])
    listed, marked = ranked(cycle, tmp_path, favourite)
    assert set(listed["case_id"]) == set(cases.case_id[keep])
    missing = ~np.isin(marked["case_id"], cases.case_id[keep])
    assert (marked["rank"][missing] == order.MISS).all()
