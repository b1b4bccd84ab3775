import json
import os
import subprocess
import sys

import pytest

from nextreel import stage
from nextreel.errors import UserError

SCRIPT = """
from nextreel import stage
from nextreel.errors import UserError

def main(params, name):
    if name == "bad":
        raise UserError("`model.lr` is -1; allowed: greater than 0")
    print(name, params.seed)

stage.run(main)
"""


@pytest.fixture
def stage_run(tmp_path, monkeypatch):
    """Run `main` as the script pipeline/fit.py in a folder with params.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 42\nthreads: 1\ncpu_isa: native\n")

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["pipeline/fit.py", *arguments])
        stage.run(main)

    return run


def test_a_user_error_ends_the_process_with_its_message_alone(root, tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 42\nthreads: 1\ncpu_isa: native\n")
    (tmp_path / "fit.py").write_text(SCRIPT)

    def process(name):
        command = [sys.executable, "fit.py", name]
        environment = os.environ | {"PYTHONPATH": str(root / "src")}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    bad, good = process("bad"), process("good")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr == "\nerror: `model.lr` is -1; allowed: greater than 0\n\n"
    assert (good.returncode, good.stdout, good.stderr) == (0, "good 42\n", "")


def test_arguments_reach_main_and_time_and_memory_are_logged(stage_run, tmp_path):
    calls = []
    stage_run(lambda params, name: calls.append((params.seed, name)), "itemcf")
    assert calls == [(42, "itemcf")]
    logged = json.loads((tmp_path / "logs" / "fit@itemcf.json").read_text())
    assert logged.keys() == {"seconds", "peak_memory_mb"}
    assert 1 < logged["peak_memory_mb"] < 100_000  # KiB or bytes would be far off


@pytest.mark.parametrize("arguments", [(), ("itemcf", "sasrec")])
def test_a_wrong_number_of_arguments_shows_the_usage(stage_run, arguments):
    def main(params, name):
        raise AssertionError("main ran")

    with pytest.raises(SystemExit, match=r"^usage: python pipeline/fit\.py NAME$"):
        stage_run(main, *arguments)


def test_a_stage_without_arguments_shows_the_usage(stage_run):
    with pytest.raises(SystemExit, match=r"^usage: python pipeline/fit\.py$"):
        stage_run(lambda params: None, "extra")


def test_a_missing_params_file_is_a_message(stage_run, tmp_path):
    (tmp_path / "params.yaml").unlink()
    with pytest.raises(SystemExit, match=r"error: params\.yaml is missing"):
        stage_run(lambda params: None)


def test_a_full_disk_is_a_message(stage_run):
    def main(params):
        raise OSError(28, "No space left on device", "data/big.parquet")

    with pytest.raises(SystemExit, match=r"error: No space left on device \(data/big\.parquet\)"):
        stage_run(main)


def test_a_bug_keeps_its_traceback_and_no_log_is_written(stage_run, tmp_path):
    def main(params):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stage_run(main)
    assert not (tmp_path / "logs").exists()


def test_a_failed_stage_is_not_logged(stage_run, tmp_path):
    def main(params):
        raise UserError("no")

    with pytest.raises(SystemExit):
        stage_run(main)
    assert not (tmp_path / "logs").exists()
