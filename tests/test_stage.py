import errno
import json
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file

from nextreel import arrays, engine, files, stage
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
        (
            OSError(errno.EROFS, "Read-only file system", "data/x"),
            "Read-only file system (data/x): nothing can be written there; make it writable, and run again",
        ),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),  # Rust
            f"I/O error: No space left on device (os error 28) {SOMEWHERE}: {SPACE}",
        ),
        (
            duckdb.FatalException(
                "FATAL Error: Failed: database has been invalidated.\n"
                'Original error: "Could not write file ".work/t": No space left on device"'
            ),
            f"FATAL Error: Failed: database has been invalidated.: {SPACE}",
        ),
        (
            duckdb.IOException('IO Error: Could not write file ".work/t.duckdb": No space left on device\n\nLINE 1: x'),
            f'Could not write file ".work/t.duckdb": No space left on device: {SPACE}',
        ),
        (
            duckdb.OutOfMemoryException(
                "Out of Memory Error: failed to offload data block of size 256.0 KiB (9.0 GiB/9.0 GiB used).\n"
                "This limit was set by the 'max_temp_directory_size' setting."
            ),
            f"failed to offload data block of size 256.0 KiB (9.0 GiB/9.0 GiB used). (in .work): {SPACE}",
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


# Each library has its own words for a write that fails, or none.
WRITERS = {
    "csv": lambda path: files.write_csv(path, {"x": np.arange(10_000)}),
    "duckdb": lambda path: duckdb.sql(f"COPY (SELECT random() FROM range(10_000)) TO '{path}' (FORMAT parquet)"),
    "json": lambda path: files.write_json(path, dict.fromkeys(map(str, range(10_000)), 0)),
    "matplotlib": lambda path: Figure(figsize=(90, 90)).savefig(path, format="png"),
    "numpy": lambda path: np.save(path.open("wb"), np.arange(10_000)),
    "numpy, buffered": lambda path: np.save(path.open("wb"), np.arange(1_025)),
    "pyarrow": lambda path: arrays.write({"x": np.random.default_rng(0).random(10_000)}, path),
    "safetensors": lambda path: save_file({"x": torch.zeros(10_000)}, path),
    "shutil": lambda path: shutil.copyfile(sys.executable, path),
    "torch": lambda path: torch.save(torch.zeros(10_000), path),
}


@pytest.fixture
def small_files():
    """Lets no file grow above 8 KB, whoever writes it: a refusal of the system that needs no full disk."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, most[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, most)

    return limited


@pytest.mark.parametrize("inside", [False, True], ids=["a file", "a file of a folder"])
@pytest.mark.parametrize("library", WRITERS)
def test_a_write_that_the_system_refuses_is_told_whoever_writes(message, tmp_path, small_files, library, inside):
    def write():
        with small_files(), files.replacing(Path("data/made")) as temporary:
            if inside:
                temporary.mkdir()
            WRITERS[library](temporary / "file" if inside else temporary)

    said = message(write)
    assert "File too large" in said
    assert said.endswith(": allow larger files (`ulimit -f`), and run again")
    assert list((tmp_path / "data").iterdir()) == []


def test_an_error_of_cleaning_up_does_not_hide_the_one_of_the_disk(message):
    def write():
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "data/x")
        finally:
            raise AttributeError("'_idat' object has no attribute 'fileno'")

    assert message(write) == f"No space left on device (data/x): {SPACE}"


OPENED = {
    "numpy": lambda path: np.load(path),
    "open": lambda path: path.read_text(),
    "pyarrow": lambda path: arrays.load(path),
    "pyarrow, header": lambda path: pq.read_metadata(path),
    "engine": lambda path: engine.read(ibis.duckdb.connect(), path),
}


@pytest.mark.parametrize("library", OPENED)
def test_a_missing_file_of_another_stage_is_named_whoever_opens_it(message, tmp_path, library):
    for path in (tmp_path / "data/a/cases.parquet", (tmp_path / "data/a/cases.parquet").relative_to(tmp_path)):
        said = message(lambda path=path: OPENED[library](path))
        assert said == "data/a/cases.parquet is missing: run `dvc repro`, which makes what a stage needs"


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


def weights(path):
    save_file({"x": torch.zeros(1_000)}, path)


HEADS = {
    "known.npy": (lambda path: np.save(path, np.arange(1_000)), np.load),
    "weights.safetensors": (weights, load_file),
    "model.json": (lambda path: files.write_json(path, {"x": 1.0, "y": 2.0}), files.read_json),
}


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
@pytest.mark.parametrize("name", HEADS)
def test_a_file_of_a_model_that_is_cut_is_named(message, tmp_path, name, share):
    write, read = HEADS[name]
    for folder in ("damaged", "whole"):
        path = tmp_path / "data/models" / folder / name
        path.parent.mkdir(parents=True)
        write(path)
    path = tmp_path / "data/models/damaged" / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    said = message(lambda: read(path))
    assert said.startswith(f"data/models/damaged/{name} is damaged (")
    assert said.endswith("): delete it and run `dvc repro`, which makes it again")


def table_of_another_type():
    pq.write_table(pa.table({"x": [1]}), "data/whole.parquet")
    arrays.load(Path("data/whole.parquet"), columns=["y"])


def temporary_that_was_never_written():
    Path("data/.cases.parquet.1.tmp").replace("data/cases.parquet")


def bug_in_a_block_that_writes():
    with files.replacing(Path("data/made")) as temporary:
        temporary.write_text("half of it")
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("bug", "kind"),
    [
        (table_of_another_type, pa.ArrowInvalid),
        (temporary_that_was_never_written, FileNotFoundError),
        (lambda: Path("nothing/of/a/stage").read_text(), FileNotFoundError),
        (lambda: Path("data/raw/mine.csv").read_text(), FileNotFoundError),
        (lambda: os.mkdir("data"), FileExistsError),
        (lambda: Path("data").read_text(), IsADirectoryError),
        (lambda: json.loads("{"), json.JSONDecodeError),
        (lambda: int("No space left on device, or so"), ValueError),
        (bug_in_a_block_that_writes, ZeroDivisionError),
        (lambda: duckdb.sql("SELECT nothing"), duckdb.BinderException),
        (lambda: duckdb.sql("SELECT 'data/whole.parquet'::INT").fetchall(), duckdb.ConversionException),
    ],
)
def test_a_bug_is_not_taken_for_a_failure_of_files(stage_run, tmp_path, bug, kind):
    (tmp_path / "data").mkdir()
    files.write_json(tmp_path / "data/whole.json", {"x": 1})
    with pytest.raises(kind):
        stage_run(lambda params: bug())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 59.6 GiB for an array"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
        pa.ArrowMemoryError("malloc of size 59600000000 failed"),
    ],
)
def test_memory_that_is_not_there_is_a_message_whoever_asks_for_it(message, error):
    said = message(error)
    assert "the machine has no such memory; close other programs, or make the data or the model smaller" in said


# --- Ctrl-C ---

INTERRUPTED = """
import sys, time
from pathlib import Path
from nextreel import engine, files, stage

def main(params, doing):
    con = engine.connect(engine.Params(memory_limit="1GB"), 2, Path(".work"))
    with files.replacing(Path("data/made")) as temporary:
        temporary.write_text("half of it")
        print("ready", flush=True)
        if doing == "query":
            con.raw_sql("SELECT sum(hash(range) % 7) FROM range(100_000_000_000)")
        time.sleep(60)

stage.run(main)
"""


def heed_interrupts():
    """What a shell starts in the background does not, nor what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("doing", ["query", "sleep"])
def test_an_interrupted_stage_says_one_line_and_leaves_nothing(root, tmp_path, doing):
    (tmp_path / "params.yaml").write_text("seed: 42\nthreads: 1\ncpu_isa: native\n")
    (tmp_path / "fit.py").write_text(INTERRUPTED)
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    command = [sys.executable, "fit.py", doing]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": heed_interrupts}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes) as running:
        assert running.stdout.readline() == "ready\n"
        time.sleep(0.5)  # into the query
        running.send_signal(signal.SIGINT)
        try:
            said = running.communicate(timeout=30)[1]
        finally:
            running.kill()
    assert said == "\ninterrupted: the same command goes on with this stage\n"
    assert running.returncode == 130
    assert list((tmp_path / "data").iterdir()) == []
    assert list((tmp_path / ".work").glob("engine-*")) == []


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


def assert_names_what_is_missing(script, said):
    said = said.strip()
    assert said.startswith("error: ")
    assert "\n" not in said
    assert MISSING[script] in said
    assert "`dvc repro`" in said


@pytest.mark.parametrize("script", MISSING)
def test_a_stage_started_in_a_fresh_clone_names_what_is_missing(clone, script, monkeypatch):
    """In this process, which has loaded the libraries already: that alone takes a process of its own 2 s."""
    names = [next(iter(Params.load(clone / "params.yaml").get(script)))] if script in ("recall", "train") else []
    monkeypatch.chdir(clone)
    monkeypatch.setattr(sys, "argv", [f"pipeline/{script}.py", *names])
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("limit_threads", "prepare"):  # too late for this process
        monkeypatch.setattr(f"nextreel.runtime.{name}", lambda *_: None)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(sys.argv[0])
    assert_names_what_is_missing(script, stopped.value.code)


def test_a_process_of_its_own_says_it_on_stderr_and_fails(clone):
    command = [sys.executable, "pipeline/split.py"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert_names_what_is_missing("split", done.stderr)


def test_an_interrupt_while_modules_load_is_no_traceback(root, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    code = "import nextreel, os, signal; os.kill(os.getpid(), signal.SIGINT); import nextreel.stage"
    command, heed = [sys.executable, "-c", code], heed_interrupts
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, preexec_fn=heed)
    assert (done.stderr, done.returncode) == ("\ninterrupted\n", -signal.SIGINT)


def test_a_message_may_hold_what_the_terminal_cannot_show(root, tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 42\nthreads: 1\ncpu_isa: native\n")
    (tmp_path / "fit.py").write_text("from nextreel import stage\nstage.run(lambda params: print('caf\u00e9'))\n")
    environment = os.environ | {"PYTHONPATH": str(root / "src"), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "fit.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("caf\\xe9\n", "", 0)
