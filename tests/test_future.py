"""From raw files to lists: what is logged later changes nothing that was answered before."""

import shutil

import numpy as np
import pandas as pd
import pytest

from nextreel import datasets, engine, labels, models, splits
from nextreel.cases import protocols, write
from nextreel.cases.store import Store, link
from nextreel.contract import Training
from nextreel.datasets import kuairand
from nextreel.params import Params
from nextreel.parts import QUESTIONS
from nextreel.scoring.retrieve import retrieve
from nextreel.scoring.sets import EvalSet
from nextreel.simulation import generator

END = "2022-04-16"  # test begins a day before


@pytest.fixture(scope="module")
def raw(committed, tmp_path_factory):
    """A world with many new videos each day, without its truth; and the same cut at END, with all that only the
    future knows gone from the features."""
    path = tmp_path_factory.mktemp("raw")
    size = {"n_users": 80, "n_videos": 400, "n_rows": 4_000, "n_days": 10}
    generator.write(path / "whole", generator.Params(**committed["simulate"] | size))
    for truth in (path / "whole").glob("truth_*"):
        truth.unlink()
    shutil.copytree(path / "whole", path / "cut")
    end_ms = pd.Timestamp(END, tz="Asia/Shanghai").value // 10**6
    logged = []
    for log in sorted((path / "cut").glob("log_*.csv")):
        rows = pd.read_csv(log)
        rows[rows.time_ms < end_ms].to_csv(log, index=False)
        logged.append(rows[rows.time_ms < end_ms])
    past = pd.concat(logged)
    for kind in ("user", "video"):
        features = next((path / "cut").glob(f"{kind}_features*.csv"))
        rows = pd.read_csv(features)
        known = rows[rows[f"{kind}_id"].isin(past[f"{kind}_id"])]
        assert len(known) < len(rows) or kind == "user"
        known.to_csv(features, index=False)
    return path


def asked(con, params, data, committed):
    """Ingest, split by date and label what the section `ingest` names; the store and the cases."""
    source = kuairand.read(con, params)
    datasets.write_tables(con, source, data / "tables")
    interactions, random = (engine.read(con, data / f"tables/{name}.parquet") for name in ("interactions", "random"))
    dates = {"by": "date", "valid_from": "2022-04-13", "test_from": "2022-04-15"}
    split = splits.Params(**committed["split"] | dates)
    parts = splits.temporal(interactions, random, splits.bounds(interactions, split))
    settings = labels.Params(**committed["label"])
    labelled = labels.label(parts, write.fit(parts, settings, leave_one_out=False), settings)
    write.write(con, labelled, data, protocols.Params(targets="first"), leave_one_out=False)
    return data / "store", EvalSet.load(data, seed=42)


@pytest.fixture(scope="module")
def worlds(raw, committed, ingest, connect, tmp_path_factory):
    folders = {name: tmp_path_factory.mktemp(name) for name in ("whole", "cut")}
    return [asked(connect(), ingest(raw / name), data, committed) for name, data in folders.items()]


def lists(world, name, committed, folder):
    """{(user_key, part, time_ms): [video_key, ...]} of every case, the first 50."""
    family = "train" if name in committed["train"] else "recall"
    short = {"epochs": 2, "patience": 2, "width": 16}
    module = models.module(name)
    settings = Params(committed | {"model": committed["model"] | short}).section(
        f"{family}.{name}", module.Params, defaults="model" if family == "train" else None
    )
    path, asked_of = world
    link(path, folder, module.Model.columns(settings), ["train"])
    store = Store.load(folder)
    rng = np.random.default_rng(asked_of.seed)
    model = module.Model.fit(settings, Training(store.fitted_on("train"), rng))
    found = {}
    for part in QUESTIONS:
        for some in retrieve(model, store, asked_of, part, 50, ""):
            row = np.searchsorted(asked_of.cases.case_id, some.listed["case_id"])
            about = asked_of.user_key, asked_of.cases.part, asked_of.cases.time_ms
            keys = zip(*(column[row].tolist() for column in about), strict=True)
            videos = asked_of.catalogue.video_key[some.listed["video_idx"]].tolist()
            for key, video in zip(keys, videos, strict=True):
                found.setdefault(key, []).append(video)
    return found


def test_the_cut_renumbers_what_is_left(worlds):
    whole, cut = (asked for _store, asked in worlds)
    assert cut.catalogue.n_videos < whole.catalogue.n_videos
    shared = np.isin(whole.catalogue.video_key, cut.catalogue.video_key)
    assert (np.flatnonzero(shared) != np.arange(shared.sum())).any()


@pytest.mark.parametrize(
    "name",
    [
        *("most_popular", "recent_popular", "bpr_mf", "itemcf", "rates", "tag_chain"),
        *("gru4rec", "sasrec", "sasrec4sv"),
    ],
)
def test_deleting_the_future_changes_no_list(name, worlds, committed, tmp_path):
    whole, cut = (lists(world, name, committed, tmp_path / str(i)) for i, world in enumerate(worlds))
    past = {key: videos for key, videos in cut.items() if key[1] != "next"}
    assert {part for _user, part, _time in past} == {"valid", "test"}
    assert len(past) > 40
    assert {key: whole[key] for key in past} == past
