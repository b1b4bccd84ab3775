"""The oracle's closed form against the generator it describes."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from nextreel import arrays, clock, datasets, engine, labels, schema
from nextreel.cases.protocols import Cases
from nextreel.cases.store import Events, Histories
from nextreel.datasets import kuairand
from nextreel.oracle import Oracle
from nextreel.simulation import files, generator
from nextreel.simulation import world as laws

LABEL = labels.Params(
    positive="long_view", wtg_threshold=1, wtr_threshold=0.5, quantile=0.2, wtr_cap=1, bucket="width",
    bucket_width_s=1, n_buckets=30, truncate=True, shrinkage=50,
)  # fmt: skip


@pytest.fixture(scope="module")
def generated(ingest, connect, tmp_path_factory):
    """Few videos and many rows, so that frequencies can be counted; beside the folder the generator's own rows."""
    folder = tmp_path_factory.mktemp("world")
    settings = generator.Params(
        scale=None, n_users=400, n_videos=100, n_rows=40_000, n_days=4, sequence_strength=0.7, duration_bias=1,
        exposure_bias=1, random_share=0.05, seed=5,
    )  # fmt: skip
    kept = {}
    write_states = files.write_states

    def keep(raw, events, random):
        kept.update(interactions=events, random=random)
        write_states(raw, events, random)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_states", keep)
        generator.write(folder / "raw", settings)
    con = connect()
    source = kuairand.read(con, ingest(folder / "raw"))
    datasets.write_tables(con, source, folder / "tables")
    return folder, kept


@pytest.fixture(scope="module")
def world(generated):
    return generated[0]


@pytest.fixture(scope="module")
def rows(world):
    """The first exposure of each user: nothing is left out as seen yet."""
    rows = pd.DataFrame(arrays.load(world / "tables/interactions.parquet"))
    return rows.sort_values(["user_idx", "time_ms"])


def cases_at(rows):
    n = len(rows)
    columns = (rows.user_idx.to_numpy(), rows.time_ms.to_numpy(), np.zeros(n, np.int16), np.zeros(n, np.int64))
    return Cases(np.arange(n), np.full(n, "test"), *columns)


def no_histories(n):
    none = np.zeros(0, np.int64)
    return Histories(Events(*[none] * 7), np.zeros(n, np.int64), np.zeros(n, np.int64))


def test_probabilities_are_those_of_exposure_and_reaction(world, rows):
    """Summed over users, the predicted number of (shown and long-viewed) first rows is the counted one, by topic."""
    first = rows.groupby("user_idx").head(3)  # with some 100 videos few are repeats yet
    oracle = Oracle(world, LABEL)
    video_idx = oracle.videos["video_idx"]
    predicted = np.exp(oracle.score(cases_at(first), no_histories(len(first)), video_idx)).sum(0)
    counted = np.bincount(first.video_idx[first.long_view.to_numpy(bool)], minlength=len(video_idx) + 1)[1:]
    topic = oracle.videos["topic"]
    by_topic = np.bincount(topic, weights=predicted), np.bincount(topic, weights=counted)
    assert by_topic[0].sum() == pytest.approx(by_topic[1].sum(), rel=0.12)
    assert np.corrcoef(*by_topic)[0, 1] > 0.9


@pytest.mark.parametrize("positive", ["all", "long_view"])
def test_no_score_exceeds_its_bound(world, rows, positive):
    oracle = Oracle(world, LABEL.model_copy(update={"positive": positive}))
    some = rows.iloc[::97]
    asked = (cases_at(some), no_histories(len(some)), oracle.videos["video_idx"])
    scores, bounds = oracle.score(*asked), oracle.bounds(*asked)
    assert (scores <= bounds).all()


def test_exposure_probabilities_sum_to_one(world, rows):
    everything = LABEL.model_copy(update={"positive": "all"})
    oracle = Oracle(world, everything)
    some = rows.iloc[::97]
    total = np.exp(oracle.score(cases_at(some), no_histories(len(some)), oracle.videos["video_idx"])).sum(1)
    assert total == pytest.approx(np.ones(len(some)), rel=1e-4)


def test_videos_not_yet_uploaded_cannot_be_shown(world, rows):
    oracle = Oracle(world, LABEL)
    new = oracle.videos["video_idx"][oracle.videos["upload_day"] == 3]
    first_day = rows[rows.time_ms < laws.FIRST_MS + clock.DAY_MS].iloc[:50]
    assert (oracle.score(cases_at(first_day), no_histories(len(first_day)), new) == -np.inf).all()


def test_knows_only_simulated_worlds(world, tmp_path, con):
    assert Oracle.knows(world)
    engine.write(con, schema.empty(schema.TRUTH_TOPICS), tmp_path / "tables/truth_topics.parquet", ["topic"])
    assert not Oracle.knows(tmp_path)


def test_seen_videos_make_their_topic_s_others_likelier(world, rows):
    """By hand: half of a topic's exposures were seen, so its unseen videos get 1 + 1/2 + ... + 1/16 of their share."""
    assert laws.unseen_factor(np.array([0.0, 0.5, 1.0])).tolist() == [1, 1.9375, 5]
    oracle = Oracle(world, LABEL.model_copy(update={"positive": "all"}))
    case = cases_at(rows.iloc[[5000]])
    topic = oracle.videos["topic"]
    seen = np.flatnonzero(topic == topic[0])[:1]
    none = np.zeros(2, np.int64)
    events = Events(
        none, none, none, none, oracle.videos["video_idx"][np.repeat(seen, 2)], none, none
    )  # seen twice counts once
    fresh, again = (
        np.exp(oracle.score(case, histories, oracle.videos["video_idx"]).astype(float))[0]
        for histories in (no_histories(1), Histories(events, np.array([0]), np.array([2])))
    )
    mass = fresh[seen].sum() / fresh[topic == topic[0]].sum()
    same = topic == topic[0]
    assert again[same] == pytest.approx(fresh[same] * laws.unseen_factor(mass), rel=1e-4)
    assert again[~same] == pytest.approx(fresh[~same], rel=1e-6)


def logged(world, name):
    table = pd.DataFrame(arrays.load(world / f"tables/{name}.parquet"))
    return table, [table[key].to_numpy() for key in ("user_idx", "time_ms", "video_idx")]


@pytest.mark.parametrize("name", ["interactions", "random"])
def test_interest_is_the_generator_s_own(generated, name):
    world, kept = generated
    table, keys = logged(world, name)
    own = kept[name]
    generator = pd.DataFrame({"user_idx": own["user"] + 1, "time_ms": own["time_ms"], "video_idx": own["video"] + 1})
    generator["own"], generator["before"] = own["interest"], own["before"]
    joined = table.merge(generator.drop_duplicates(["user_idx", "time_ms", "video_idx"]), validate="1:1")
    assert len(joined) == len(table) > 1_500
    assert Oracle(world, LABEL).interest(*keys).tolist() == joined.own.tolist()
    assert (joined.before >= 0).mean() > 0.8 if name == "interactions" else (joined.before == -1).all()


def test_interest_by_hand(world):
    """2 * taste . vector + quality + 0.7 * P(topic | topic before), in plain Python."""
    oracle = Oracle(world, LABEL)
    table, keys = logged(world, "interactions")
    state = pd.DataFrame(arrays.load(world / "tables/truth_events.parquet")).drop_duplicates(["user_idx", "time_ms"])
    before = table.merge(state, how="left").topic_before
    for row in np.flatnonzero(before >= 0)[:5].tolist():
        user, video = int(table.user_idx[row]) - 1, int(table.video_idx[row]) - 1
        pairs = zip(oracle.users["taste"][user], oracle.videos["vector"][video], strict=True)
        mood = 0.7 * oracle.topics["next_probability"][before[row]][oracle.videos["topic"][video]]
        by_hand = 2 * sum(a * b for a, b in pairs) + oracle.videos["quality"][video] + mood
        assert oracle.interest(*(key[[row]] for key in keys))[0] == pytest.approx(by_hand)


def test_a_moment_that_is_not_logged_is_an_error(world):
    _table, (user_idx, time_ms, video_idx) = logged(world, "random")
    with pytest.raises(ValueError, match="1 of 2000 moments"):
        Oracle(world, LABEL).interest(user_idx, np.where(np.arange(2000) == 7, time_ms - 1, time_ms), video_idx)


def test_on_one_millisecond_the_standard_row_s_state_is_taken(world, tmp_path):
    """A random row beside a standard one of the same user and time, whose session began the day before or not."""
    shutil.copytree(world / "tables", tmp_path / "tables")
    truth = pd.DataFrame(arrays.load(world / "tables/truth_events.parquet"))
    standard = truth[truth.topic_before >= 0].iloc[::500]
    random = standard.assign(topic_before=np.int16(-1), day=standard.day + (np.arange(len(standard)) % 2).astype("i4"))
    both = pd.concat([truth, random]).sort_values(["user_idx", "time_ms", "day", "topic_before"])
    arrays.write({name: both[name].to_numpy() for name in both}, tmp_path / "tables/truth_events.parquet")
    before, day = Oracle(tmp_path, LABEL)._state(standard.user_idx.to_numpy(), standard.time_ms.to_numpy())
    assert before.tolist() == standard.topic_before.tolist()
    assert day.tolist() == standard.day.tolist()


@pytest.mark.parametrize("positive", ["wtg", "long_view"])
def test_probability_of_a_logged_positive(world, tmp_path, con, positive):
    """Calibrated, over all rows and by decile, and a better order than the video's own share of positives."""
    label = LABEL.model_copy(update={"positive": positive})
    shutil.copytree(world / "tables", tmp_path / "tables")
    tables = {name: engine.read(con, tmp_path / f"tables/{name}.parquet") for name in ("interactions", "random")}
    durations = labels.by_duration(tables["interactions"], tables["interactions"], label, tables["interactions"])
    arrays.write(durations, tmp_path / "durations.parquet")
    oracle = Oracle(tmp_path, label)
    found = {}
    for name, table in tables.items():
        rows = labels.label(table, durations, label).to_pandas()
        keys = (rows[key].to_numpy() for key in ("user_idx", "time_ms", "video_idx"))
        found[name] = rows.assign(probability=oracle.positive_probability(*keys))
    rate = found["interactions"].groupby("video_idx").positive.mean()
    for rows in found.values():
        groups = [("all", rows), *rows.groupby(pd.qcut(rows.probability, 10, duplicates="drop"), observed=True)]
        for _name, some in groups:
            p = some.probability
            assert abs(p.mean() - some.positive.mean()) < 4 * np.sqrt((p * (1 - p)).sum()) / len(p) + 1e-3
        by_video = roc_auc_score(rows.positive, rows.video_idx.map(rate).fillna(0))
        assert roc_auc_score(rows.positive, rows.probability) > by_video + 0.02
