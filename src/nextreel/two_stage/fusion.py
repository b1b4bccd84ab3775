"""Lists of several models -> one candidate pool, by reciprocal-rank fusion (Cormack et al., SIGIR 2009):

score = sum over the channels that list the video of 1 / (60 + rank)
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from pydantic import Field, field_validator

from nextreel import arrays
from nextreel.files import remove
from nextreel.metrics.ranks import MISS
from nextreel.params import Name, PositiveInt, Section
from nextreel.progress import track
from nextreel.scoring.order import Tie, listed_rank, order
from nextreel.scoring.sets import EvalSet

DAMPING = 60.0
FUSED = "fused"
_CASES_AT_A_TIME = 1_000


class Params(Section):
    """The section `candidates`."""

    channels: list[Name] = Field(alias="from", min_length=1)  # models whose lists are fused
    pool_size: PositiveInt  # candidates a case

    @field_validator("channels")
    @classmethod
    def _each_once(cls, channels: list[Name]) -> list[str]:
        twice = sorted({name for name in channels if channels.count(name) > 1})
        if twice:
            raise ValueError(f"each channel once; drop the copies of {', '.join(twice)}")
        return channels


def fuse(lists: Mapping[str, dict[str, np.ndarray]], pool_size: int, tie: Tie) -> dict[str, np.ndarray]:
    """The pool of some cases from each channel's list (case_id, video_idx, score, rank).

    tie(case_id, video_idx) breaks ties. Returns case_id, video_idx, score, rank, and rank_<channel> (MISS where it does
    not list the video) and score_<channel> (NaN there), in order of (case_id, rank).
    """
    pairs = [entries["case_id"].astype(np.int64) << 32 | entries["video_idx"] for entries in lists.values()]
    pair, which = np.unique(np.concatenate(pairs), return_inverse=True)
    case_id, video_idx = pair >> 32, (pair & (2**32 - 1)).astype(np.int32)
    columns: dict[str, np.ndarray] = {}
    score = np.zeros(len(pair))
    places = np.split(which, np.cumsum([len(entries) for entries in pairs])[:-1])
    for (channel, entries), place in zip(lists.items(), places, strict=True):
        rank = np.full(len(pair), MISS, np.int32)
        rank[place] = entries["rank"]
        channel_score = np.full(len(pair), np.nan, np.float32)
        channel_score[place] = entries["score"]
        columns |= {f"rank_{channel}": rank, f"score_{channel}": channel_score}
        score += np.where(rank == MISS, 0.0, 1 / (DAMPING + rank))
    kept, rank = order(case_id, score, lambda at: tie(case_id[at], video_idx[at]), pool_size)
    pooled = {"case_id": case_id, "video_idx": video_idx, "score": score, **columns}
    return {name: column[kept] for name, column in pooled.items()} | {"rank": rank}


def write(lists: Mapping[str, Path], asked: EvalSet, params: Params, system: Path) -> tuple[dict[str, np.ndarray], int]:
    """Write the pools of all cases [n], in order of case_id: lists.parquet and ranks.parquet in the folder `system`, as
    `predict` writes a model's.

    Returns each target's rank [n] in every channel's list and in the pool (`fused`), MISS where it is not there, and
    how many cases no channel has a candidate for.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*lists, FUSED)}
    n_empty = 0
    with arrays.Writer(system / "lists.parquet") as writer:
        for start in track(range(0, len(asked.cases), _CASES_AT_A_TIME), "fusing lists"):
            some = asked.where(slice(start, start + _CASES_AT_A_TIME))
            ids = some.cases.case_id
            within: list[tuple[str, str, object]] = [
                ("seed", "=", asked.seed),
                ("case_id", ">=", ids[0]),
                ("case_id", "<=", ids[-1]),
            ]
            channels = {name: arrays.load(file, within) for name, file in lists.items()}
            pool = fuse(channels, params.pool_size, some.tie)
            writer.add({"seed": np.full(len(pool["rank"]), asked.seed), **pool})
            n_empty += len(ids) - len(np.unique(pool["case_id"]))
            for name, entries in {**channels, FUSED: pool}.items():
                found[name].append(listed_rank(entries, ids, some.target))
    by_list = {name: np.concatenate(blocks) for name, blocks in found.items()}
    answered = asked.cases.part != "next"
    ids, target, rank = (x[answered] for x in (asked.cases.case_id, asked.target, by_list[FUSED]))
    seed = np.full(len(ids), asked.seed)
    arrays.write({"seed": seed, "case_id": ids, "video_idx": target, "rank": rank}, system / "ranks.parquet")
    return by_list, n_empty


def forget_others(root: Path, names: Collection[str]) -> None:
    """Delete what models left that are not among `names`: DVC takes the folders that they write into as they are."""
    for folder in ("data/models", "data/lists", "data/ranks", "data/scores", "plots/curves"):
        for path in sorted((root / folder).glob("*")):
            if path.name.split(".")[0] not in names:
                remove(path)
