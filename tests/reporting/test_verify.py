import json

from nextreel.reporting import verify


def write(folder, ndcg, low="0.01"):
    (folder / "models").mkdir(parents=True)
    (folder / "models/sasrec.json").write_text(json.dumps({"ndcg@10": ndcg, "n_cases": 7}))
    (folder / "comparison.csv").write_text(f"model,minus,low\nsasrec,,{low}\nsasrec,itemcf,0.5\n")


def test_every_value_has_its_own_name(tmp_path):
    write(tmp_path, 0.04)
    assert verify.values(tmp_path) == {
        "models/sasrec.json ndcg@10": 0.04,
        "models/sasrec.json n_cases": 7,
        "comparison.csv row 1 sasrec low": 0.01,
        "comparison.csv row 2 sasrec itemcf low": 0.5,
    }


def test_differences_are_those_beyond_the_tolerance(tmp_path):
    write(tmp_path / "a", 0.04)
    write(tmp_path / "b", 0.0419, low="0.0121")
    found = verify.differences(verify.values(tmp_path / "a"), verify.values(tmp_path / "b"))
    assert found == ["comparison.csv row 1 sasrec low: 0.01 committed, 0.0121 now, +0.00210"]


def test_what_is_gone_new_or_no_number_is_told():
    before = {"split.json strategy": "temporal", "a": 1, "b": 2.0}
    after = {"split.json strategy": "leave_one_out", "a": 1.0, "c": 2}
    assert verify.differences(before, after) == [
        "b: 2.0 committed, None now",
        "c: None committed, 2 now",
        "split.json strategy: temporal committed, leave_one_out now",
    ]
