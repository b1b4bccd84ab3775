import numpy as np
import pytest

from nextreel.scoring import order
from nextreel.two_stage import fusion


def entries(rows):
    case_id, video_idx, score, rank = (np.array(column) for column in zip(*rows, strict=True))
    return {"case_id": case_id, "video_idx": video_idx, "score": score, "rank": rank}


def tie(case_id, video_idx):
    return order.tie_hash(case_id.astype(np.uint64), video_idx)


LISTS = {
    "a": entries([(7, 10, 3.0, 1), (7, 11, 2.0, 2), (8, 12, 1.0, 1)]),
    "b": entries([(7, 11, 9.0, 1), (7, 13, 8.0, 2)]),
}


def test_reciprocal_ranks_by_hand():
    pool = fusion.fuse(LISTS, 10, tie)
    assert pool["case_id"].tolist() == [7, 7, 7, 8]
    assert pool["video_idx"].tolist() == [11, 10, 13, 12]
    assert pool["rank"].tolist() == [1, 2, 3, 1]
    assert pool["score"] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 61])
    assert pool["rank_a"].tolist() == [2, 1, 0, 1]
    assert pool["rank_b"].tolist() == [1, 0, 2, 0]
    assert np.isnan(pool["score_b"]).tolist() == [False, True, False, True]


def test_the_pool_is_cut_per_case():
    pool = fusion.fuse(LISTS, 1, tie)
    assert pool["video_idx"].tolist() == [11, 12]


def test_order_of_channels_does_not_matter():
    forth, back = (fusion.fuse(dict(items), 10, tie) for items in (LISTS.items(), reversed(LISTS.items())))
    assert forth["video_idx"].tolist() == back["video_idx"].tolist()


def test_fusing_one_list_keeps_its_order():
    pool = fusion.fuse({"a": LISTS["a"]}, 10, tie)
    assert pool["video_idx"].tolist() == [10, 11, 12]


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
    fusion.forget_others(tmp_path, {"itemcf", "sasrec"})
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
    assert not (tmp_path / "data/models/bpr").exists()


def test_nothing_stale_is_no_error(tmp_path):
    fusion.forget_others(tmp_path, {"itemcf", "sasrec"})
