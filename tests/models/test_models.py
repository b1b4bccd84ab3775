"""What every model promises, on worlds with a known answer."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from nextreel import arrays, models
from nextreel.arrays import load
from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import UNKNOWN, NamedColumns, Sets, Store, link
from nextreel.contract import Factored, Judge, Sparse, Training, product_scores
from nextreel.errors import UserError
from nextreel.nn import trainer
from nextreel.parts import QUESTIONS, answering
from nextreel.scoring import answers, predict
from nextreel.scoring.retrieve import retrieve, target_ranks
from nextreel.scoring.sets import ShownPairs
from nextreel.scoring.validation import validate
from tests.neural import EVERY, HEADS, PLAIN, over_days, with_every_column

SETTINGS = {
    "most_popular": {},
    "recent_popular": {"half_life_hours": 0.002},
    "bpr_mf": {"factors": 8, "lr": 0.05, "regularization": 0.01, "iterations": 50, "threads": 1},
    "itemcf": {"window": 10, "decay": 0.9, "recency": 0.9, "shrink": 1, "neighbours": 50, "passed_weight": 0.3},
    "rates": {},
    "tag_chain": {
        "session_gap_minutes": 0.05,
        "follow": 0.5,
        "prior": 2,
        "half_life_hours": 0.002,
        "lasting": 0.1,
    },
    "gru4rec": PLAIN | {"layers": 1},
    "sasrec": PLAIN | {"block": "standard", "blocks": 1, "heads": 1},
    "sasrec4sv": PLAIN | HEADS | {"block": "standard", "blocks": 1, "heads": 1},
}
EVERY_INPUT = {  # in a world that has every column
    "gru4rec, every input": SETTINGS["gru4rec"]
    | EVERY
    | {"tied": False, "temperature": 0.1, "own_row_from": 50, "hashed_rows": 5},
    "sasrec, every input": SETTINGS["sasrec"] | EVERY | {"block": "gated", "id_dropout": 0.1},
}
NEURAL = ["gru4rec", "sasrec", "sasrec4sv"]
PERSONAL = ["bpr_mf", "itemcf", *NEURAL]
SEQUENTIAL = ["itemcf", *NEURAL, *EVERY_INPUT]


def own(name):
    """What the model itself is called."""
    return name.partition(",")[0]


def module(name):
    return models.module(own(name))


def neural(name):
    return own(name) in NEURAL


def params_of(name, **changes):
    return module(name).Params(**(SETTINGS | EVERY_INPUT)[name] | changes)


def fit(name, world, tmp_path, seed=0, cut="train", **changes):
    training = Training(world.store.fitted_on(cut), np.random.default_rng(seed))
    if neural(name):
        training = replace(training, session=session(world, tmp_path / f"{name}.csv"))
    return module(name).Model.fit(params_of(name, **changes), training)


def session(world, curve):
    return trainer.Session(lambda model: validate(model, world.store, world.asked), curve)


@pytest.fixture(scope="module", params=[*SETTINGS, *EVERY_INPUT])
def asked_for(request):
    return request.param


@pytest.fixture(scope="module")
def world(asked_for, blocks):
    """The checkerboard; for who reads every input, with a column for each."""
    if asked_for == "sasrec4sv":
        return over_days(blocks, seconds=5)
    if asked_for in SETTINGS:
        return blocks
    return replace(blocks, store=with_every_column(blocks.store, np.random.default_rng(5)))


@pytest.fixture(scope="module")
def fitted(asked_for, world, tmp_path_factory):
    return asked_for, fit(asked_for, world, tmp_path_factory.mktemp("fit"))


def test_every_model_is_held_to_this():
    assert set(SETTINGS) == {
        path.stem for path in Path(models.__file__).parent.glob("*.py") if not path.stem.startswith("_")
    }


def hit_rate(model, world, part="test", k=10):
    rank = target_ranks(model, world.store, world.asked, part, "")
    return ((rank > 0) & (rank <= k)).mean()


def whole_score(model, world, part="test"):
    """[B, N] of every case of a part and every video of its catalogue, as its lists have it."""
    pairs = world.all_pairs(part)
    score = product_scores(model, pairs) if isinstance(model, Judge) else model.score(pairs)
    return score.reshape(len(world.cases(part)), -1)


def everything(model, world):
    """What its lists have, and its score of the same pairs."""
    return np.stack([whole_score(model, world).ravel(), model.score(world.all_pairs("test"))])


def some_cases(world, keep):
    return replace(world, asked=world.asked.where(keep))


def answered(model, world, folder):
    """The lists and the ranks of all parts."""
    with arrays.Writer(folder / "lists.parquet") as lists, arrays.Writer(folder / "ranks.parquet") as ranks:
        for part in QUESTIONS:
            for found in retrieve(model, world.store, world.asked, part, answers.LIST_SIZE, ""):
                answers.write_answers(found, part, world.asked.seed, lists, ranks)
    return load(folder / "lists.parquet"), load(folder / "ranks.parquet")


def test_lists_hold_unseen_videos_of_the_catalogue_once_in_order(fitted, world, tmp_path):
    _, model = fitted
    lists, ranks = answered(model, world, tmp_path)
    asked, video_idx = world.asked, world.store.events("video_idx")
    for i in range(0, len(asked.cases), 29):
        one = asked.cases.where(slice(i, i + 1))
        mine = lists["case_id"] == one.case_id
        shown, score = lists["video_idx"][mine], lists["score"][mine]
        position, _ = one.histories(world.store).flat()
        assert lists["rank"][mine].tolist() == list(range(1, len(shown) + 1))
        assert (np.diff(score) <= 0).all()
        assert len(set(shown)) == len(shown)
        assert not set(shown) & set(video_idx[position].tolist())
        assert set(shown) <= set(asked.catalogue.of(one.part[0]).tolist())
    assert ranks["case_id"].tolist() == asked.cases.case_id[asked.target > 0].tolist()
    listed = {(c, v): r for c, v, r in zip(lists["case_id"], lists["video_idx"], lists["rank"], strict=True)}
    for case, video, rank in zip(ranks["case_id"], ranks["video_idx"], ranks["rank"], strict=True):
        assert listed.get((case, video), rank) == rank  # list and full ranking tell the same place


def alike(name, one, other):
    """The same scores: bit for bit, where they are not products of matrices, which round by the shape of a batch."""
    if neural(name):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(one, other)


def without_rows(world, drop):
    """The world as if these events [E] had never been."""
    store, kept = world.store, np.concatenate([[0], (~drop).cumsum()])
    events = NamedColumns({name: store.events(name)[~drop] for name in store.tables["events"]})
    cuts = {cut: kept[end] for cut, end in store.cuts.items()}
    left = replace(store, offsets=kept[store.offsets], cuts=cuts, tables={**store.tables, "events": events})
    cases = world.asked.cases
    start = store.offsets[cases.user_idx]
    cases = cases.until(kept[start + cases.history_end] - kept[start])
    return replace(world, store=left, asked=replace(world.asked, cases=cases))


@pytest.fixture(scope="module")
def half_known(blocks):
    """A third of the events positive, a third not, and of a third nobody knows; which events they are."""
    label = np.random.default_rng(7).integers(-1, 2, len(blocks.store.events("video_idx"))).astype(np.int8)
    return with_events(blocks, positive=label), label == UNKNOWN


@pytest.mark.parametrize("name", ["most_popular", "recent_popular", "bpr_mf", "itemcf", "rates"])
def test_events_of_unknown_label_might_as_well_not_be_there(name, half_known, tmp_path):
    """For models that learn from labels alone, in fit and in histories; bit for bit."""
    world, unknown = half_known
    others = without_rows(world, unknown)
    found, expected = (whole_score(fit(name, each, tmp_path), each) for each in (world, others))
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).any()


@pytest.mark.parametrize("name", list(SETTINGS))
def test_an_unknown_label_is_neither_positive_nor_negative(name, half_known, tmp_path):
    """To take it for either changes scores; for what counts positives alone, to take it for a positive."""
    world, unknown = half_known
    label = world.store.events("positive")
    taken = [world, *(with_events(world, positive=np.where(unknown, value, label)) for value in (0, 1))]
    scores = [whole_score(fit(name, each, tmp_path), each) for each in taken]
    assert (scores[0] != scores[2]).mean() > 0.1
    only_positives = name in ("most_popular", "recent_popular", "bpr_mf")
    assert (scores[0] == scores[1]).all() == only_positives


def test_a_score_does_not_depend_on_what_else_is_scored(fitted, world):
    """In other company, in another order, in pieces."""
    name, model = fitted
    pairs = world.all_pairs("test")
    some = np.random.default_rng(0).permutation(len(pairs))[:2_000]
    mixed = pairs.where(some)
    whole = model.score(pairs)
    alike(name, model.score(mixed), whole[some])
    alike(name, model.score(pairs.where(np.sort(some))), whole[np.sort(some)])
    pieces = [model.score(mixed.where(slice(start, start + 123))) for start in range(0, len(some), 123)]
    alike(name, np.concatenate(pieces), whole[some])
    alike(name, model.score(mixed.where(slice(7, 8))), whole[some[7:8]])


def test_no_pairs_have_no_scores(fitted, world):
    """As of a block of cases that no channel has a candidate for."""
    _, model = fitted
    assert len(model.score(world.all_pairs("test").where(slice(0, 0)))) == 0


def test_a_video_shown_twice_has_its_score_twice(fitted, world):
    _, model = fitted
    pairs = world.all_pairs("test").where(np.array([5, 6, 5, 90, 5]))
    score = model.score(pairs)
    assert len(score) == 5
    assert score[0] == pytest.approx(score[2], rel=1e-5)
    assert score[0] == pytest.approx(score[4], rel=1e-5)


def test_scores_are_float32_and_none_is_nan(fitted, world):
    _, model = fitted
    score = model.score(world.all_pairs("next"))
    assert score.dtype == np.float32
    assert not np.isnan(score).any()


def test_a_model_is_factored_or_sparse(fitted, world):
    """And what it says there is what it scores."""
    name, model = fitted
    assert isinstance(model, Factored) != isinstance(model, Sparse)
    cases, catalogue = world.cases("test"), world.asked.catalogue.of("test")
    histories = cases.histories(world.store)
    if isinstance(model, Factored):
        queries, vectors = model.queries(cases, histories), model.vectors(catalogue)
        assert queries.dtype == vectors.dtype == np.float32
        assert np.isfinite(queries).all()
        found = queries @ vectors.T
        found[:, np.isnan(vectors).any(1)] = -np.inf
        np.testing.assert_allclose(found, whole_score(model, world), rtol=1e-4, atol=1e-5)
    else:
        opinions = model.opinions(cases, histories)
        assert opinions.dtype == np.float32
        assert opinions.shape == (len(cases), world.store.n_videos + 1)
        found = opinions.toarray()[:, catalogue]
        alike(name, np.where(found == 0, -np.inf, found), whole_score(model, world))


def test_a_list_has_the_scores_of_its_pairs(fitted, world, tmp_path):
    name, model = fitted
    lists, _ranks = answered(model, world, tmp_path)
    for part in QUESTIONS:
        cases = world.cases(part)
        mine = np.isin(lists["case_id"], cases.case_id)
        row = np.searchsorted(cases.case_id, lists["case_id"][mine])
        pairs = Pairs.at_cases(world.store, cases, row, lists["video_idx"][mine])
        assert len(pairs) > 100
        score = product_scores(model, pairs) if isinstance(model, Judge) else model.score(pairs)
        alike(name, score, lists["score"][mine])


def test_lists_and_ranks_are_those_of_a_full_sort_of_the_scores(fitted, world, full_sort, tmp_path):
    """Of a model whose scores round by the batch, near ties may stand otherwise."""
    name, model = fitted
    lists, ranks = answered(model, world, tmp_path)
    for part in QUESTIONS:
        expected, rank = full_sort(world, part, whole_score(model, world, part))
        mine = np.isin(lists["case_id"], world.cases(part).case_id)
        same = lists["video_idx"][mine] == [video for each in expected for video, _score in each]
        assert same.all() if not neural(name) else same.mean() > 0.99
        if part != "next":
            found = ranks["rank"][np.isin(ranks["case_id"], world.cases(part).case_id)]
            assert (found == rank).all() if not neural(name) else (found == rank).mean() > 0.99


def test_the_columns_that_a_model_names_are_all_that_it_reads(fitted, world, tmp_path):
    """Fitted and asked on a store of those alone, it answers the same."""
    name, model = fitted
    named = type(model).columns(params_of(name))
    world.store.save(tmp_path / "store")
    link(tmp_path / "store", tmp_path / "inputs", named, ["train"])
    store = Store.load(tmp_path / "inputs")
    needed = {column.removesuffix("?") for column in named} & world.store.columns.keys()
    assert {column for column in named if not column.endswith("?")} <= needed
    assert set(store.columns) == {"events/video_idx", *needed} < set(world.store.columns)
    bare = replace(world, store=store)
    assert (everything(fit(name, bare, tmp_path), bare) == everything(model, world)).all()
    one, other = answered(model, bare, tmp_path), answered(model, world, tmp_path)
    for table, same in zip(one, other, strict=True):
        assert all((table[column] == same[column]).all() for column in table)


def test_each_history_is_read_up_to_its_own_end(fitted, world):
    """A frozen and a running history differ in `history_end` alone; the cases' own is not looked at."""
    name, model = fitted
    frozen = world.all_pairs("test").where(slice(0, 800))
    running = replace(frozen, history_end=frozen.history_end - 12 - np.arange(800) // 80)
    both = Pairs(
        frozen.store, frozen.cases,
        **{field.name: np.concatenate([getattr(frozen, field.name), getattr(running, field.name)])
           for field in fields(frozen)[2:]},
    )  # fmt: skip
    found = model.score(both)
    alike(name, found, np.concatenate([model.score(frozen), model.score(running)]))
    shorter = frozen.cases.until(frozen.cases.history_end - 12 - np.arange(len(frozen.cases)))
    alike(name, found[800:], model.score(Pairs.at_cases(frozen.store, shorter, frozen.row, frozen.video_idx)))
    assert (found[:800] != found[800:]).any() == (name in SEQUENTIAL)  # of models that read tags: test_tags.py


def test_a_saved_model_answers_the_same(fitted, world, tmp_path):
    name, model = fitted
    model.save(tmp_path / name)
    loaded = module(name).Model.load(tmp_path / name)
    assert (everything(loaded, world) == everything(model, world)).all()
    assert loaded.params == model.params


def test_the_same_seed_gives_the_same_bits(fitted, world, tmp_path):
    name, model = fitted
    assert (everything(fit(name, world, tmp_path), world) == everything(model, world)).all()


def with_events(world, **columns):
    """Other events in some columns."""
    events = NamedColumns(world.store.tables["events"] | columns)
    return replace(world, store=replace(world.store, tables={**world.store.tables, "events": events}))


def with_cut(world, cut, end):
    return replace(world, store=replace(world.store, cuts={**world.store.cuts, cut: end}))


@pytest.mark.parametrize("cut", ["early", "train", "train_valid"])
def test_fitting_reads_no_further_than_its_cut(fitted, world, tmp_path, cut):
    """Every event after it becomes another video and reaction; the fitted model stays."""
    name, _model = fitted
    other = with_other_future(world, world.store.cuts[cut])
    # Epochs are chosen on valid, so all of them are kept here.
    changes = {"epochs": 1} if neural(name) else {}
    pair = [fit(name, each, tmp_path, cut=cut, **changes) for each in (world, other)]
    one, other_score = (everything(model, world) for model in pair)
    assert (one == other_score).all()


def with_other_future(world, end):
    """Every event after each user's `end` becomes another video and reaction."""
    video_idx, positive = world.store.events("video_idx"), world.store.events("positive")
    after = np.arange(len(video_idx)) >= np.repeat(end, np.diff(world.store.offsets))
    assert after.any()
    video_idx = np.where(after, 81 - video_idx, video_idx)
    return with_events(world, video_idx=video_idx, positive=np.where(after, ~positive, positive))


def nothing_shown(asked):
    none = np.zeros(0, np.int64)
    video_idx, tab = none.astype(np.int32), none.astype(np.int16)
    return ShownPairs(asked.cases.where(none), asked.user_key[none], none, video_idx, none, tab)


def predicted(name, model, world, shown, n_seeds, cuts, data, curve):
    """`fit_and_predict` with the seed of `fit`, on these cuts."""
    asked = replace(world.asked, seed=0)
    store = replace(world.store, cuts={cut: world.store.cuts[cut] for cut in ("start", *cuts)})
    how = {"train": session(replace(world, asked=asked), curve)} if neural(name) else {}
    predict.fit_and_predict(
        own(name), type(model), params_of(name), store, asked, shown, n_seeds, data, lambda seed, cut: how.get(cut)
    )
    return models.load(own(name), data / "models" / own(name))


def test_fitting_again_is_fitting_on_a_longer_train(fitted, world, tmp_path):
    """The model that answers test is the one of a world whose train ends where valid does; what recommends, of one that
    is all train."""
    name, model = fitted
    cuts = ("train", "train_valid", "all")
    by_cut = predicted(name, model, world, nothing_shown(world.asked), 1, cuts, tmp_path, None)
    assert set(by_cut) == set(cuts)
    assert (whole_score(answering("valid", by_cut), world, "valid") == whole_score(model, world, "valid")).all()
    for part, cut in (("test", "train_valid"), ("next", "all")):
        longer = with_cut(world, "train", world.store.cuts[cut]).store.fitted_on("train")
        afresh = type(model).fit(model.params, Training(longer, np.random.default_rng(0)))
        assert (whole_score(answering(part, by_cut), world, part) == whole_score(afresh, world, part)).all()
    assert (whole_score(answering("test", by_cut), world) != whole_score(model, world)).any()


def test_a_model_that_does_not_recommend_answers_nothing_after_the_log(fitted, world, tmp_path):
    name, model = fitted
    by_cut = predicted(name, model, world, nothing_shown(world.asked), 1, ("train",), tmp_path, None)
    assert set(by_cut) == {"train"}
    listed = set(load(tmp_path / f"lists/{own(name)}.parquet")["case_id"])
    assert len(listed) > 0
    assert listed.isdisjoint(world.cases("next").case_id)


@pytest.fixture
def shown(blocks):
    """Three videos shown to each user that is asked in test."""
    asked = blocks.asked.of("test")
    row = np.repeat(np.arange(len(asked.cases)), 3)
    video_idx = np.tile(np.array([3, 50, 77], np.int32), len(asked.cases))
    return ShownPairs(asked.cases, asked.user_key, row, video_idx, asked.cases.time_ms[row], asked.cases.tab[row])


def test_every_seed_answers_and_the_first_is_saved(fitted, world, shown, tmp_path):
    """A model that draws nothing is fitted once."""
    name, model = fitted
    saved = predicted(name, model, world, shown, 2, ["train"], tmp_path, tmp_path / "curve.csv")
    tables = {kind: load(tmp_path / kind / f"{own(name)}.parquet") for kind in ("lists", "ranks", "scores")}
    seeds = [0, 1] if own(name) in ("bpr_mf", *NEURAL) else [0]
    for table in tables.values():
        assert np.unique(table["seed"]).tolist() == seeds
    scores = tables["scores"]
    first, last = (scores["score"][scores["seed"] == seed] for seed in (seeds[0], seeds[-1]))
    assert scores["impression"].tolist() == list(range(len(shown.row))) * len(seeds)
    expected = model.score(shown.pairs(world.store))
    np.testing.assert_allclose(first, np.where(expected == -np.inf, np.nan, expected), rtol=1e-4, atol=1e-5)
    assert np.array_equal(first, last, equal_nan=True) == (len(seeds) == 1)
    assert set(saved) == {"train"}
    assert (whole_score(saved["train"], world) == whole_score(model, world)).all()


def test_without_refit_one_model_answers_all(fitted, world, tmp_path):
    name, model = fitted
    model.save(tmp_path / "train")
    by_cut = models.load(own(name), tmp_path)
    assert answering("valid", by_cut) is answering("test", by_cut)


def test_an_empty_history_is_answered(fitted, world):
    _, model = fitted
    asked = world.asked.of("next")
    empty = some_cases(world, np.isin(world.asked.cases.case_id, asked.cases.case_id[asked.cases.history_end == 0]))
    assert len(empty.asked.cases) == 1
    scores = whole_score(model, empty, "next")
    assert scores.shape == (1, 80)
    assert not np.isnan(scores).any()
    assert len(list(retrieve(model, empty.store, empty.asked, "next", 10, ""))) == 1


def test_a_user_that_train_does_not_know_is_answered_from_the_history_alone(fitted, world, tmp_path):
    """User 1 has no event in train. Who uses histories answers by it; the others answer as for any newcomer."""
    name, _model = fitted
    end = world.store.cuts["train"].copy()
    end[1] = world.store.cuts["start"][1]
    model = fit(name, with_cut(world, "train", end), tmp_path)
    asked = replace(world, asked=world.asked.of("test").where(slice(0, 1)))
    assert asked.asked.cases.user_idx.tolist() == [1]
    scores = whole_score(model, asked)
    assert np.isfinite(scores).any()
    assert not np.isnan(scores).any()
    if name in SEQUENTIAL:
        best = next(retrieve(model, asked.store, asked.asked, "test", 10, "")).listed["video_idx"]
        assert (best <= 40).mean() > 0.8  # see the fixture: this user draws from the first half


@pytest.mark.parametrize("k", [7, 500])
def test_lists_are_as_long_as_opinions_allow(fitted, world, tmp_path, monkeypatch, k):
    """500 is far more than the catalogue of 80 holds."""
    _, model = fitted
    monkeypatch.setattr(answers, "LIST_SIZE", k)
    lists, _ranks = answered(model, world, tmp_path)
    found = np.bincount(lists["case_id"], minlength=len(world.asked.cases))
    opinions = np.zeros(len(world.asked.cases), int)
    for part in QUESTIONS:
        cases, catalogue = world.cases(part), world.asked.catalogue.of(part)
        position, owner = cases.histories(world.store).flat()
        scores = whole_score(model, world, part)
        seen = np.zeros((len(cases), 81), bool)
        seen[owner, world.store.events("video_idx")[position]] = True
        opinions[cases.case_id] = ((scores > -np.inf) & ~seen[:, catalogue]).sum(1)
    assert (found == np.minimum(opinions, k)).all()
    assert opinions.max() > 10  # itemcf has one on its own half alone


def test_ties_stand_in_a_fixed_order(fitted, world, tmp_path):
    """By the hash of (user, moment, video), whatever the model."""
    _, model = fitted
    lists, _ranks = answered(model, world, tmp_path)
    tie = world.asked.tie(lists["case_id"], lists["video_idx"])
    assert (np.lexsort((tie, -lists["score"], lists["case_id"])) == np.arange(len(tie))).all()


@pytest.mark.parametrize("name", ["most_popular", "recent_popular", "bpr_mf", "itemcf", "rates", "tag_chain"])
def test_lists_do_not_hang_on_how_the_work_is_cut(name, blocks, tmp_path, monkeypatch):
    """Where scores are sums and no matrix products, which round by the shape of a block."""
    model = fit(name, blocks, tmp_path)
    some = some_cases(blocks, blocks.asked.cases.user_idx % 8 == 0)
    lists, ranks = answered(model, some, tmp_path)
    monkeypatch.setattr("nextreel.scoring.retrieve._CASES", 3)
    monkeypatch.setattr("nextreel.scoring.retrieve._EVENTS", 3 * 26)
    again, marks = answered(model, some, tmp_path)
    assert all((lists[column] == again[column]).all() for column in lists)
    assert (ranks["rank"] == marks["rank"]).all()


def test_deleting_the_future_changes_no_list(fitted, world, tmp_path):
    """Of a log that ends where test begins, the valid lists are the same; test_future.py goes from raw files."""
    name, model = fitted
    store = world.store
    end = store.cuts["train_valid"]
    gone = np.arange(len(store.events("video_idx"))) >= np.repeat(end, np.diff(store.offsets))
    kept = np.concatenate([[0], (~gone).cumsum()])
    cuts = {cut: kept[position] for cut, position in store.cuts.items()}
    events = NamedColumns({column: values[~gone] for column, values in store.tables["events"].items()})
    shorter = replace(store, offsets=kept[store.offsets], cuts=cuts, tables={**store.tables, "events": events})
    on_valid = replace(world, asked=world.asked.of("valid"))
    other_world = replace(on_valid, store=shorter)
    one = answered(model, on_valid, tmp_path)
    other = answered(fit(name, other_world, tmp_path), other_world, tmp_path)
    for table, same in zip(one, other, strict=True):
        assert all((table[column] == same[column]).all() for column in table)


def copied(store):
    """All numbers of a store."""
    flat = [store.offsets, *store.cuts.values()]
    for table in store.tables.values():
        for column in table.values():
            flat += [column.values, column.offsets] if isinstance(column, Sets) else [column]
    return [column.copy() for column in flat]


def test_the_input_is_left_as_it_was(fitted, world, tmp_path):
    _, model = fitted
    before, pairs = copied(world.store), world.all_pairs("test")
    asked = {field.name: getattr(pairs, field.name).copy() for field in fields(pairs)[2:]}
    model.score(pairs)
    assert all((getattr(pairs, name) == column).all() for name, column in asked.items())
    answered(model, world, tmp_path)
    fit(fitted[0], world, tmp_path)
    for one, other in zip(before, copied(world.store), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", PERSONAL)
def test_taste_is_found_on_the_checkerboard(name, blocks, tmp_path):
    """Some 16 of 40 videos of a user's half are unseen in test: HR@10 is 10/16 for who knows it, 10/56 by chance."""
    assert hit_rate(fit(name, blocks, tmp_path), blocks) > 0.5
    assert hit_rate(fit("most_popular", blocks, tmp_path), blocks) < 0.4


@pytest.mark.parametrize("name", ["gru4rec", "sasrec"])
def test_order_is_found_on_the_circle(name, cycle, tmp_path):
    assert hit_rate(fit(name, cycle, tmp_path), cycle, k=1) > 0.9
    assert hit_rate(fit("most_popular", cycle, tmp_path), cycle, k=1) < 0.3


@pytest.mark.parametrize(
    "loss",
    [
        *({"loss": name} for name in ("bce", "bpr", "gbce", "sampled_softmax")),
        *({"loss": "sampled_softmax", "negatives_from": "mixed", "logq": logq} for logq in ("all", "negatives")),
    ],
    ids=lambda loss: "-".join(loss.values()),
)
def test_every_loss_learns_the_circle(loss, cycle, tmp_path):
    assert hit_rate(fit("sasrec", cycle, tmp_path, negatives=8, **loss), cycle, k=5) > 0.8


def test_a_diverging_loss_stops_with_a_word(cycle, tmp_path):
    with pytest.raises(UserError, match=r"lower `model\.lr`"):
        fit("sasrec", cycle, tmp_path, lr=1e12)


def test_softmax_over_too_many_videos_is_refused(cycle, tmp_path, monkeypatch):
    monkeypatch.setattr("nextreel.nn.recommender.SOFTMAX_LIMIT", 50)
    with pytest.raises(UserError, match="60 videos"):
        fit("sasrec", cycle, tmp_path)


def test_positives_alone_learn_the_circle(cycle, tmp_path):
    assert hit_rate(fit("sasrec", cycle, tmp_path, history="positives"), cycle, k=1) > 0.9


def scored(model, store, user_idx, history_end, videos):
    """The scores of some videos for one user with so many events."""
    case = Cases(
        np.zeros(1, int), np.array(["test"]), np.array([user_idx]), np.zeros(1, int), np.zeros(1, np.int16),
        np.array([history_end]),
    )  # fmt: skip
    return model.score(Pairs.at_cases(store, case, np.zeros(len(videos), int), np.array(videos)))


def test_recent_popular_by_hand(made_store):
    """Positives at 0, 1 and 3 hours, a half-life of one hour: the last counts 1, the one before 1/4, the first 1/8."""
    from nextreel.models import recent_popular

    events = {
        "video_idx": np.array([5, 6, 5, 7], np.int32),
        "time_ms": np.array([0, 1, 3, 4]) * 3_600_000,
        "positive": np.array([True, True, True, False]),
    }
    cuts = {"start": np.array([0, 0]), "train": np.array([0, 4])}
    store = made_store([0, 0, 4], cuts, events, np.arange(10), np.arange(2))
    model = recent_popular.Model.fit(recent_popular.Params(half_life_hours=1), Training(store.fitted_on("train"), None))
    assert scored(model, store, 1, 4, [5, 6, 7]).tolist() == [1.125, 0.25, 0]


def test_bpr_mf_gives_a_newcomer_what_does_not_hang_on_the_user(blocks, tmp_path):
    model = fit("bpr_mf", blocks, tmp_path)
    asked = blocks.asked.of("next")
    empty = replace(blocks, asked=asked.where(asked.cases.history_end == 0))
    assert len(empty.asked.cases) == 1
    assert (whole_score(model, empty, "next") == model.video_factors[1:81, -1]).all()


def with_users(world, user_key):
    users = NamedColumns(world.store.tables["users"] | {"user_key": user_key})
    store = replace(world.store, tables={**world.store.tables, "users": users})
    return replace(world, store=store)


def test_bpr_mf_gives_a_stranger_what_any_newcomer_gets(blocks, made_store, tmp_path):
    """User 1 of another log is not user 1 of train: only a key is anybody."""
    model = fit("bpr_mf", blocks, tmp_path)
    events = {"video_idx": np.array([4, 9], np.int32), "time_ms": np.arange(2), "positive": np.ones(2, bool)}
    cuts = {"start": np.array([0, 0]), "train": np.array([0, 2])}
    newcomer = model.video_factors[1:81, -1]
    for raw, known in ((4_999, False), (9_999, False), (5_001, True)):
        store = made_store([0, 0, 2], cuts, events, blocks.store.tables["videos"]["video_key"], [0, raw])
        found = scored(model, store, 1, 2, range(1, 81))
        assert (found == newcomer).all() == (not known)
        if known:
            own = replace(blocks, asked=blocks.asked.where(blocks.asked.cases.user_idx == 1))
            assert (found == whole_score(model, own, "next")[0]).all()
    for raw in (4_999, 9_999):  # before and behind all that it knows
        strangers = with_users(blocks, np.full(len(blocks.store.users("user_key")), raw))
        assert (whole_score(model, strangers) == newcomer).all()


def test_bpr_mf_knows_people_by_their_keys(blocks, tmp_path):
    """In a log that numbers users otherwise each gets its own scores; it holds strangers, too."""
    model = fit("bpr_mf", blocks, tmp_path)
    user_key = blocks.store.users("user_key")
    other = with_users(blocks, np.concatenate([user_key[:1], user_key[:0:-1]]))
    cases = blocks.cases("test")
    renamed = replace(cases, user_idx=(len(user_key) - cases.user_idx).astype(np.int32), history_end=0 * cases.time_ms)
    assert (other.store.users("user_key")[renamed.user_idx] == user_key[cases.user_idx]).all()
    pairs, again = (
        Pairs.at_cases(world.store, some, np.repeat(np.arange(len(cases)), 80), np.tile(np.arange(1, 81), len(cases)))
        for world, some in ((blocks, cases), (other, renamed))
    )
    assert (model.score(pairs) == model.score(again)).all()


def test_bpr_mf_that_diverges_stops_with_a_word(blocks, tmp_path):
    with pytest.raises(UserError, match=r"lower `recall\.bpr_mf\.lr`"):
        fit("bpr_mf", blocks, tmp_path, lr=10)


def test_train_without_a_target_stops_with_a_word(blocks, tmp_path):
    nobody = with_events(blocks, positive=np.zeros(len(blocks.store.events("video_idx")), bool))
    with pytest.raises(UserError, match="no target"):
        fit("gru4rec", nobody, tmp_path, passed_weight=0)


def test_bpr_mf_knows_popularity(world_of, tmp_path):
    """Video v of 40 is drawn in proportion to v: without the correction the scores would not rise with it."""
    rng = np.random.default_rng(0)
    weight = np.arange(1, 41) / np.arange(1, 41).sum()
    world = world_of(np.array([1 + rng.choice(40, 8, replace=False, p=weight) for _ in range(300)]), 6, 1)
    bias = fit("bpr_mf", world, tmp_path, factors=4).video_factors[1:, -1]
    assert np.corrcoef(bias, np.log(np.arange(1, 41)))[0, 1] > 0.8


@pytest.mark.parametrize("passed", [0, 0.5])
def test_itemcf_by_hand(passed, made_store):
    """User 1: a b c positive, x passed over before c. User 2: a b."""
    from nextreel.models import itemcf

    a, b, c, x = 1, 2, 3, 9
    events = {
        "video_idx": np.array([a, b, x, c, a, b], np.int32),
        "time_ms": np.arange(6),
        "positive": np.array([True, True, False, True, True, True]),
    }
    cuts = {"start": np.array([0, 0, 4]), "train": np.array([0, 4, 6])}
    store = made_store([0, 0, 4, 6], cuts, events, np.arange(10), np.arange(3))
    settings = itemcf.Params(window=2, decay=0.5, recency=0.5, shrink=1, neighbours=5, passed_weight=passed)
    model = itemcf.Model.fit(settings, Training(store.fitted_on("train"), None))
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
    scores = scored(model, store, 2, 2, [c, 8])
    assert scores[0] == pytest.approx(0.5 * similarity[a, c] + similarity[b, c])
    assert scores[1] == -np.inf


def test_itemcf_in_small_blocks_is_the_same(cycle, monkeypatch):
    """Row by row, or all pairs at once."""
    from nextreel.models import itemcf

    settings = itemcf.Params(**SETTINGS["itemcf"] | {"neighbours": 7})
    fitted = []
    for pairs in (1, 1_000, 1 << 24):
        monkeypatch.setattr(itemcf, "_PAIRS", pairs)
        fitted.append(itemcf.Model.fit(settings, Training(cycle.store.fitted_on("train"), None)).similarity)
    for other in fitted[:2]:
        assert (other != fitted[2]).nnz == 0
    assert np.diff(fitted[2].indptr).max() == 7


@pytest.mark.parametrize("events", [1, 60, 1 << 24])
def test_itemcf_scores_in_small_blocks_the_same(events, blocks, monkeypatch):
    from nextreel.models import itemcf

    model = itemcf.Model.fit(params_of("itemcf"), Training(blocks.store.fitted_on("train"), None))
    whole = whole_score(model, blocks)
    monkeypatch.setattr(itemcf, "_EVENTS", events)
    assert (whole_score(model, blocks) == whole).all()
