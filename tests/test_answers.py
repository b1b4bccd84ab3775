from nextreel import answers


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
