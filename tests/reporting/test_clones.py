import json
import os
import subprocess

import pytest

from nextreel.errors import UserError
from nextreel.reporting import clones

SCRIPT = """
import json
from pathlib import Path

Path("metrics").mkdir(exist_ok=True)
found = json.loads(Path("params.yaml").read_text()) if Path("params.yaml").read_text().startswith("{") else {}
Path("metrics/out.json").write_text(json.dumps(found))
"""
DVC_YAML = """
stages:
  only:
    cmd: python stage.py
    deps: [stage.py]
    params: [simulate, name]
    metrics:
    - metrics/out.json:
        cache: false
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A pipeline of one stage, committed, as the current folder."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    files = {
        "stage.py": SCRIPT,
        "dvc.yaml": DVC_YAML,
        "params.yaml": "simulate:\n  seed: 42\n  rate: 1.0e-05\nname: '1e3'\n",
        ".dvc/config": "[core]\n    analytics = false\n",
        ".gitignore": ".work/\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "all")
    return folder


def git(*arguments):
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True).stdout


def test_the_pipeline_runs_in_a_clone_with_some_keys_changed(project):
    """Every other value keeps its kind, and nothing here is touched."""
    with clones.clone("test") as folder:
        assert clones.repro(folder, {"simulate.seed": 43}) > 0
        found = json.loads((folder / "metrics/out.json").read_text())
        assert (folder / "dvc.lock").exists()
    assert found == {"simulate": {"seed": 43, "rate": 1e-5}, "name": "1e3"}
    assert not folder.exists()
    assert git("status", "--porcelain") == ""
    assert not (project / "metrics").exists()


def test_what_is_not_committed_is_told_and_not_run(project, capsys):
    (project / "params.yaml").write_text("simulate: {seed: 7}\n")
    clones.tell_uncommitted()
    with clones.clone("test") as folder:
        assert "42" in (folder / "params.yaml").read_text()
    assert "uncommitted changes are no part of this" in capsys.readouterr().out


def test_an_unknown_key_is_told_before_anything_runs(project):
    with clones.clone("test") as folder:
        with pytest.raises(UserError, match="`simulate.sed` is missing"):
            clones.repro(folder, {"simulate.sed": 43})
        assert not (folder / "dvc.lock").exists()


def test_a_stage_that_fails_is_told(project):
    (project / "stage.py").write_text("raise SystemExit(3)\n")
    git("commit", "--quiet", "--all", "--message", "broken")
    with clones.clone("test") as folder, pytest.raises(UserError, match="did not run to its end"):
        clones.repro(folder)


def test_git_is_quoted_where_it_fails(project):
    with pytest.raises(UserError, match=r"git show: fatal: .*absent"):
        clones.git(project, "show", "HEAD:absent")


def test_what_a_command_is_asked_for_is_told_by_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert clones.asked("", "", "") == {}
    found = clones.asked("log.csv", "table", "model.lr=1e-3 label.positive=click 'ingest.table.user_id=my id'")
    assert found == {
        "ingest.layout": "table",
        "ingest.path": str(tmp_path / "log.csv"),
        "model.lr": 1e-3,
        "label.positive": "click",
        "ingest.table.user_id": "my id",
    }
    assert clones.asked("log", "", "")["ingest.layout"] == "kuairand"


@pytest.mark.parametrize(
    ("asked", "message"),
    [(("", "table", ""), "LAYOUT is 'table', but there is no DATA"), (("", "", "model.lr"), "SET holds 'model.lr'")],
)
def test_what_cannot_be_asked_is_told(asked, message):
    with pytest.raises(UserError, match=message):
        clones.asked(*asked)


LOCK = """
schema: '2.0'
stages:
  check: {deps: [{path: src, md5: %s}]}
  train@sasrec: {deps: [{path: src/train.py, md5: %s}], params: {params.yaml: {seed: %d}}}
"""


@pytest.mark.parametrize(
    ("other", "same"),
    [(("z", "b", 1), True), (("a", "z", 1), False), (("a", "b", 2), False)],
    ids=["all code", "a stage's code", "a parameter"],
)
def test_the_state_is_that_of_what_results_rest_on(other, same):
    """`check` rests on all code there is, a report's too."""
    assert (clones.state(LOCK % ("a", "b", 1)) == clones.state(LOCK % other)) == same
