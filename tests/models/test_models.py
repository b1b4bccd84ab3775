"""What every model promises, on worlds with a known answer."""

import numpy as np
import pytest

from nextreel import answers, models
from nextreel.engine import load
from nextreel.errors import UserError
from nextreel.evaluation import next_item

SETTINGS = {
    "most_popular": {},
    "itemcf": {"window": 10, "decay": 0.9, "recency": 0.9, "shrink": 1, "neighbours": 50, "passed_weight": 0.3},
    "sasrec": {
        "lr": 0.01, "weight_decay": 0, "epochs": 12, "batch_size": 32, "patience": 12, "width": 32, "length": 16,
        "dropout": 0.1, "history": "all", "loss": "softmax", "negatives": 32, "blocks": 1, "heads": 1,
    },
}  # fmt: skip
NAMES = list(SETTINGS)


def fit(name, exam, tmp_path, seed=0, **changes):
    module = models.module(name)
    settings = module.Params(**SETTINGS[name] | changes)
    if "lr" not in SETTINGS[name]:
        return module.Model.fit(exam.events.train(), exam.n_videos, settings)
    return module.Model.fit(
        exam.events.train(),
        exam.n_videos,
        settings,
        np.random.default_rng(seed),
        lambda model: next_item.validate(model, exam),
        tmp_path / f"{name}.csv",
        name,
    )


@pytest.fixture(scope="module", params=NAMES)
def fitted(request, blocks, tmp_path_factory):
    return request.param, fit(request.param, blocks, tmp_path_factory.mktemp("fit"))


def hit_rate(model, exam, part="test", k=10):
    rank = np.concatenate([answers.ranks(block, exam.seed) for block in answers.blocks(model, exam, part, "")])
    return ((rank > 0) & (rank <= k)).mean()


def whole_score(model, exam, part="test"):
    asked = exam.of(part)
    return model.score(asked.cases, asked.cases.histories(exam.events), exam.catalogue_of(part))


def test_lists_hold_unseen_videos_of_the_catalogue_once_in_order(fitted, blocks, tmp_path):
    name, model = fitted
    answers.write(model, name, blocks, tmp_path / "lists.parquet", tmp_path / "ranks.parquet")
    lists, ranks = load(tmp_path / "lists.parquet"), load(tmp_path / "ranks.parquet")
    for i in range(0, len(blocks.cases), 29):
        one = blocks.cases.where(slice(i, i + 1))
        mine = lists["case_id"] == one.case_id
        shown, score = lists["video_idx"][mine], lists["score"][mine]
        position, _ = one.histories(blocks.events).flat()
        assert lists["rank"][mine].tolist() == list(range(1, len(shown) + 1))
        assert (np.diff(score) <= 0).all()
        assert len(set(shown)) == len(shown)
        assert not set(shown) & set(blocks.events.video_idx[position].tolist())
        assert set(shown) <= set(blocks.catalogue_of(one.part[0]).tolist())
    assert ranks["case_id"].tolist() == blocks.cases.case_id[blocks.target > 0].tolist()
    listed = {(c, v): r for c, v, r in zip(lists["case_id"], lists["video_idx"], lists["rank"], strict=True)}
    for case, video, rank in zip(*ranks.values(), strict=True):
        assert listed.get((case, video), rank) == rank  # list and full ranking tell the same place


def test_pairs_score_like_the_whole_catalogue(fitted, blocks):
    _, model = fitted
    asked = blocks.of("test")
    histories, catalogue = asked.cases.histories(blocks.events), blocks.catalogue_of("test")
    pairs = np.tile(catalogue[::7], (len(asked.cases), 1))
    np.testing.assert_allclose(
        model.score(asked.cases, histories, pairs), whole_score(model, blocks)[:, ::7], rtol=1e-4, atol=1e-5
    )


def test_a_saved_model_answers_the_same(fitted, blocks, tmp_path):
    name, model = fitted
    model.save(tmp_path / name)
    loaded = models.module(name).Model.load(tmp_path / name)
    assert (whole_score(loaded, blocks) == whole_score(model, blocks)).all()


def test_the_same_seed_gives_the_same_bits(fitted, blocks, tmp_path):
    name, model = fitted
    assert (whole_score(fit(name, blocks, tmp_path), blocks) == whole_score(model, blocks)).all()


def test_fitting_reads_train_alone(fitted, blocks, tmp_path):
    """Every event after train becomes another video and reaction; the fitted model stays."""
    name, _model = fitted
    events = blocks.events
    after = np.arange(len(events.video_idx)) >= np.repeat(events.train_end, np.diff(events.offsets))
    scrambled = type(events)(
        events.offsets,
        events.train_start,
        events.train_end,
        np.where(after, 81 - events.video_idx, events.video_idx),
        events.time_ms,
        np.where(after, ~events.positive, events.positive),
    )
    exam = answers.Exam(blocks.cases, scrambled, blocks.catalogue, blocks.target, blocks.seed)
    # Epochs are chosen on valid, so all of them are kept here.
    changes = {} if name in ("most_popular", "itemcf") else {"epochs": 1}
    one, other = fit(name, blocks, tmp_path, **changes), fit(name, exam, tmp_path, **changes)
    assert (whole_score(one, blocks) == whole_score(other, blocks)).all()


def test_an_empty_history_is_answered(fitted, blocks):
    _, model = fitted
    asked = blocks.of("next")
    empty = asked.cases.where(asked.cases.history_end == 0)
    assert len(empty) == 1
    scores = model.score(empty, empty.histories(blocks.events), blocks.catalogue_of("next"))
    assert scores.shape == (1, 80)
    assert not np.isnan(scores).any()


def test_the_input_is_left_as_it_was(fitted, blocks):
    _, model = fitted
    before = {name: getattr(blocks.events, name).copy() for name in blocks.events.__dataclass_fields__}
    whole_score(model, blocks)
    assert all((getattr(blocks.events, name) == column).all() for name, column in before.items())


@pytest.mark.parametrize("name", ["itemcf", "sasrec"])
def test_taste_is_found_on_the_checkerboard(name, blocks, tmp_path):
    """Some 16 of 40 videos of a user's half are unseen in test: HR@10 is 10/16 for who knows it, 10/56 by chance."""
    assert hit_rate(fit(name, blocks, tmp_path), blocks) > 0.5
    assert hit_rate(fit("most_popular", blocks, tmp_path), blocks) < 0.4


def test_order_is_found_on_the_circle(cycle, tmp_path):
    assert hit_rate(fit("sasrec", cycle, tmp_path), cycle, k=1) > 0.9
    assert hit_rate(fit("most_popular", cycle, tmp_path), cycle, k=1) < 0.3


@pytest.mark.parametrize("loss", ["bce", "bpr", "sampled_softmax"])
def test_every_loss_learns_the_circle(loss, cycle, tmp_path):
    assert hit_rate(fit("sasrec", cycle, tmp_path, loss=loss, negatives=8), cycle, k=5) > 0.8


def test_a_diverging_loss_stops_with_a_word(cycle, tmp_path):
    with pytest.raises(UserError, match=r"lower `model\.lr`"):
        fit("sasrec", cycle, tmp_path, lr=1e12)


class NoNumber:
    def score(self, cases, histories, video_idx):
        return np.full((len(cases), len(video_idx)), np.nan, np.float32)


def test_nan_is_no_score(cycle):
    """NaN means seen further on: it would rank every target first."""
    with pytest.raises(ValueError, match="NaN"):
        list(answers.blocks(NoNumber(), cycle, "test", "no number"))


class NoOpinion:
    def score(self, cases, histories, video_idx):
        return np.full((len(cases), len(video_idx)), -np.inf, np.float32)


def test_no_opinion_is_a_miss_as_in_the_list(cycle):
    assert hit_rate(NoOpinion(), cycle, k=60) == 0


def test_softmax_over_too_many_videos_is_refused(cycle, tmp_path, monkeypatch):
    monkeypatch.setattr("nextreel.nn.recommender.SOFTMAX_LIMIT", 50)
    with pytest.raises(UserError, match="60 videos"):
        fit("sasrec", cycle, tmp_path)


def test_positives_alone_learn_the_circle(cycle, tmp_path):
    assert hit_rate(fit("sasrec", cycle, tmp_path, history="positives"), cycle, k=1) > 0.9


@pytest.mark.parametrize("passed", [0, 0.5])
def test_itemcf_by_hand(passed):
    """User 1: a b c positive, x passed over before c. User 2: a b."""
    from nextreel.models import itemcf
    from nextreel.sequences import Events

    a, b, c, x = 1, 2, 3, 9
    events = Events(
        np.array([0, 0, 4, 6]),
        np.array([0, 0, 4]),
        np.array([0, 4, 6]),
        np.array([a, b, x, c, a, b], np.int32),
        np.arange(6),
        np.array([True, True, False, True, True, True]),
    )
    settings = itemcf.Params(window=2, decay=0.5, recency=0.5, shrink=1, neighbours=5, passed_weight=passed)
    model = itemcf.Model.fit(events.train(), 9, settings)
    similarity = model.similarity.toarray()
    assert similarity[a, b] == similarity[b, a] == pytest.approx(2 / (2 + 1))
    if passed:
        assert similarity[b, c] == pytest.approx(0.5 / (np.sqrt(2) + 1))  # two apart
        assert similarity[a, c] == 0  # three apart
        assert similarity[b, x] == pytest.approx(0.5 / (np.sqrt(2 * 0.5) + 1))
    else:
        assert similarity[b, c] == pytest.approx(1 / (np.sqrt(2) + 1))
        assert similarity[a, c] == pytest.approx(0.5 / (np.sqrt(2) + 1))
        assert not similarity[x].any()
    scores = model.score(range(1), events.until(np.array([2]), np.array([2])), np.array([c, 8]))
    assert scores[0, 0] == pytest.approx(0.5 * similarity[a, c] + similarity[b, c])
    assert scores[0, 1] == -np.inf
