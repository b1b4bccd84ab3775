"""How a history is spread over tags, against recounts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextreel.cases.store import UNKNOWN, Sets
from nextreel.nn.batch import Lessons
from nextreel.nn.profile import PRIOR, Ledger, Profile
from nextreel.nn.vocabulary import Rows

# Videos 1 to 4: tag 0; tags 0 and 1; none; tag 1. Row 0 is padding.
TAGS = Sets(np.array([0, 0, 1, 1], np.int32), np.array([0, 0, 1, 3, 3, 4]))


def profile_of(video, positive, tags=TAGS, n_tags=2):
    return Profile.fit(tags, n_tags, np.array(video), np.array(positive, np.int8))


def test_what_everybody_sees_and_likes():
    """Tag 0: 3 of 5 entries, 2 judged of which 1 liked; tag 1: 2, all liked."""
    found = profile_of([1, 1, 2, 4, 3], [0, UNKNOWN, 1, 1, 1])
    assert found.n_tags == 2
    assert found.share.tolist() == pytest.approx([(3 + 1) / (5 + 2), (2 + 1) / (5 + 2)])
    overall = (3 + 1) / (4 + 2)  # of entries by tag, not of events
    assert found.rate.tolist() == pytest.approx([(1 + PRIOR * overall) / (2 + PRIOR), (2 + PRIOR * overall) / 22])


def test_a_profile_by_hand():
    profile = profile_of([1, 1, 2, 4, 3], [0, UNKNOWN, 1, 1, 1])
    share, rate = profile.share, profile.rate
    video, positive = np.array([1, 2, 4, 4, 3]), np.array([1, 0, UNKNOWN, 1, 1], np.int8)
    found = profile.of_histories(video, positive, np.array([0, 0, 2, 2, 2]), 4)
    assert found.dtype == np.float32
    first = [
        np.log((2 + PRIOR * share[0]) / (3 + PRIOR) / share[0]),  # 2 of 3 entries have tag 0
        np.log((1 + PRIOR * share[1]) / (3 + PRIOR) / share[1]),
        np.log((1 + PRIOR * rate[0]) / (2 + PRIOR) / rate[0]),  # 1 of 2 is liked
        np.log((0 + PRIOR * rate[1]) / (1 + PRIOR) / rate[1]),
    ]
    third = [
        np.log((0 + PRIOR * share[0]) / (2 + PRIOR) / share[0]),
        np.log((2 + PRIOR * share[1]) / (2 + PRIOR) / share[1]),
        0,
        np.log((1 + PRIOR * rate[1]) / (1 + PRIOR) / rate[1]),  # of the other nobody knows whether it was liked
    ]
    np.testing.assert_allclose(found, [first, [0] * 4, third, [0] * 4], rtol=1e-6)


def test_videos_without_tags_are_as_good_as_no_history():
    profile = profile_of([1, 4], [1, 1])
    assert profile.of_histories(np.array([3, 3]), np.array([1, 0], np.int8), np.zeros(2, int), 1).tolist() == [[0] * 4]


def histories_of(sizes, rng):
    """Tokens of histories: start tokens and events of 30 videos with up to 3 of 5 tags each."""
    length = np.concatenate([[0], rng.integers(0, 4, 30)])
    values = np.concatenate([rng.choice(5, n, replace=False) for n in length]).astype(np.int32)
    tags = Sets(values, np.concatenate([[0], length.cumsum()]))
    n_tokens = np.array(sizes) + 1
    stop = n_tokens.cumsum()
    video, positive = rng.integers(1, 31, stop[-1]), rng.integers(-1, 2, stop[-1]).astype(np.int8)
    video[stop - n_tokens], positive[stop - n_tokens] = 0, UNKNOWN
    return tags, video, positive, stop - n_tokens, stop


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_profiles_of_windows_are_recounts_of_each_target_s_own_history(sizes, seed):
    """Windows that begin anywhere, in any order; none, one or several targets at a token."""
    rng = np.random.default_rng(seed)
    tags, video, positive, start, stop = histories_of(sizes, rng)
    profile = profile_of(video, positive, tags, 5)
    owner = rng.integers(0, len(sizes), rng.integers(1, 8))
    first = rng.integers(start[owner], stop[owner])
    end = rng.integers(first + 1, stop[owner] + 1)
    offset = np.concatenate([[0], (end - first).cumsum()])
    token = np.concatenate([np.arange(i, j) for i, j in zip(first, end, strict=True)])
    at = np.sort(rng.integers(0, offset[-1], rng.integers(0, 2 * offset[-1] + 1)))
    found = Ledger(profile, video, positive).profiles(start[owner], first, end, at)
    assert found.shape == (len(at), 10)
    for row, place in zip(found, at, strict=True):
        window = np.searchsorted(offset, place, side="right") - 1
        own = slice(start[owner[window]], token[place] + 1)
        n = own.stop - own.start
        expected = profile.of_histories(video[own], positive[own], np.zeros(n, int), 1)[0]
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-7)


def test_an_example_without_a_target_has_no_profile():
    tags, video, positive, start, stop = histories_of([3, 2], np.random.default_rng(0))
    ledger = Ledger(profile_of(video, positive, tags, 5), video, positive)
    assert ledger.profiles(start, start, stop, np.zeros(0, int)).shape == (0, 10)


@pytest.mark.parametrize("only_positives", [False, True])
def test_what_training_reads_is_the_profile_of_all_events_of_an_earlier_time(made_store, only_positives):
    """From the events themselves, of windows that are cut; two in five events share the time of the one before."""
    rng = np.random.default_rng(1)
    sizes = np.array([0, 1, 25, 14, 8])
    tags, video, positive, _start, _stop = histories_of(sizes, rng)
    video, positive = video[video > 0].astype(np.int32), positive[video > 0]
    user, offsets = np.repeat(np.arange(5), sizes), np.concatenate([[0], sizes.cumsum()])
    time_ms = 1_000 * user + (rng.random(len(user)) < 0.6).cumsum()
    cuts = {"start": offsets[:-1], "train": offsets[1:]}
    events = {"video_idx": video, "time_ms": time_ms, "positive": positive}
    histories = made_store(offsets, cuts, events, np.arange(31), np.arange(6)).fitted_on("train")
    profile = profile_of(video, positive, tags, 5)
    lessons = Lessons(histories, Rows({}, {}, profile), only_positives, passed_weight=0.5)
    n = 0
    for example in lessons.epoch(4, 3, rng):
        for found, when in zip(example.requests.profile.numpy(), example.requests.time_ms, strict=True):
            before = (user == when // 1_000) & (time_ms < when) & ((positive == 1) | (not only_positives))
            nobody = np.zeros(before.sum(), int)
            expected = profile.of_histories(video[before], positive[before], nobody, 1)[0]
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
            n += 1
    assert n > 10
