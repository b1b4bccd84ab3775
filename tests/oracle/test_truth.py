"""The oracle's closed form against the generator it describes."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from nextreel import arrays, clock, datasets, engine, labels, schema
from nextreel.cases.asked import Cases, Catalogue
from nextreel.datasets import kuairand
from nextreel.oracle.answers import write as write_answers
from nextreel.oracle.truth import Oracle
from nextreel.scoring.sets import EvalSet, ShownPairs
from nextreel.simulation import files, generator
from nextreel.simulation import world as laws

LABEL = labels.Params(
    positive="long_view", wtg_threshold=1, wtr_threshold=0.5, wtr_cap=1, quantile=0.2, bucket="width",
    bucket_width_s=1, n_buckets=30, truncate=True, shrinkage=50,
)  # fmt: skip


@pytest.fixture(scope="module")
def generated(ingest, connect, tmp_path_factory):
    """Few videos and many rows, so that frequencies can be counted; beside the folder the generator's own rows."""
    folder = tmp_path_factory.mktemp("world")
    settings = generator.Params(
        scale=None, n_users=400, n_videos=100, n_rows=40_000, n_days=4, sequence_strength=0.7, duration_bias=1,
        exposure_bias=1, random_share=0.05, author_share=0.5, seed=5,
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


@pytest.fixture(scope="module")
def ids(world):
    """Keys of videos and users, their raw ids, with padding."""
    return [
        np.insert(arrays.load(world / f"tables/{kind}s.parquet", columns=[f"{kind}_id"])[f"{kind}_id"], 0, 0)
        for kind in ("video", "user")
    ]


@pytest.fixture(scope="module")
def store_with(ids, made_store):
    """A store of the world's users and videos in which user 1 has watched these videos, and nobody else any."""
    video_key, user_key = ids

    def made(videos=()):
        events = {"video_idx": np.array(videos, np.int32)}
        offsets = np.concatenate([[0], np.full(len(user_key), len(videos))])
        offsets[1] = 0
        return made_store(offsets, {}, events, video_key, user_key)

    return made


def asked_of(cases, store, catalogue=None, target=None):
    """These cases with a catalogue, all videos unless it says which."""
    first_part = np.full(store.n_videos + 1, 5, np.int8)
    first_part[np.arange(1, store.n_videos + 1) if catalogue is None else catalogue] = 0
    known = Catalogue(first_part, store.tables["videos"]["video_key"])
    target = np.zeros(len(cases), np.int32) if target is None else target
    return EvalSet(cases, store.users("user_key")[cases.user_idx], known, target, seed=42)


def log_scores(oracle, cases, store, video_idx):
    """log probability [B, N] of every video, from lists of all; -inf where it is in none. Seen videos are in none."""
    found = np.full((len(cases), store.n_videos + 1), -np.inf)
    for some in oracle.answers(store, asked_of(cases, store, video_idx), "test", store.n_videos):
        row = np.searchsorted(cases.case_id, some.listed["case_id"])
        found[row, some.listed["video_idx"]] = some.listed["score"]
    return found[:, video_idx]


def test_probabilities_are_those_of_exposure_and_reaction(world, rows, store_with):
    """Summed over users, the predicted number of (shown and long-viewed) first rows is the counted one, by topic: the
    counts lie no further from it than chance puts them, and far from equal ones."""
    first = rows.groupby("user_idx").head(3)  # with some 100 videos few are repeats yet
    oracle = Oracle(world, LABEL)
    video_idx = oracle.videos["video_idx"]
    predicted = np.exp(log_scores(oracle, cases_at(first), store_with(), video_idx)).sum(0)
    counted = np.bincount(first.video_idx[first.long_view.to_numpy(bool)], minlength=len(video_idx) + 1)[1:]
    topic = oracle.videos["topic"]
    by_topic = np.bincount(topic, weights=predicted), np.bincount(topic, weights=counted)
    assert by_topic[0].sum() == pytest.approx(by_topic[1].sum(), rel=0.12)
    apart = ((by_topic[1] - by_topic[0]) ** 2 / by_topic[0]).sum()
    assert stats.chi2.sf(apart, len(by_topic[0])) > 0.001
    assert stats.chi2.sf(((by_topic[1] - by_topic[0].mean()) ** 2 / by_topic[0].mean()).sum(), len(by_topic[0])) < 1e-6


def all_scores(oracle, cases, store, catalogue):
    """log probability [B, N] of every video, seen ones too, by its law and without any bound."""
    n = len(catalogue)
    histories = cases.histories(store)
    exposed = oracle._exposed(oracle.belief(cases, histories), histories, oracle.position[catalogue])
    keys = np.repeat(cases.user_idx, n), np.repeat(cases.time_ms, n), np.tile(catalogue, len(cases))
    with np.errstate(divide="ignore"):
        return np.log(exposed * oracle.positive_probability(*keys).reshape(exposed.shape)).astype(np.float32)


@pytest.mark.parametrize("positive", ["all", "long_view"])
def test_no_score_exceeds_its_bound(world, rows, positive, store_with):
    oracle = Oracle(world, LABEL.model_copy(update={"positive": positive}))
    some = cases_at(rows.iloc[::97])
    catalogue = oracle.videos["video_idx"]
    histories = some.histories(store_with())
    exposed = oracle._exposed(oracle.belief(some, histories), histories, oracle.position[catalogue])
    with np.errstate(divide="ignore"):
        bounds = np.log(exposed * oracle.ceiling[oracle.position[catalogue]]).astype(np.float32)
    assert (all_scores(oracle, some, store_with(), catalogue) <= bounds).all()


@pytest.mark.parametrize("positive", ["all", "long_view"])
@pytest.mark.parametrize("k", [0, 1, 7, 500])
def test_bounds_leave_out_nothing_that_matters(world, rows, positive, k, ids, made_store, full_sort):
    """Lists and ranks of every case are those of a full sort of all scores; of a catalogue without some videos."""
    oracle = Oracle(world, LABEL.model_copy(update={"positive": positive}))
    video_key, user_key = ids
    offsets = np.concatenate([[0], np.bincount(rows.user_idx, minlength=len(user_key)).cumsum()])
    store = made_store(offsets, {}, {"video_idx": rows.video_idx.to_numpy()}, video_key, user_key)
    place = np.arange(len(rows)) - offsets[rows.user_idx]
    at = np.arange(0, len(rows), 211)
    cases = cases_at(rows.iloc[at]).until(place[at])
    asked = asked_of(cases, store, np.arange(1, 101)[np.arange(1, 101) % 9 > 0], rows.video_idx.to_numpy()[at])
    scores = all_scores(oracle, cases, store, asked.catalogue.of("test"))
    expected, ranks = full_sort(SimpleNamespace(store=store, asked=asked), "test", scores)
    found = list(oracle.answers(store, asked, "test", k))
    listed = {name: np.concatenate([some.listed[name] for some in found]) for name in found[0].listed}
    assert listed["case_id"].tolist() == [i for i, each in enumerate(expected) for _entry in each[:k]]
    assert listed["video_idx"].tolist() == [video for each in expected for video, _score in each[:k]]
    assert listed["score"].tolist() == pytest.approx([score for each in expected for _video, score in each[:k]])
    assert listed["rank"].tolist() == [rank for each in expected for rank in range(1, len(each[:k]) + 1)]
    target_rank = np.concatenate([some.target_rank for some in found])
    assert target_rank.tolist() == ranks.tolist()
    assert (ranks == 0).any()  # seen before, or outside the catalogue
    assert (ranks > 7).any()


def test_exposure_probabilities_sum_to_one(world, rows, store_with):
    everything = LABEL.model_copy(update={"positive": "all"})
    oracle = Oracle(world, everything)
    some = rows.iloc[::97]
    total = np.exp(log_scores(oracle, cases_at(some), store_with(), oracle.videos["video_idx"])).sum(1)
    assert total == pytest.approx(np.ones(len(some)), rel=1e-4)


def test_videos_not_yet_uploaded_cannot_be_shown(world, rows, store_with):
    oracle = Oracle(world, LABEL)
    new = oracle.videos["video_idx"][oracle.videos["upload_day"] == 3]
    first_day = rows[rows.time_ms < laws.FIRST_MS + clock.DAY_MS].iloc[:50]
    assert len(new)
    assert (log_scores(oracle, cases_at(first_day), store_with(), new) == -np.inf).all()


def test_knows_only_simulated_worlds(world, tmp_path, con):
    assert Oracle.knows(world)
    engine.write(con, schema.empty(schema.TRUTH_TOPICS), tmp_path / "tables/truth_topics.parquet", ["topic"])
    assert not Oracle.knows(tmp_path)


def test_seen_videos_make_their_topic_s_others_likelier(world, rows, store_with):
    """By hand: half of a topic's exposures were seen, so its unseen videos get 1 + 1/2 + ... + 1/16 of their share."""
    assert laws.unseen_factor(np.array([0.0, 0.5, 1.0])).tolist() == [1, 1.9375, 5]
    oracle = Oracle(world, LABEL.model_copy(update={"positive": "all"}))
    case = cases_at(rows[rows.user_idx == 1].iloc[[50]])
    topic, catalogue = oracle.videos["topic"], oracle.videos["video_idx"]
    seen = np.flatnonzero(topic == topic[0])[:1]
    store = store_with(np.repeat(catalogue[seen], 2))  # seen twice counts once
    fresh, again = (
        np.exp(all_scores(oracle, some, store, catalogue).astype(float))[0]
        for some in (case, case.until(np.array([2])))
    )
    mass = fresh[seen].sum() / fresh[topic == topic[0]].sum()
    same = topic == topic[0]
    assert again[same] == pytest.approx(fresh[same] * laws.unseen_factor(mass), rel=1e-4)
    assert again[~same] == pytest.approx(fresh[~same], rel=1e-6)
    listed = np.exp(log_scores(oracle, case.until(np.array([2])), store, catalogue))[0]
    assert listed[seen] == 0  # what was seen is not listed
    assert np.delete(listed, seen) == pytest.approx(np.delete(again, seen), rel=1e-5)


def test_its_tables_are_like_a_model_s(world, rows, store_with, tmp_path):
    """Lists and ranks of valid and test, and P(positive) of every impression."""
    oracle, store = Oracle(world, LABEL), store_with()
    both = rows.groupby("user_idx").head(2)
    part = np.tile(["valid", "test"], len(both) // 2)
    cases = replace(cases_at(both), part=part)
    asked = asked_of(cases, store, target=both.video_idx.to_numpy())
    shown = ShownPairs(
        cases, asked.user_key, np.arange(len(both)), *(both[key].to_numpy() for key in ("video_idx", "time_ms", "tab"))
    )
    write_answers(oracle, store, asked, shown, tmp_path)
    lists, ranks, scores = (arrays.load(tmp_path / f"{kind}.parquet") for kind in ("lists", "ranks", "scores"))
    assert list(lists) == ["seed", "case_id", "video_idx", "score", "rank"]
    assert list(ranks) == ["seed", "case_id", "video_idx", "rank"]
    assert list(scores) == ["seed", "impression", "score"]
    assert all(set(table["seed"]) == {42} for table in (lists, ranks, scores))
    assert sorted(ranks["case_id"]) == sorted(set(lists["case_id"])) == cases.case_id.tolist()
    by_row = np.argsort(scores["impression"])
    assert scores["impression"][by_row].tolist() == list(range(len(both)))
    keys = (both[key].to_numpy() for key in ("user_idx", "time_ms", "video_idx"))
    assert scores["score"][by_row].tolist() == pytest.approx(oracle.positive_probability(*keys).tolist(), rel=1e-6)


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


@pytest.mark.parametrize("positive", ["wtg_quantile", "wtg", "long_view"])
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
        rows = rows.assign(probability=oracle.positive_probability(*keys))
        assert (rows.probability[rows.positive.isna()] == 0).all()  # can be no target
        found[name] = rows[rows.positive.notna()].astype({"positive": bool})
    rate = found["interactions"].groupby("video_idx").positive.mean()
    for rows in found.values():
        groups = [("all", rows), *rows.groupby(pd.qcut(rows.probability, 10, duplicates="drop"), observed=True)]
        for _name, some in groups:
            p = some.probability
            assert abs(p.mean() - some.positive.mean()) < 4 * np.sqrt((p * (1 - p)).sum()) / len(p) + 1e-3
        by_video = roc_auc_score(rows.positive, rows.video_idx.map(rate).fillna(0))
        assert roc_auc_score(rows.positive, rows.probability) > by_video + 0.02
