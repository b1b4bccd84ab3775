"""What makes a model of millions of videos: rows of ids that are shared, and a step that costs what its batch does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nextreel.cases.store import NamedColumns
from nextreel.contract import Training
from nextreel.models import gru4rec, sasrec
from nextreel.nn import trainer
from nextreel.nn.batch import Lessons
from nextreel.nn.checkpoint import Checkpoint
from nextreel.nn.heads import NextItem
from nextreel.nn.vocabulary import FIRST, UNKNOWN, Vocabulary
from nextreel.scoring.retrieve import target_ranks
from tests.neural import PLAIN

NEURAL = PLAIN | {
    "clip": 1, "request": ["gap"], "videos": ["bias"], "loss": "sampled_softmax", "table_optimizer": "rowwise_adagrad",
    "table_lr": 0.2,
}  # fmt: skip
SASREC = NEURAL | {"block": "standard", "blocks": 1, "heads": 1}
FITS = {
    "sasrec": (sasrec, SASREC),
    "untied": (sasrec, SASREC | {"tied": False}),
    "bce": (sasrec, SASREC | {"loss": "bce", "negatives": 8}),
    "gru4rec": (gru4rec, NEURAL | {"layers": 1}),
}


def fit(world, model=sasrec, settings=SASREC, session=None, **changes):
    params = model.Params.model_validate(settings | changes)
    training = Training(world.store.fitted_on("train"), np.random.default_rng(0), session or trainer.Session())
    return model.Model.fit(params, training)


def hit_rate(model, world, k):
    rank = target_ranks(model, world.store, world.asked, "test", "")
    return ((rank > 0) & (rank <= k)).mean()


def weights(model):
    return {name: value.numpy().tobytes() for name, value in model.network.state_dict().items()}


@pytest.mark.parametrize("name", FITS)
def test_rowwise_adagrad_learns_the_circle(name, cycle):
    model, settings = FITS[name]
    assert hit_rate(fit(cycle, model, settings), cycle, k=1) > 0.9


@pytest.fixture(scope="module")
def lopsided(world_of):
    """Four of five users walk round a circle of 40 videos, the others round one of 60, so 41 to 60 have few events."""
    start, size = np.random.default_rng(0).integers(0, 60, 300), np.where(np.arange(300) % 5, 40, 60)
    return world_of(1 + (start[:, None] + np.arange(24)) % size[:, None], n_train=20, n_valid=2)


def floor_of(world):
    position, _owner = world.store.fitted_on("train").flat()
    count = np.bincount(world.store.events("video_idx")[position], minlength=61)[1:]
    assert count[40:].max() < count[:40].min()
    return int(count[:40].min())


def test_videos_below_the_floor_share_rows_and_are_scored(lopsided):
    model = fit(lopsided, own_row_from=floor_of(lopsided), hashed_rows=12)
    row = model.vocabulary.row
    assert row[1:41].tolist() == list(range(FIRST, FIRST + 40))
    assert (row[41:] >= FIRST + 40).all()
    assert (row[41:] < FIRST + 52).all()
    assert 1 < len(set(row[41:])) <= 12
    assert len(model.items.ids.weight) == 1 + row.max()
    score = model.score(lopsided.all_pairs("test")).reshape(-1, 60)
    assert np.isfinite(score).all()
    for one in range(41, 61):
        for other in range(41, 61):
            assert (score[:, one - 1] == score[:, other - 1]).all() == (row[one] == row[other])


def test_shared_rows_learn_the_circle(lopsided):
    """Nobody can tell the videos of a row from each other, so a target is among a few."""
    model = fit(lopsided, own_row_from=floor_of(lopsided), hashed_rows=12)
    shared = int(np.bincount(model.vocabulary.row[41:]).max())
    assert hit_rate(model, lopsided, k=shared) > 0.9


def test_the_bias_of_a_shared_row_begins_at_the_mean_of_its_videos(lopsided):
    shared = {"own_row_from": floor_of(lopsided), "hashed_rows": 3}
    model = fit(lopsided, epochs=1, table_lr=1e-12, **shared)  # at which it stays
    vocabulary, counts = Vocabulary.fit(lopsided.store.fitted_on("train"), model.params.names, False, **shared)
    row, rates = vocabulary.row[1:], counts.log_rates
    for each in range(FIRST, row.max() + 1):
        assert model.items.bias.weight[each].tolist() == pytest.approx(rates[row == each].mean(0).tolist(), rel=1e-5)


def test_without_shared_rows_those_below_the_floor_have_none(lopsided):
    """No vector and no bias of their own, before and after training."""
    fitted = fit(lopsided, own_row_from=floor_of(lopsided), epochs=2)
    assert (fitted.vocabulary.row[41:] == UNKNOWN).all()
    for model in (fitted, type(fitted)(fitted.params, fitted.vocabulary)):
        for table in model.items.tables:
            assert not table[UNKNOWN].any()
    assert np.isnan(fitted.vectors(np.arange(41, 61, dtype=np.int32))).all()


@pytest.mark.parametrize("optimizer", ["adam", "rowwise_adagrad"])
def test_the_same_seed_gives_the_same_bytes(optimizer, cycle):
    torch.use_deterministic_algorithms(True)
    try:
        one, other = (fit(cycle, epochs=2, table_optimizer=optimizer) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert weights(one) == weights(other)


def test_sparse_gradients_are_those_of_dense_tables(cycle):
    """Of ids, bias and content, by one and the same batch."""
    videos = NamedColumns(cycle.store.tables["videos"] | {"author": (np.arange(61) % 7).astype(np.int32)})
    histories = replace(cycle.store, tables={**cycle.store.tables, "videos": videos}).fitted_on("train")
    found = []
    for optimizer in ("adam", "rowwise_adagrad"):
        changes = {"table_optimizer": optimizer, "videos": ["author", "bias"], "id_dropout": 0.2}
        params = sasrec.Params.model_validate(SASREC | changes)
        torch.manual_seed(0)
        vocabulary, counts = Vocabulary.fit(histories, params.names, only_positives=False)
        lessons = Lessons(histories, vocabulary.rows, only_positives=False, passed_weight=0.3)
        model = sasrec.Model(params, vocabulary)
        model.head = NextItem(params, counts.events, lessons.n_targets(vocabulary.known))
        model.network.train()
        rng = np.random.default_rng(0)
        sum(model.losses(next(lessons.epoch(16, 32, rng)), rng).values()).backward()
        found.append(model)
    dense, sparse = found
    assert len(sparse.items.tables) == 3
    for one, other in zip(dense.network.parameters(), sparse.network.parameters(), strict=True):
        assert not one.grad.is_sparse
        assert other.grad.is_sparse == any(other is table for table in sparse.items.tables)
        torch.testing.assert_close(other.grad.to_dense(), one.grad)


class CutOffError(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("cut_off_at", [5, 11, 20])
def test_a_fit_that_was_cut_off_ends_with_the_same_bytes(cut_off_at, cycle, tmp_path, monkeypatch):
    for name, value in {"_SECONDS": 0, "_TIMES": 0, "_STRETCH": 3}.items():
        monkeypatch.setattr(trainer, name, value)
    session = trainer.Session(checkpoint=Checkpoint(tmp_path / "fit.safetensors", "key"))
    settings = {"epochs": 3, "schedule": "cosine", "own_row_from": 90, "hashed_rows": 5}
    whole = fit(cycle, **settings)
    losses, steps = sasrec.Model.losses, []

    def cut_off(self, example, rng):
        if len(steps) == cut_off_at:
            raise CutOffError
        steps.append(1)
        return losses(self, example, rng)

    with monkeypatch.context() as patch, pytest.raises(CutOffError):
        patch.setattr(sasrec.Model, "losses", cut_off)
        fit(cycle, session=session, **settings)
    tensors, _about = session.checkpoint.load()
    assert sum(name.startswith("optimizer/1/") and name.endswith("/sum") for name in tensors) == 2  # ids, bias
    assert weights(fit(cycle, session=session, **settings)) == weights(whole)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss": "softmax"}, "`loss` is 'softmax', which moves all; choose adam, or"),
        ({"weight_decay": 0.1}, "`weight_decay` is 0.1, but `table_optimizer` is 'rowwise_adagrad'"),
    ],
)
def test_what_cannot_be_sparse_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        sasrec.Params.model_validate(SASREC | changes)
    sasrec.Params.model_validate(SASREC | changes | {"table_optimizer": "adam"})
