"""The tables of the oracles, like a model's, and the true worth of every system's lists."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from nextreel import arrays, files, labels, systems
from nextreel.cases.store import Store
from nextreel.oracle.laws import Laws
from nextreel.oracle.truth import Oracle
from nextreel.progress import track
from nextreel.scoring import order
from nextreel.scoring.answers import LIST_SIZE, Retrieved, score_columns, write_answers
from nextreel.scoring.sets import EvalSet, ShownPairs

K = 10  # of a list, as in NDCG@10
_IMPRESSIONS = 1 << 18  # scored at a time
_ENTRIES = 1 << 20  # of lists, valued at a time


def write(oracle: Oracle, store: Store, asked: EvalSet, shown: ShownPairs, folder: Path) -> None:
    """Lists, ranks and scores, see `predict.fit_and_predict`. Scores are probabilities, in double precision."""
    names = (folder / f"{kind}.parquet" for kind in ("lists", "ranks", "scores"))
    lists, ranks, scores = map(arrays.Writer, names)
    with lists, ranks, scores:
        scores.add(score_columns(asked.seed, np.zeros(0, np.int64), np.zeros(0)))
        for part in ("valid", "test"):
            for found in oracle.answers(store, asked, part, LIST_SIZE):
                write_answers(found, part, asked.seed, lists, ranks)
            mine = np.flatnonzero(shown.cases.part[shown.row] == part)
            for start in range(0, len(mine), _IMPRESSIONS):
                at = mine[start : start + _IMPRESSIONS]
                scores.add(score_columns(asked.seed, at, oracle.shown_probability(shown, store, part, at)))


def write_systems(data: Path, label: labels.Params, models: Iterable[str], seed: int) -> None:
    """All of this below the folder `data`: systems/{oracle, oracle_laws, oracle_ranker} and list_values.parquet; empty
    where no simulator made the data."""
    known = Oracle.knows(data)
    asked, shown, store = EvalSet.load(data, seed), ShownPairs.load(data), Store.load(data / "inputs/oracle")
    if known:
        best, lawful = Oracle(data, label), Laws(data, label, np.random.default_rng(seed))
    for system in ("oracle", "oracle_laws", "oracle_ranker"):
        with files.replacing(data / "systems" / system) as folder:
            folder.mkdir()
            if known and system == "oracle_ranker":
                write_ranker(best, asked, data / "systems/pool/lists.parquet", folder)
            elif known:
                write(best if system == "oracle" else lawful, store, asked, shown, folder)
    with arrays.Writer(data / "list_values.parquet") as values:
        none = np.zeros(0)
        values.add({"system": none.astype(str), "case_id": none.astype(np.int64), "list_value": none})
        if known:
            add_list_values(best, asked, systems.tables(data, models)["lists"], values)


def write_ranker(oracle: Oracle, asked: EvalSet, pool: Path, folder: Path) -> None:
    """lists.parquet and ranks.parquet of the best ranker of the pool: by the true P(positive | shown)."""
    with arrays.Writer(folder / "lists.parquet") as lists, arrays.Writer(folder / "ranks.parquet") as ranks:
        for part in ("valid", "test"):
            some = asked.of(part)
            ids = some.cases.case_id
            listed = arrays.load(
                pool, [("case_id", ">=", ids[0]), ("case_id", "<=", ids[-1])], ["case_id", "video_idx"]
            )
            row, video_idx = np.searchsorted(ids, listed["case_id"]), listed["video_idx"]
            score = _true_probability(oracle, some, row, video_idx)
            by, rank = order.order(row, score, some.tie_at(row, video_idx).__getitem__, LIST_SIZE)
            best = {"case_id": ids[row[by]], "video_idx": video_idx[by], "score": score[by], "rank": rank}
            write_answers(
                Retrieved(some, order.listed_rank(best, ids, some.target), best), part, asked.seed, lists, ranks
            )


def add_list_values(oracle: Oracle, asked: EvalSet, lists: Mapping[str, Path], values: arrays.Writer) -> None:
    """system, case_id, list_value: the mean true P(positive | shown) of the first K of each list of valid and test, of
    the seed of `asked`."""
    some = asked.where(asked.cases.part != "next")
    ids = some.cases.case_id
    for system, table in track(list(lists.items()), "what lists are worth"):
        within: list[tuple[str, str, object]] = [
            ("seed", "=", asked.seed), ("rank", "<=", K), ("case_id", "<=", ids[-1])
        ]  # fmt: skip
        first = arrays.load(table, within, ["case_id", "video_idx"])
        row = np.searchsorted(ids, first["case_id"])
        total, n = np.zeros(len(ids)), np.bincount(row, minlength=len(ids))
        for start in range(0, len(row), _ENTRIES):
            at = slice(start, start + _ENTRIES)
            total += np.bincount(row[at], _true_probability(oracle, some, row[at], first["video_idx"][at]), len(ids))
        has = n > 0
        values.add({"system": np.full(has.sum(), system), "case_id": ids[has], "list_value": total[has] / n[has]})


def _true_probability(oracle: Oracle, asked: EvalSet, row: np.ndarray, video_idx: np.ndarray) -> np.ndarray:
    """P(positive | shown) [m] of videos at the moment of their case."""
    return oracle.positive_probability(asked.cases.user_idx[row], asked.cases.time_ms[row], video_idx)
