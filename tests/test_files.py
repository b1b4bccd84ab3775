import json

import numpy as np
import pytest

from nextreel import files


def interrupted(path, write):
    def block():
        with files.replacing(path) as temporary:
            write(temporary)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block()


def test_a_block_that_ends_well_replaces_the_file(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "second"):
        with files.replacing(path) as temporary:
            temporary.write_text(text)
            assert temporary != path
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_block_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    interrupted(path, lambda temporary: temporary.write_text("half"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_block_leaves_nothing_where_there_was_nothing(tmp_path):
    interrupted(tmp_path / "a.txt", lambda temporary: temporary.write_text("half"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "stale").touch()

    def write(temporary):
        temporary.mkdir()
        (temporary / "fresh").touch()

    interrupted(path, write)
    assert [p.name for p in path.iterdir()] == ["stale"]
    with files.replacing(path) as temporary:
        write(temporary)
    assert [p.name for p in path.iterdir()] == ["fresh"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), files.replacing(path):
        pass
    assert path.read_text() == "old"


def test_remove_takes_files_folders_and_nothing(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("folder", "file", "absent"):
        files.remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_remove_takes_a_link_and_not_what_it_points_to(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    files.remove(tmp_path / "link")
    assert list(tmp_path.iterdir()) == [target]


def test_json_is_rounded_and_read_back(tmp_path):
    path = tmp_path / "deep" / "m.json"
    files.write_json(path, {"ndcg@10": 0.123456789, "n": 3, "day": "2022-04-08", "share": np.float64(2 / 3)})
    assert path.read_text().endswith("}\n")
    assert files.read_json(path) == {"ndcg@10": 0.12346, "n": 3, "day": "2022-04-08", "share": 0.66667}
    assert list(json.loads(path.read_text())) == ["ndcg@10", "n", "day", "share"]


def test_json_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "m.json"
    files.write_json(path, {"n": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"n": object()})
    assert files.read_json(path) == {"n": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_csv_has_fixed_digits(tmp_path):
    path = tmp_path / "c.csv"
    files.write_csv(path, {"k": np.array([1, 2]), "name": np.array(["a", "b,c"]), "x": np.array([1 / 3, 2.0])})
    assert path.read_bytes() == b'k,name,x\n1,a,0.33333\n2,"b,c",2.00000\n'


def test_csv_columns_of_different_length_are_refused(tmp_path):
    path = tmp_path / "c.csv"
    with pytest.raises(ValueError, match="shorter"):
        files.write_csv(path, {"a": np.arange(2), "b": np.arange(1)})
    assert list(tmp_path.iterdir()) == []
