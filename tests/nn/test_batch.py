import numpy as np
import pytest

from nextreel.nn.batch import START, VIDEO, Lessons, Tokens
from nextreel.nn.inputs import NEVER_MS
from nextreel.nn.vocabulary import NOTHING, Rows

LIKED, PASSED = 2, 1
REACTION = Rows({"positive": 2}, {}, None)


@pytest.fixture
def histories(made_store):
    """User 1: videos 1 2 3 4, the 2nd passed over; the 3rd and 4th share a time. User 2: none. User 3: video 9."""
    events = {
        "video_idx": np.array([1, 2, 3, 4, 9], np.int32),
        "time_ms": np.array([10, 20, 30, 30, 10]),
        "positive": np.array([True, False, True, True, True]),
        "tab": np.array([5, 6, 7, 0, 3], np.int16),
    }
    cuts = {"start": np.array([0, 0, 4, 4]), "train": np.array([0, 4, 4, 5])}
    store = made_store([0, 0, 4, 4, 5], cuts, events, np.arange(10), np.arange(4))
    return store.fitted_on("train").where(slice(1, None))


def tokens(histories, only_positives=False, rows=REACTION):
    return Tokens.of(histories, rows, only_positives, np.full(len(histories), NEVER_MS))


def lessons(histories, only_positives=False, passed_weight=0.0, rows=REACTION):
    return Lessons(histories, rows, only_positives, passed_weight)


def test_tokens_of_all_events(histories):
    made = tokens(histories)
    assert made.columns[VIDEO].tolist() == [START, 1, 2, 3, 4, START, START, 9]
    assert made.columns["positive"].tolist() == [0, LIKED, PASSED, LIKED, LIKED, 0, 0, LIKED]
    assert made.time_ms.tolist() == [NEVER_MS, 10, 20, 30, 30, NEVER_MS, NEVER_MS, 10]
    assert (made.start.tolist(), made.stop.tolist()) == ([0, 5, 6], [5, 6, 8])
    assert made.last_ms.tolist() == [30, NEVER_MS, 10]


def test_tokens_of_positives_alone(histories):
    made = tokens(histories, only_positives=True)
    assert made.columns[VIDEO].tolist() == [START, 1, 3, 4, START, START, 9]
    assert lessons(histories, only_positives=True).weight.tolist() == [0, 1, 1, 1, 0, 0, 1]


def test_what_was_passed_over_is_no_target_or_a_lighter_one(histories):
    """On purpose not as it was: a video at the time of the one before it is a target, see below."""
    assert lessons(histories).weight.tolist() == [0, 1, 0, 1, 1, 0, 0, 1]
    made = lessons(histories, passed_weight=0.25)
    assert made.weight.tolist() == [0, 1, 0.25, 1, 1, 0, 0, 1]
    (example,) = made.epoch(10, 4, np.random.default_rng(0))
    assert sorted(zip(example.video.tolist(), example.weight.tolist(), strict=True)) == [
        (1, 1), (2, 0.25), (3, 1), (4, 1), (9, 1),
    ]  # fmt: skip


def test_a_value_that_train_does_not_know_is_nothing(histories):
    made = tokens(histories, rows=Rows({"positive": 1, "tab": 6}, {}, None))
    assert made.columns["positive"].tolist() == [0, 0, PASSED, 0, 0, 0, 0, 0]
    assert made.columns["tab"].tolist() == [0, 6, 0, 0, 1, 0, 0, 4]


def test_an_unknown_label_is_no_input_and_no_target(histories):
    """Of the 2nd event nobody knows; its video is a token all the same."""
    histories.store.tables["events"]["positive"] = np.array([1, -1, 1, 0, -1], np.int8)
    made = tokens(histories)
    assert made.columns[VIDEO].tolist() == [START, 1, 2, 3, 4, START, START, 9]
    assert made.columns["positive"].tolist() == [0, LIKED, NOTHING, LIKED, PASSED, 0, 0, NOTHING]
    assert lessons(histories, passed_weight=0.25).weight.tolist() == [0, 1, 0, 1, 0.25, 0, 0, 0]
    assert tokens(histories, only_positives=True).columns[VIDEO].tolist() == [START, 1, 3, START, START]


def test_each_target_is_asked_after_the_last_token_of_an_earlier_time(histories):
    """The 4th shares its time with the 3rd, so that neither is known when the other is asked for."""
    made = lessons(histories, passed_weight=0.25)
    example = made.example(np.array([0]), np.array([4]))
    assert example.batch.columns[VIDEO].tolist() == [START, 1, 2, 3]
    assert example.batch.offsets.tolist() == [0, 4]
    assert example.video.tolist() == [1, 2, 3, 4]
    assert example.requests.at.tolist() == [0, 1, 2, 2]
    assert example.requests.time_ms.tolist() == [10, 20, 30, 30]


@pytest.mark.parametrize(
    ("first", "videos", "at"),
    [
        (0, [1, 3, 4], [0, 2, 2]),
        (2, [3, 4], [0, 0]),  # of the window's own tokens
        (3, [], []),  # video 4 was to be asked after video 2, which lies before the window
    ],
)
def test_a_tied_target_whose_token_lies_before_its_window_is_left_out(histories, first, videos, at):
    example = lessons(histories).example(np.array([first]), np.array([4]))
    assert example.video.tolist() == videos
    assert example.requests.at.tolist() == at
    assert len(example.weight) == len(example.requests.time_ms) == len(videos)


def test_windows_stand_side_by_side_in_an_example(histories):
    example = lessons(histories).example(np.array([6, 2, 0]), np.array([7, 4, 2]))
    assert example.batch.columns[VIDEO].tolist() == [START, 2, 3, START, 1]
    assert example.batch.offsets.tolist() == [0, 1, 3, 5]
    assert example.video.tolist() == [9, 3, 4, 1]  # 2 was passed over
    assert example.requests.at.tolist() == [0, 1, 1, 3]


def test_a_batch_without_a_target_is_left_out(histories):
    """Windows of one token: the tied video's begins with the token that it shares its time with."""
    examples = list(lessons(histories).epoch(1, 1, np.random.default_rng(0)))
    assert sorted(example.video.tolist() for example in examples) == [[1], [3], [9]]


def test_what_a_request_says_is_known_when_it_is_made(histories):
    """Its tab is the target's, its gap runs from the token that it is asked after; of the target's video and of what
    came of it the columns say nothing."""
    rows = Rows({}, {"gap": 32, "hour": 24, "tab": 8}, None)
    histories.store.tables["events"]["time_ms"] = np.array([0, 3, 10, 10, 0]) * 1000
    example = lessons(histories, rows=rows, passed_weight=1).example(np.array([0]), np.array([4]))
    assert example.requests.columns["tab"].tolist() == [6, 7, 8, 1]
    assert example.requests.columns["gap"].tolist() == [NOTHING, 1 + 2, 1 + 3, 1 + 3]  # log2 of 4 and of 8
    assert example.requests.columns["hour"].tolist() == [1 + 8] * 4
    assert example.requests.profile is None


def test_the_last_tokens_end_with_the_last_event(histories):
    batch = tokens(histories).last(3)
    assert batch.offsets.tolist() == [0, 3, 4, 6]
    assert batch.last.tolist() == [2, 3, 5]
    assert batch.place.tolist() == [0, 1, 2, 0, 0, 1]
    assert batch.columns[VIDEO].tolist() == [2, 3, 4, START, START, 9]


def many(made_store, rng, tied):
    """Users of up to 40 events, every event its own video; tied: share of events at the time of the one before."""
    sizes = rng.integers(0, 40, 30)
    offsets = np.concatenate([[0, 0], sizes.cumsum()])
    n = int(sizes.sum())
    time_ms = (rng.random(n) >= tied).cumsum()
    events = {"video_idx": np.arange(1, n + 1, dtype=np.int32), "time_ms": time_ms}
    events["positive"] = rng.random(n) < 0.4
    cuts = {"start": offsets[:-1], "train": offsets[1:]}
    return made_store(offsets, cuts, events, np.arange(n + 1), np.arange(31)).fitted_on("train")


@pytest.mark.parametrize("length", [1, 3, 7, 50])
@pytest.mark.parametrize("tied", [0, 0.3])
def test_an_epoch_holds_every_target_once(made_store, length, tied):
    """Of tied ones not all, where windows are cut; a window that holds a whole history loses none."""
    rng = np.random.default_rng(length)
    histories = many(made_store, rng, tied)
    made = Lessons(histories, Rows({}, {}, None), only_positives=False, passed_weight=0.0)
    video, time_ms = made.tokens.columns[VIDEO], made.tokens.time_ms
    wanted = set(video[made.weight > 0].tolist())
    tied_ones = set(video[1:][np.diff(time_ms) == 0].tolist())
    time_of = dict(zip(video.tolist(), time_ms.tolist(), strict=True))
    found = []
    for _ in range(3):
        examples = list(made.epoch(length, 4, rng))
        asked = [each for example in examples for each in example.video.tolist()]
        found.append(set(asked))
        assert len(asked) == len(set(asked))
        assert wanted - tied_ones <= set(asked) <= wanted
        if not tied or length == 50:
            assert set(asked) == wanted
        for example in examples:
            assert int(example.batch.length.max()) <= length
            assert (example.batch.length > 0).all()
            before = example.batch.columns[VIDEO][example.requests.at].tolist()
            for target, last in zip(example.video.tolist(), before, strict=True):
                if last != START:  # the last event of an earlier time: the one after it has the target's
                    assert time_of[last] < time_of[last + 1] == time_of[target]
    if tied and length in (3, 7):
        assert len(set(map(frozenset, found))) > 1  # another epoch cuts elsewhere


def test_windows_cover_what_a_history_holds(made_store):
    """About as many batches as are told."""
    histories = many(made_store, np.random.default_rng(0), 0)
    made = Lessons(histories, Rows({}, {}, None), only_positives=False, passed_weight=1.0)
    rng = np.random.default_rng(1)
    n = [len(list(made.epoch(5, 4, rng))) for _ in range(20)]
    assert np.mean(n) == pytest.approx(made.n_batches(5, 4), rel=0.1)


def test_how_often_a_video_is_a_target(histories):
    assert lessons(histories).n_targets(np.array([1, 2, 3, 4, 9])).tolist() == [1, 0, 1, 1, 1]
    assert lessons(histories, passed_weight=0.5).n_targets(np.array([2, 3])).tolist() == [1, 1]
