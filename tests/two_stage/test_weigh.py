from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nextreel import arrays
from nextreel.metrics import ranks
from nextreel.scoring import order, sets
from nextreel.two_stage import rerank, weigh

N = 61
SETTINGS = weigh.Params(model="liker", trees=None, exposure="shower", weight=None, floor=0.95, n_recommendations=5)


def test_the_weight_of_the_highest_gauc_above_the_floor():
    front = {"ndcg@10": np.array([0.1, 0.2, 0.3, 0.4]), "gauc": np.array([0.9, 0.7, 0.8, 0.8])}
    assert weigh.chosen(front, 0.0) == 0
    assert weigh.chosen(front, 0.15) == 2  # the smaller weight of two that are alike
    assert weigh.chosen(front, 0.35) == 3


def test_where_no_weight_reaches_the_floor_the_best_ndcg_is_taken():
    front = {"ndcg@10": np.array([0.1, 0.3, 0.2]), "gauc": np.array([0.9, 0.7, 0.8])}
    assert weigh.chosen(front, 0.5) == 1


def pools_of(world, path, seed=0):
    """20 candidates a case; most pools hold the target."""
    rng, cases, target = np.random.default_rng(seed), world.asked.cases, world.asked.target
    rows = []
    for i in range(len(cases)):
        videos = rng.permutation(np.arange(1, N))[:20]
        if target[i] and i % 4 and target[i] not in videos:
            videos[rng.integers(20)] = target[i]
        rows.append(videos)
    pool = {
        "case_id": np.repeat(cases.case_id, 20),
        "video_idx": np.concatenate(rows).astype(np.int32),
        "rank": np.tile(np.arange(1, 21, dtype=np.int32), len(cases)),
    }
    arrays.write(pool, path)
    return path


@pytest.fixture
def valid_of(shown_all, tmp_path):
    """Impressions of valid with labels that the ranker half knows."""

    def make(world, score, n_liked=20):
        case = shown_all(world, np.arange(1, N), np.zeros(N - 1))
        at = np.flatnonzero(case.shown.cases.part[case.shown.row] == "valid")
        rng = np.random.default_rng(1)
        noisy = score[case.shown.video_idx[at]] + rng.standard_normal(len(at))
        label = noisy > np.quantile(noisy, 1 - n_liked / N) if n_liked else np.zeros(len(at), bool)
        arrays.write({"impression": at, "label": label}, tmp_path / "valid_outcomes.parquet")
        return weigh.Labelled.load(tmp_path, case.shown)

    return make


@pytest.fixture
def two(known):
    """A ranker and a model of exposure, each with scores of its own."""
    rng = np.random.default_rng(3)
    return known(np.round(rng.standard_normal(N), 1)), known(np.round(rng.gamma(1, 1, N), 1), "share")


def test_the_front_is_what_the_stage_then_answers(cycle, blend_of, two, valid_of, tmp_path):
    """NDCG@10 of each weight by ordering the pools for real, GAUC by scikit-learn's AUC of each case."""
    blend, valid = blend_of(cycle, *two), valid_of(cycle, two[0].of_video)
    candidates = pools_of(cycle, tmp_path / "pool.parquet")
    found = weigh.front(blend, cycle.asked, candidates, valid, np.array([0.0, 0.5, 8.0]))
    for at, weight in enumerate(found["weight"]):
        rerank.rerank(blend, weight, cycle.asked, candidates, tmp_path / "system")
        ranked = arrays.load(tmp_path / "system/ranks.parquet")
        mine = np.isin(ranked["case_id"], cycle.cases("valid").case_id)
        assert found["ndcg@10"][at] == pytest.approx(ranks.ndcg(ranked["rank"][mine], 10).mean())
        rerank.score_shown(blend, weight, valid.shown, cycle.asked, tmp_path)
        scores = arrays.load(tmp_path / "two_stage/scores.parquet")
        score = np.full(len(valid.shown.row), np.nan)
        score[scores["impression"]] = scores["score"]
        case = valid.shown.row[valid.at]
        of_case = [case == i for i in np.unique(case)]
        aucs = [roc_auc_score(valid.label[i], score[valid.at][i]) for i in of_case if 0 < valid.label[i].sum() < 60]
        assert found["gauc"][at] == pytest.approx(np.mean(aucs))  # every case has 60 rows
    assert len(set(found["ndcg@10"])) == len(set(found["gauc"])) == 3


def ranks_of(world, path, rank):
    ids = world.asked.where(world.asked.cases.part != "next").cases.case_id
    seed = np.repeat([42, 43], len(ids))
    both = np.concatenate([np.full(len(ids), rank), np.ones(len(ids))]).astype(np.int32)
    arrays.write({"seed": seed, "case_id": np.tile(ids, 2), "rank": both}, path)


def weighed(world, blend, valid, tmp_path, settings=SETTINGS, rank=4):
    (tmp_path / "ranks").mkdir(exist_ok=True)
    ranks_of(world, tmp_path / "ranks/good.parquet", rank)
    ranks_of(world, tmp_path / "ranks/bad.parquet", 9)
    candidates = pools_of(world, tmp_path / "pool.parquet")
    return weigh.weigh(blend, world.asked, candidates, valid, settings, tmp_path, ["bad", "good"])


def test_the_floor_is_a_share_of_the_best_single_model(cycle, blend_of, two, valid_of, tmp_path):
    """Rank 4 everywhere: NDCG@10 = 1 / log2(5); another seed's ranks do not count."""
    valid = valid_of(cycle, two[0].of_video)
    found = weighed(cycle, blend_of(cycle, *two), valid, tmp_path)
    assert found.about["best_single"] == "good"
    assert found.about["best_single_valid_ndcg@10"] == pytest.approx(1 / np.log2(5))
    assert found.about["floor_met"] is False
    line = found.chart["ndcg@10"][found.chart["model"] == "floor"]
    assert line == pytest.approx(np.full(2, 0.95 / np.log2(5)))
    low = weighed(cycle, blend_of(cycle, *two), valid, tmp_path, SETTINGS.model_copy(update={"floor": 0.0}))
    assert low.about["floor_met"] is True
    assert low.about["valid_gauc"] == pytest.approx(low.chart["gauc"][low.chart["model"] == "by weight"].max())
    assert low.weight in weigh.WEIGHTS


def test_trees_are_named_where_they_are(cycle, blend_of, two, valid_of, tmp_path):
    valid, with_trees = valid_of(cycle, two[0].of_video), SETTINGS.model_copy(update={"trees": "lambdarank"})
    alone = weighed(cycle, blend_of(cycle, *two), valid, tmp_path)
    found = weighed(cycle, blend_of(cycle, *two, two[0]), valid, tmp_path, with_trees)
    assert found.about == alone.about | {"trees": "lambdarank"}  # the mean of two that are alike is each of them
    assert list(found.about)[:3] == ["ranker", "trees", "exposure"]
    assert "trees" not in alone.about


def test_a_given_weight_is_taken(cycle, blend_of, two, valid_of, tmp_path):
    given = SETTINGS.model_copy(update={"weight": 3.5})
    found = weighed(cycle, blend_of(cycle, *two), valid_of(cycle, two[0].of_video), tmp_path, given)
    assert (found.weight, found.about["weight_from"]) == (3.5, "rank.weight")


def test_without_both_classes_on_valid_the_ranker_s_score_stands_alone(cycle, blend_of, two, valid_of, tmp_path):
    valid = valid_of(cycle, two[0].of_video, n_liked=0)
    found = weighed(cycle, blend_of(cycle, *two), valid, tmp_path)
    assert (found.weight, found.blend.rankers[0].slope) == (0, 1)
    assert found.about["weight_from"] == "no impressions of both classes on valid: the ranker's score alone"
    assert {name: len(values) for name, values in found.chart.items()} == {"model": 0, "ndcg@10": 0, "gauc": 0}


def test_unknown_labels_teach_nothing(cycle, shown_all, tmp_path):
    import pyarrow as pa

    case = shown_all(cycle, [5, 6, 7], [1, 0, 1])
    at = np.flatnonzero(case.shown.cases.part[case.shown.row] == "valid")[:3]
    arrays.write({"impression": at, "label": pa.array([True, None, False])}, tmp_path / "valid_outcomes.parquet")
    found = weigh.Labelled.load(tmp_path, case.shown)
    assert found.at.tolist() == at[[0, 2]].tolist()
    assert found.label.tolist() == [True, False]


@pytest.mark.parametrize(("most", "kept"), [(120, 2), (119, 1), (5, 1)])
def test_whole_cases_are_kept_from_the_first_on(cycle, valid_of, two, monkeypatch, most, kept):
    """60 rows each; the first case is kept, however long."""
    monkeypatch.setattr(sets, "MOST_ROWS", most)
    assert valid_of(cycle, two[0].of_video).at.tolist() == list(range(60 * kept))


def test_what_comes_after_valid_changes_no_weight(cycle, blend_of, two, valid_of, tmp_path):
    """Targets of test, and everything that test's fit thinks."""
    valid = valid_of(cycle, two[0].of_video)
    before = weighed(cycle, blend_of(cycle, *two), valid, tmp_path)
    on_test = cycle.asked.cases.part == "test"
    spoilt = replace(cycle.asked, target=np.where(on_test, 1, cycle.asked.target))
    other = blend_of(cycle, *two, train_valid=(two[1], two[0]))
    after = weighed(replace(cycle, asked=spoilt), other, valid, tmp_path)
    assert after.about == before.about


def test_a_planted_leak_would_move_the_weight(cycle, blend_of, two, valid_of, tmp_path, monkeypatch):
    """The detector above catches a stage that looks at test's targets."""
    valid = valid_of(cycle, two[0].of_video)
    monkeypatch.setattr(weigh, "pools", lambda path, asked, _part, doing: rerank.pools(path, asked, "test", doing))
    spoilt = replace(cycle.asked, target=np.where(cycle.asked.cases.part == "test", 1, cycle.asked.target))
    about = [
        weighed(replace(cycle, asked=asked), blend_of(cycle, *two), valid, tmp_path).about
        for asked in (cycle.asked, spoilt)
    ]
    assert about[0]["valid_ndcg@10"] != about[1]["valid_ndcg@10"]


def test_ties_in_the_pool_fall_as_in_the_stage_s_lists(cycle, blend_of, known, valid_of, tmp_path):
    """All scores alike: the pool's own order stands."""
    blend = blend_of(cycle, known(np.zeros(N)), known(np.ones(N), "share"))
    candidates = pools_of(cycle, tmp_path / "pool.parquet")
    found = weigh.front(blend, cycle.asked, candidates, valid_of(cycle, np.zeros(N)), np.array([0.0]))
    rerank.rerank(blend, 0.0, cycle.asked, candidates, tmp_path / "system")
    ranked = arrays.load(tmp_path / "system/ranks.parquet")
    mine = np.isin(ranked["case_id"], cycle.cases("valid").case_id)
    assert found["ndcg@10"][0] == pytest.approx(ranks.ndcg(ranked["rank"][mine], 10).mean())
    assert (ranked["rank"] == order.MISS).any()
    listed, pool = (arrays.load(path) for path in (tmp_path / "system/lists.parquet", candidates))
    assert listed["video_idx"].tolist() == pool["video_idx"].tolist()
