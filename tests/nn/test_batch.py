import numpy as np
import pytest

from nextreel.nn.batch import FIRST, NOTHING, START, UNKNOWN, VIDEO, Tokens, known_values

ROW_OF = np.array([0, 2, 3, 4, 5, 0, 0, 0, 0, 0], np.int32)  # video_idx -> token row; 9 is unknown
LIKED, PASSED = 2, 1


@pytest.fixture
def histories(made_store):
    """User 1: videos 1 2 3 4, the 2nd passed over; the 3rd and 4th share a time. User 2: none. User 3: video 9."""
    events = {
        "video_idx": np.array([1, 2, 3, 4, 9], np.int32),
        "time_ms": np.array([10, 20, 30, 30, 10]),
        "positive": np.array([True, False, True, True, True]),
    }
    cuts = {"start": np.array([0, 0, 4, 4]), "train": np.array([0, 4, 4, 5])}
    store = made_store([0, 0, 4, 4, 5], cuts, events, np.arange(10), np.arange(4))
    return store.fitted_on("train").where(slice(1, None))


def tokens(histories, only_positives=False, passed_weight=0.0, n_known=2):
    return Tokens.of(histories, ROW_OF, {"positive": n_known}, only_positives, passed_weight)


def test_tokens_of_all_events(histories):
    made = tokens(histories)
    assert made.columns[VIDEO].tolist() == [START, 2, 3, 4, 5, START, START, UNKNOWN]
    assert made.columns["positive"].tolist() == [0, LIKED, PASSED, LIKED, LIKED, 0, 0, LIKED]
    # Passed over, at the time of the one before, or unknown: no target.
    assert made.weight.tolist() == [0, 1, 0, 1, 0, 0, 0, 0]
    assert (made.start.tolist(), made.stop.tolist()) == ([0, 5, 6], [5, 6, 8])


def test_tokens_of_positives_alone(histories):
    made = tokens(histories, only_positives=True)
    assert made.columns[VIDEO].tolist() == [START, 2, 4, 5, START, START, UNKNOWN]
    assert made.weight.tolist() == [0, 1, 1, 0, 0, 0, 0]


def test_a_value_that_train_does_not_know_is_nothing(histories):
    assert tokens(histories, n_known=1).columns["positive"].tolist() == [0, 0, PASSED, 0, 0, 0, 0, 0]
    position, _owner = histories.flat()
    assert known_values(histories.store, position, ["positive"]) == {"positive": 2}
    assert known_values(histories.store, position[1:2], ["positive"]) == {"positive": 1}  # passed over alone
    assert known_values(histories.store, position[:0], ["positive"]) == {"positive": 0}


def test_what_was_passed_over_may_be_a_lighter_target(histories):
    made = tokens(histories, passed_weight=0.25)
    assert made.weight.tolist() == [0, 1, 0.25, 1, 0, 0, 0, 0]  # still none: at the time of the one before, unknown
    (example,) = made.epoch(10, 4, np.random.default_rng(0))
    assert example.targets.at.tolist() == [0, 1, 2]
    assert example.targets.video.tolist() == [2, 3, 4]
    assert example.weight.tolist() == [1, 0.25, 1]


def test_an_unknown_label_is_no_input_and_no_target(histories):
    """Of the 2nd event nobody knows; its video is a token all the same."""
    store = histories.store
    store.tables["events"]["positive"] = np.array([1, -1, 1, 0, -1], np.int8)
    made = tokens(histories, passed_weight=0.25)
    assert made.columns[VIDEO].tolist() == [START, 2, 3, 4, 5, START, START, UNKNOWN]
    assert made.columns["positive"].tolist() == [0, LIKED, NOTHING, LIKED, PASSED, 0, 0, NOTHING]
    assert made.weight.tolist() == [0, 1, 0, 1, 0, 0, 0, 0]
    assert tokens(histories, only_positives=True).columns[VIDEO].tolist() == [START, 2, 4, START, START]
    position, _owner = histories.flat()
    assert known_values(store, position, ["positive"]) == {"positive": 2}
    assert known_values(store, position[1:2], ["positive"]) == {"positive": 0}


def test_each_target_is_asked_after_the_token_before_it(histories):
    (example,) = tokens(histories).epoch(10, 4, np.random.default_rng(0))
    assert example.batch.columns[VIDEO].tolist() == [START, 2, 3, 4]
    assert example.batch.offsets.tolist() == [0, 4]
    assert example.targets.at.tolist() == [0, 2]
    assert example.targets.video.tolist() == [2, 4]


def test_the_last_tokens_end_with_the_last_event(histories):
    batch = tokens(histories).last(3)
    assert batch.offsets.tolist() == [0, 3, 4, 6]
    assert batch.last.tolist() == [2, 3, 5]
    assert batch.place.tolist() == [0, 1, 2, 0, 0, 1]
    assert batch.columns[VIDEO].tolist() == [3, 4, 5, START, START, UNKNOWN]


@pytest.mark.parametrize("length", [1, 3, 7, 50])
def test_an_epoch_holds_every_target_once(made_store, length):
    rng = np.random.default_rng(length)
    sizes = rng.integers(0, 40, 30)
    offsets = np.concatenate([[0, 0], sizes.cumsum()])
    n = int(sizes.sum())
    events = {"video_idx": np.arange(1, n + 1, dtype=np.int32), "time_ms": np.arange(n)}  # every event its own video
    events["positive"] = rng.random(n) < 0.4
    cuts = {"start": offsets[:-1], "train": offsets[1:]}
    histories = made_store(offsets, cuts, events, np.arange(n + 1), np.arange(31)).fitted_on("train")
    made = Tokens.of(histories, np.arange(1, n + 2, dtype=np.int32), {}, only_positives=False)
    for _ in range(3):
        examples = list(made.epoch(length, 4, rng))
        asked = np.concatenate([example.targets.video for example in examples])
        assert sorted(asked) == sorted(made.columns[VIDEO][made.weight > 0])
        for example in examples:
            assert int(example.batch.length.max()) <= length
            assert (example.batch.length > 0).all()
            before = example.batch.columns[VIDEO][example.targets.at]
            starts = before == START
            assert (example.targets.video[~starts] == before[~starts] + 1).all()  # the event before it


def test_rows_of_videos_begin_after_the_special_ones():
    assert {UNKNOWN, START} == set(range(FIRST))
