from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from nextreel.two_stage.blend import Terms

N = 61  # videos of the world `cycle`, with padding


def test_a_score_is_log_odds_and_weighted_exposure():
    terms = Terms(np.array([[0.5, -1.0]]), np.array([2.0, 0.0]))
    assert terms.score(0.25).tolist() == [1.0, -1.0]
    assert terms.score(0.25).dtype == np.float32


def test_log_odds_of_several_rankers_are_averaged(cycle, blend_of, known):
    """Each calibrated by itself, and each with its own median where it has no opinion: (2 x 1 + 1 + 5) / 2 = 4."""
    two = blend_of(cycle, known(np.zeros(N)), known(shares(), "share"), known(np.zeros(N)))
    blend = replace(two, rankers=[two.rankers[0]._replace(slope=2.0, intercept=1.0), two.rankers[1]])
    scores = [np.array([1, 3, np.nan, 0]), np.array([5, np.nan, 1, 2])]
    terms = blend.blended("test", scores, np.ones(4), np.zeros(4, int), np.zeros(1))
    assert terms.log_odds.tolist() == [[3, 7, 3, 1], [5, 2, 1, 2]]
    assert terms.score(0.0).tolist() == [4, 4.5, 2, 1.5]
    assert terms.where(np.array([1, 3])).score(0.0).tolist() == [4.5, 1.5]


def test_one_ranker_s_log_odds_are_its_own(cycle, blend_of, known):
    """To the last bit: the mean of one."""
    score = np.random.default_rng(0).standard_normal(1000)
    blend = blend_of(cycle, known(np.zeros(N)), known(shares(), "share"))
    terms = blend.blended("test", [score], np.ones(1000), np.zeros(1000, int), np.zeros(1))
    assert terms.score(1.5).tobytes() == (score + 1.5 * terms.r).astype(np.float32).tobytes()


def shares(*pairs):
    """Shares by video; 1 unless told."""
    found = np.ones(N)
    for video, share in pairs:
        found[video] = share
    return found


def test_exposure_by_hand(cycle, blend_of, known):
    """The tenth highest share of unseen videos is 8; r of shares 24, 8, 0 is log 4, log 2, 0."""
    mine = cycle.asked.of("test")
    first = mine.where(slice(0, 1))
    seen = cycle.store.events("video_idx")[: first.cases.history_end[0]]
    unseen = np.setdiff1d(np.arange(1, N), seen)
    share = np.zeros(N)
    share[unseen[:9]], share[unseen[9]], share[unseen[10:]], share[seen] = 24.0, 8.0, 2.0, 1e6
    blend = blend_of(cycle, known(np.zeros(N)), known(share, "share"))
    reference = blend.references("test", first)
    assert reference == pytest.approx(np.log([8]))
    score = np.array([24.0, 8.0, 0.0])
    terms = blend.blended("test", [np.zeros(3)], score, np.zeros(3, int), reference)
    assert terms.r == pytest.approx([np.log(4), np.log(2), 0])


def test_exposure_has_no_unit(cycle, blend_of, known):
    """Shares, the same shares times 1,000 and their logs plus 5 give the same r."""
    share = np.random.default_rng(0).gamma(1, 1, N)
    found = []
    for values, scale in ((share, "share"), (1000 * share, "share"), (np.log(share) + 5, "log_share")):
        blend = blend_of(cycle, known(np.zeros(N)), known(values, scale))
        reference = blend.references("test", cycle.asked)
        row = np.arange(len(reference))
        score = np.asarray(values, np.float32)[1 + row % 60].astype(float)
        found.append(blend.blended("test", [np.zeros(len(row))], score, row, reference).r)
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-5)
    assert found[0].std() > 0.1


def test_what_a_model_does_not_know_gets_the_case_s_median(cycle, blend_of, known):
    blend = blend_of(cycle, known(np.zeros(N)), known(shares(), "share"))
    row = np.array([0, 0, 0, 0, 1, 1])
    score, exposed = np.array([1, 2, 6, np.nan, np.nan, np.nan]), np.array([1, np.nan, 3, 7, np.nan, np.nan])
    terms = blend.blended("test", [score], exposed, row, np.zeros(2))
    assert terms.log_odds.tolist() == [[1, 2, 6, 2, 0, 0]]
    assert terms.r == pytest.approx([*np.log([2, 4, 4, 8]), 0, 0])


def test_without_any_exposure_r_is_nothing(cycle, blend_of, known):
    blend = blend_of(cycle, known(np.zeros(N)), known(np.zeros(N), "share"))
    reference = blend.references("test", cycle.asked)
    assert np.isnan(reference).all()
    terms = blend.blended("test", [np.zeros(2)], np.array([1.0, 0.0]), np.zeros(2, int), reference)
    assert terms.r.tolist() == [0, 0]


def test_fewer_than_ten_listed_take_the_last(cycle, blend_of, known):
    """Seven videos have a share; those of them that nobody of a case has seen are 1 to 7 times 2, or fewer."""
    share = np.zeros(N)
    share[1:8] = 2.0 * np.arange(1, 8)
    blend = blend_of(cycle, known(np.zeros(N)), known(share, "share"))
    mine, found = cycle.asked.of("test"), blend.references("test", cycle.asked)
    for case in range(len(mine.cases)):
        start = cycle.store.offsets[mine.cases.user_idx[case]]
        seen = cycle.store.events("video_idx")[start : start + mine.cases.history_end[case]]
        listed = share[np.setdiff1d(np.arange(1, 8), seen)]
        assert np.exp(found[case]) == pytest.approx(listed.min()) if len(listed) else np.isnan(found[case])


def test_a_ranker_without_log_odds_is_calibrated_on_valid(cycle, blend_of, known, shown_all):
    """Its log-odds are those of a logistic regression; what it does not know teaches nothing."""
    rng = np.random.default_rng(0)
    score = rng.standard_normal(N).astype(np.float32)
    score[60] = -np.inf
    videos = np.arange(1, N)
    case = shown_all(cycle, videos, np.zeros(60))
    on_valid = np.flatnonzero(case.shown.cases.part[case.shown.row] == "valid")
    video_idx = case.shown.video_idx[on_valid]
    label = rng.random(len(on_valid)) < expit(3 * np.nan_to_num(score[video_idx], neginf=9) - 1)
    blend = blend_of(cycle, known(score), known(shares(), "share"), known(score, "log_share"))
    told, fitted = blend.calibrated(lambda store: case.shown.pairs(store).where(on_valid), label).rankers
    kept = video_idx != 60
    expected = LogisticRegression(C=np.inf).fit(score[video_idx[kept], None].astype(float), label[kept])
    assert (fitted.slope, fitted.intercept) == pytest.approx((expected.coef_[0, 0], expected.intercept_[0]))
    assert (fitted.slope, fitted.intercept) == pytest.approx((3, -1), abs=0.3)
    assert (told.slope, told.intercept) == (1, 0)  # which are log-odds already


@pytest.mark.parametrize("knows", [0, 30])
def test_a_ranker_whose_known_rows_are_of_one_class_is_left_as_it_is(cycle, blend_of, known, shown_all, knows):
    """Both classes are there, but not among what it knows, if it knows anything: nothing can be fitted."""
    score = np.full(N, -np.inf)
    score[:knows] = np.arange(knows)
    case = shown_all(cycle, np.arange(1, N), np.zeros(60))
    on_valid = np.flatnonzero(case.shown.cases.part[case.shown.row] == "valid")
    label = case.shown.video_idx[on_valid] >= 30
    blend = blend_of(cycle, known(score, "share"), known(shares(), "share"))
    assert blend.calibrated(lambda store: case.shown.pairs(store).where(on_valid), label) == blend


def test_a_part_is_scored_by_the_fit_that_may_answer_it(cycle, blend_of, known):
    old, new = known(np.zeros(N)), known(np.ones(N))
    blend = blend_of(cycle, old, old, train_valid=(new, new))
    ranker = blend.rankers[0].fits
    assert ranker.of("valid") is old
    assert ranker.of("test") is blend.exposure.of("test") is new
