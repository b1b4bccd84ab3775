from nextreel.datasets import where_sought


def test_a_relative_path_is_said_to_be_sought_in_the_copy_that_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hint = where_sought("logs/mine.csv")
    assert hint.startswith(f"; a relative path is sought in {tmp_path}, ")
    assert "`dvc exp run --temp` and `--queue` run in a copy that holds only what git tracks" in hint
    assert hint.endswith("give an absolute path")
    assert where_sought("~/mine.csv") == hint  # no shell has read it


def test_an_absolute_path_needs_no_hint(tmp_path):
    assert where_sought(str(tmp_path / "mine.csv")) == ""
