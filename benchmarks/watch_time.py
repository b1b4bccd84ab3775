"""How well is watch time predicted? By SASRec4SV's heads, and by what needs no model.

Fitted on train, judged on the impressions of valid, histories frozen at a user's first row of valid; networks are means
over seeds. Watch time in seconds: mean absolute error, XAUC, with intervals over users and videos. WTR (at most 1):
RMSE. Whether a video is watched to its end, where a probability is given: log loss, ECE in ten bins.

    constant     the median watch time of all, the mean WTR, the share of completions
    video        those of the video; of one with fewer than 5 rows, those of its duration decile
    duration     those of the duration decile
    D2Q          the video's mean quantile among the watch times of its duration bucket, with 20 rows of the middle one
                 beside it, as the watch time there (Zhan et al., KDD 2022, with counts for the network)
    linear, L1   SASRec4SV with the head `linear`, by Huber's loss as it stands, and by the absolute error; x duration
    watch_time   SASRec4SV with the head `watch_time`: the median, and what is expected

    python benchmarks/watch_time.py [FOLDER] [SEEDS]

FOLDER is the `data` of a checkout in which `dvc repro label` has run, by default `data` of this one; SEEDS is 1.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import heads
import numpy as np
import paired
import torch.nn.functional as F
from torch import Tensor

from nextreel import arrays, evaluation
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics import impressions as metrics
from nextreel.metrics import ratios
from nextreel.metrics.ratios import Estimate
from nextreel.nn import outcomes

LEAST_ROWS = 5  # of a video that speaks for itself
PRIOR = 20.0  # rows
N_BINS = 10
OTHERS = ("wtr_rmse", "log_loss", "ece")

Said = dict[str, np.ndarray]  # watch_s, wtr and complete, each [m], as far as there is one


class Rows:
    """Showings: video, duration and watch time in ms, WTR."""

    def __init__(self, video_idx: np.ndarray, duration_ms: np.ndarray, play_ms: np.ndarray) -> None:
        self.video_idx, self.duration_ms, self.play_ms = video_idx, duration_ms, play_ms

    @property
    def known(self) -> np.ndarray:
        return (self.duration_ms > 0) & ~np.isnan(self.play_ms)

    @property
    def ratio(self) -> np.ndarray:
        return self.play_ms / self.duration_ms

    def where(self, keep: np.ndarray) -> "Rows":
        return Rows(self.video_idx[keep], self.duration_ms[keep], self.play_ms[keep])


def by_group(train: Rows, of_train: np.ndarray, of_asked: np.ndarray) -> tuple[Said, np.ndarray]:
    """What the rows of train say that share a group, and how many there are [m] of each."""
    n = 1 + max(of_train.max(initial=0), of_asked.max(initial=0))
    count = np.bincount(of_train, minlength=n)
    order = np.lexsort((train.play_ms, of_train))
    first = count.cumsum() - count
    ranked = train.play_ms[order]
    median = np.where(count > 0, ranked[(first + count // 2).clip(max=len(ranked) - 1)], 0.0)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(of_train, values, n) / np.maximum(count, 1)

    wtr, complete = mean(np.minimum(train.ratio, 1.0)), mean(train.ratio >= 1)
    told = {"watch_s": median / 1000, "wtr": wtr, "complete": complete}
    return {name: values[of_asked] for name, values in told.items()}, count[of_asked]


def counted(train: Rows, asked: Rows) -> Mapping[str, Said]:
    everybody = np.zeros(len(train.play_ms), int), np.zeros(len(asked.play_ms), int)
    cuts = np.quantile(train.duration_ms, np.arange(1, 10) / 10)
    buckets = (np.searchsorted(cuts, rows.duration_ms, side="right") for rows in (train, asked))
    constant, _n = by_group(train, *everybody)
    duration, _n = by_group(train, *buckets)
    own, n = by_group(train, train.video_idx, asked.video_idx)
    video = {name: np.where(n >= LEAST_ROWS, values, duration[name]) for name, values in own.items()}
    return {"constant": constant, "video": video, "duration": duration, "D2Q": {"watch_s": d2q(train, asked)}}


def d2q(train: Rows, asked: Rows) -> np.ndarray:
    cuts = np.unique(np.quantile(train.duration_ms, np.arange(1, 30) / 30))
    of_train, of_asked = (np.searchsorted(cuts, rows.duration_ms, side="right") for rows in (train, asked))
    quantile, at = np.zeros(len(train.play_ms)), np.zeros(len(asked.play_ms))
    sorted_of = []
    for bucket in range(len(cuts) + 1):
        mine = np.flatnonzero(of_train == bucket)
        ranked = np.sort(train.play_ms[mine])
        quantile[mine] = np.searchsorted(ranked, train.play_ms[mine], side="right") / max(len(mine), 1)
        sorted_of.append(ranked)
    n_videos = 1 + max(train.video_idx.max(), asked.video_idx.max())
    n = np.bincount(train.video_idx, minlength=n_videos)
    mean = (np.bincount(train.video_idx, quantile, n_videos) + PRIOR * 0.5) / (n + PRIOR)
    for bucket, ranked in enumerate(sorted_of):
        mine = np.flatnonzero(of_asked == bucket)
        if len(ranked):
            at[mine] = np.quantile(ranked, mean[asked.video_idx[mine]])
    return at / 1000


def absolute(found: Tensor, value: Tensor) -> Tensor:
    return F.l1_loss(found[:, 0], value, reduction="none")


def networks(bench: heads.Bench, asked: Rows, seed: int) -> Mapping[str, Said]:
    weights = heads.params.get("train.sasrec4sv")["weights"]
    seconds = asked.duration_ms / 1000

    def linear() -> Said:
        found = bench.fitted(seed, weights=weights | {"linear": 1.0}).predictions(bench.pairs)["linear"]
        return {"watch_s": found * seconds, "wtr": found.clip(max=1)}

    huber = outcomes.OUTCOMES["linear"]
    said = {"linear": linear()}
    outcomes.OUTCOMES["linear"] = huber._replace(loss=absolute)
    said["L1"] = linear()
    outcomes.OUTCOMES["linear"] = huber
    found = bench.fitted(seed, weights=weights | {"watch_time": 1.0}).predictions(bench.pairs)
    said["watch_time"] = {
        "watch_s": found["watch_time_ms"] / 1000,
        "wtr": found["watch_time_wtr"],
        "complete": found["watch_time_complete"],
    }
    return said


class Judged(NamedTuple):
    mae_s: Estimate
    xauc: Estimate
    others: dict[str, float]  # of OTHERS, as far as there is something to judge


def judged(said: Said, asked: Rows) -> Judged:
    watch_s, complete, others = asked.play_ms / 1000, (asked.ratio >= 1).astype(float), {}
    if "wtr" in said:
        others["wtr_rmse"] = metrics.mse(said["wtr"], np.minimum(asked.ratio, 1)).estimate().root().value
    if "complete" in said:
        p = said["complete"].astype(float)
        others["log_loss"] = metrics.log_loss(p, complete).estimate().value
        others["ece"] = metrics.expected_calibration_error(metrics.reliability(complete, p, N_BINS))
    mae_s, xauc = (of(said["watch_s"], watch_s).estimate() for of in (metrics.mae, metrics.xauc))
    return Judged(mae_s, xauc, others)


def main(data: Path, n_seeds: int) -> None:
    bench = heads.Bench(data, n_seeds)
    store, told = bench.store, arrays.load(data / "outcomes.parquet", columns=["play_time_ms"])
    play_ms = told["play_time_ms"][bench.at].astype(float)
    duration_ms = np.asarray(store.tables["videos"]["duration_ms"], float)
    position = bench.histories.flat()[0]
    video = store.events("video_idx")[position]
    train = Rows(video, duration_ms[video], store.events("play_time_ms")[position].astype(float))
    asked = Rows(bench.pairs.video_idx, duration_ms[bench.pairs.video_idx], play_ms)
    keep = asked.known
    train, some = train.where(train.known), asked.where(keep)
    found = {name: [judged(said, some)] for name, said in counted(train, some).items()}
    for seed in bench.seeds:
        for name, said in networks(bench, asked, seed).items():
            found.setdefault(name, []).append(judged({key: values[keep] for key, values in said.items()}, some))
    show(found, Clusters(bench.user_idx[keep], some.video_idx))


def show(found: Mapping[str, list[Judged]], clusters: Clusters) -> None:
    """Print the table, of means over seeds; MAE and XAUC with their intervals, and paired differences to the last."""
    confidence = heads.params.section("evaluate", evaluation.Params).confidence
    mae_s = [ratios.mean([each.mae_s for each in some]) for some in found.values()]
    xauc = [ratios.mean([each.xauc for each in some]) for some in found.values()]
    texts = (paired.texts(each, clusters, len(found) - 1, confidence) for each in (mae_s, xauc))
    minus = f"minus {[*found][-1]}"
    print(f"| | MAE, s | {minus} | XAUC | {minus} | WTR, RMSE | completion, log loss | its ECE |")
    print("|---" * 8 + "|")
    for (name, some), *both in zip(found.items(), *texts, strict=True):
        others = [each.others for each in some]
        means = (f"{np.mean([each[key] for each in others]):.4f}" if key in others[0] else "" for key in OTHERS)
        print(f"| {name} | {' | '.join(both)} | {' | '.join(means)} |")


if __name__ == "__main__":
    folder, seeds = [*sys.argv[1:], "", ""][:2]
    main(Path(folder) if folder else heads.ROOT / "data", int(seeds or 1))
