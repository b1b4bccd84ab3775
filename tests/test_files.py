import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nextreel import files
from nextreel.errors import UserError


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


@pytest.fixture
def full_disk(monkeypatch):
    def refuse(_file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)


def test_a_full_disk_is_told_whatever_the_library_says(tmp_path, full_disk):
    with pytest.raises(OSError, match="No space left on device") as caught, files.replacing(tmp_path / "made"):
        raise RuntimeError("unexpected pos 576 vs 534")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "made"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [UserError("no"), FileNotFoundError(errno.ENOENT, "no"), KeyboardInterrupt("no")])
def test_an_error_that_tells_its_cause_stays(tmp_path, full_disk, error):
    with pytest.raises(type(error), match="no"), files.replacing(tmp_path / "made"):
        raise error


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


# --- working folders ---

HOLDING = """
import sys
from pathlib import Path
from nextreel.files import working_folder

with working_folder(Path(sys.argv[1]), "engine") as folder:
    (folder / "spilled").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(root, tmp_path):
    """Start a process that holds a working folder of the kind `engine` in tmp_path; the process and its folder."""
    started = []

    def start():
        command = [sys.executable, "-c", HOLDING, str(tmp_path)]
        environment = os.environ | {"PYTHONPATH": str(root / "src")}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_working_folder_goes_when_its_block_ends(tmp_path):
    with pytest.raises(ZeroDivisionError), files.working_folder(tmp_path / "new", "engine") as folder:
        (folder / "inner").mkdir()
        raise ZeroDivisionError
    assert not folder.exists()


def test_what_a_killed_run_left_goes_and_what_a_running_one_uses_stays(tmp_path, holder):
    _running, used = holder()
    killed, left = holder()
    assert used.parent == left.parent == tmp_path
    assert used != left
    killed.kill()
    killed.wait()
    assert (left / "spilled").exists()
    with files.working_folder(tmp_path, "engine") as mine, files.working_folder(tmp_path, "engine") as other:
        assert not left.exists()
        assert (used / "spilled").exists()
        assert mine.is_dir()
        assert other.is_dir()
        assert mine != other


def test_a_run_that_ends_well_leaves_no_folder(holder):
    process, used = holder()
    process.communicate("")
    assert process.returncode == 0
    assert not used.exists()


def test_what_is_of_another_kind_stays(tmp_path):
    kept = [tmp_path / "engine", tmp_path / "verify-abc", tmp_path / "notes"]
    for folder in kept:
        folder.mkdir()
    (tmp_path / "engine-notes.txt").write_text("no folder")
    stale = tmp_path / "engine-abc"  # killed before it was locked
    stale.mkdir()
    with files.working_folder(tmp_path, "engine"):
        assert not stale.exists()
    assert all(folder.is_dir() for folder in kept)
    assert (tmp_path / "engine-notes.txt").exists()
