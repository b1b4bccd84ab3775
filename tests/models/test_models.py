"""What every model promises, on worlds with a known answer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nextreel import models
from nextreel.arrays import load
from nextreel.cases.protocols import QUESTIONS
from nextreel.errors import UserError
from nextreel.nn import trainer
from nextreel.scoring import predict
from nextreel.scoring.sets import Shown
from nextreel.scoring.sets import blocks as scored
from nextreel.scoring.validation import validate

NEURAL = {
    "lr": 0.01, "weight_decay": 0, "epochs": 12, "batch_size": 32, "patience": 12, "width": 32, "length": 16,
    "dropout": 0.1, "history": "all", "passed_weight": 0.3, "loss": "softmax", "negatives": 32, "seeds": 1,
}  # fmt: skip
SETTINGS = {
    "most_popular": {},
    "recent_popular": {"half_life_hours": 0.002},
    "bpr_mf": {"factors": 8, "lr": 0.05, "regularization": 0.01, "iterations": 50, "threads": 1},
    "itemcf": {"window": 10, "decay": 0.9, "recency": 0.9, "shrink": 1, "neighbours": 50, "passed_weight": 0.3},
    "gru4rec": NEURAL | {"layers": 1},
    "sasrec": NEURAL | {"blocks": 1, "heads": 1},
}
PERSONAL = ["bpr_mf", "itemcf", "gru4rec", "sasrec"]
SEQUENTIAL = ["itemcf", "gru4rec", "sasrec"]


def neural(name):
    return SETTINGS[name].items() >= NEURAL.items()


def fit(name, exam, tmp_path, seed=0, stretch="train", **changes):
    module = models.module(name)
    histories = getattr(exam.events, stretch)()
    settings = module.Params(**SETTINGS[name] | changes)
    how = {"validation": validation(exam, tmp_path / f"{name}.csv")} if neural(name) else {}
    return module.Model.fit(histories, exam.catalogue.n_videos, settings, np.random.default_rng(seed), **how)


def validation(exam, curve):
    return trainer.Validation(lambda model: validate(model, exam), curve)


@pytest.fixture(scope="module", params=list(SETTINGS))
def fitted(request, blocks, tmp_path_factory):
    return request.param, fit(request.param, blocks, tmp_path_factory.mktemp("fit"))


def test_every_model_is_held_to_this():
    assert set(SETTINGS) == {
        path.stem for path in Path(models.__file__).parent.glob("*.py") if not path.stem.startswith("_")
    }


def hit_rate(model, exam, part="test", k=10):
    rank = np.concatenate([block.target_ranks() for block in scored(model, exam, part, "")])
    return ((rank > 0) & (rank <= k)).mean()


def whole_score(model, exam, part="test"):
    asked = exam.of(part)
    return model.score(asked.cases, asked.cases.histories(exam.events), exam.catalogue.of(part))


def answered(model, name, exam, folder):
    """The lists and the ranks of all parts."""
    predict.write(dict.fromkeys(QUESTIONS, model), name, exam, folder / "lists.parquet", folder / "ranks.parquet")
    return load(folder / "lists.parquet"), load(folder / "ranks.parquet")


def test_lists_hold_unseen_videos_of_the_catalogue_once_in_order(fitted, blocks, tmp_path):
    name, model = fitted
    lists, ranks = answered(model, name, blocks, tmp_path)
    for i in range(0, len(blocks.cases), 29):
        one = blocks.cases.where(slice(i, i + 1))
        mine = lists["case_id"] == one.case_id
        shown, score = lists["video_idx"][mine], lists["score"][mine]
        position, _ = one.histories(blocks.events).flat()
        assert lists["rank"][mine].tolist() == list(range(1, len(shown) + 1))
        assert (np.diff(score) <= 0).all()
        assert len(set(shown)) == len(shown)
        assert not set(shown) & set(blocks.events.video_idx[position].tolist())
        assert set(shown) <= set(blocks.catalogue.of(one.part[0]).tolist())
    assert ranks["case_id"].tolist() == blocks.cases.case_id[blocks.target > 0].tolist()
    listed = {(c, v): r for c, v, r in zip(lists["case_id"], lists["video_idx"], lists["rank"], strict=True)}
    for case, video, rank in zip(ranks["case_id"], ranks["video_idx"], ranks["rank"], strict=True):
        assert listed.get((case, video), rank) == rank  # list and full ranking tell the same place


def test_pairs_score_like_the_whole_catalogue(fitted, blocks):
    _, model = fitted
    asked = blocks.of("test")
    histories, catalogue = asked.cases.histories(blocks.events), blocks.catalogue.of("test")
    pairs = np.tile(catalogue[::7], (len(asked.cases), 1))
    np.testing.assert_allclose(
        model.score(asked.cases, histories, pairs), whole_score(model, blocks)[:, ::7], rtol=1e-4, atol=1e-5
    )


def test_a_saved_model_answers_the_same(fitted, blocks, tmp_path):
    name, model = fitted
    model.save(tmp_path / name)
    loaded = models.module(name).Model.load(tmp_path / name)
    assert (whole_score(loaded, blocks) == whole_score(model, blocks)).all()


def test_the_same_seed_gives_the_same_bits(fitted, blocks, tmp_path):
    name, model = fitted
    assert (whole_score(fit(name, blocks, tmp_path), blocks) == whole_score(model, blocks)).all()


def test_fitting_reads_train_alone(fitted, blocks, tmp_path):
    """Every event after train becomes another video and reaction; the fitted model stays."""
    name, _model = fitted
    exam = replace(blocks, events=with_other_future(blocks.events, blocks.events.train_end))
    # Epochs are chosen on valid, so all of them are kept here.
    changes = {"epochs": 1} if neural(name) else {}
    one, other = fit(name, blocks, tmp_path, **changes), fit(name, exam, tmp_path, **changes)
    assert (whole_score(one, blocks) == whole_score(other, blocks)).all()


def with_other_future(events, end):
    """Every event after each user's `end` becomes another video and reaction."""
    after = np.arange(len(events.video_idx)) >= np.repeat(end, np.diff(events.offsets))
    video_idx = np.where(after, 81 - events.video_idx, events.video_idx)
    return replace(events, video_idx=video_idx, positive=np.where(after, ~events.positive, events.positive))


def nothing_shown(exam):
    none = np.zeros(0, np.int64)
    return Shown(exam.cases.where(none), exam.user_id[none], exam.events, none, none.astype(np.int32))


def test_fitting_again_is_fitting_on_a_longer_train(fitted, blocks, tmp_path):
    """`split.refit`: the model that answers test is the one of a world whose train ends where valid does."""
    name, model = fitted
    how = {"validation": validation(blocks, tmp_path / "curve.csv")} if neural(name) else {}
    exam = replace(blocks, seed=0)  # the seed of `fit`
    predict.examine(
        name,
        type(model),
        models.module(name).Params(**SETTINGS[name]),
        exam,
        nothing_shown(exam),
        1,
        "train_valid",
        tmp_path,
        lambda seed: how,
    )
    by_part = models.load(name, tmp_path / "models" / name)
    assert (whole_score(by_part["valid"], blocks, "valid") == whole_score(model, blocks, "valid")).all()
    longer = replace(blocks.events, train_end=blocks.events.valid_end).train()
    afresh = type(model).fit(longer, blocks.catalogue.n_videos, model.params, np.random.default_rng(0))
    for part in ("test", "next"):
        assert (whole_score(by_part[part], blocks, part) == whole_score(afresh, blocks, part)).all()
    assert (whole_score(by_part["test"], blocks) != whole_score(model, blocks)).any()


@pytest.fixture
def shown(blocks):
    """Three videos shown to each user that is asked in test."""
    asked = blocks.of("test")
    pairs = np.unique(np.stack([np.repeat(asked.cases.case_id, 3), np.tile([3, 50, 77], len(asked.cases))]), axis=1)
    return Shown(asked.cases, asked.user_id, blocks.events, pairs[0], pairs[1].astype(np.int32))


def test_every_seed_answers_and_the_first_is_saved(fitted, blocks, shown, tmp_path):
    """A model that draws nothing is fitted once."""
    name, model = fitted
    how = {"validation": validation(blocks, tmp_path / "curve.csv")} if neural(name) else {}
    exam = replace(blocks, seed=0)  # the seed of `fit`
    settings = models.module(name).Params(**SETTINGS[name])
    predict.examine(name, type(model), settings, exam, shown, 2, None, tmp_path, lambda seed: how)
    tables = {kind: load(tmp_path / kind / f"{name}.parquet") for kind in ("lists", "ranks", "scores")}
    seeds = [0, 1] if name in ("bpr_mf", "gru4rec", "sasrec") else [0]
    for table in tables.values():
        assert np.unique(table["seed"]).tolist() == seeds
    first, last = (tables["scores"]["score"][tables["scores"]["seed"] == seed] for seed in (seeds[0], seeds[-1]))
    assert len(first) == len(shown.case_id)
    whole = model.score(shown.cases, shown.cases.histories(blocks.events), np.array([3, 50, 77]))
    np.testing.assert_allclose(first, whole.ravel(), rtol=1e-4, atol=1e-5)
    assert (first != last).any() == (len(seeds) == 2)
    saved = models.load(name, tmp_path / "models" / name)["test"]
    assert (whole_score(saved, blocks) == whole_score(model, blocks)).all()


def test_without_refit_one_model_answers_all(fitted, blocks, tmp_path):
    name, model = fitted
    model.save(tmp_path / "train")
    by_part = models.load(name, tmp_path)
    assert by_part["valid"] is by_part["test"] is by_part["next"]


def test_an_empty_history_is_answered(fitted, blocks):
    _, model = fitted
    asked = blocks.of("next")
    empty = asked.cases.where(asked.cases.history_end == 0)
    assert len(empty) == 1
    scores = model.score(empty, empty.histories(blocks.events), blocks.catalogue.of("next"))
    assert scores.shape == (1, 80)
    assert not np.isnan(scores).any()


def test_a_user_that_train_does_not_know_is_answered_from_the_history_alone(fitted, blocks, tmp_path):
    """User 1 has no event in train. Who uses histories answers by it; the others answer as for any newcomer."""
    name, _model = fitted
    train_end = blocks.events.train_end.copy()
    train_end[1] = blocks.events.train_start[1]
    model = fit(name, replace(blocks, events=replace(blocks.events, train_end=train_end)), tmp_path)
    asked = blocks.of("test").where(slice(0, 1))
    assert asked.cases.user_idx.tolist() == [1]
    scores = whole_score(model, asked)
    assert np.isfinite(scores).any()
    assert not np.isnan(scores).any()
    if name in SEQUENTIAL:
        best = next(scored(model, asked, "test", "")).top_k(10)["video_idx"]
        assert (best <= 40).mean() > 0.8  # see the fixture: this user draws from the first half


@pytest.mark.parametrize("k", [7, 500])
def test_lists_are_as_long_as_opinions_allow(fitted, blocks, tmp_path, monkeypatch, k):
    """500 is far more than the catalogue of 80 holds."""
    name, model = fitted
    monkeypatch.setattr(predict, "LIST_SIZE", k)
    lists, _ranks = answered(model, name, blocks, tmp_path)
    found = np.bincount(lists["case_id"], minlength=len(blocks.cases))
    opinions = np.concatenate(
        [(block.scores > -np.inf).sum(1) for part in QUESTIONS for block in scored(model, blocks, part, "")]
    )  # NaN, seen, is not above
    assert (found == np.minimum(opinions, k)).all()
    assert opinions.max() > 10  # itemcf has one on its own half alone


def test_ties_stand_in_a_fixed_order(fitted, blocks, tmp_path):
    """By the hash of (user, moment, video), whatever the model."""
    name, model = fitted
    lists, _ranks = answered(model, name, blocks, tmp_path)
    tie = blocks.tie(lists["case_id"], lists["video_idx"])
    assert (np.lexsort((tie, -lists["score"], lists["case_id"])) == np.arange(len(tie))).all()


@pytest.mark.parametrize("name", ["most_popular", "recent_popular", "bpr_mf", "itemcf"])
def test_lists_do_not_hang_on_how_the_work_is_cut(name, blocks, tmp_path, monkeypatch):
    """Where scores are sums and no matrix products, which round by the shape of a block."""
    model = fit(name, blocks, tmp_path)
    lists, ranks = answered(model, name, blocks, tmp_path)
    monkeypatch.setattr("nextreel.scoring.sets._BLOCK", 3 * 80)
    again, marks = answered(model, name, blocks, tmp_path)
    assert all((lists[column] == again[column]).all() for column in lists)
    assert (ranks["rank"] == marks["rank"]).all()


def test_deleting_the_future_changes_no_list(fitted, blocks, tmp_path):
    """Of a log that ends where test begins, the valid lists are the same; test_future.py goes from raw files."""
    name, model = fitted
    events = blocks.events
    gone = np.arange(len(events.video_idx)) >= np.repeat(events.valid_end, np.diff(events.offsets))
    kept = np.concatenate([[0], (~gone).cumsum()])
    bounds = {key: kept[getattr(events, key)] for key in ("offsets", "train_start", "train_end", "valid_end")}
    flat = {key: getattr(events, key)[~gone] for key in ("video_idx", "time_ms", "positive")}
    shorter = replace(blocks, events=type(events)(**bounds, **flat)).of("valid")
    one = answered(model, name, blocks.of("valid"), tmp_path)
    other = answered(fit(name, shorter, tmp_path), name, shorter, tmp_path)
    for table, same in zip(one, other, strict=True):
        assert all((table[column] == same[column]).all() for column in table)


def test_the_input_is_left_as_it_was(fitted, blocks, tmp_path):
    _, model = fitted
    before = {name: getattr(blocks.events, name).copy() for name in blocks.events.__dataclass_fields__}
    catalogue = blocks.catalogue.of("test")
    asked, shown = blocks.of("test"), catalogue.copy()
    model.score(asked.cases, asked.cases.histories(blocks.events), shown)
    assert (shown == catalogue).all()
    fit(fitted[0], blocks, tmp_path)
    assert all((getattr(blocks.events, name) == column).all() for name, column in before.items())


@pytest.mark.parametrize("name", PERSONAL)
def test_taste_is_found_on_the_checkerboard(name, blocks, tmp_path):
    """Some 16 of 40 videos of a user's half are unseen in test: HR@10 is 10/16 for who knows it, 10/56 by chance."""
    assert hit_rate(fit(name, blocks, tmp_path), blocks) > 0.5
    assert hit_rate(fit("most_popular", blocks, tmp_path), blocks) < 0.4


@pytest.mark.parametrize("name", ["gru4rec", "sasrec"])
def test_order_is_found_on_the_circle(name, cycle, tmp_path):
    assert hit_rate(fit(name, cycle, tmp_path), cycle, k=1) > 0.9
    assert hit_rate(fit("most_popular", cycle, tmp_path), cycle, k=1) < 0.3


@pytest.mark.parametrize("loss", ["bce", "bpr", "sampled_softmax"])
def test_every_loss_learns_the_circle(loss, cycle, tmp_path):
    assert hit_rate(fit("sasrec", cycle, tmp_path, loss=loss, negatives=8), cycle, k=5) > 0.8


def test_a_diverging_loss_stops_with_a_word(cycle, tmp_path):
    with pytest.raises(UserError, match=r"lower `model\.lr`"):
        fit("sasrec", cycle, tmp_path, lr=1e12)


class NoNumber:
    def score(self, cases, histories, video_idx):
        return np.full((len(cases), len(video_idx)), np.nan, np.float32)


def test_nan_is_no_score(cycle):
    """NaN means seen further on: it would rank every target first."""
    with pytest.raises(ValueError, match="NaN"):
        list(scored(NoNumber(), cycle, "test", "no number"))


class NoOpinion:
    def score(self, cases, histories, video_idx):
        return np.full((len(cases), len(video_idx)), -np.inf, np.float32)


def test_no_opinion_is_a_miss_as_in_the_list(cycle):
    assert hit_rate(NoOpinion(), cycle, k=60) == 0


def test_softmax_over_too_many_videos_is_refused(cycle, tmp_path, monkeypatch):
    monkeypatch.setattr("nextreel.nn.recommender.SOFTMAX_LIMIT", 50)
    with pytest.raises(UserError, match="60 videos"):
        fit("sasrec", cycle, tmp_path)


def test_positives_alone_learn_the_circle(cycle, tmp_path):
    assert hit_rate(fit("sasrec", cycle, tmp_path, history="positives"), cycle, k=1) > 0.9


def test_recent_popular_by_hand():
    """Positives at 0, 1 and 3 hours, a half-life of one hour: the last counts 1, the one before 1/4, the first 1/8."""
    from nextreel.cases.store import Events
    from nextreel.models import recent_popular

    bounds = [np.array([0, 0, 4]), np.array([0, 0]), np.array([0, 4]), np.array([0, 4])]
    time_ms = np.array([0, 1, 3, 4]) * 3_600_000
    events = Events(*bounds, np.array([5, 6, 5, 7], np.int32), time_ms, np.array([True, True, True, False]))
    settings = recent_popular.Params(half_life_hours=1)
    model = recent_popular.Model.fit(events.train(), 9, settings, np.random.default_rng(0))
    assert model.score(range(1), None, np.array([5, 6, 7])).tolist() == [[1.125, 0.25, 0]]


def test_bpr_mf_gives_a_newcomer_what_does_not_hang_on_the_user(blocks, tmp_path):
    model = fit("bpr_mf", blocks, tmp_path)
    empty = blocks.of("next").where(blocks.of("next").cases.history_end == 0)
    assert (whole_score(model, empty, "next") == model.video_factors[1:81, -1]).all()


def test_bpr_mf_that_diverges_stops_with_a_word(blocks, tmp_path):
    with pytest.raises(UserError, match=r"lower `recall\.bpr_mf\.lr`"):
        fit("bpr_mf", blocks, tmp_path, lr=10)


def test_train_without_a_target_stops_with_a_word(blocks, tmp_path):
    exam = replace(blocks, events=replace(blocks.events, positive=np.zeros(len(blocks.events.video_idx), bool)))
    with pytest.raises(UserError, match="no target"):
        fit("gru4rec", exam, tmp_path, passed_weight=0)


def test_bpr_mf_knows_popularity(world_of, tmp_path):
    """Video v of 40 is drawn in proportion to v: without the correction the scores would not rise with it."""
    rng = np.random.default_rng(0)
    weight = np.arange(1, 41) / np.arange(1, 41).sum()
    exam = world_of(np.array([1 + rng.choice(40, 8, replace=False, p=weight) for _ in range(300)]), 6, 1)
    bias = fit("bpr_mf", exam, tmp_path, factors=4).video_factors[1:, -1]
    assert np.corrcoef(bias, np.log(np.arange(1, 41)))[0, 1] > 0.8


@pytest.mark.parametrize("passed", [0, 0.5])
def test_itemcf_by_hand(passed):
    """User 1: a b c positive, x passed over before c. User 2: a b."""
    from nextreel.cases.store import Events
    from nextreel.models import itemcf

    a, b, c, x = 1, 2, 3, 9
    events = Events(
        np.array([0, 0, 4, 6]),
        np.array([0, 0, 4]),
        np.array([0, 4, 6]),
        np.array([0, 4, 6]),
        np.array([a, b, x, c, a, b], np.int32),
        np.arange(6),
        np.array([True, True, False, True, True, True]),
    )
    settings = itemcf.Params(window=2, decay=0.5, recency=0.5, shrink=1, neighbours=5, passed_weight=passed)
    model = itemcf.Model.fit(events.train(), 9, settings, np.random.default_rng(0))
    similarity = model.similarity.toarray()
    assert similarity[a, b] == similarity[b, a] == pytest.approx(2 / (2 + 1))
    if passed:
        assert similarity[b, c] == pytest.approx(0.5 / (np.sqrt(2) + 1))  # two apart
        assert similarity[a, c] == 0  # three apart
        assert similarity[b, x] == pytest.approx(0.5 / (np.sqrt(2 * 0.5) + 1))
    else:
        assert similarity[b, c] == pytest.approx(1 / (np.sqrt(2) + 1))
        assert similarity[a, c] == pytest.approx(0.5 / (np.sqrt(2) + 1))
        assert not similarity[x].any()
    scores = model.score(range(1), events.until(np.array([2]), np.array([2])), np.array([c, 8]))
    assert scores[0, 0] == pytest.approx(0.5 * similarity[a, c] + similarity[b, c])
    assert scores[0, 1] == -np.inf


def test_itemcf_in_small_blocks_is_the_same(cycle, monkeypatch):
    """Row by row, or all pairs at once."""
    from nextreel.models import itemcf

    settings = itemcf.Params(**SETTINGS["itemcf"] | {"neighbours": 7})
    fitted = []
    for pairs in (1, 1_000, 1 << 24):
        monkeypatch.setattr(itemcf, "_PAIRS", pairs)
        fitted.append(itemcf.Model.fit(cycle.events.train(), cycle.catalogue.n_videos, settings, None).similarity)
    for other in fitted[:2]:
        assert (other != fitted[2]).nnz == 0
    assert np.diff(fitted[2].indptr).max() == 7
