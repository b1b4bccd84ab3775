import numpy as np
import pytest

from nextreel.cases import protocols
from nextreel.cases.protocols import Log

BEFORE, TRAIN, VALID, TEST, AFTER = range(5)
#       user video time  positive part, a position in protocols.PARTS
ROWS = [
    (1, 1, 10, True, TRAIN),
    (1, 2, 20, False, TRAIN),
    (1, 3, 30, False, VALID),
    (1, 4, 40, True, VALID),  # valid target: history 1, 2, 3
    (1, 2, 50, True, TEST),  # seen in train: dropped
    (1, 5, 60, True, TEST),
    (2, 1, 15, True, TRAIN),
    (2, 6, 35, True, VALID),  # shares its time with the next: neither sees the other
    (2, 7, 35, True, VALID),
    (2, 8, 55, True, TEST),
    (3, 9, 70, True, TEST),  # no history at all; a video of test only
]


@pytest.fixture
def log():
    columns = [np.array(column) for column in zip(*ROWS, strict=True)]
    user, video, time, positive, part = columns
    return Log(user, video, time, np.ones(len(ROWS), np.int16), positive, part.astype(np.int8))


@pytest.fixture
def random():
    shown = [(1, 3, 50), (1, 9, 65), (4, 1, 51)]
    user, video, time = (np.array(column) for column in zip(*shown, strict=True))
    return Log(user, video, time, np.zeros(3, np.int16), np.zeros(3, bool), np.full(3, -1, np.int8))


@pytest.fixture
def questions(log, random):
    return protocols.build(log, random, n_users=4, targets="first", impressions=True)


def asked(questions, protocol, part):
    some = questions.cases.where((questions.protocol == protocol) & (questions.cases.part == part))
    return list(zip(some.user_idx.tolist(), some.time_ms.tolist(), some.history_end.tolist(), strict=True))


def test_first_positive_of_each_part(questions):
    assert asked(questions, "next_item", "valid") == [(1, 40, 3), (2, 35, 1)]
    assert asked(questions, "next_item", "test") == [(2, 55, 3), (3, 70, 0)]
    assert dict(zip(questions.target_case_id.tolist(), questions.target_video_idx.tolist(), strict=True)) == {
        0: 4, 1: 6, 2: 8, 3: 9,
    }  # fmt: skip


def test_last_positive_of_each_part(log, random):
    """The history holds what the part showed before it; rows of one time do not see each other."""
    questions = protocols.build(log, random, n_users=4, targets="last", impressions=True)
    assert asked(questions, "next_item", "valid") == [(1, 40, 3), (2, 35, 1)]
    assert asked(questions, "next_item", "test") == [(1, 60, 5), (2, 55, 3), (3, 70, 0)]
    assert questions.target_video_idx.tolist() == [4, 7, 5, 8, 9]
    assert questions.dropped_seen == {"valid": 0, "test": 0}


def test_successive_positives_are_a_case_each(log, random):
    questions = protocols.build(log, random, n_users=4, targets="successive", impressions=True)
    assert asked(questions, "next_item", "valid") == [(1, 40, 3), (2, 35, 1), (2, 35, 1)]
    assert asked(questions, "next_item", "test") == [(1, 60, 5), (2, 55, 3), (3, 70, 0)]
    assert questions.target_video_idx.tolist() == [4, 6, 7, 5, 8, 9]
    assert questions.dropped_seen == {"valid": 0, "test": 1}  # video 2, seen in train


def test_a_seen_target_drops_the_case_and_counts_it(questions):
    assert questions.dropped_seen == {"valid": 0, "test": 1}


def test_next_asks_every_user_after_the_whole_log(questions):
    assert asked(questions, "next_item", "next") == [(1, 71, 6), (2, 71, 4), (3, 71, 1), (4, 71, 0)]


def test_impressions_start_before_the_first_row_of_the_part(questions):
    assert asked(questions, "impressions", "valid") == [(1, 30, 2), (2, 35, 1)]
    assert asked(questions, "impressions", "test") == [(1, 50, 4), (2, 55, 3), (3, 70, 0)]


def test_impressions_are_left_out_on_demand(log, random):
    questions = protocols.build(log, random, n_users=4, targets="first", impressions=False)
    assert "impressions" not in questions.protocol


def test_random_histories_hold_strictly_earlier_standard_rows(questions):
    assert asked(questions, "random", "test") == [(1, 50, 4), (4, 51, 0)]


def test_case_ids_count_up(questions):
    assert questions.cases.case_id.tolist() == list(range(len(questions.cases)))


def test_catalogue_grows_by_part(log):
    catalogue = log.catalogue(np.arange(11))  # video 10 has no event
    assert catalogue.of("valid").tolist() == [1, 2]
    assert catalogue.of("test").tolist() == [1, 2, 3, 4, 6, 7]
    assert catalogue.of("next").tolist() == list(range(1, 10))
    assert catalogue.n_videos == 10


def test_events_split_users_and_train(log):
    events = log.events(n_users=4)
    assert events.offsets.tolist() == [0, 0, 6, 10, 11, 11]
    assert events.train_start.tolist() == [0, 0, 6, 10, 11]
    assert events.train_end.tolist() == [0, 2, 7, 10, 11]
    train = events.train()
    assert train.length.tolist() == [0, 2, 1, 0, 0]
    assert events.train_valid().length.tolist() == [0, 4, 3, 0, 0]


def test_histories_flatten_in_order(log):
    histories = log.events(4).until(np.array([2, 1, 3]), np.array([2, 3, 0]))
    position, owner = histories.flat()
    assert (position.tolist(), owner.tolist()) == ([6, 7, 0, 1, 2], [0, 0, 1, 1, 1])
    position, owner = histories.positives()
    assert (position.tolist(), owner.tolist()) == ([6, 7, 0], [0, 0, 1])


def test_events_survive_the_disk(log, tmp_path):
    events = log.events(4)
    events.save(tmp_path / "sequences")
    loaded = type(events).load(tmp_path / "sequences")
    for name in events.__dataclass_fields__:
        assert (getattr(loaded, name) == getattr(events, name)).all()


def test_rows_outside_the_split_are_history_but_teach_and_ask_nothing():
    """Seen before train, watched after test: neither is asked for, and neither is recommended."""
    rows = [(1, 10, BEFORE), (2, 20, TRAIN), (3, 30, VALID), (1, 40, TEST), (4, 45, TEST), (5, 50, AFTER)]
    video, time, part = (np.array(column) for column in zip(*rows, strict=True))
    ones = np.ones(6, np.int16)
    log = Log(ones, video, time, ones, ones.astype(bool), part.astype(np.int8))
    nobody = Log(*(column[:0] for column in (ones, video, time, ones, ones.astype(bool), ones)))
    questions = protocols.build(log, nobody, 1, "first", impressions=True)
    assert questions.dropped_seen == {"valid": 0, "test": 1}  # video 1 was seen before train
    assert asked(questions, "next_item", "next") == [(1, 51, 6)]
    position, _ = log.events(1).train().flat()
    assert video[position].tolist() == [2]
    catalogue = log.catalogue(np.arange(6))
    assert catalogue.of("valid").tolist() == [1, 2]
    assert catalogue.of("next").tolist() == [1, 2, 3, 4, 5]
