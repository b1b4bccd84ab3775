import numpy as np

from nextreel import answers, engine, ranking
from nextreel.cases import QUESTIONS
from nextreel.exam import blocks


def test_stale_outputs_of_models_no_longer_named_are_removed(tmp_path):
    kept = [
        "data/lists/itemcf.parquet",
        "data/models/sasrec/weights",
        "data/tables/bpr.parquet",
        "plots/curves/sasrec.csv",
    ]
    stale = ["data/lists/bpr.parquet", "data/ranks/bpr.parquet", "data/models/bpr/weights", "plots/curves/sasrec2.csv"]
    for name in kept + stale:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    answers.forget_others(tmp_path, {"itemcf", "sasrec"})
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
    assert not (tmp_path / "data/models/bpr").exists()


def test_nothing_stale_is_no_error(tmp_path):
    answers.forget_others(tmp_path, {"itemcf", "sasrec"})


class Favourite:
    """Likes videos the more, the larger their number."""

    def score(self, cases, histories, video_idx):
        return np.broadcast_to(video_idx.astype(np.float32), (len(cases), video_idx.shape[-1])).copy()


class Rough:
    """Scores that are rounded and -inf here and there, in bounds that say little."""

    def __init__(self):
        self.asked = 0

    def score(self, cases, histories, video_idx):
        noise = ranking.tie_hash(cases.case_id.astype(np.uint64)[:, None], video_idx[None]) % np.uint64(40)
        self.asked += noise.size
        return np.where(noise < 3, -np.inf, -noise.astype(np.float32))

    def bounds(self, cases, histories, video_idx):
        scores = self.score(cases, histories, video_idx)
        self.asked -= scores.size
        return np.where(video_idx % 11 == 0, -1, scores + video_idx % 4).astype(np.float32)


def test_scores_with_bounds_are_answered_as_if_all_were_scored(cycle):
    class Whole:
        score = Rough().score

    rough = Rough()
    for part in ("valid", "test"):
        for bounded, whole in zip(blocks(rough, cycle, part, "", 3), blocks(Whole(), cycle, part, ""), strict=True):
            assert bounded.target_ranks().tolist() == whole.target_ranks().tolist()
            (listed, wanted) = (block.top_k(3) for block in (bounded, whole))
            assert all((listed[name] == wanted[name]).all() for name in wanted)
    assert 0 < rough.asked < 0.9 * sum(len(cycle.of(part).cases) * 60 for part in ("valid", "test"))


def test_the_ranker_orders_the_pool_and_no_more(cycle, tmp_path):
    """Every pool holds the case's target and video 60; a target is ranked by its place among the two."""
    n = len(cycle.cases)
    target = np.where(cycle.target > 0, cycle.target, 1)
    first = np.stack([target, np.full(n, 60)], 1)
    first[target == 60, 1] = 59
    engine.write_arrays(
        {
            "case_id": np.repeat(cycle.cases.case_id, 2),
            "video_idx": first.ravel().astype(np.int32),
            "rank": np.tile(np.array([1, 2], np.int32), n),
        },
        tmp_path / "pool.parquet",
    )
    lists, ranks = tmp_path / "lists.parquet", tmp_path / "ranks.parquet"
    answers.rerank(dict.fromkeys(QUESTIONS, Favourite()), "favourite", cycle, tmp_path / "pool.parquet", lists, ranks)
    listed, marked = engine.load(lists), engine.load(ranks)
    assert (listed["video_idx"].reshape(n, 2) == -np.sort(-first, axis=1)).all()
    assert listed["rank"].tolist() == [1, 2] * n
    assert marked["case_id"].tolist() == cycle.cases.case_id[cycle.target > 0].tolist()
    assert (marked["rank"] == np.where(marked["video_idx"] == 60, 1, 2)).all()


def test_a_target_outside_the_pool_is_a_miss(cycle, tmp_path):
    n = len(cycle.cases)
    other = np.where(cycle.target == 7, 8, 7).astype(np.int32)
    pool = {"case_id": cycle.cases.case_id, "video_idx": other, "rank": np.ones(n, np.int32)}
    engine.write_arrays(pool, tmp_path / "pool.parquet")
    lists, ranks = tmp_path / "lists.parquet", tmp_path / "ranks.parquet"
    answers.rerank(dict.fromkeys(QUESTIONS, Favourite()), "f", cycle, tmp_path / "pool.parquet", lists, ranks)
    assert (engine.load(ranks)["rank"] == ranking.MISS).all()
