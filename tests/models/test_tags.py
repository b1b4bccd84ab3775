"""What `test_models.py` asks of every model, of those that read tags and authors, on a log that has them."""

from dataclasses import fields, replace

import numpy as np
import pytest

from nextreel import models
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Store, link
from nextreel.params import Params


@pytest.fixture(scope="module", params=["rates", "tag_chain"])
def fitting(request, root, halves, training_on):
    """The model's class, and what fits it with the committed settings on a store."""
    module = models.module(request.param)
    params = Params.load(root / "params.yaml").section(f"recall.{request.param}", module.Params)
    return module, lambda store: module.Model.fit(params, training_on(store))


@pytest.fixture(scope="module")
def model(fitting, halves):
    return fitting[1](halves.store)


def test_each_history_is_read_up_to_its_own_end(model, halves):
    frozen = halves.all_pairs("test").where(slice(0, 800))
    running = replace(frozen, history_end=frozen.history_end - 12 - np.arange(800) // 80)
    names = [field.name for field in fields(frozen)[2:]]
    both = {name: np.concatenate([getattr(frozen, name), getattr(running, name)]) for name in names}
    found = model.score(Pairs(frozen.store, frozen.cases, **both))
    assert (found == np.concatenate([model.score(frozen), model.score(running)])).all()
    assert (found[:800] != found[800:]).all()


def test_products_are_scores(model, halves):
    cases, catalogue = halves.cases("test"), halves.asked.catalogue.of("test")
    found = model.queries(cases, cases.histories(halves.store)) @ model.vectors(catalogue).T
    np.testing.assert_allclose(found.ravel(), model.score(halves.all_pairs("test")), rtol=1e-4, atol=1e-6)


def test_a_saved_model_answers_the_same(fitting, model, halves, tmp_path):
    model.save(tmp_path / "model")
    pairs = halves.all_pairs("test")
    assert (fitting[0].Model.load(tmp_path / "model").score(pairs) == model.score(pairs)).all()


def test_the_columns_that_it_names_are_all_that_it_reads(fitting, model, halves, tmp_path):
    """With those that data may lack, and without them."""
    module, fit = fitting
    named = module.Model.columns(model.params)
    halves.store.save(tmp_path / "store")
    link(tmp_path / "store", tmp_path / "inputs", named, ["train"])
    store = Store.load(tmp_path / "inputs")
    assert set(store.columns) == {"events/video_idx", *(name.removesuffix("?") for name in named)}
    pairs = halves.all_pairs("test")
    expected = model.score(pairs)
    assert (fit(store).score(replace(pairs, store=store)) == expected).all()
    needed = [name for name in named if not name.endswith("?")]
    link(tmp_path / "store", tmp_path / "needed", needed, ["train"])
    bare = Store.load(tmp_path / "needed")
    found = fit(bare).score(replace(pairs, store=bare))
    assert np.isfinite(found).all()
    assert (found != expected).any()


def test_blocks_of_histories_change_nothing(fitting, model, halves, monkeypatch):
    pairs = halves.all_pairs("test")
    score = model.score(pairs)
    monkeypatch.setattr(fitting[0], "_EVENTS", 100)
    assert (model.score(pairs) == score).all()
    assert fitting[1](halves.store).score(pairs) == pytest.approx(score, rel=1e-5)
