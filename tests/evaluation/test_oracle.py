"""The oracle's closed form against the generator it describes."""

import numpy as np
import pandas as pd
import pytest

from nextreel import engine, labels, schema
from nextreel.cases import Cases
from nextreel.datasets import kuairand, simulated
from nextreel.datasets import world as laws
from nextreel.evaluation.oracle import Oracle
from nextreel.sequences import Events, Histories

LABEL = labels.Params(
    positive="long_view", wtg_threshold=1, wtr_threshold=0.5, quantile=0.2, wtr_cap=1, bucket="width",
    bucket_width_s=1, n_buckets=30, truncate=True, shrinkage=50,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Few videos and many rows, so that frequencies can be counted."""
    folder = tmp_path_factory.mktemp("world")
    settings = simulated.Params(
        n_users=400, n_videos=100, n_rows=40_000, n_days=4, sequence_strength=0.7, duration_bias=1, exposure_bias=1,
        random_share=0.05, seed=5,
    )  # fmt: skip
    simulated.write(folder / "raw", settings)
    con = engine.connect(engine.Params(memory_limit="1GB"), 2)
    source = kuairand.read(con, folder / "raw")
    for name, wanted in schema.TABLES.items():
        table = source.tables.get(name, schema.empty(wanted))
        engine.write(con, table, folder / "tables" / f"{name}.parquet", schema.ORDER[name])
    return folder


@pytest.fixture(scope="module")
def rows(world):
    """The first exposure of each user: nothing is left out as seen yet."""
    rows = pd.DataFrame(engine.load(world / "tables/interactions.parquet"))
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


def test_exposure_probabilities_sum_to_one(world, rows):
    everything = LABEL.model_copy(update={"positive": "all"})
    oracle = Oracle(world, everything)
    some = rows.iloc[::97]
    total = np.exp(oracle.score(cases_at(some), no_histories(len(some)), oracle.videos["video_idx"])).sum(1)
    assert total == pytest.approx(np.ones(len(some)), rel=1e-4)


def test_videos_not_yet_uploaded_cannot_be_shown(world, rows):
    oracle = Oracle(world, LABEL)
    new = oracle.videos["video_idx"][oracle.videos["upload_day"] == 3]
    first_day = rows[rows.time_ms < laws.FIRST_MS + schema.DAY_MS].iloc[:50]
    assert (oracle.score(cases_at(first_day), no_histories(len(first_day)), new) == -np.inf).all()


def test_knows_only_simulated_worlds(world, tmp_path):
    assert Oracle.knows(world)
    con = engine.connect(engine.Params(memory_limit="1GB"), 1)
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
