from itertools import pairwise

import numpy as np
import pytest

from nextreel.cases import protocols
from nextreel.cases.asked import Catalogue
from nextreel.cases.protocols import Log
from nextreel.parts import CUTS

BEFORE, TRAIN, VALID, TEST, AFTER = range(5)
#       user video time  positive part, a position in parts.PARTS
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
def store_of(made_store):
    """The store of a log under a temporal split."""

    def made(log, n_users):
        events = {name: getattr(log, name) for name in ("video_idx", "time_ms", "positive")}
        cuts = log.cuts(n_users, leave_one_out=False)
        return made_store(log.offsets(n_users), cuts, events, np.arange(11), np.arange(n_users + 1))

    return made


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
    catalogue = Catalogue(log.first_part(10), np.arange(11))  # video 10 has no event
    assert catalogue.of("valid").tolist() == [1, 2]
    assert catalogue.of("test").tolist() == [1, 2, 3, 4, 6, 7]
    assert catalogue.of("next").tolist() == list(range(1, 10))
    assert catalogue.n_videos == 10


def test_events_split_users_and_cuts(log, store_of):
    store = store_of(log, 4)
    assert store.offsets.tolist() == [0, 0, 6, 10, 11, 11]
    assert store.cuts["start"].tolist() == [0, 0, 6, 10, 11]
    assert store.cuts["train"].tolist() == [0, 2, 7, 10, 11]
    assert store.fitted_on("train").length.tolist() == [0, 2, 1, 0, 0]
    assert store.fitted_on("train_valid").length.tolist() == [0, 4, 3, 0, 0]
    assert store.fitted_on("all").length.tolist() == [0, 6, 4, 1, 0]


def test_histories_flatten_in_order(log, store_of):
    histories = store_of(log, 4).until(np.array([2, 1, 3]), np.array([2, 3, 0]))
    position, owner = histories.flat()
    assert (position.tolist(), owner.tolist()) == ([6, 7, 0, 1, 2], [0, 0, 1, 1, 1])
    position, owner = histories.positives()
    assert (position.tolist(), owner.tolist()) == ([6, 7, 0], [0, 0, 1])


def test_rows_outside_the_split_are_history_but_teach_and_ask_nothing(store_of):
    """Seen before train, watched after test: neither is asked for, and neither is recommended."""
    rows = [(1, 10, BEFORE), (2, 20, TRAIN), (3, 30, VALID), (1, 40, TEST), (4, 45, TEST), (5, 50, AFTER)]
    video, time, part = (np.array(column) for column in zip(*rows, strict=True))
    ones = np.ones(6, np.int16)
    log = Log(ones, video, time, ones, ones.astype(bool), part.astype(np.int8))
    nobody = Log(*(column[:0] for column in (ones, video, time, ones, ones.astype(bool), ones)))
    questions = protocols.build(log, nobody, 1, "first", impressions=True)
    assert questions.dropped_seen == {"valid": 0, "test": 1}  # video 1 was seen before train
    assert asked(questions, "next_item", "next") == [(1, 51, 6)]
    for cut, taught in {"train": [2], "train_valid": [2, 3], "all": [2, 3, 1, 4]}.items():
        position, _ = store_of(log, 1).fitted_on(cut).flat()
        assert video[position].tolist() == taught
    catalogue = Catalogue(log.first_part(5), np.arange(6))
    assert catalogue.of("valid").tolist() == [1, 2]
    assert catalogue.of("next").tolist() == [1, 2, 3, 4, 5]


# --- how far a fit reads ---


def log_of(rows):
    user, video, time, positive, part = (np.array(column) for column in zip(*rows, strict=True))
    return Log(user, video, time, np.ones(len(rows), np.int16), positive.astype(bool), part.astype(np.int8))


def taught(log, n_users, cut, leave_one_out=False):
    """The positions of the rows that a fit on a cut reads."""
    cuts = log.cuts(n_users, leave_one_out)
    return [at for start, end in zip(cuts["start"], cuts[cut], strict=True) for at in range(start, end)]


# Two rows before train, six in train, two in valid, one in test, two after.
CUT_ROWS = [
    (1, 1, 5, 1, BEFORE),
    (1, 2, 10, 1, TRAIN),
    (1, 3, 20, 0, TRAIN),
    (1, 4, 40, 1, TRAIN),  # early ends before the last two rows of train by time: this one and the next user's last
    (1, 5, 60, 1, VALID),
    (1, 6, 80, 1, TEST),
    (1, 7, 90, 1, AFTER),
    (2, 1, 7, 1, BEFORE),
    (2, 2, 15, 1, TRAIN),
    (2, 3, 30, 1, TRAIN),
    (2, 4, 50, 0, TRAIN),
    (2, 5, 70, 0, VALID),
    (2, 6, 95, 1, AFTER),
]


def test_cuts_of_a_temporal_split_by_hand():
    log = log_of(CUT_ROWS)
    cuts = {name: end.tolist() for name, end in log.cuts(3, leave_one_out=False).items()}
    assert cuts == {
        "start": [0, 1, 8, 13],  # behind what lies before train
        "early": [0, 3, 10, 13],
        "train": [0, 4, 11, 13],
        "train_valid": [0, 5, 12, 13],
        "all": [0, 6, 12, 13],  # where test ends: rows after it teach nothing
    }
    left_out = set(taught(log, 3, "train")) - set(taught(log, 3, "early"))
    assert len(left_out) == (log.part == VALID).sum()
    assert min(log.time_ms[list(left_out)]) > max(log.time_ms[taught(log, 3, "early")])


def test_cuts_are_nested_and_hold_no_row_of_before_or_after():
    log = log_of(CUT_ROWS)
    fits = [set(taught(log, 3, cut)) for cut in CUTS]
    assert all(less < more for less, more in pairwise(fits))
    assert not {BEFORE, AFTER} & set(log.part[list(fits[-1])])
    assert fits[-1] == set(np.flatnonzero((log.part != BEFORE) & (log.part != AFTER)))


def test_of_rows_at_one_time_none_is_early():
    """Valid has one row; the last row of train by time shares its time with two more, of two users."""
    rows = [(1, 1, 10, 1, TRAIN), (1, 2, 20, 1, TRAIN), (1, 3, 20, 1, TRAIN), (2, 4, 5, 1, TRAIN), (2, 5, 20, 1, TRAIN)]
    log = log_of([*rows[:3], (1, 6, 30, 1, VALID), *rows[3:]])
    assert taught(log, 2, "early") == [0, 4]
    assert taught(log, 2, "train") == [0, 1, 2, 4, 5]


def test_where_valid_is_as_long_as_train_nothing_is_early():
    log = log_of([(1, 1, 10, 1, TRAIN), (1, 2, 20, 1, VALID), (1, 3, 30, 1, VALID)])
    assert taught(log, 1, "early") == []


def test_cuts_of_leave_one_out_by_hand():
    """User 1 is asked; user 2 has too few positives for that, and all of its rows are train."""
    log = log_of(
        [
            (1, 1, 10, 1, TRAIN),
            (1, 2, 20, 0, TRAIN),
            (1, 3, 30, 1, TRAIN),  # the positive before valid's
            (1, 4, 40, 0, TRAIN),
            (1, 5, 50, 1, VALID),
            (1, 6, 60, 0, VALID),
            (1, 7, 70, 1, TEST),
            (2, 1, 5, 1, TRAIN),
            (2, 2, 15, 1, TRAIN),
        ]
    )
    assert {name: end.tolist() for name, end in log.cuts(3, leave_one_out=True).items()} == {
        "start": [0, 0, 7, 9],
        "early": [0, 2, 9, 9],
        "train": [0, 4, 9, 9],
        "train_valid": [0, 6, 9, 9],
        "all": [0, 7, 9, 9],
    }
