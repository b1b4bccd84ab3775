import numpy as np
import pytest

from nextreel import arrays
from nextreel.scoring.sets import ShownPairs
from nextreel.two_stage import as_of
from nextreel.two_stage.blend import Fits


class Counting:
    """The score of a pair is how many events lie behind it, plus `more`."""

    def __init__(self, more):
        self.more = more

    def score(self, pairs):
        raise AssertionError("asked one history at a time")

    def running_score(self, pairs):
        assert (pairs.cases.time_ms[pairs.row] == pairs.time_ms).all()
        return (pairs.history_end + self.more).astype(np.float32)


@pytest.fixture
def shown(cycle, shown_all):
    return shown_all(cycle, [1, 2, 1], [True, False, True]).shown


def test_every_row_is_scored_as_of_its_own_moment_by_the_fit_that_answers_its_part(cycle, shown, tmp_path, monkeypatch):
    monkeypatch.setattr(as_of, "_PAIRS", 100)
    later = np.tile([0, 1_000, 1_000], len(shown.cases))  # so that one more event lies behind the second and the third
    shown = ShownPairs(shown.cases, shown.user_key, shown.row, shown.video_idx, shown.time_ms + later, shown.tab)
    as_of.write(Fits({"train": Counting(0), "train_valid": Counting(0.5)}, cycle.store), shown, 7, tmp_path / "as_of")
    found = arrays.load(tmp_path / "as_of/scores.parquet")
    score = np.full(len(shown.row), np.nan)
    score[found["impression"]] = found["score"]
    on_test = shown.cases.part[shown.row] == "test"
    assert set(found["seed"]) == {7}
    assert (score == shown.cases.history_end[shown.row] + later // 1_000 + 0.5 * on_test).all()


def test_of_a_ranker_that_reads_each_history_for_itself_there_is_nothing(cycle, shown, known, tmp_path):
    ranker = Fits({"train": known(np.zeros(61))}, cycle.store)
    assert not as_of.possible(ranker)
    as_of.write(ranker, shown, 7, tmp_path / "as_of")
    assert list((tmp_path / "as_of").iterdir()) == []


def test_where_nothing_was_shown_the_table_is_empty(cycle, shown, tmp_path):
    nothing = ShownPairs(shown.cases, shown.user_key, *(np.zeros(0, np.int64) for _ in range(4)))
    as_of.write(Fits({"train": Counting(0)}, cycle.store), nothing, 7, tmp_path / "as_of")
    assert len(arrays.load(tmp_path / "as_of/scores.parquet")["score"]) == 0
