"""A clone has the bytes that were committed, since dvc.lock holds their hashes."""

import os
import shutil
import subprocess

import pytest


@pytest.fixture(scope="module")
def committed_tree(root, tmp_path_factory):
    """The tracked files as they stand here, committed by a machine that converts nothing."""
    folder = tmp_path_factory.mktemp("tree")
    names = git(root, "ls-files", "-co", "--exclude-standard", "-z").decode().split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder


def git(folder, *arguments):
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    env["GIT_CONFIG_GLOBAL"] = os.devnull
    return subprocess.run(["git", *who, *arguments], cwd=folder, env=env, check=True, stdout=subprocess.PIPE).stdout


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts)
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize("option", ["core.autocrlf=true", "core.autocrlf=input", "core.eol=crlf"])
def test_a_clone_with_other_line_ends_has_the_same_bytes(committed_tree, tmp_path, option):
    git(tmp_path, "-c", option, "clone", "-q", committed_tree, "clone")
    there = contents(tmp_path / "clone")
    assert there == contents(committed_tree)
    assert any(path.suffix == ".png" for path in there)


def test_without_the_attributes_it_has_other_ones(committed_tree, tmp_path):
    """Else the test above shows nothing."""
    git(tmp_path, "clone", "-q", committed_tree, "plain")
    git(tmp_path / "plain", "rm", "-q", ".gitattributes")
    git(tmp_path / "plain", "commit", "-q", "--message", "without")
    git(tmp_path, "-c", "core.autocrlf=true", "clone", "-q", "plain", "clone")
    assert b"\r\n" in (tmp_path / "clone/params.yaml").read_bytes()
