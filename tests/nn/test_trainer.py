"""Epochs, early stopping, best weights and rates, on a network of one number that every step moves by one."""

import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from nextreel.errors import UserError
from nextreel.nn import trainer
from nextreel.nn.checkpoint import Checkpoint


class Counter(torch.nn.Module):
    """Its number is the steps made so far: the gradient of the loss is -1, the rate 1."""

    def __init__(self):
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(()))


def params(**changes):
    settings = {
        "lr": 1, "weight_decay": 0, "epochs": 6, "batch_size": 1, "patience": 1,
        "schedule": "constant", "warmup_share": 0, "clip": None, "device": "cpu",
    }  # fmt: skip
    return trainer.Params(**settings | changes)


CHOICE = trainer.Choice("count", "ndcg@10")


def counting(network, loss=None, batches=(1.0, 1.0), **changes):
    task = trainer.Task(
        "counter",
        network,
        [torch.optim.SGD(network.parameters(), lr=1.0)],
        epoch=lambda: iter(batches),
        n_batches=len(batches),
        losses=lambda batch: {"count": (loss or (lambda batch: -batch * network.number))(batch)},
        weights={"count": 1.0},
        choice=CHOICE,
        n_targets=lambda batch: 3,
        rng=np.random.default_rng(0),
    )
    return replace(task, **changes)


def train(goodness=None, loss=None, session=None, batches=(1.0, 1.0), **changes):
    """The network, the epochs behind it, and how many were measured. goodness: of each epoch in turn."""
    network, seen = Counter(), []

    def measure(model):
        assert model is network
        assert not network.training  # dropout is off when an epoch is measured
        seen.append(len(seen) + 1)
        return {"count": {"ndcg@10": goodness[len(seen) - 1], "loss": 0.5}}

    session = session or trainer.Session()
    if goodness:
        session = session._replace(measure=measure)
    epochs = trainer.train(counting(network, loss, batches), params(**changes), session, network)
    return network, epochs, len(seen)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("goodness", "patience", "best", "measured"),
    [
        ([1, 2, 3, 4, 5, 6], 1, 6, 6),  # ever better: to the end
        ([1, 3, 2, 2, 9, 9], 1, 2, 4),  # a second epoch without a gain ends it, before the 9
        ([1, 3, 2, 2, 9, 9], 0, 2, 3),
        ([1, 3, 2, 2, 9, 9], 3, 5, 6),  # patience pays
        ([3, 3, 3, 3, 3, 3], 1, 1, 3),  # an equal epoch is no better one: the first stands
        ([0, -1, -2, -3, -4, -5], 5, 1, 6),
    ],
)
def test_the_best_epoch_s_weights_are_kept(goodness, patience, best, measured):
    network, epochs, n_measured = train(goodness, patience=patience)
    assert epochs == best
    assert network.number.item() == 2 * best  # two steps an epoch
    assert n_measured == measured


def test_without_a_measure_the_last_weights_stand():
    network, epochs, _n_measured = train()
    assert (network.number.item(), epochs) == (12, 6)


def test_the_curve_holds_the_mean_loss_of_each_epoch_and_what_was_measured(tmp_path):
    train([0.1, 0.3], session=trainer.Session(curve=tmp_path / "curve.csv"), epochs=2)
    about = {"model": "counter", "head": "count", "valid_loss": "0.50000"}
    assert rows(tmp_path / "curve.csv") == [
        # 0 before the first step, -1 before the second
        about | {"epoch": "1", "loss": "-0.50000", "valid_ndcg@10": "0.10000", "kept": "0"},
        about | {"epoch": "2", "loss": "-2.50000", "valid_ndcg@10": "0.30000", "kept": "1"},
    ]


def test_heads_count_by_weight_and_have_lines_of_their_own(tmp_path):
    """A step moves the number by the sum of the weights; each head's loss in the curve is its own, without a weight."""
    network, curve = Counter(), tmp_path / "curve.csv"
    task = counting(
        network,
        losses=lambda batch: {"one": -network.number, "other": -2 * network.number},
        weights={"one": 1.0, "other": 0.5},
        choice=trainer.Choice("other", "rmse", least=True),
    )
    rmse = iter([3.0, 1.0, 2.0])

    def measure(_model):
        return {"one": {"ndcg@10": 0.1}, "other": {"rmse": next(rmse), "loss": 0.5}}

    assert trainer.train(task, params(epochs=3, patience=9), trainer.Session(measure, curve), network) == 2
    assert network.number.item() == 2 * 2 * (1 + 0.5 * 2)
    lines = rows(curve)
    assert [(line["epoch"], line["head"], line["kept"]) for line in lines] == [
        ("1", "one", "0"), ("1", "other", "0"), ("2", "one", "1"), ("2", "other", "1"), ("3", "one", "0"),
        ("3", "other", "0"),
    ]  # fmt: skip
    assert [(line["valid_ndcg@10"], line["valid_rmse"]) for line in lines[:2]] == [("0.10000", ""), ("", "3.00000")]
    assert (
        float(lines[1]["loss"]) == 2 * float(lines[0]["loss"]) == -2.0
    )  # 0 before the first step, -2 before the second


def test_the_curve_is_whole_after_every_epoch(tmp_path):
    network, curve = Counter(), tmp_path / "curve.csv"
    found = []

    def measure(model):
        found.append(len(rows(curve)) if curve.exists() else 0)
        return {"count": {"ndcg@10": 0.1}}

    trainer.train(counting(network), params(epochs=3, patience=9), trainer.Session(measure, curve), network)
    assert found == [0, 1, 2]
    assert len(rows(curve)) == 3


def test_rates_are_told_with_or_without_a_measure(tmp_path):
    train(session=trainer.Session(rates=tmp_path / "rates.csv"), epochs=2)
    first, second = rows(tmp_path / "rates.csv")
    assert (first["epoch"], second["epoch"], first["batches"], first["targets"]) == ("1", "2", "2", "6")
    assert float(first["targets_per_s"]) == pytest.approx(6 / float(first["seconds"]), rel=0.1)
    assert int(first["peak_memory_mb"]) > 10


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_epoch_and_batch(bad):
    losses = iter([1.0, 1.0, 1.0, bad])
    with pytest.raises(UserError) as error:
        train([1] * 6, loss=lambda batch: torch.tensor(next(losses), requires_grad=True))
    assert re.fullmatch(
        r"counter: the loss of count is (nan|inf) in epoch 2, batch 2 of about 2; lower `model\.lr` \(1\) or set "
        r"`model\.clip`, to 1 for example",
        str(error.value),
    )


def test_an_epoch_without_a_batch_is_a_message():
    with pytest.raises(UserError, match="train has no target"):
        train(batches=())


def test_rates_of_the_schedules():
    """Ten steps, of which the first two warm up."""
    warm = {"warmup_share": 0.2}
    constant = [trainer.rate_at(step, 10, params(**warm)) for step in range(12)]
    assert constant == [0.5, *[1.0] * 11]
    cosine = [trainer.rate_at(step, 10, params(schedule="cosine", **warm)) for step in range(12)]
    assert cosine[:3] == [0.5, 1.0, 1.0]
    assert cosine[6] == pytest.approx(0.5)  # half of the way down
    assert cosine[9] == pytest.approx((1 + math.cos(7 / 8 * math.pi)) / 2)
    assert cosine[10:] == [0.0, 0.0]  # an epoch may have a batch more than expected
    assert [trainer.rate_at(step, 3, params()) for step in range(3)] == [1.0] * 3


def test_the_rate_moves_the_weights():
    """Steps of 1/2, 1, then (1 + cos) / 2 of 0, 1/2: four in all."""
    network, _epochs, _measured = train(epochs=2, schedule="cosine", warmup_share=0.5)
    assert network.number.item() == pytest.approx(0.5 + 1 + 1 + 0.5)


@pytest.mark.parametrize(("clip", "moved"), [(None, 12 * 5), (10, 12 * 5), (2, 12 * 2)])
def test_a_gradient_is_clipped_to_its_norm(clip, moved):
    network, _epochs, _measured = train(clip=clip, batches=(5.0, 5.0))
    assert network.number.item() == pytest.approx(moved, rel=1e-5)


# --- a fit that was cut off ---


class Pool(torch.nn.Module):
    """Noise drawn by torch's generator, for several uses: a state that no `state_dict` holds."""

    def __init__(self):
        super().__init__()
        self.pool = []

    def train(self, mode=True):
        self.pool = []
        return super().train(mode)

    def forward(self, x):
        self.pool = self.pool or [torch.rand(()) for _ in range(5)]
        return x + self.pool.pop()


class Drawing(torch.nn.Module):
    def __init__(self):
        super().__init__()
        first, last = torch.nn.Linear(4, 8), torch.nn.Linear(8, 1)
        self.layers = torch.nn.Sequential(first, torch.nn.Dropout(0.5), Pool(), last)


class CutOffError(Exception):
    """In place of a kill."""


def fit(session, cut_off_at=None, epochs=4, goodness=(0.1, 0.3, 0.2, 0.2), each_step=lambda: None, **changes):
    """Weights, what `rng` draws next, epochs, and the steps made. Order and losses draw from `rng`, too."""
    torch.manual_seed(5)
    network, rng, steps = Drawing(), np.random.default_rng(6), []

    def epoch():
        for number in rng.permutation(10):
            yield torch.full((3, 4), float(number))

    def loss(batch):
        if cut_off_at is not None and len(steps) == cut_off_at:
            raise CutOffError
        steps.append(batch[0, 0].item())
        each_step()
        noise = torch.from_numpy(rng.random((3, 1)).astype(np.float32))
        return ((network.layers(batch / 10) - noise) ** 2).mean()

    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=True)

    def measure(model):
        (step,) = {int(state["step"]) for state in optimizer.state.values()}
        return {"count": {"ndcg@10": goodness[step // 10 - 1]}}

    losses = {"losses": lambda batch: {"count": loss(batch)}, "weights": {"count": 1.0}, "choice": CHOICE}
    task = trainer.Task("drawing", network, [optimizer], epoch, 10, n_targets=len, rng=rng, **losses)
    settings = params(lr=0.01, epochs=epochs, schedule="cosine", warmup_share=0.1, clip=1, **changes)
    found = trainer.train(task, settings, session._replace(measure=measure), network)
    weights = {name: value.numpy().tobytes() for name, value in network.state_dict().items()}
    return weights, rng.random(), torch.rand(()).item(), found, len(steps)


def session_in(folder, key="a"):
    return trainer.Session(
        curve=folder / "curve.csv",
        rates=folder / "rates.csv",
        checkpoint=Checkpoint(folder / "kept" / "fit.safetensors", key),
    )


@pytest.mark.parametrize("stretch", [2, 3, 10, 128])
@pytest.mark.parametrize("cut_off_at", [0, 3, 10, 16, 29, 39])
def test_a_fit_that_was_cut_off_ends_with_the_same_bytes(tmp_path, monkeypatch, capsys, stretch, cut_off_at):
    monkeypatch.setattr(trainer, "_SECONDS", 0)
    monkeypatch.setattr(trainer, "_TIMES", 0)
    monkeypatch.setattr(trainer, "_STRETCH", stretch)
    whole = fit(session_in(tmp_path / "whole")._replace(checkpoint=None), patience=9)
    session = session_in(tmp_path / "cut")
    with pytest.raises(CutOffError):
        fit(session, cut_off_at, patience=9)
    capsys.readouterr()
    again = fit(session, patience=9)
    assert again[:4] == whole[:4]
    epoch, batch = divmod(cut_off_at, 10)
    at = 10 * epoch + batch // stretch * stretch
    assert again[4] == 40 - at  # nothing is trained twice but what came after the last save
    told = capsys.readouterr().err
    expected = f"drawing goes on from epoch {epoch + 1}, batch {at % 10 + 1}, as {session.checkpoint.path} has it\n"
    assert (expected in told) == (at > 0)
    assert session.curve.read_bytes() == (tmp_path / "whole/curve.csv").read_bytes()
    assert [row["targets"] for row in rows(session.rates)] == ["30"] * 4


def test_a_fit_cut_off_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_SECONDS", 0)
    monkeypatch.setattr(trainer, "_TIMES", 0)
    monkeypatch.setattr(trainer, "_STRETCH", 2)
    whole = fit(session_in(tmp_path / "whole"), patience=9)
    session = session_in(tmp_path / "cut")
    for at in (25, 2, 3):
        with pytest.raises(CutOffError):
            fit(session, at, patience=9)
    assert fit(session, patience=9)[:4] == whole[:4]


def test_a_fit_that_ended_is_not_trained_again(tmp_path, capsys):
    """Neither early stopping nor the best epoch is lost, and the files are there again where they were deleted."""
    session = session_in(tmp_path)
    whole = fit(session, patience=0)
    assert whole[3:] == (2, 30)
    curve = session.curve.read_bytes()
    session.curve.unlink()
    assert fit(session, patience=0) == (*whole[:4], 0)
    assert session.curve.read_bytes() == curve
    assert "drawing was trained to its end, as " in capsys.readouterr().err


def test_what_another_fit_left_is_of_no_use(tmp_path):
    with pytest.raises(CutOffError):
        fit(session_in(tmp_path), 25, patience=9)
    (tmp_path / "curve.csv").unlink()
    assert fit(session_in(tmp_path, "b"), patience=9)[4] == 40


class Clock:
    """Steps take a second each, ten an epoch, and saving `saving` seconds; nothing else takes any."""

    def __init__(self, monkeypatch, saving):
        self.now, self.saved = 0.0, []  # steps at which it was saved
        save = Checkpoint.save

        def slow(checkpoint, tensors, about):
            save(checkpoint, tensors, about)
            self.saved.append(about["progress"]["steps"])
            self.now += saving

        monkeypatch.setattr(Checkpoint, "save", slow)
        monkeypatch.setattr(trainer.time, "monotonic", lambda: self.now)

    def tick(self):
        self.now += 1


def test_epochs_within_the_time_are_saved_at_their_ends_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_STRETCH", 2)
    clock = Clock(monkeypatch, saving=0.01)
    fit(session_in(tmp_path), patience=9, each_step=clock.tick)
    assert clock.saved == [10, 20, 30, 40]


def test_a_state_that_is_large_to_save_is_saved_less_often(tmp_path, monkeypatch):
    """After more than so many times what the last one took, within an epoch and at its end; and at the end of all."""
    monkeypatch.setattr(trainer, "_STRETCH", 1)
    monkeypatch.setattr(trainer, "_SECONDS", 0)
    monkeypatch.setattr(trainer, "_TIMES", 5)
    clock = Clock(monkeypatch, saving=2)
    fit(session_in(tmp_path), patience=9, each_step=clock.tick)
    assert clock.saved == [1, 12, 23, 34, 40]


@pytest.mark.parametrize(("cut_off_at", "goes_on_from"), [(5, 0), (15, 10), (29, 10), (30, 30), (39, 30)])
def test_epochs_that_are_short_beside_saving_are_saved_now_and_then(tmp_path, monkeypatch, cut_off_at, goes_on_from):
    """Here the first, the third and the last; a fit that was cut off ends with the same bytes."""
    monkeypatch.setattr(trainer, "_TIMES", 2)
    clock = Clock(monkeypatch, saving=6)
    whole = fit(session_in(tmp_path / "whole"), patience=9, each_step=clock.tick)
    assert clock.saved == [10, 30, 40]
    session = session_in(tmp_path / "cut")
    with pytest.raises(CutOffError):
        fit(session, cut_off_at, patience=9, each_step=clock.tick)
    again = fit(session, patience=9, each_step=clock.tick)
    assert again[:4] == whole[:4]
    assert again[4] == 40 - goes_on_from
    assert session.curve.read_bytes() == (tmp_path / "whole/curve.csv").read_bytes()
