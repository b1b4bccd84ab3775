import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextreel import arrays, stage
from nextreel.errors import UserError
from nextreel.params import Params

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


# --- what a user can mend ---


@pytest.fixture
def message(stage_run):
    """What a stage says that fails with an error, or in a function."""

    def run(failing):
        def main(params):
            if callable(failing):
                failing()
            else:
                raise failing

        with pytest.raises(SystemExit) as caught:
            stage_run(main)
        said = str(caught.value)
        assert said.startswith("\nerror: ")
        assert said.endswith("\n")
        assert said.count("\n") == 2  # one sentence on a line of its own
        return said.strip().removeprefix("error: ")

    return run


SPACE = "free disk space, and run again"
MEMORY = "raise `engine.memory_limit` in params.yaml, and run again"
SOMEWHERE = "(in data, metrics, plots, logs or .work)"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "data/x"), f"No space left on device (data/x): {SPACE}"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "data/x"), f"Disk quota exceeded (data/x): {SPACE}"),
        (
            OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device"),  # pyarrow
            f"Error writing bytes to file. Detail: [errno 28] No space left on device {SOMEWHERE}: {SPACE}",
        ),
        (OSError("1000 requested and 512 written"), f"1000 requested and 512 written {SOMEWHERE}: {SPACE}"),  # numpy
        (
            duckdb.IOException('IO Error: Could not write file ".work/t.duckdb": No space left on device\n\nLINE 1: x'),
            f'Could not write file ".work/t.duckdb": No space left on device: {SPACE}',
        ),
        (
            duckdb.OutOfMemoryException(
                "Out of Memory Error: failed to offload data block of size 256.0 KiB (9.0 GiB/9.0 GiB used).\n"
                "This limit was set by the 'max_temp_directory_size' setting."
            ),
            f"failed to offload data block of size 256.0 KiB (9.0 GiB/9.0 GiB used). {SOMEWHERE}: {SPACE}",
        ),
        (
            duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate data of size 8.0 GiB"),
            "failed to allocate data of size 8.0 GiB: the machine has no memory left; close other programs or lower"
            " `engine.memory_limit`",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "data/x"),
            "Permission denied (data/x): mend it and run again",
        ),
        (OSError(errno.EIO, "Input/output error", "data/x"), "Input/output error (data/x): mend it and run again"),
        (
            duckdb.IOException('IO Error: Cannot open file "data/x": Permission denied'),
            'Cannot open file "data/x": Permission denied: mend it and run again',
        ),
        (
            duckdb.IOException('IO Error: Could not read from file "data/x": Input/output error'),
            'Could not read from file "data/x": Input/output error: mend it and run again',
        ),
        (
            duckdb.IOException('IO Error: No files found that match the pattern "raw/mine.parquet"'),
            'No files found that match the pattern "raw/mine.parquet": mend it and run again',
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_failure_of_disk_or_memory_has_its_own_advice(message, error, said):
    assert message(error) == said


def test_a_query_above_the_memory_limit_is_told_to_raise_it(message):
    con = duckdb.connect(config={"memory_limit": "10MB", "temp_directory": "", "threads": 1})
    said = message(lambda: con.execute("CREATE TABLE t AS SELECT random() AS x FROM range(5_000_000) ORDER BY x"))
    assert said.endswith(f" used): {MEMORY}")


OPENED = {
    "numpy": lambda path: np.load(path),
    "open": lambda path: path.read_text(),
    "pyarrow": lambda path: arrays.load(path),
    "pyarrow, header": lambda path: pq.read_metadata(path),
    "duckdb": lambda path: ibis.duckdb.connect().read_parquet(str(path)),
}


@pytest.mark.parametrize("library", OPENED)
def test_a_missing_file_of_another_stage_is_named_whoever_opens_it(message, tmp_path, library):
    for path in (tmp_path / "data/a/cases.parquet", (tmp_path / "data/a/cases.parquet").relative_to(tmp_path)):
        said = message(lambda path=path: OPENED[library](path))
        assert said == "data/a/cases.parquet is missing: run `dvc repro`, which makes what a stage needs"


def test_a_missing_folder_of_a_table_is_named(message):
    said = message(lambda: ibis.duckdb.connect().read_parquet("data/many/*.parquet"))
    assert said == "data/many is missing: run `dvc repro`, which makes what a stage needs"


def damaged(path, how):
    """A Parquet file of which something is not as it was written."""
    rows = pa.table(
        {"x": np.random.default_rng(0).integers(0, 1000, 100_000), "s": [str(i % 977) for i in range(100_000)]}
    )
    path.parent.mkdir(exist_ok=True)
    pq.write_table(rows, path, compression="zstd")
    whole = path.read_bytes()
    noise = np.random.default_rng(0).bytes(200)
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "footer": whole[:-300] + noise + whole[-100:],
            "page": whole[:4] + noise + whole[204:],
        }[how]
    )


@pytest.mark.parametrize("how", ["empty", "cut", "footer", "page"])
@pytest.mark.parametrize("library", ["pyarrow", "duckdb"])
def test_a_damaged_table_of_another_stage_is_named(message, tmp_path, library, how):
    damaged(tmp_path / "data/cases.parquet", how)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "data/whole.parquet")

    def read():
        if library == "pyarrow":
            arrays.load(tmp_path.joinpath("data/cases.parquet").relative_to(tmp_path))
        else:
            table = ibis.duckdb.connect().read_parquet("data/cases.parquet")
            table.group_by("s").agg(total=table.x.sum()).to_pyarrow()

    said = message(read)
    assert said.startswith("data/cases.parquet is damaged (")
    assert said.endswith("): delete it and run `dvc repro`, which makes it again")


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_column_of_the_store_that_is_cut_is_named(message, tmp_path, share):
    """numpy names no file: it is found by mapping all."""
    folder = tmp_path / "data/store/events"
    folder.mkdir(parents=True)
    np.save(folder / "whole.npy", np.arange(1_000))
    np.save(folder / "positive.npy", np.arange(1_000))
    whole = (folder / "positive.npy").read_bytes()
    (folder / "positive.npy").write_bytes(whole[: int(share * len(whole))])
    said = message(lambda: [np.load(path, mmap_mode="r") for path in sorted(folder.iterdir())])
    assert said.startswith("data/store/events/positive.npy is damaged (")
    assert said.endswith("): delete it and run `dvc repro`, which makes it again")


def table_of_another_type():
    pq.write_table(pa.table({"x": [1]}), "data/whole.parquet")
    arrays.load(Path("data/whole.parquet"), columns=["y"])


def temporary_that_was_never_written():
    Path("data/.cases.parquet.1.tmp").replace("data/cases.parquet")


@pytest.mark.parametrize(
    ("bug", "kind"),
    [
        (table_of_another_type, pa.ArrowInvalid),
        (temporary_that_was_never_written, FileNotFoundError),
        (lambda: Path("nothing/of/a/stage").read_text(), FileNotFoundError),
        (lambda: Path("data/raw/mine.csv").read_text(), FileNotFoundError),
        (lambda: os.mkdir("data"), FileExistsError),
        (lambda: Path("data").read_text(), IsADirectoryError),
        (lambda: duckdb.sql("SELECT nothing"), duckdb.BinderException),
        (lambda: duckdb.sql("SELECT 'data/whole.parquet'::INT").fetchall(), duckdb.ConversionException),
    ],
)
def test_a_bug_is_not_taken_for_a_failure_of_files(stage_run, tmp_path, bug, kind):
    (tmp_path / "data").mkdir()
    with pytest.raises(kind):
        stage_run(lambda params: bug())


# --- a fresh clone ---


@pytest.fixture(scope="module")
def clone(root, tmp_path_factory):
    """What git tracks, and so no data."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, folder / name)
    return folder


MISSING = {
    **{"ingest": "data/raw/simulated", "split": "data/tables/interactions.parquet", "label": "data/parts.parquet"},
    **{"eda": "data/parts.parquet", "evaluate": "data/cases.parquet"},
    **{"inputs": "data/store/columns.json", "recall": "data/inputs/most_popular/columns.json"},
    **{"train": "data/inputs/gru4rec/columns.json", "oracle": "data/tables/truth_topics.parquet"},
    **dict.fromkeys(["candidates", "rank"], "data/cases.parquet"),
}


def test_every_script_that_reads_data_is_tried_without(root):
    assert {path.stem for path in (root / "pipeline").glob("*.py")} - set(MISSING) == {"check", "simulate"}


# Some 2 s each: a stage loads all its libraries before it reads.
@pytest.mark.parametrize("script", MISSING)
def test_a_stage_started_in_a_fresh_clone_names_what_is_missing(clone, script):
    params = Params.load(clone / "params.yaml")
    names = [next(iter(params.get(script)))] if script in ("recall", "train") else []
    done = subprocess.run(
        [sys.executable, f"pipeline/{script}.py", *names], cwd=clone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    said = done.stderr.strip()
    assert said.startswith("error: ")
    assert "\n" not in said
    assert MISSING[script] in said
    assert "`dvc repro`" in said
