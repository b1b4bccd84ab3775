"""The counting chain by hand, and what it finds on chains that are known."""

import numpy as np
import pytest

from nextreel.models import tag_chain
from nextreel.scoring.retrieve import target_ranks

SETTINGS = {"session_gap_minutes": 30, "follow": 0.5, "prior": 1, "half_life_hours": 1, "lasting": 0}


def fitted(training, **changes):
    return tag_chain.Model.fit(tag_chain.Params(**SETTINGS | changes), training)


# Tag 0: videos 1 and 2; tag 1: video 3; both tags: video 4; the rest have none and share tag 2.
TAGS = [[], [0], [0], [1], [0, 1], *[[]] * 5]


def test_popularity_and_rates_by_hand(log_of, training_on, scores_of):
    """Video 1 two hours and one hour before the last event of all, video 2 at its time: all in tag 0."""
    store = log_of([(1, 1, 0), (1, 0, 60), (2, 1, 120)], tags=TAGS)
    model = fitted(training_on(store), prior=2)
    of_all = (2 + 2 * 0.5) / (3 + 2)
    of_tag = (2 + 2 * of_all) / (3 + 2)
    popularity = np.array([0.25 + 0.5, 1])
    rate = (np.array([1, 1]) + 2 * of_tag) / (np.array([2, 1]) + 2)
    assert model.worth[1:3] == pytest.approx(popularity * rate)
    assert model.mass == pytest.approx([1.75, 0, 0])
    marginal = (np.array([3, 0, 0]) + 2 / 3) / (3 + 2)
    assert model.marginal == pytest.approx(marginal)
    found = scores_of(model, store, 1, 0, [1, 2], minute=9_999)
    assert found == pytest.approx(marginal[0] * popularity / 1.75 * rate)
    assert fitted(training_on(store), lasting=0.5).mass == pytest.approx([1.75 + 3 * 0.5, 0, 0])


def test_an_unknown_label_is_an_exposure_and_no_part_of_a_share(log_of, training_on, scores_of):
    """Of video 1 one event is known, of video 2 none: it has its tag's share."""
    store = log_of([(1, 1, 0), (1, -1, 60), (2, -1, 120), (3, 0, 120)], tags=TAGS)
    model = fitted(training_on(store), prior=2)
    of_all = (1 + 2 * 0.5) / (2 + 2)
    of_tags = (np.array([1, 0]) + 2 * of_all) / (np.array([1, 1]) + 2)
    assert model.rate[:2] == pytest.approx(of_tags)
    rate = (np.array([1, 0, 0]) + 2 * of_tags[[0, 0, 1]]) / (np.array([1, 0, 1]) + 2)
    assert model.worth[1:4] == pytest.approx(np.array([0.25 + 0.5, 1, 1]) * rate)
    assert model.mass == pytest.approx([1.75, 1, 0])
    both = [log_of([(1, label, 0), (3, 1, 1)], [(3, 1, 0)], tags=TAGS) for label in (-1, 0)]
    liked, passed = (scores_of(fitted(training_on(store)), each, 1, 2, [1], 2) for each in both)
    assert liked > passed


def test_a_video_with_two_tags_is_half_of_each(log_of, training_on, scores_of):
    store = log_of([(1, 1, 0), (4, 1, 0), (3, 1, 0)], tags=TAGS)
    model = fitted(training_on(store))
    assert model.mass == pytest.approx([1.5, 1.5, 0])
    assert model.marginal == pytest.approx((np.array([1.5, 1.5, 0]) + 1 / 3) / 4)
    one, both = scores_of(model, store, 1, 0, [1, 4])
    assert both / one == pytest.approx(model.worth[4] / model.worth[1])  # half of either tag, which are alike


def test_tastes_are_shares_of_the_history(log_of, training_on, scores_of):
    """Nothing follows. Everything is liked, so that lifts and rates are alike but for smoothing."""
    store = log_of([(1, 1, 0), (1, 1, 1), (3, 1, 2)], [(3, 1, 0)], tags=TAGS)
    model = fitted(training_on(store), follow=0)
    marginal = (np.array([2, 2, 0]) + 1 / 3) / 5
    taste = (np.array([2, 1, 0]) + marginal) / 4
    lift = (np.array([2, 1, 0]) + model.rate) / (np.array([2, 1, 0]) + 1) / model.rate
    for minute in (2, 9_999):
        found = scores_of(model, store, 1, 3, [1, 3], minute)
        assert found == pytest.approx((taste * lift / np.where(model.mass, model.mass, 1))[:2] * model.worth[[1, 3]])


def test_the_chain_counts_what_follows_in_a_session(log_of, training_on, scores_of):
    """Everything within a session follows: from tag 0 to 1 twice, from 1 to 0 once; the pause at 60 parts sessions."""
    store = log_of([(1, 1, 0), (3, 1, 1), (2, 1, 2), (3, 1, 3), (3, 1, 63)], [(3, 1, 0)], tags=TAGS)
    model = fitted(training_on(store), follow=1)
    marginal = (np.array([2, 4, 0]) + 1 / 3) / 7
    assert model.chain[0] == pytest.approx((np.array([0, 2, 0]) + marginal) / 3)
    assert model.chain[1] == pytest.approx((np.array([1, 0, 0]) + marginal) / 2)
    assert model.chain[2] == pytest.approx(marginal)
    # After video 2, in the session: tag 1. Later, a taste, which only the two events that began a session tell.
    taste = (np.array([1, 0, 0]) + marginal) / 2
    for minute, share in ((2, model.chain[0]), (32, model.chain[0]), (33, taste)):
        lift = (np.array([2, 1, 0]) + model.rate) / (np.array([2, 1, 0]) + 1) / model.rate
        expected = (share * lift)[[0, 1]] / model.mass[:2] * model.worth[[1, 3]]
        assert scores_of(model, store, 1, 3, [1, 3], minute) == pytest.approx(expected)


def test_a_link_from_and_to_two_tags_is_shared_out(log_of, training_on):
    store = log_of([(1, 1, 0), (4, 1, 1), (3, 1, 2)], tags=TAGS)
    model = fitted(training_on(store), follow=1)
    marginal = (np.array([1.5, 1.5, 0]) + 1 / 3) / 4
    assert model.chain[0] == pytest.approx((np.array([0.5, 0.5 + 0.5, 0]) + marginal) / 2.5)
    assert model.chain[1] == pytest.approx((np.array([0, 0.5, 0]) + marginal) / 1.5)


def test_what_the_chain_explains_is_half_taste_by_hand(log_of, training_on):
    """One link, from tag 0 to tag 1, followed or not: first 1/2, then by Bayes; the chain last counts that much."""
    store = log_of([(1, 1, 0), (3, 1, 1)], tags=TAGS)
    model = fitted(training_on(store))
    marginal = (np.array([1, 1, 0]) + 1 / 3) / 3
    chain = (np.array([0, 1, 0]) + marginal) / 2  # of all links, at first
    own = 0.5
    for _ in range(2):
        taste = (np.array([1, own, 0]) + marginal) / (1 + own + 1)
        own = taste[1] / (taste[1] + chain[1])
    assert model.chain[0] == pytest.approx((np.array([0, 1 - own, 0]) + marginal) / (1 - own + 1))


def test_scores_are_probabilities(log_of, training_on, scores_of):
    """Where all is liked and hardly smoothed, something is shown and liked next for sure."""
    rng = np.random.default_rng(0)
    store = log_of(*([(int(v), 1, m) for m, v in enumerate(rng.integers(1, 10, 20))] for _ in range(5)), tags=TAGS)
    model = fitted(training_on(store), prior=1e-9, lasting=0.1)
    for end in (1, 7, 20):
        assert scores_of(model, store, 2, end, range(1, 10), minute=end).sum() == pytest.approx(1, abs=1e-5)


def test_a_chain_among_tastes_is_found(log_of, training_on):
    """Half of the tags follow the circle of eight; of the others each user has two. Counts alone blur it by tastes."""
    rng = np.random.default_rng(0)
    users = []
    for _ in range(200):
        taste, tag, events = rng.choice(8, 2, replace=False), 0, []
        for minute in range(60):
            tag = (tag + 1) % 8 if minute and rng.random() < 0.5 else int(rng.choice(taste))
            events.append((1 + tag, 1, minute))
        users.append(events)
    store = log_of(*users, tags=[[], *([tag] for tag in range(8)), []])
    model = fitted(training_on(store))
    following = model.chain[np.arange(8), (np.arange(8) + 1) % 8]
    assert (following > 0.8).all()
    tag = np.array([[video - 1 for video, *_ in events] for events in users])
    counted = np.mean((tag[:, 1:] - tag[:, :-1]) % 8 == 1)
    assert following.mean() > counted + 0.15


def test_taste_is_found_on_the_checkerboard(blocks, with_columns, training_on):
    """The halves are tags; no other is ever shown to a user."""
    tags = [[], *([int(video > 40)] for video in range(1, 81))]
    store = with_columns(blocks.store, tags)
    rank = target_ranks(fitted(training_on(store)), store, blocks.asked, "test", "")
    assert ((rank > 0) & (rank <= 10)).mean() > 0.5


def test_videos_that_the_cut_lacks_have_no_opinion(log_of, training_on, scores_of):
    store = log_of([(1, 1), (1, 0)], tags=TAGS)
    assert scores_of(fitted(training_on(store)), store, 1, 2, [2, 5]).tolist() == [-np.inf, -np.inf]


def test_without_tags_recent_popularity_and_rates_are_left(log_of, training_on, scores_of):
    store = log_of([(1, 1, 0), (2, 0, 60), (3, 1, 60)], [(2, 0, 60)])
    model = fitted(training_on(store))
    assert model.chain.tolist() == [[1]]
    found = scores_of(model, store, 1, 3, [1, 2, 3])
    assert found / found[2] == pytest.approx(model.worth[1:4] / model.worth[3])


def test_a_log_of_one_event_is_answered(log_of, training_on, scores_of):
    store = log_of([(1, 1)], tags=TAGS)
    assert scores_of(fitted(training_on(store)), store, 1, 0, [1])[0] > 0
