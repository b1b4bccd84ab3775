"""What lists are truly worth, against the law told again in plain Python."""

import math
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from nextreel import arrays
from nextreel.cases.store import link
from nextreel.oracle import answers
from nextreel.oracle.truth import Oracle

KINDS = ("users", "videos", "topics", "events")


class Halves:
    """P(positive | shown) is 1 / (video + user); keeps what it was asked."""

    def positive_probability(self, user_idx, time_ms, video_idx):
        return 1 / (video_idx + user_idx)


def written(asked, lists, path):
    with arrays.Writer(path) as values:
        answers.add_list_values(Halves(), asked, lists, values)
    return arrays.load(path)


def test_a_list_is_worth_the_mean_of_its_first_ten(cycle, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "_ENTRIES", 7)
    some = cycle.asked.where(cycle.asked.cases.part != "next")
    n = len(some.cases)
    listed = {
        "seed": np.full(12 * n, 42),
        "case_id": np.repeat(some.cases.case_id, 12),
        "video_idx": np.tile(np.arange(1, 13, dtype=np.int32), n),
        "rank": np.tile(np.arange(1, 13, dtype=np.int32), n),
    }
    short = {name: values[(listed["rank"] <= 2) & (listed["case_id"] % 2 == 0)] for name, values in listed.items()}
    other = {name: values[:5] for name, values in listed.items()} | {"seed": np.full(5, 43)}
    arrays.write(listed, tmp_path / "long.parquet")
    arrays.write({name: np.concatenate([short[name], other[name]]) for name in short}, tmp_path / "short.parquet")
    lists = {name: tmp_path / f"{name}.parquet" for name in ("long", "short")}
    found = written(cycle.asked, lists, tmp_path / "values.parquet")
    for system, k, cases in (
        ("long", 10, range(n)),
        ("short", 2, [i for i in range(n) if some.cases.case_id[i] % 2 == 0]),
    ):
        mine = found["system"] == system
        assert found["case_id"][mine].tolist() == some.cases.case_id[list(cases)].tolist()
        expected = [sum(1 / (v + int(some.cases.user_idx[i])) for v in range(1, k + 1)) / k for i in cases]
        assert found["list_value"][mine] == pytest.approx(expected)


def test_the_best_ranker_orders_the_pool_by_the_truth(cycle, tmp_path):
    ids = cycle.asked.cases.case_id
    pool = {"case_id": np.repeat(ids, 3), "video_idx": np.tile(np.array([9, 3, 50], np.int32), len(ids))}
    arrays.write(pool, tmp_path / "pool.parquet")
    answers.write_ranker(Halves(), cycle.asked, tmp_path / "pool.parquet", tmp_path)
    listed, ranked = (arrays.load(tmp_path / f"{name}.parquet") for name in ("lists", "ranks"))
    assert listed["video_idx"].reshape(-1, 3).tolist() == [[3, 9, 50]] * int((cycle.asked.cases.part != "next").sum())
    expected = [{3: 1, 9: 2, 50: 3}.get(target, 0) for target in ranked["video_idx"].tolist()]
    assert ranked["rank"].tolist() == expected


def by_hand(data, user, moment, video):
    """P(long view | shown) in plain Python, straight from the simulator's tables and the laws in its docstring."""
    users, videos, topics, state = (arrays.load(data / f"tables/truth_{name}.parquet") for name in KINDS)
    here = (state["user_idx"] == user) & (state["time_ms"] == moment)
    before, v = int(state["topic_before"][here].max()), int(np.flatnonzero(videos["video_idx"] == video)[0])
    u = int(np.flatnonzero(users["user_idx"] == user)[0])
    mood = 0.7 * float(topics["next_probability"][before][videos["topic"][v]]) if before >= 0 else 0.0
    fit = sum(float(a) * float(b) for a, b in zip(users["taste"][u], videos["vector"][v], strict=True))
    interest = 2 * fit + float(videos["quality"][v]) + mood
    duration = float(videos["true_duration_ms"][v])
    most_ms = min(duration, 18_000) - 1  # a long view is played longer than this
    skip = 1 / (1 + math.exp(interest - 1.2))
    z = (math.log(most_ms / duration) - float(videos["log_wtr_offset"][v]) - 0.6 * interest) / 0.7
    brief = 0.8 * math.exp(-most_ms / float(videos["skip_mean_ms"][v]))
    return skip * brief + (1 - skip) * 0.5 * math.erfc(z / math.sqrt(2))


def test_list_value_from_the_raw_truth(small, tmp_path):
    """An independent recomputation: no line of the oracle is used."""
    some = small.asked.of("test").where(slice(0, 6))
    videos = np.random.default_rng(0).choice(np.arange(1, 301), 10, replace=False).astype(np.int32)
    n = len(some.cases)
    listed = {
        "seed": np.full(10 * n, 42),
        "case_id": np.repeat(some.cases.case_id, 10),
        "video_idx": np.tile(videos, n),
        "rank": np.tile(np.arange(1, 11, dtype=np.int32), n),
    }
    arrays.write(listed, tmp_path / "model.parquet")
    with arrays.Writer(tmp_path / "values.parquet") as values:
        oracle = Oracle(small.data, small.label)
        answers.add_list_values(oracle, small.asked, {"model": tmp_path / "model.parquet"}, values)
    found = arrays.load(tmp_path / "values.parquet")
    keys = zip(some.cases.user_idx.tolist(), some.cases.time_ms.tolist(), strict=True)
    expected = [np.mean([by_hand(small.data, *key, video) for video in videos]) for key in keys]
    assert found["list_value"] == pytest.approx(expected, rel=1e-6)


def test_of_real_data_nothing_is_known(small, tmp_path):
    """Empty folders, and a table without a row."""
    shutil.copytree(small.data, tmp_path / "data")
    data = tmp_path / "data"
    table = arrays.load(data / "tables/truth_topics.parquet")
    pq.write_table(
        pq.read_table(data / "tables/truth_topics.parquet").slice(0, 0), data / "tables/truth_topics.parquet"
    )
    assert len(table["topic"]) > 0
    link(data / "store", data / "inputs/oracle", ["events/positive", "events/time_ms"], ["train"])
    answers.write_systems(data, small.label, ["most_popular"], 42)
    assert sorted(path.name for path in (data / "systems").iterdir()) == ["oracle", "oracle_laws", "oracle_ranker"]
    assert not any(path.is_file() for path in (data / "systems").rglob("*"))
    assert len(arrays.load(data / "list_values.parquet")["system"]) == 0
