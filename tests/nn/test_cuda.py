"""What `model.device: cuda` changes: nothing but the time, and the last digits."""

from itertools import count

import numpy as np
import pytest
import torch

from nextreel.contract import Training
from nextreel.models import gru4rec, sasrec, sasrec4sv
from nextreel.nn import device, trainer
from nextreel.nn.checkpoint import Checkpoint
from nextreel.nn.cross_entropy import cross_entropy
from nextreel.scoring import validation
from nextreel.scoring.retrieve import target_ranks
from tests.neural import EVERY, HEADS, PLAIN, with_every_column

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU is at hand")

SETTINGS = (
    PLAIN | EVERY | {"lr": 0.003, "epochs": 3, "dropout": 0, "clip": 1, "videos": ["tags", "author", "bias", "age"]}
)
SASREC = SETTINGS | {"block": "standard", "blocks": 2, "heads": 2}
SAMPLED = {"loss": "sampled_softmax", "negatives_from": "mixed", "logq": "all"}
FITS = {
    "softmax": (sasrec, SASREC),
    "gated, untied, cosine": (sasrec, SASREC | {"block": "gated", "tied": False, "temperature": 0.2}),
    "sampled_softmax": (sasrec, SASREC | SAMPLED),
    "bce": (sasrec, SASREC | {"loss": "bce", "negatives": 4}),
    "bpr": (sasrec, SASREC | {"loss": "bpr", "negatives": 4}),
    "gbce": (sasrec, SASREC | {"loss": "gbce", "negatives": 4}),
    "rowwise_adagrad": (sasrec, SASREC | SAMPLED | {"table_optimizer": "rowwise_adagrad"}),
    "gru4rec": (gru4rec, SETTINGS | {"layers": 1}),
    "sasrec4sv": (sasrec4sv, SASREC | HEADS),
}


@pytest.fixture(scope="module", autouse=True)
def deterministic():
    """As in a stage."""
    device.choose("cuda")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def log(cycle):
    return with_every_column(cycle.store, np.random.default_rng(1))


def fit(log, model, settings, name, session=None, **changes):
    params = model.Params.model_validate(settings | {"device": name} | changes)
    training = Training(log.fitted_on("train"), np.random.default_rng(0), session or trainer.Session())
    return model.Model.fit(params, training)


def weights(model):
    return {name: value.cpu() for name, value in model.network.state_dict().items()}


@pytest.mark.parametrize("name", FITS)
def test_a_fit_is_that_of_the_processor_but_for_rounding(name, log, cycle):
    """Nothing is drawn by the device where no dropout is."""
    model, settings = FITS[name]
    here, there = (fit(log, model, settings, where) for where in ("cpu", "cuda"))
    assert there.device.type == "cuda"
    one, other = (target_ranks(each, log, cycle.asked, "test", "") for each in (here, there))
    assert (one == other).mean() > 0.9
    told = [validation.validate(each, log, cycle.asked) for each in (here, there)]
    assert told[1]["loss"] == pytest.approx(told[0]["loss"], rel=0.02)
    assert told[1]["ndcg@10"] == pytest.approx(told[0]["ndcg@10"], abs=0.02)


@pytest.mark.parametrize("name", FITS)
def test_one_seed_makes_one_fit(name, log):
    model, settings = FITS[name]
    one, other = (weights(fit(log, model, settings, "cuda", dropout=0.3, id_dropout=0.1)) for _ in range(2))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("name", ["softmax", "rowwise_adagrad", "gru4rec"])
@pytest.mark.parametrize("cut_off_after", [1, 2])
def test_a_fit_that_was_cut_off_ends_with_the_same_weights(name, cut_off_after, log, tmp_path):
    model, settings = FITS[name]
    settings = settings | {"dropout": 0.3, "id_dropout": 0.1}
    goodness = (0.1, 0.3, 0.2)

    def session(folder, stops_at=None):
        number = count(len(found) if (found := lines(tmp_path / folder / "curve.csv")) else 0)

        def measure(_model):
            at = next(number)
            if at == stops_at:
                raise KeyboardInterrupt
            return {"next_item": {"ndcg@10": goodness[at]}}

        kept = Checkpoint(tmp_path / folder / "fit.safetensors", "a")
        return trainer.Session(measure, tmp_path / folder / "curve.csv", checkpoint=kept)

    whole = fit(log, model, settings, "cuda", session("whole"))
    with pytest.raises(KeyboardInterrupt):
        fit(log, model, settings, "cuda", session("cut", cut_off_after))
    again = fit(log, model, settings, "cuda", session("cut"))
    assert again.params.epochs == whole.params.epochs == 2
    one, other = weights(whole), weights(again)
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def lines(curve):
    return curve.read_text().splitlines()[1:] if curve.exists() else []


def test_a_saved_model_answers_on_the_processor(log, cycle, tmp_path):
    model = fit(log, sasrec, SASREC, "cuda")
    model.save(tmp_path / "model")
    loaded = sasrec.Model.load(tmp_path / "model")
    assert loaded.device.type == "cpu"
    cases = cycle.asked.of("test").cases
    there, here = (each.queries(cases, cases.histories(log)) for each in (model, loaded))
    np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-4)


def test_the_fused_softmax_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    n = 3_000  # more than a chunk
    drawn = torch.randn(n, 16, generator=generator), torch.randn(1_700, 16, generator=generator)
    target, weight = torch.randint(1_700, (n,), generator=generator), torch.rand(n, generator=generator)
    found = []
    for where, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        queries, items = (x.to(where, dtype).requires_grad_() for x in drawn)
        loss = cross_entropy(queries, items, target.to(where), weight.to(where))
        loss.backward()
        found.append([x.detach().cpu().double() for x in (loss, queries.grad, items.grad)])
    for expected, value in zip(*found, strict=True):
        assert (value - expected).norm() <= 1e-5 * expected.norm()
