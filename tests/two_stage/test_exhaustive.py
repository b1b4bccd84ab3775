from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from nextreel import arrays
from nextreel.cases.pairs import Pairs
from nextreel.two_stage import exhaustive

N = 61


class Few:
    """Sparse: an opinion on the videos from 10 to 30."""

    scale = "share"

    def opinions(self, cases, histories):
        dense = np.zeros((len(cases), N), np.float32)
        dense[:, 10:31] = np.arange(10, 31)
        return sparse.csr_array(dense)

    def score(self, pairs):
        known = (pairs.video_idx >= 10) & (pairs.video_idx <= 30)
        return np.where(known, pairs.video_idx, -np.inf).astype(np.float32)


@pytest.mark.parametrize("kind", ["factored", "sparse"])
def test_lists_and_ranks_are_those_of_a_full_sort(cycle, blend_of, known, full_sort, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(exhaustive, "_SCORES", 300)
    rng = np.random.default_rng(0)
    other = known(rng.standard_normal(N).round(1))
    blend = blend_of(cycle, other, Few() if kind == "sparse" else known(rng.gamma(1, 1, N), "share"))
    exhaustive.write(blend, 1.5, cycle.asked, tmp_path / "system")
    listed, ranked = (arrays.load(tmp_path / f"system/{name}.parquet") for name in ("lists", "ranks"))
    for part in ("valid", "test"):
        cases, catalogue = cycle.cases(part), cycle.asked.catalogue.of(part)
        size = (len(cases), len(catalogue))
        row = np.repeat(np.arange(len(cases)), len(catalogue))
        unseen = np.ones(size, bool)
        for i in range(len(cases)):
            start = cycle.store.offsets[cases.user_idx[i]]
            seen = cycle.store.events("video_idx")[start : start + cases.history_end[i]]
            unseen[i] = ~np.isin(catalogue, seen)
        keep = unseen.ravel()  # a median is of unseen videos
        pairs = Pairs.at_cases(cycle.store, cases, row[keep], np.tile(catalogue, len(cases))[keep])
        terms = blend.terms(part, lambda _store, pairs=pairs: pairs, row[keep], blend.references(part, cycle.asked))
        scores = np.full(size, -np.inf, np.float32)
        scores[unseen] = terms.score(1.5)
        expected, ranks = full_sort(SimpleNamespace(store=cycle.store, asked=cycle.asked), part, scores)
        mine = np.isin(listed["case_id"], cases.case_id)
        assert listed["video_idx"][mine].tolist() == [video for each in expected for video, _score in each]
        assert ranked["rank"][np.isin(ranked["case_id"], cases.case_id)].tolist() == ranks.tolist()


def test_a_large_catalogue_is_not_tried(cycle, known, blend_of, tmp_path, monkeypatch):
    blend = blend_of(cycle, known(np.zeros(61)), known(np.zeros(61), "share"))
    assert exhaustive.possible(blend, cycle.asked)
    monkeypatch.setattr(exhaustive, "MOST", 100)
    assert not exhaustive.possible(blend, cycle.asked)
    exhaustive.write(blend, 1.5, cycle.asked, tmp_path / "exhaustive")
    assert list((tmp_path / "exhaustive").iterdir()) == []


def test_a_ranker_that_is_asked_pair_by_pair_is_not_tried(cycle, known, blend_of):
    class Judging(known):
        def read(self, said):
            raise AssertionError

        judged = read

        predictions = read

    blend = blend_of(cycle, Judging(np.zeros(61)), known(np.zeros(61), "share"))
    assert not exhaustive.possible(blend, cycle.asked)


def test_with_trees_beside_the_ranker_nothing_is_tried_and_nothing_stale_is_left(cycle, known, blend_of, tmp_path):
    class Pairwise:
        scale = "log_odds"

        def score(self, pairs):
            return np.zeros(len(pairs), np.float32)

    (tmp_path / "system").mkdir()
    (tmp_path / "system/lists.parquet").touch()
    blend = blend_of(cycle, known(np.zeros(61)), known(np.zeros(61), "share"), Pairwise())
    exhaustive.write(blend, 1.0, cycle.asked, tmp_path / "system")
    assert list((tmp_path / "system").iterdir()) == []
