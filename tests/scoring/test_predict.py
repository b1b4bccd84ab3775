"""What a model's answers look like in its tables; what is in them is tested for every model in test_models.py."""

from dataclasses import replace

import numpy as np
import pytest

from nextreel import arrays
from nextreel.scoring import answers, predict
from nextreel.scoring.retrieve import retrieve
from nextreel.scoring.sets import ShownPairs


class Spy:
    """A scorer that keeps what it was asked."""

    def __init__(self, sign=1):
        self.sign, self.asked = sign, []

    def score(self, pairs):
        self.asked.append(pairs)
        return np.where(pairs.video_idx % 5 == 0, -np.inf, self.sign * pairs.video_idx).astype(np.float32)


class Critic(Spy):
    """A judge with two heads."""

    def predictions(self, pairs):
        self.asked.append(pairs)
        return {"likes": (2 * pairs.video_idx).astype(np.float32), "skips": np.ones(len(pairs), np.float32)}

    def read(self, said):
        return said["likes"] / 2

    def judged(self, pairs, told):
        raise AssertionError("nobody knows what came of them")


def shown_to(world, counts, part="test"):
    """Cases of a part, the i-th with counts[i] impressions, of any videos."""
    asked = world.asked.of(part).where(slice(0, len(counts)))
    assert len(asked.cases) == len(counts)
    row = np.repeat(np.arange(len(counts)), counts)
    video_idx = (1 + np.arange(len(row)) % 60).astype(np.int32)
    time_ms = asked.cases.time_ms[row] + np.arange(len(row))
    return ShownPairs(asked.cases, asked.user_key, row, video_idx, time_ms, np.zeros(len(row), np.int16))


def both_parts(world):
    """Two rows a case of valid and of test, mixed."""
    asked = world.asked.where(world.asked.cases.part != "next")
    row = np.random.default_rng(0).permutation(np.repeat(np.arange(len(asked.cases)), 2))
    video_idx = (1 + np.arange(len(row)) % 60).astype(np.int32)
    return ShownPairs(asked.cases, asked.user_key, row, video_idx, asked.cases.time_ms[row], asked.cases.tab[row])


def written(fitted, world, shown, path):
    with arrays.Writer(path) as writer:
        predict.write_scores(fitted, "spy", world.store, shown, 42, writer)
    return arrays.load(path)


def test_no_pair_is_scored_that_was_not_shown(cycle, tmp_path):
    """63 cases of 10 impressions and one of 50,000: no padding to the longest."""
    spy = Spy()
    found = written(
        {"train": spy}, cycle, shown_to(cycle, [10] * 31 + [50_000] + [10] * 32), tmp_path / "scores.parquet"
    )
    assert sum(len(pairs) for pairs in spy.asked) == len(found["score"]) == 50_630


def test_every_impression_has_its_score_and_no_opinion_is_null(cycle, tmp_path):
    shown = both_parts(cycle)
    found = written({"train": Spy()}, cycle, shown, tmp_path / "scores.parquet")
    assert sorted(found["impression"]) == list(range(len(shown.row)))
    assert set(found["seed"]) == {42}
    video_idx = shown.video_idx[found["impression"]]
    expected = np.where(video_idx % 5 == 0, np.nan, video_idx)
    np.testing.assert_array_equal(found["score"], expected)
    assert found["score"].dtype == np.float32


def test_impressions_of_a_part_are_scored_by_the_fit_that_may_answer_it(cycle, tmp_path):
    shown = both_parts(cycle)
    fitted = {"train": Spy(), "train_valid": Spy(-1)}
    found = written(fitted, cycle, shown, tmp_path / "scores.parquet")
    part = shown.cases.part[shown.row[found["impression"]]]
    known = ~np.isnan(found["score"])
    assert ((found["score"] > 0) == (part == "valid"))[known].all()


def test_the_work_may_be_cut_anywhere(cycle, tmp_path, monkeypatch):
    shown = both_parts(cycle)
    whole = written({"train": Spy()}, cycle, shown, tmp_path / "whole.parquet")
    monkeypatch.setattr(predict, "_IMPRESSIONS", 7)
    spy = Spy()
    cut = written({"train": spy}, cycle, shown, tmp_path / "cut.parquet")
    assert max(len(pairs) for pairs in spy.asked) == 7
    for name in whole:
        np.testing.assert_array_equal(cut[name], whole[name])


def test_without_impressions_there_is_a_table_of_none(cycle, tmp_path):
    """As under leave-one-out."""
    found = written({"train": Spy()}, cycle, shown_to(cycle, []), tmp_path / "scores.parquet")
    assert {name: len(column) for name, column in found.items()} == {"seed": 0, "impression": 0, "score": 0}


def test_what_the_heads_of_a_judge_say_stands_beside_its_score(cycle, tmp_path):
    shown, critic = both_parts(cycle), Critic()
    found = written({"train": critic}, cycle, shown, tmp_path / "scores.parquet")
    video_idx = shown.video_idx[found["impression"]]
    np.testing.assert_array_equal(found["score"], video_idx)
    np.testing.assert_array_equal(found["likes"], 2 * video_idx)
    assert (found["skips"] == 1).all()
    assert sum(len(pairs) for pairs in critic.asked) == len(shown.row)  # once each


class Popular:
    """A factored scorer."""

    def queries(self, cases, histories):
        return np.ones((len(cases), 1), np.float32)

    def vectors(self, video_idx):
        return video_idx[:, None].astype(np.float32)

    def score(self, pairs):
        return pairs.video_idx.astype(np.float32)


@pytest.mark.parametrize("part", ["valid", "test", "next"])
def test_answers_have_a_list_a_case_and_a_rank_a_target(cycle, tmp_path, part):
    asked = replace(cycle.asked, seed=7)
    lists, ranks = arrays.Writer(tmp_path / "lists.parquet"), arrays.Writer(tmp_path / "ranks.parquet")
    with lists, ranks:
        ranks.add(
            answers._seeded(
                7, {"case_id": np.zeros(0, int), "video_idx": np.zeros(0, np.int32), "rank": np.zeros(0, np.int32)}
            )
        )
        for found in retrieve(Popular(), cycle.store, asked, part, 3, ""):
            answers.write_answers(found, part, 7, lists, ranks)
    listed, marked = (arrays.load(tmp_path / f"{kind}.parquet") for kind in ("lists", "ranks"))
    cases = asked.of(part).cases
    assert list(listed) == ["seed", "case_id", "video_idx", "score", "rank"]
    assert listed["rank"].tolist() == [1, 2, 3] * len(cases)
    assert listed["case_id"].tolist() == np.repeat(cases.case_id, 3).tolist()
    if part == "next":
        assert len(marked["rank"]) == 0  # nobody knows what comes
    else:
        assert marked["case_id"].tolist() == cases.case_id.tolist()
        assert marked["video_idx"].tolist() == asked.of(part).target.tolist()
        assert set(marked["seed"]) == {7}
