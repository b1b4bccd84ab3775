"""States of a fit on the disk: whole, another fit's, damaged; and a process that is killed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from nextreel.nn.checkpoint import Checkpoint, digest

ROOT = Path(__file__).resolve().parents[2]
TENSORS = {
    "weights": torch.arange(6.0).reshape(2, 3).T,
    "step": torch.tensor(7.0),
    "generator": torch.arange(5, dtype=torch.uint8),
    "none": torch.zeros(0, 3),
}
ABOUT = {"rng": np.random.default_rng(3).bit_generator.state, "best": -np.inf, "loss": 0.1 + 0.2}


@pytest.fixture
def kept(tmp_path):
    checkpoint = Checkpoint(tmp_path / "kept" / "fit.safetensors", "key")
    checkpoint.save(TENSORS, ABOUT)
    return checkpoint


def test_what_is_saved_comes_back(kept):
    tensors, about = kept.load()
    assert about == ABOUT  # numbers of 128 bits and infinity included
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])
    assert [path.name for path in kept.path.parent.iterdir()] == ["fit.safetensors"]


def test_where_nothing_was_saved_there_is_nothing(tmp_path):
    assert Checkpoint(tmp_path / "none.safetensors", "key").load() is None


def test_the_last_one_counts(kept):
    kept.save({"weights": torch.ones(1)}, {"n": 2})
    tensors, about = kept.load()
    assert (tensors["weights"].tolist(), about) == ([1.0], {"n": 2})


def test_what_another_fit_left_is_removed_in_silence(kept, capsys):
    assert kept._replace(key="other").load() is None
    assert not kept.path.exists()
    assert capsys.readouterr().err == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_file_is_told_and_removed(kept, capsys, data):
    """A byte that changed anywhere, or an end that is missing. A changed key is another fit's."""
    kept.save(TENSORS, ABOUT)
    whole = kept.path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        kept.path.write_bytes(whole[:at])
    else:
        kept.path.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    found = kept.load()
    told = capsys.readouterr().err
    if found is not None:  # white space of the header
        assert found[1] == ABOUT
        assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in found[0].items())
        return
    assert not kept.path.exists()
    assert told == "" or (told.startswith(f"{kept.path} is damaged (") and told.endswith(": this fit starts again\n"))


def test_the_message_says_what_is_damaged(kept, capsys):
    whole = kept.path.read_bytes()
    kept.path.write_bytes(whole[:-1] + b"\1")
    assert kept.load() is None
    assert capsys.readouterr().err == f"{kept.path} is damaged (its checksum is another): this fit starts again\n"


def test_a_kill_while_a_state_is_written_leaves_the_one_before(kept, monkeypatch):
    class Killed(BaseException):
        pass

    def save_half(tensors, path, header):
        Path(path).write_bytes(b"half")
        raise Killed

    monkeypatch.setattr("nextreel.nn.checkpoint.save_file", save_half)
    with pytest.raises(Killed):
        kept.save({}, {})
    monkeypatch.undo()
    assert kept.load()[1] == ABOUT


def test_the_header_is_no_pickle(kept):
    with safe_open(kept.path, "pt") as file:
        assert set(file.metadata()) == {"key", "about", "crc32"}


def test_a_digest_is_of_params_and_of_every_byte_of_the_inputs(tmp_path):
    folder, file = tmp_path / "inputs", tmp_path / "cases.parquet"
    (folder / "events").mkdir(parents=True)
    (folder / "events" / "a.npy").write_bytes(b"123")
    file.write_bytes(b"45")
    first = digest({"lr": 0.1}, [folder, file])
    assert first == digest({"lr": 0.1}, [folder, file])
    found = {first, digest({"lr": 0.2}, [folder, file]), digest({"lr": 0.1}, [folder])}
    file.write_bytes(b"46")
    found.add(digest({"lr": 0.1}, [folder, file]))
    (folder / "events" / "a.npy").write_bytes(b"1234")
    found.add(digest({"lr": 0.1}, [folder, file]))
    (folder / "events" / "b.npy").write_bytes(b"")
    found.add(digest({"lr": 0.1}, [folder, file]))
    assert len(found) == 6


def test_a_digest_is_of_the_code(tmp_path, monkeypatch):
    code = tmp_path / "toy.py"
    code.write_text("LAYERS = 1")
    monkeypatch.setitem(sys.modules, "nextreel.models.toy", type(sys)("nextreel.models.toy"))
    sys.modules["nextreel.models.toy"].__file__ = str(code)
    before = digest([], [])
    code.write_text("LAYERS = 2")
    assert digest([], []) != before


# --- a process that is killed ---

# A small model as the pipeline trains it, with a state after every other batch, and a pause in each to be killed in.
FIT = """
import sys, time
from pathlib import Path
from tests.conftest import make_world
import numpy as np
from nextreel.contract import Training
from nextreel.models import sasrec
from nextreel.nn import recommender, trainer
from nextreel.nn.checkpoint import Checkpoint
from nextreel.scoring.validation import validate
from tests.nn.test_recommender import SETTINGS

kept, saved, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
trainer._STRETCH, trainer._SECONDS, trainer._TIMES = 2, 0, 0
of_batch = recommender.Recommender.losses
recommender.Recommender.losses = lambda *arguments: time.sleep(pause) or of_batch(*arguments)
sequences = np.random.default_rng(0).integers(1, 40, (40, 12))
world = make_world(sequences, n_train=9, n_valid=2)
params = sasrec.Params(**SETTINGS | {"epochs": 3, "batch_size": 4, "dropout": 0.5, "loss": "bce"})
session = trainer.Session(
    lambda model: validate(model, world.store, world.asked), saved / "curve.csv", None, Checkpoint(kept, "key")
)
training = Training(world.store.fitted_on("train"), np.random.default_rng(0), session)
sasrec.Model.fit(params, training).save(saved / "model")
"""


def start(kept: Path, saved: Path, pause: float = 0) -> subprocess.Popen[str]:
    saved.mkdir(exist_ok=True)
    command = [sys.executable, "-c", FIT, str(kept), str(saved), str(pause)]
    return subprocess.Popen(command, cwd=ROOT, env={"PYTHONPATH": "src:."}, stderr=subprocess.PIPE, text=True)


def finish(running: subprocess.Popen[str], saved: Path) -> tuple[dict[str, bytes], str]:
    """The files that it leaves, and what it says."""
    said = running.communicate(timeout=300)[1]
    assert running.returncode == 0, said
    return {path.name: path.read_bytes() for path in saved.rglob("*") if path.is_file()}, said


def progress(kept: Path) -> tuple[int, int]:
    """Epochs and batches of the next one that a state has behind it."""
    found = Checkpoint(kept, "key").load()
    return (found[1]["progress"]["epochs"], found[1]["progress"]["batches"]) if found else (0, 0)


# Some 20 s: torch is loaded three times over.
def test_a_process_killed_within_an_epoch_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole, said = finish(start(tmp_path / "other.safetensors", tmp_path / "whole"), tmp_path / "whole")
    assert "params.json" in whole
    assert "goes on" not in said

    kept, saved = tmp_path / "fit.safetensors", tmp_path / "saved"
    running = start(kept, saved, pause=0.2)
    while running.poll() is None and progress(kept) < (1, 2):
        time.sleep(0.01)
    running.kill()
    assert running.wait() == -signal.SIGKILL, running.communicate()[1]
    assert not (saved / "model").exists()
    epochs, batches = progress(kept)
    assert batches > 0

    again, said = finish(start(kept, saved), saved)
    assert f"sasrec goes on from epoch {epochs + 1}, batch {batches + 1}, as {kept} has it" in said
    assert again == whole
