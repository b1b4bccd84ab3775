"""Lists and ranks of the whole catalogue, against a plain full sort."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from nextreel.cases.pairs import Pairs
from nextreel.contract import Factored, Sparse, product_scores
from nextreel.metrics.ranks import MISS
from nextreel.parts import QUESTIONS
from nextreel.scoring import order
from nextreel.scoring import retrieve as retrieving
from nextreel.scoring.answers import ranked
from nextreel.scoring.retrieve import retrieve, target_ranks


class Products:
    """Whole numbers, so that many scores tie; no opinion on every seventh video."""

    def queries(self, cases, histories):
        return np.stack([cases.user_idx % 3, histories.length % 5 - 2], axis=1).astype(np.float32)

    def vectors(self, video_idx):
        vectors = np.stack([video_idx % 4, video_idx // 20], axis=1).astype(np.float32)
        vectors[video_idx % 7 == 0] = np.nan
        return vectors

    def score(self, pairs):
        return product_scores(self, pairs)


class Few:
    """An opinion on some videos a case, on none for every eleventh user, whole numbers down to below 0."""

    def opinions(self, cases, histories):
        n = histories.store.n_videos + 1
        noise = order.tie_hash(cases.user_idx.astype(np.uint64)[:, None], np.arange(n)[None]) % np.uint64(12)
        noise[cases.user_idx % 11 == 0] = 0
        noise[:, 0] = 0
        matrix = noise.astype(np.float32) - 6
        row, column = np.nonzero(noise > 2)
        return sparse.coo_array((matrix[row, column], (row, column)), (len(cases), n)).tocsr()

    def score(self, pairs):
        cases, which = pairs.asked()
        matrix = self.opinions(cases, cases.histories(pairs.store))
        known = sparse.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), matrix.shape).toarray() > 0
        at = (which, pairs.video_idx)
        return np.where(known[at], matrix.toarray()[at], -np.inf).astype(np.float32)


def answers(model, world, part, k):
    """Each case's list [(video_idx, score), ...] with its ranks checked, and the ranks of the targets."""
    blocks = list(retrieve(model, world.store, world.asked, part, k, ""))
    cases = world.cases(part)
    assert np.concatenate([found.asked.cases.case_id for found in blocks]).tolist() == cases.case_id.tolist()
    listed = {name: np.concatenate([found.listed[name] for found in blocks]) for name in blocks[0].listed}
    lists = []
    for case_id in cases.case_id:
        mine = listed["case_id"] == case_id
        assert listed["rank"][mine].tolist() == list(range(1, mine.sum() + 1))
        lists.append(list(zip(listed["video_idx"][mine].tolist(), listed["score"][mine].tolist(), strict=True)))
    return lists, np.concatenate([found.target_rank for found in blocks])


def scores(model, world, part):
    return model.score(world.all_pairs(part)).reshape(len(world.cases(part)), -1)


@pytest.mark.parametrize("model", [Products(), Few()], ids=["factored", "sparse"])
@pytest.mark.parametrize("part", QUESTIONS)
@pytest.mark.parametrize("k", [1, 5, 500])
def test_lists_and_ranks_are_those_of_a_full_sort(model, part, k, cycle, full_sort):
    assert isinstance(model, Factored) != isinstance(model, Sparse)
    expected, ranks = full_sort(cycle, part, scores(model, cycle, part))
    lists, found = answers(model, cycle, part, k)
    assert lists == [each[:k] for each in expected]
    assert found.tolist() == ranks.tolist()
    if part != "next":
        assert (found == MISS).any()
        assert (found > 5).any()


@pytest.mark.parametrize("model", [Products(), Few()], ids=["factored", "sparse"])
def test_ranks_without_lists_are_the_same(model, cycle, full_sort):
    for part in ("valid", "test"):
        _lists, ranks = full_sort(cycle, part, scores(model, cycle, part))
        assert target_ranks(model, cycle.store, cycle.asked, part, "").tolist() == ranks.tolist()


@pytest.mark.parametrize("model", [Products(), Few()], ids=["factored", "sparse"])
@pytest.mark.parametrize("size", [1, 7])
def test_the_work_may_be_cut_anywhere(model, size, cycle, monkeypatch):
    whole = answers(model, cycle, "test", 10)
    monkeypatch.setattr(retrieving, "_CASES", size)
    monkeypatch.setattr(retrieving, "_EVENTS", 24 * size)
    assert len(list(retrieve(model, cycle.store, cycle.asked, "test", 10, ""))) > 40
    cut = answers(model, cycle, "test", 10)
    assert cut[0] == whole[0]
    assert cut[1].tolist() == whole[1].tolist()


@pytest.mark.parametrize("model", [Products(), Few()], ids=["factored", "sparse"])
def test_a_target_outside_the_catalogue_is_a_miss(model, cycle, full_sort):
    """Nor is a video outside it listed, or a rival."""
    first_part = cycle.asked.catalogue.first_part.copy()
    first_part[::2] = 5
    asked = replace(cycle.asked, catalogue=replace(cycle.asked.catalogue, first_part=first_part))
    world = replace(cycle, asked=asked)
    assert (world.asked.catalogue.of("test") % 2 == 1).all()
    lists, found = answers(model, world, "test", 500)
    expected, ranks = full_sort(world, "test", scores(model, world, "test"))
    assert lists == expected
    assert found.tolist() == ranks.tolist()
    assert (found[asked.of("test").target % 2 == 0] == MISS).all()


@pytest.mark.parametrize("model", [Products(), Few()], ids=["factored", "sparse"])
def test_an_empty_catalogue_has_no_lists(model, cycle):
    nothing = replace(cycle.asked.catalogue, first_part=np.full(61, 5, np.int8))
    world = replace(cycle, asked=replace(cycle.asked, catalogue=nothing))
    lists, found = answers(model, world, "test", 10)
    assert not any(lists)
    assert (found == MISS).all()


@pytest.mark.parametrize("model", [Products(), Few()], ids=["factored", "sparse"])
def test_a_part_without_cases_has_no_answers(model, cycle):
    assert list(retrieve(model, cycle.store, cycle.asked.of("valid"), "test", 10, "")) == []


class Silent(Few):
    def opinions(self, cases, histories):
        return sparse.csr_array((len(cases), histories.store.n_videos + 1), dtype=np.float32)


class Mute(Products):
    def vectors(self, video_idx):
        return np.full((len(video_idx), 2), np.nan, np.float32)


@pytest.mark.parametrize("model", [Mute(), Silent()], ids=["factored", "sparse"])
def test_no_opinion_is_a_miss_as_in_the_list(model, cycle):
    lists, found = answers(model, cycle, "test", 60)
    assert not any(lists)
    assert (found == MISS).all()


class NanQueries(Products):
    def queries(self, cases, histories):
        return np.full((len(cases), 2), np.nan, np.float32)


class NanOpinions(Few):
    def opinions(self, cases, histories):
        return super().opinions(cases, histories) * np.float32(np.nan)


@pytest.mark.parametrize("model", [NanQueries(), NanOpinions()], ids=["factored", "sparse"])
@pytest.mark.parametrize("k", [0, 10])
def test_nan_is_no_score(model, k, cycle):
    """A broken model must not pass for one without opinions."""
    with pytest.raises(ValueError, match="NaN|finite"):
        list(retrieve(model, cycle.store, cycle.asked, "test", k, "no number"))


def test_ranked_from_entries_in_any_order(cycle):
    """All entries of a case that may matter, and no more: the oracle hands over few."""
    asked, catalogue = cycle.asked.of("test").where(slice(0, 3)), cycle.asked.catalogue.of("test")
    column = np.array([5, 9, 2, 7, 1, 30])
    row, score = np.array([1, 0, 1, 0, 1, 0]), np.array([1.0, 3, 1, 3, 2, 9], np.float32)
    target = np.array([catalogue[7], catalogue[30], catalogue[5]], np.int32)
    found = ranked(replace(asked, target=target), catalogue, row, column, score, 2)
    pair = asked.tie_at(np.zeros(2, int), catalogue[[9, 7]])  # equal scores of the first case
    second, _third = (9, 7) if pair[0] < pair[1] else (7, 9)
    tied = asked.tie_at(np.ones(2, int), catalogue[[5, 2]])
    assert found.listed["case_id"].tolist() == asked.cases.case_id[[0, 0, 1, 1]].tolist()
    assert found.listed["video_idx"].tolist() == catalogue[[30, second, 1, 5 if tied[0] < tied[1] else 2]].tolist()
    assert found.listed["rank"].tolist() == [1, 2, 1, 2]
    assert found.listed["score"].tolist() == [9, 3, 2, 1]
    assert found.target_rank.tolist() == [2 if second == 7 else 3, MISS, MISS]


def test_scores_of_pairs_and_of_lists_are_the_same_bytes(cycle):
    for model in (Products(), Few()):
        for found in retrieve(model, cycle.store, cycle.asked, "test", 10, ""):
            row = np.searchsorted(found.asked.cases.case_id, found.listed["case_id"])
            pairs = Pairs.at_cases(cycle.store, found.asked.cases, row, found.listed["video_idx"])
            assert (model.score(pairs) == found.listed["score"]).all()
