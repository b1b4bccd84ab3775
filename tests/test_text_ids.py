"""A log whose ids are text is asked, answered and reported as the same log with numbers is."""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nextreel import arrays, datasets, engine, evaluation, labels, models, schema, splits
from nextreel.cases import columns, protocols, write
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Store
from nextreel.contract import Training
from nextreel.datasets import Source
from nextreel.evaluation import outputs
from nextreel.evaluation.impressions import ImpressionResults, Impressions
from nextreel.evaluation.next_item import NextItemResults
from nextreel.scoring.sets import EvalSet
from nextreel.two_stage import recommend

N_USERS, N_VIDEOS, N_EVENTS = 40, 60, 24
FIRST_MS = 1_650_812_741_436
ODD = ["12", "00012", " ", "Zoë", "zoe", "\U0001f600", "a" * 300]
SEED = 42


def named(number):
    """Texts in another order than their numbers."""
    return ODD[number] if number < len(ODD) else str(uuid.UUID(int=number * 0x9E3779B97F4A7C15 % 2**128))


NUMBER = {named(number): number for number in range(N_VIDEOS)}


def the_log():
    """Everybody watches a video a minute of those that there are by then, each of which somebody watches once it is
    there; one row in eight is shown at random."""
    rng = np.random.default_rng(0)
    user, step = np.divmod(np.arange(N_USERS * N_EVENTS), N_EVENTS)
    there = 20 + (N_VIDEOS - 20) * (step + 1) // N_EVENTS
    before = np.where(step, 20 + (N_VIDEOS - 20) * step // N_EVENTS, 0)
    video = np.where(before + user < there, before + user, (rng.random(len(user)) ** 2 * there).astype(int))
    rows = {"user_id": user, "video_id": video, "time_ms": FIRST_MS + 60_000 * step + user, "click": video % 3 > 0}
    return pd.DataFrame(rows | {"is_rand": rng.random(len(user)) < 1 / 8})


@dataclass(frozen=True)
class Run:
    """What the stages up to `label` made of a log."""

    data: Path
    asked: EvalSet
    ids: dict[str, np.ndarray]  # the raw id of each user_idx and video_idx; of 0 none

    @property
    def store(self):
        return Store.load(self.data / "store")

    def frame(self, name):
        """A table with raw ids in place of indices."""
        rows = pd.DataFrame(arrays.load(self.data / name)).drop(columns=["user_id", "video_id"], errors="ignore")
        for kind, ids in self.ids.items():
            if f"{kind}_idx" in rows:
                rows[kind] = ids[rows.pop(f"{kind}_idx")]
        return rows


def made(connect, log, data, committed):
    """Index, split and label a log."""
    con = connect()
    row = {"row": np.arange(1, len(log) + 1)}
    rows = ibis.memtable(pa.table({name: log[name].to_numpy() for name in log.columns} | row))
    of = {kind: datasets.index(con, kind, rows) for kind in ("user", "video")}
    events = rows.join(of["user"], "user_id").join(of["video"], "video_id")
    tables = datasets.event_tables(events, rows.filter(rows.row < 0))
    tables |= {f"{kind}s": schema.conform(ids, schema.TABLES[f"{kind}s"]) for kind, ids in of.items()}
    written = datasets.write_tables(con, Source(tables, None, [], "", ""), data / "tables")
    bounds = splits.bounds(written["interactions"], splits.Params(**committed["split"]))
    parts = splits.temporal(written["interactions"], written["random"], bounds)
    parts = parts.drop_null("part")
    engine.write(con, parts, data / "parts.parquet", ["user_idx", "time_ms", "row"])
    settings = labels.Params(**committed["label"] | {"positive": "click"})
    labelled = labels.label(parts, write.fit(parts, settings, leave_one_out=False), settings)
    write.write(con, labelled, data, protocols.Params(targets="successive"), leave_one_out=False)
    ids = {kind: [None, *written[f"{kind}s"].order_by(f"{kind}_idx")[f"{kind}_id"].to_pyarrow().to_pylist()]
           for kind in ("user", "video")}  # fmt: skip
    return Run(data, EvalSet.load(data, SEED), {kind: np.array(each, object) for kind, each in ids.items()})


@pytest.fixture(scope="module")
def make(connect, tmp_path_factory, committed):
    return lambda log: made(connect, log, tmp_path_factory.mktemp("run"), committed)


def in_texts(log):
    return log.assign(user_id=log.user_id.map(named), video_id=log.video_id.map(named))


@pytest.fixture(scope="module")
def numbers(make):
    return make(the_log())


@pytest.fixture(scope="module")
def texts(make):
    return make(in_texts(the_log()))


def same(numbers, texts, keys):
    """Whether two frames hold the same rows once numbers have their names."""
    for kind in {"user", "video"} & set(numbers):
        numbers[kind] = numbers[kind].map(named)
    one, other = (rows[sorted(rows)].sort_values(keys).reset_index(drop=True) for rows in (numbers, texts))
    pd.testing.assert_frame_equal(one, other, check_dtype=False)
    return len(one)


def test_texts_are_numbered_otherwise(numbers, texts):
    """So that nothing below holds only because the indices agree."""
    assert (np.vectorize(named)(numbers.ids["user"][1:].astype(int)) != texts.ids["user"][1:]).any()
    for ids in texts.ids.values():
        assert {"12", "00012"} < set(ids[1:])


def test_the_split_and_the_labels_are_the_same(numbers, texts):
    one, other = (run.frame("parts.parquet") for run in (numbers, texts))
    assert set(one.part) == {"train", "valid", "test", "random"}
    assert same(one, other, ["row"]) > 800
    outcomes = [
        run.frame("impressions.parquet").merge(run.frame("outcomes.parquet")).drop(columns=["impression", "case_id"])
        for run in (numbers, texts)
    ]
    assert same(*outcomes, ["time_ms", "video"]) > 100


def test_the_questions_are_the_same(numbers, texts):
    cases = [run.frame("cases.parquet").drop(columns=["case_id", "user_key"]) for run in (numbers, texts)]
    assert set(cases[0].protocol) == {"next_item", "impressions", "random"}
    assert same(*cases, ["protocol", "part", "user", "time_ms"]) > 200
    catalogue = [run.frame("catalogue.parquet").drop(columns="video_key") for run in (numbers, texts)]
    assert set(catalogue[0].first_part) == {1, 2, 3}
    assert same(*catalogue, ["video"]) == N_VIDEOS


def test_the_targets_are_the_same(numbers, texts):
    targets = [
        run.frame("targets.parquet").merge(run.frame("cases.parquet"))[["user", "part", "time_ms", "video"]]
        for run in (numbers, texts)
    ]
    assert same(*targets, ["user", "time_ms"]) > 100


def test_tables_for_people_hold_the_texts(texts):
    for name, kind in (("cases", "user"), ("catalogue", "video")):
        found = arrays.load(texts.data / f"{name}.parquet")
        assert (found[f"{kind}_id"] == texts.ids[kind][found[f"{kind}_idx"]]).all()


def test_what_models_are_handed_holds_no_text(texts):
    handed = [texts.asked.user_key, texts.asked.catalogue.video_key, *texts.store.tables["users"].values()]
    assert {column.dtype for column in handed} == {np.dtype(np.uint64)}
    assert set(texts.store.tables["users"]) == {"user_key"}


# --- ties ---


def test_the_key_of_an_id():
    raw = ["", "12", "00012", "Zoë", "a\x00", "\U0001f600"]
    found = columns.key(ibis.memtable(pa.table({"id": raw})).id).to_pyarrow()
    assert found.type == pa.uint64()
    assert found.to_pylist() == [int(hashlib.md5(text.encode()).hexdigest()[:16], 16) for text in raw]
    whole = [0, 12, 2**63 - 1]
    assert columns.key(ibis.memtable(pa.table({"id": whole})).id).to_pyarrow().to_pylist() == whole


def mixed(x):
    """splitmix64's finaliser, in whole numbers."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def tie_by_hand(user, time_ms, video):
    user, video = (
        raw if isinstance(raw, int) else int.from_bytes(hashlib.md5(raw.encode()).digest()[:8], "big")
        for raw in (user, video)
    )
    case = mixed((mixed((user + SEED * 0x9E3779B97F4A7C15) % 2**64) + time_ms) % 2**64)
    return mixed((case + video * 0xD1B54A32D192ED03) % 2**64)


@pytest.mark.parametrize("ids", ["numbers", "texts"])
def test_ties_hang_on_the_ids_alone(ids, request):
    run = request.getfixturevalue(ids)
    cases = run.asked.cases
    video_idx = np.arange(len(cases)) % N_VIDEOS + 1
    found = run.asked.tie(cases.case_id, video_idx)
    users, videos = run.ids["user"][cases.user_idx], run.ids["video"][video_idx]
    assert found.tolist() == [tie_by_hand(*each) for each in zip(users, cases.time_ms.tolist(), videos, strict=True)]


@pytest.mark.parametrize("ids", ["numbers", "texts"])
def test_deleting_what_is_logged_later_changes_no_tie(ids, request, make):
    whole = request.getfixturevalue(ids)
    log = the_log()
    early = log[log.time_ms < FIRST_MS + 60_000 * (N_EVENTS - 5)]
    cut = make(in_texts(early) if ids == "texts" else early)
    shared = np.isin(whole.ids["video"][1:].astype(str), cut.ids["video"][1:].astype(str))
    assert 0 < (~shared).sum() < shared.sum()
    assert (np.flatnonzero(shared) != np.arange(shared.sum())).any() == (ids == "texts")  # numbers are new at the end
    assert (whole.asked.catalogue.video_key[1:][shared] == cut.asked.catalogue.video_key[1:]).all()
    users = [
        dict(zip(run.ids["user"][run.asked.cases.user_idx], run.asked.user_key, strict=True)) for run in (whole, cut)
    ]
    assert users[0] == users[1]
    assert len(users[0]) == N_USERS


# --- models ---


def bpr_mf(run):
    module = models.module("bpr_mf")
    settings = module.Params(factors=8, lr=0.05, regularization=0.01, iterations=20, threads=1)
    return module.Model.fit(settings, Training(run.store.fitted_on("train"), np.random.default_rng(0)))


def scores(model, run):
    """Of each user, by raw id: its score of every video, at the end of the log."""
    cases = run.asked.of("next").cases
    row, video_idx = np.divmod(np.arange(len(cases) * N_VIDEOS), N_VIDEOS)
    found = model.score(Pairs.at_cases(run.store, cases, row, (video_idx + 1).astype(np.int32)))
    return dict(zip(run.ids["user"][cases.user_idx], found.reshape(len(cases), -1), strict=True))


def test_bpr_mf_knows_its_users_by_text(texts, make, tmp_path):
    """In a log with strangers among them, which shift every index, and after a save."""
    model = bpr_mf(texts)
    assert (np.diff(texts.store.users("user_key")[1:].astype(float)) < 0).any()  # else nothing is out of order
    own = scores(model, texts)
    assert len({each.tobytes() for each in own.values()}) == N_USERS
    assert (own["12"] != own["00012"]).any()
    log = in_texts(the_log())
    visit = log[log.user_id == "12"]
    strangers = ["", "012", "zzz", "~"]
    more = make(pd.concat([log, *(visit.assign(user_id=name) for name in strangers)]))
    model.save(tmp_path / "model")
    found = scores(models.module("bpr_mf").Model.load(tmp_path / "model"), more)
    assert set(found) == {*own, *strangers}
    newcomer = model.video_factors[1:, -1]
    newcomer = np.where(np.isnan(newcomer), -np.inf, newcomer)
    for name, score in found.items():
        assert (score == own.get(name, newcomer)).all()


# --- what people read ---


def test_recommendations_name_users_and_videos_as_the_log_does(numbers, texts, connect):
    found = []
    for run in (numbers, texts):
        cases = run.asked.of("next").cases
        video = np.tile(np.arange(1, N_VIDEOS + 1), len(cases))
        score = np.tile([NUMBER.get(raw, raw) for raw in run.ids["video"][1:]], len(cases)) * 7 % 61
        rank = score.reshape(len(cases), -1).argsort(1).argsort(1).ravel() + 1
        listed = {"case_id": np.repeat(cases.case_id, N_VIDEOS), "video_idx": video, "score": score, "rank": rank}
        arrays.write(listed, run.data / "systems/two_stage/lists.parquet")
        recommend.recommend(connect(), run.data, 5)
        table = pd.DataFrame(arrays.load(run.data / "recommendations.parquet"))
        assert list(table) == ["user_id", "video_id", "score", "rank"]
        assert table.user_id[::5].tolist() == run.ids["user"][1:].tolist()
        found.append(table.rename(columns={"user_id": "user", "video_id": "video"}))
    same(*found, ["user", "rank"])


def test_values_of_each_user_are_told_by_its_own_id(numbers, texts):
    found = []
    for run in (numbers, texts):
        rank = run.asked.cases.time_ms[run.asked.target > 0] % 7
        shown = Impressions.load(run.data, SEED)
        settings = evaluation.Params(confidence=0.9)
        outputs.write_per_user(
            run.data,
            NextItemResults(run.asked, {"model": {SEED: rank}}, settings),
            ImpressionResults(shown, {"model": {SEED: (shown.time_ms % 97).astype(np.float32)}}, settings),
        )
        table = pd.DataFrame(arrays.load(run.data / "per_user.parquet"))
        names = ["protocol", "model", "seed", "part", "user_idx", "user_id", "case_id", "metric", "value"]
        assert list(table) == names
        assert (table.user_id == run.ids["user"][table.user_idx]).all()
        cases = pd.DataFrame(arrays.load(run.data / "cases.parquet", columns=["case_id", "time_ms"]))
        found.append(table.merge(cases).drop(columns=["user_idx", "case_id"]).rename(columns={"user_id": "user"}))
    assert set(found[0].protocol) == {"next_item", "impressions"}
    assert same(*found, ["protocol", "part", "metric", "user", "time_ms"]) > 900
