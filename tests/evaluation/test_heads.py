"""What heads say, held to what came of it by hand and by scikit-learn."""

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit
from sklearn import metrics as sk

from nextreel import arrays, evaluation
from nextreel.evaluation import heads
from nextreel.evaluation.impressions import Impressions
from nextreel.nn.outcomes import OUTCOMES

SETTINGS = evaluation.Params(confidence=0.9)
N = 400  # rows, a fifth of each of five cases
PARTS = np.array(["valid", "test", "test", "random", "test"])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder, the impressions, and what came of them; of a tenth nobody knows it."""
    data, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    label = rng.integers(0, 2, N)
    wtr, wtg = rng.random(N), rng.normal(size=N) * 2
    duration_ms = rng.integers(5_000, 50_000, N).astype(float)
    play_time_ms = duration_ms * rng.choice([0.3, 0.8, 1.0, 1.4], N)
    unknown = rng.random(N) < 0.1
    told = {"wtr": wtr, "wtg": wtg, "duration_ms": duration_ms, "play_time_ms": play_time_ms}
    told = {name: np.where(unknown, np.nan, values) for name, values in told.items()}
    outcomes = {"impression": np.arange(N), "label": pa.array(label == 1), **told}
    arrays.write(outcomes, data / "outcomes.parquet")
    plain = {field.name: np.zeros(N) for field in fields(Impressions)}
    shown = Impressions(**plain | {
        "case": np.arange(N) % 5, "video_idx": np.arange(N) % 37, "label": label, "part": PARTS,
        "user_idx": np.arange(5), "case_id": np.arange(5), "tie": np.arange(N).astype(np.uint64),
    })  # fmt: skip
    return data, shown, told | {"label": label}


def written(data, name, said, seeds=(3,)):
    order = np.random.default_rng(1).permutation(N)  # a table may hold its rows in any order
    columns = {head: np.concatenate([values[order] + at for at in range(len(seeds))]) for head, values in said.items()}
    columns |= {"seed": np.repeat(seeds, N), "impression": np.tile(order, len(seeds))}
    arrays.write(columns, data / f"scores/{name}.parquet")


def rows_of(table, **where):
    keep = np.logical_and.reduce([table[name] == value for name, value in where.items()])
    return dict(zip(table["metric"][keep], table["value"][keep], strict=True))


def test_every_head_by_hand(world):
    data, shown, told = world
    said = {name: np.random.default_rng(2).normal(size=N).astype(np.float32) for name in heads.HEADS}
    for name in ("watch_time_complete", "watch_time_positive"):
        said[name] = expit(said[name])
    written(data, "judge", said, seeds=(3, 4))
    table = heads.table(data, shown, ["judge"], 3, SETTINGS)
    assert set(table["part"]) == {"test", "random"}
    complete = np.where(np.isnan(told["wtr"]), np.nan, told["play_time_ms"] >= told["duration_ms"])
    truths = {
        "positive": told["label"].astype(float),
        "binary": np.where(np.isnan(told["wtr"]), np.nan, told["wtr"] > 0.5), "linear": told["wtr"],
        "relevant": np.where(np.isnan(told["wtg"]), np.nan, told["wtg"] > 1), "gain": told["wtg"],
        "watch_time_ms": told["play_time_ms"], "watch_time_wtr": told["wtr"], "watch_time_wtg": told["wtg"],
        "watch_time_complete": complete, "watch_time_positive": told["label"].astype(float),
    }  # fmt: skip
    assert list(truths) == list(heads.HEADS)
    for part in ("test", "random"):
        for name, truth in truths.items():
            rows = (part == PARTS)[shown.case] & ~np.isnan(truth)
            x, y = said[name][rows].astype(float), truth[rows]
            found = rows_of(table, part=part, head=name)
            if heads.HEADS[name].kind == "number":
                assert set(found) == {"rmse", "mae", "xauc"}
                assert found["rmse"] == pytest.approx(np.sqrt(((x - y) ** 2).mean()))
                assert found["mae"] == pytest.approx(np.abs(x - y).mean())
            else:
                share = expit(x) if heads.HEADS[name].kind == "log_odds" else x
                assert set(found) == {"log_loss", "precision", "recall", "f1", "accuracy", "ece"}
                assert found["log_loss"] == pytest.approx(sk.log_loss(y, share))
                assert found["f1"] == pytest.approx(sk.f1_score(y, share >= 0.5))
                assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, share >= 0.5))


def test_what_a_head_says_nothing_of_is_no_part():
    """As a watch time of an unknown duration: not the largest of all."""
    said, truth = np.array([np.nan, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 4.0])
    found = {name: each.value for name, each in heads.judged(heads.HEADS["watch_time_ms"], said, truth).items()}
    assert found == {"rmse": 0, "mae": 0, "xauc": 1}


def test_every_head_that_a_network_can_have_is_judged():
    assert set(OUTCOMES) - set(heads.HEADS) == {"watch_time"}  # of which is told what is read off it


@pytest.mark.parametrize("name", [name for name, outcome in OUTCOMES.items() if outcome.bound is not None])
def test_a_likelihood_is_judged_by_what_it_was_taught(name):
    """A label or ruler just below the head's bound is none, one just above it is."""
    outcome = OUTCOMES[name]
    column = "label" if outcome.column == "positive" else outcome.column
    told = {column: outcome.bound + np.array([-0.01, 0.01])}
    truth = heads.HEADS[name].truth(told)
    assert (truth > 0.5).tolist() == [False, True]


def test_right_heads_have_no_error(world):
    data, shown, told = world
    said = {"linear": told["wtr"], "binary": np.where(np.nan_to_num(told["wtr"]) > 0.5, 20.0, -20.0)}
    written(data, "oracle", said)
    table = heads.table(data, shown, ["oracle"], 3, SETTINGS)
    assert rows_of(table, part="test", head="linear") == {"rmse": 0, "mae": 0, "xauc": 1}
    binary = rows_of(table, part="test", head="binary")
    assert (binary["f1"], binary["accuracy"]) == (1, 1)
    assert binary["log_loss"] < 1e-5


def test_a_model_without_heads_has_no_row(world):
    data, shown, _told = world
    written(data, "plain", {})
    table = heads.table(data, shown, ["plain"], 3, SETTINGS)
    assert {name: len(column) for name, column in table.items()} == dict.fromkeys(
        ["part", "head", "model", "metric", "value", "low", "high"], 0
    )
