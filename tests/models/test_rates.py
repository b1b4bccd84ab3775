"""Rates by hand, against an independent fit, and where something is unknown."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score as auc

from nextreel.cases.pairs import Pairs
from nextreel.cases.store import NamedColumns
from nextreel.models import rates

KINDS = ["video", "author", "tag", "user", "user x tag"]


@pytest.fixture
def varying(monkeypatch):
    """Fix how much the terms of each kind vary; those not named do not."""

    def fix(**by_kind):
        values = np.array([by_kind.get(kind.replace(" ", "_"), 0.0) for kind in KINDS])
        monkeypatch.setattr(rates, "_variances", lambda *_: (values[:3], values[3:]))

    return fix


def fitted(training, passes=None, monkeypatch=None):
    if passes is not None:
        monkeypatch.setattr(rates, "_PASSES", passes)
    return rates.Model.fit(rates.Params(), training)


def test_an_unknown_label_is_no_row(log_of, training_on, scores_of):
    """Of a video that nobody is known to have liked or not nothing is known."""
    rows = [(1, 1), (1, 0), (2, 1), (3, 0)], [(1, 1), (2, 0), (2, 1)]
    planted = [*rows[0], (4, -1), (1, -1)], [(1, 1), (4, -1), (2, 0), (2, 1)]
    stores = [log_of(*users, tags=TAGS, author=AUTHOR) for users in (rows, planted)]
    models = [fitted(training_on(store)) for store in stores]
    assert (models[0].video == models[1].video).all()
    assert models[0].variances.tolist() == models[1].variances.tolist()
    ends = 4, 6
    found = [scores_of(m, s, 1, end, range(1, 10)) for m, s, end in zip(models, stores, ends, strict=True)]
    assert (found[0] == found[1]).all()


def term(r, c, variance):
    return r / (c + 1 / variance)


# User 1 likes video 1 (tag 0, author 0) in three of four rows, user 2 likes video 2 (tags 0 and 1, author 1) in none of
# two, and video 3 (author 1, no tag) in one of two.
ROWS = (
    [(1, 1), (1, 1), (1, 0), (1, 1)],
    [(2, 0), (3, 1), (2, 0), (3, 0)],
)
TAGS = [[], [0], [0, 1], [], [1], *[[]] * 5]
AUTHOR = [-1, 0, 1, 1, 0, -1, -1, -1, -1, -1]
P = 4.5 / 9
C = P * (1 - P)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("video", {1: term(3 - 4 * P, 4 * C, 0.5), 2: term(-2 * P, 2 * C, 0.5), 3: term(1 - 2 * P, 2 * C, 0.5), 4: 0}),
        ("author", {1: term(3 - 4 * P, 4 * C, 0.5), 2: term(1 - 4 * P, 4 * C, 0.5), 4: term(3 - 4 * P, 4 * C, 0.5)}),
        # Tag 0 has video 1 whole and half of video 2, whose rows know half of its term; tag 1 the other half.
        ("tag", {1: term(3 - 4 * P - P, 4.5 * C, 0.5), 4: term(-P, 0.5 * C, 0.5), 3: term(1 - 2 * P, 2 * C, 0.5)}),
        ("tag", {2: (term(3 - 4 * P - P, 4.5 * C, 0.5) + term(-P, 0.5 * C, 0.5)) / 2}),
    ],
)
def test_what_is_counted_in_fit_by_hand(kind, expected, log_of, training_on, scores_of, varying, monkeypatch):
    varying(**{kind: 0.5})
    store = log_of(*ROWS, tags=TAGS, author=AUTHOR)
    model = fitted(training_on(store), 1, monkeypatch)
    found = scores_of(model, store, 1, 0, list(expected))
    assert found == pytest.approx([logit(P) + value for value in expected.values()])


def test_what_is_counted_in_the_history_by_hand(log_of, training_on, scores_of, varying, monkeypatch):
    store = log_of(*ROWS, tags=TAGS, author=AUTHOR)
    varying(user=0.5)
    model = fitted(training_on(store), 1, monkeypatch)
    two = logit(P) + term(2 - 2 * P, 2 * C, 0.5)
    assert scores_of(model, store, 1, 2, [1, 2, 9]) == pytest.approx([two] * 3)
    assert scores_of(model, store, 2, 4, [1]) == pytest.approx([logit(P) + term(1 - 4 * P, 4 * C, 0.5)])
    varying(user_x_tag=0.5)
    model = fitted(training_on(store), 1, monkeypatch)
    half, none = term(-P, 0.5 * C, 0.5), term(1 - 2 * P, 2 * C, 0.5)  # video 2 is half tag 0, half tag 1; video 3 none
    assert scores_of(model, store, 2, 4, [1, 2, 4, 3]) == pytest.approx(logit(P) + np.array([half, half, half, none]))
    assert scores_of(model, store, 1, 4, [2]) == pytest.approx([logit(P) + term(3 - 4 * P, 4 * C, 0.5) / 2])


def test_an_empty_history_has_no_terms_of_its_own(halves, training_on, scores_of):
    model = fitted(training_on(halves.store))
    found = scores_of(model, halves.store, 1, 0, range(1, 81))
    assert found == pytest.approx(model.video[1:])


def design(store, model):
    """Rows [m] by all terms of all kinds, and the kind of each column, from the store by plain loops."""
    tags, n_tags = store.video_groups("tags")
    authors, n_authors = store.video_groups("author")
    n_videos, n_users = store.n_videos + 1, store.n_users
    widths = [n_videos, n_authors, n_tags, n_users, n_users * n_tags]
    start = np.cumsum([0, *widths])
    rows = []
    for user in range(1, n_users + 1):
        for at in range(store.offsets[user], store.offsets[user + 1]):
            video = store.events("video_idx")[at]
            row = np.zeros(start[-1])
            mine = tags.of(np.array([video]))[0]
            row[[video, start[1] + authors.values[video], start[3] + user - 1]] = 1
            row[start[2] + mine] = row[start[4] + (user - 1) * n_tags + mine] = 1 / len(mine)
            rows.append(row)
    return np.array(rows), np.repeat(np.arange(5), widths)


def some_log(log_of, seed, n_users=12, n_videos=9):
    """15 rows a user with terms of all kinds. Videos have up to three tags, and some no author."""
    rng = np.random.default_rng(seed)
    tags = [[], *(sorted({int(x) for x in rng.integers(0, 3, rng.integers(0, 3))}) for _ in range(n_videos))]
    author = rng.integers(-1, n_videos // 3, n_videos + 1)
    of_video, of_author, of_tag = rng.normal(size=n_videos + 1), rng.normal(size=n_videos), rng.normal(size=4)
    users = []
    for _ in range(n_users):
        video, of_user, by_tag = rng.integers(1, n_videos + 1, 15), rng.normal(), of_tag + rng.normal(size=4)
        log_odds = of_video[video] + of_author[author[video]] + of_user + [by_tag[tags[v] or 3].mean() for v in video]
        users.append(list(zip(video.tolist(), (rng.random(15) < expit(log_odds)).tolist(), strict=True)))
    return log_of(*users, tags=tags, author=author.tolist(), n_videos=n_videos)


def test_many_passes_find_the_mode_of_the_logistic_regression(log_of, training_on, scores_of, varying, monkeypatch):
    """Newton's method on all terms at once, with their precisions as ridge, knows nothing of kinds or passes."""
    store = some_log(log_of, 0)
    variances = np.array([0.3, 0.2, 0.1, 0.4, 0.5])
    varying(video=0.3, author=0.2, tag=0.1, user=0.4, user_x_tag=0.5)
    model = fitted(training_on(store), 100, monkeypatch)
    x, kind = design(store, model)
    positive = store.events("positive").astype(float)
    base = logit((positive.sum() + 0.5) / (len(positive) + 1))
    precision, theta = 1 / variances[kind], np.zeros(x.shape[1])
    for _ in range(50):
        p = expit(base + x @ theta)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(precision)
        theta += np.linalg.solve(hessian, x.T @ (positive - p) - precision * theta)
    log_odds = base + x @ theta
    for user in range(1, store.n_users + 1):
        mine = slice(store.offsets[user], store.offsets[user + 1])
        found = scores_of(model, store, user, 15, store.events("video_idx")[mine])
        assert found == pytest.approx(log_odds[mine], abs=1e-4)


def test_how_much_terms_vary_is_counted_over_pairs_of_rows(log_of, training_on):
    """Every pair by itself, in matrices of rows by rows."""
    store = some_log(log_of, 2, n_users=60, n_videos=30)
    model = fitted(training_on(store))
    x, kind = design(store, model)
    positive = store.events("positive").astype(float)
    share = (positive.sum() + 0.5) / (len(positive) + 1)
    product = np.outer(positive - share, positive - share) / (share * (1 - share)) ** 2

    def together(of):
        """The weight of pairs of rows in the groups of a kind, and that of what they have in common there."""
        mine = x[:, kind == of]
        return mine @ mine.T, mine**2 @ (mine**2).T

    def mean(weight, common, among):
        return max((weight * product * among).sum() / (common * among).sum(), 0)

    pairs = ~np.eye(len(x), dtype=bool)
    other_video = together(0)[0] == 0
    tag = mean(*together(2), other_video)
    author = max(mean(*together(1), other_video) - tag, 0)
    video = max(mean(*together(0), pairs) - tag - author, 0)
    other_tag = together(3)[0] - together(4)[0]  # of one user's rows, the part in which they differ
    user = mean(other_tag, other_tag, True)
    mine = x[:, kind == 4]  # one row's entries are pairs where they are different ones: there are none in one cell
    by_tag = max(mean(mine @ mine.T * pairs, mine**2 @ (mine**2).T * pairs, True) - tag - user, 0)
    n = store.n_videos + 1
    itself = rates._Groups(np.arange(n), np.arange(n), np.ones(n), n, n)
    others = [rates._Groups.of(*store.video_groups(name)) for name in ("author", "tags")]
    found = rates._variances(model._rows(store.fitted_on("train")), share, [itself, *others])
    assert np.concatenate(found) == pytest.approx([video, author, tag, user, by_tag])
    assert (np.concatenate(found) > 0.02).all()


def test_planted_variances_are_found(log_of, training_on):
    """400 videos of 100 authors, 400 users. What is counted is of first order: larger ones come out too small."""
    rng = np.random.default_rng(0)
    planted = {"author": 0.12, "video": 0.08, "user": 0.15, "by_tag": 0.1}
    author, tag = np.arange(401) // 4, np.arange(401) % 4
    sizes = {"author": 101, "video": 401, "user": 400, "by_tag": (400, 4)}
    of_author, of_video, of_user, by_tag = (rng.normal(0, np.sqrt(planted[x]), size) for x, size in sizes.items())
    users = []
    for user in range(400):
        video = rng.integers(1, 401, 150)
        log_odds = -1 + of_author[author[video]] + of_video[video] + of_user[user] + by_tag[user, tag[video]]
        users.append(list(zip(video.tolist(), (rng.random(150) < expit(log_odds)).tolist(), strict=True)))
    store = log_of(*users, tags=[[int(each)] for each in tag], author=author.tolist(), n_videos=400)
    model = fitted(training_on(store))
    kinds = [rates._Groups.of(*store.video_groups(name)) for name in ("author", "tags")]
    itself = rates._Groups(np.arange(401), np.arange(401), np.ones(401), 401, 401)
    share = store.events("positive").mean()
    of_videos, of_users = rates._variances(model._rows(store.fitted_on("train")), share, [itself, *kinds])
    assert of_videos == pytest.approx([planted["video"], planted["author"], 0], abs=0.04)
    assert of_users == pytest.approx([planted["user"], planted["by_tag"]], abs=0.04)
    assert model.variances == pytest.approx(of_users, rel=1e-3)


# --- what is unknown ---


def test_a_video_that_fit_has_not_seen_has_its_authors_and_tags_terms(log_of, training_on, scores_of, varying):
    varying(video=1, author=0.5, tag=0.5)
    store = log_of(
        [(1, 1), (1, 1), (2, 0), (2, 0)], tags=[[], [0], [1], [0], [1], *[[]] * 5], author=[-1, 0, 1, 0, 1, *[-1] * 5]
    )
    model = fitted(training_on(store))
    liked, other, liked_unseen, other_unseen, nothing_known = scores_of(model, store, 1, 0, [1, 2, 3, 4, 9])
    assert liked > liked_unseen > nothing_known > other_unseen > other
    assert nothing_known == pytest.approx(0)  # half of all are positive


def test_without_tags_and_authors_video_and_user_are_left(log_of, training_on, scores_of):
    """User x tag is the user's rate: the variance is counted there."""
    rng = np.random.default_rng(0)
    users = [[(int(rng.integers(1, 10)), int(rng.random() < odds)) for _ in range(40)] for odds in (0.2, 0.8) * 10]
    store = log_of(*users)
    model = fitted(training_on(store))
    assert model.variances[0] == 0 < model.variances[1]
    assert model.n_tags == 1
    few, many = (scores_of(model, store, user, 40, [1, 9]) for user in (1, 2))
    assert (many > few + 1).all()


def test_a_log_of_one_event_is_answered(log_of, training_on, scores_of):
    store = log_of([(1, 1)], tags=[[], [0], *[[]] * 8], author=[-1, 0, *[-1] * 8])
    model = fitted(training_on(store))
    assert scores_of(model, store, 1, 1, [1, 2]) == pytest.approx([logit(1.5 / 2)] * 2)


@pytest.mark.parametrize("positive", [0, 1])
def test_where_all_are_alike_no_term_varies(positive, log_of, training_on, scores_of):
    store = log_of([(1, positive), (2, positive)], [(1, positive), (3, positive)])
    found = scores_of(fitted(training_on(store)), store, 1, 2, range(1, 10))
    assert np.isfinite(found).all()
    assert ((found > 0) == positive).all()


# --- on a world with tastes ---


def test_a_user_is_its_history(halves, training_on):
    """Every second user has no event in the cut `few`: what it liked tells its half all the same."""
    cuts = halves.store.cuts
    few = np.where(np.arange(122) % 4 < 2, cuts["train"], cuts["start"])
    some = replace(halves.store, cuts={**cuts, "few": few})
    for cut in ("train", "few"):
        model = fitted(training_on(some, cut))
        pairs = halves.all_pairs("test")
        own = (pairs.video_idx > 40) == (pairs.cases.user_idx[pairs.row] + 1) % 2
        assert auc(own, model.score(pairs)) > 0.95
        assert np.isfinite(model.score(pairs)).all()


def on_valid(store, halves, model):
    """Label and score of the rows of valid, histories frozen before it."""
    end, cases = store.cuts["train"], halves.cases("valid")
    row = np.repeat(np.arange(len(cases)), 4)
    at = end[cases.user_idx][row] + np.tile(np.arange(4), len(cases))
    frozen = cases.until(end[cases.user_idx] - store.offsets[cases.user_idx])
    return store.events("positive")[at], model.score(Pairs.at_cases(store, frozen, row, store.events("video_idx")[at]))


def test_permuted_labels_teach_nothing(halves, training_on):
    """Over all rows of train: the AUC of valid's true labels is chance, with a standard error of .014 at most."""
    store, positive = halves.store, halves.store.events("positive")
    assert auc(*on_valid(store, halves, fitted(training_on(store)))) > 0.65
    in_train = np.arange(len(positive)) < np.repeat(store.cuts["train"], np.diff(store.offsets))
    permuted = positive.copy()
    permuted[in_train] = np.random.default_rng(0).permutation(positive[in_train])
    events = NamedColumns(store.tables["events"] | {"positive": permuted})
    spoilt = replace(store, tables={**store.tables, "events": events})
    assert auc(*on_valid(spoilt, halves, fitted(training_on(spoilt)))) == pytest.approx(0.5, abs=0.045)


def test_the_score_is_a_log_odds(halves, training_on):
    """As many rows of valid are positive as it says, within three standard errors: of likely ones, and of others."""
    positive, score = on_valid(halves.store, halves, fitted(training_on(halves.store)))
    p = expit(score)
    for some in (p < 0.5, p >= 0.5):
        error = np.sqrt((p[some] * (1 - p[some])).sum())
        assert abs(positive[some].sum() - p[some].sum()) < 3 * error
