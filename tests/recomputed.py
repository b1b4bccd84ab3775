"""The numbers of a run, worked out again from its files in plain Python: nothing here is imported from nextreel, and
nothing is shared with it but the definitions in README.md and in the docstring of `simulation.world`.

For tiny simulated logs under the settings of params.yaml: cut by time, `wtg_quantile`, each user's first positive, one
seed, a ranker that gives log-odds and a model of exposure that gives shares. Lists of models hold the whole catalogue,
since it is smaller than a list.
"""

import json
import math
from bisect import bisect_left, bisect_right
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

EVENT = ["user_id", "video_id", "time_ms"]
N_BUCKETS = 30
SHRINKAGE = 50  # rows that a bucket needs, or is mixed with
NEIGHBOURHOOD = 0.25  # in log duration
ORDER = {"train": 0, "valid": 1, "test": 2}


class Bucket(NamedTuple):
    """Watch time at the durations of train from one on."""

    from_ms: int
    plays: list[int]


def buckets_of(train: pd.DataFrame) -> list[Bucket]:
    """Equal-frequency buckets of duration: a duration belongs where the share of shorter rows of train puts it."""
    durations = sorted(train["duration_ms"])
    by_number: dict[int, Bucket] = {}
    for duration, play in sorted(zip(train["duration_ms"], train["play_time_ms"], strict=True)):
        number = bisect_left(durations, duration) * N_BUCKETS // len(durations)
        by_number.setdefault(number, Bucket(int(duration), [])).plays.append(int(play))
    return list(by_number.values())


def bucket_at(buckets: list[Bucket], duration_ms: float) -> int:
    return max(0, bisect_right([bucket.from_ms for bucket in buckets], duration_ms) - 1)


def bounds_of(buckets: list[Bucket], top_share: float) -> list[float]:
    """The play time above which a row is positive, by bucket; small buckets share one with those that follow."""
    groups: list[list[int]] = [[]]
    for number in range(len(buckets)):
        if sum(len(buckets[member].plays) for member in groups[-1]) >= SHRINKAGE:
            groups.append([])
        groups[-1].append(number)
    if len(groups) > 1 and sum(len(buckets[member].plays) for member in groups[-1]) < SHRINKAGE:
        rest = groups.pop()
        groups[-1] += rest
    found: dict[int, float] = {}
    for group in groups:
        plays = [play for member in group for play in buckets[member].plays]
        found |= dict.fromkeys(group, float(np.quantile(plays, 1 - top_share)))
    return [found[number] for number in range(len(buckets))]


def moments_of(buckets: list[Bucket]) -> list[tuple[float, float]]:
    """Mean and standard deviation of play time by bucket, mixed with SHRINKAGE rows like its neighbours'."""
    sums = [(len(b.plays), sum(b.plays), sum(play**2 for play in b.plays)) for b in buckets]
    found = []
    for bucket, (n, total, squares) in zip(buckets, sums, strict=True):
        away = [math.log(bucket.from_ms / other.from_ms) / NEIGHBOURHOOD for other in buckets]
        kernel = [math.exp(-(x**2) / 2) for x in away]
        near_n, near_total, near_squares = (
            sum(k * of[i] for k, of in zip(kernel, sums, strict=True)) for i in range(3)
        )
        weight = n + SHRINKAGE
        mean = (total + SHRINKAGE * near_total / near_n) / weight
        square = (squares + SHRINKAGE * near_squares / near_n) / weight
        found.append((mean, math.sqrt((square - mean**2) * weight / (weight - 1))))
    return found


def ndcg(ranks: list[int]) -> float:
    """NDCG@10 of ranks from 1, 0 a miss."""
    return float(np.mean([1 / math.log2(1 + rank) if 1 <= rank <= 10 else 0.0 for rank in ranks]))


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """The share of pairs in the right order, ties half; NaN of one class."""
    if label.all() or not label.any():
        return math.nan
    difference = score[label][:, None] - score[~label][None, :]
    return float(((difference > 0) + (difference == 0) / 2).mean())


class Run:
    """A finished run in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.params: dict[str, Any] = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        self.raw = root / "data/raw/simulated"

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.root / "data" / f"{name}.parquet")

    def metrics(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / f"metrics/{name}.json").read_text(encoding="utf-8"))
        return found

    def systems(self, kind: str) -> dict[str, pd.DataFrame]:
        """lists, ranks or scores of every model and system that has a table of them."""
        models = [name for family in ("recall", "train") for name in self.params[family]]
        paths = {name: self.root / f"data/{kind}/{name}.parquet" for name in models}
        paths |= {path.parent.name: path for path in (self.root / "data/systems").glob(f"*/{kind}.parquet")}
        return {name: pd.read_parquet(path) for name, path in paths.items()}

    # --- rows and labels, from the raw CSV files

    @cached_property
    def events(self) -> pd.DataFrame:
        """The events in file order, each once, with their part."""
        files = [path for kind in ("standard", "random") for path in sorted(self.raw.glob(f"log_{kind}_*.csv"))]
        log = pd.concat([pd.read_csv(path) for path in files], ignore_index=True).drop_duplicates(EVENT)
        log["duration_ms"] = log["duration_ms"].where(log["duration_ms"] > 0)
        log["part"] = [self._part(*row) for row in zip(log["time_ms"], log["is_rand"], strict=True)] if len(log) else []
        return log

    @cached_property
    def buckets(self) -> list[Bucket]:
        return buckets_of(self.events[(self.events["part"] == "train") & self.events["duration_ms"].notna()])

    @cached_property
    def bounds(self) -> list[float]:
        return bounds_of(self.buckets, self.params["label"]["quantile"])

    @cached_property
    def log(self) -> pd.DataFrame:
        """The events with label (None: unknown) and wtg."""
        return self.events.assign(**self._labels(self.events)).reset_index(drop=True)

    @cached_property
    def cuts(self) -> tuple[int, int]:
        """Where valid and test begin, in milliseconds."""
        files = sorted(self.raw.glob("log_standard_*.csv"))
        standard = pd.concat([pd.read_csv(path) for path in files]).drop_duplicates(EVENT)
        split = self.params["split"]
        valid, test = (
            math.ceil(np.quantile(standard["time_ms"], split[f"{part}_from_fraction"])) for part in ("valid", "test")
        )
        return valid, test

    def _part(self, time_ms: int, is_rand: int) -> str:
        valid, test = self.cuts
        if is_rand:
            return "random" if time_ms >= test else "left out"
        return "train" if time_ms < valid else "valid" if time_ms < test else "test"

    def _labels(self, log: pd.DataFrame) -> dict[str, list[Any]]:
        moments = moments_of(self.buckets)
        label: list[bool | None] = []
        wtg: list[float] = []
        for duration, play in zip(log["duration_ms"], log["play_time_ms"], strict=True):
            at = bucket_at(self.buckets, duration) if duration > 0 else None
            label.append(None if at is None else play > self.bounds[at])
            wtg.append(math.nan if at is None else (play - moments[at][0]) / moments[at][1])
        return {"label": label, "wtg": wtg}

    @cached_property
    def video_id(self) -> pd.Series:
        return self.table("catalogue").set_index("video_idx")["video_id"]

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The rows of data/impressions.parquet with the raw event of each, its part and label from `log`."""
        cases = self.table("cases")[["case_id", "user_id"]]
        rows = self.table("impressions").merge(cases, on="case_id", validate="many_to_one")
        rows["video_id"] = rows["video_idx"].map(self.video_id)
        rows = rows.merge(self.log[[*EVENT, "is_rand", "part", "label", "wtg"]], on=EVENT, validate="one_to_one")
        return rows.sort_values("impression", ignore_index=True)

    # --- impressions

    def judged(self, part: str, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a part whose label is known: case_id, video_id, label, score (None: no opinion) and filled."""
        rows = self.shown.merge(table[["impression", "score"]], on="impression", validate="one_to_one")
        median = rows.groupby("case_id")["score"].transform("median")
        rows["filled"] = rows["score"].fillna(median).fillna(0)
        return rows[(rows["part"] == part) & rows["label"].notna()]

    @staticmethod
    def gauc(rows: pd.DataFrame) -> float:
        """The mean AUC of cases with both classes, by their rows."""
        total, weight = 0.0, 0
        for _, case in rows.groupby("case_id"):
            value = auc(case["label"].to_numpy(bool), case["filled"].to_numpy(float))
            if not math.isnan(value):
                total, weight = total + value * len(case), weight + len(case)
        return total / weight if weight else math.nan

    # --- next video

    @cached_property
    def targets(self) -> pd.DataFrame:
        """Each user's first positive of valid and of test, unless the user had seen its video: user_id, part, time_ms,
        video_id."""
        found = []
        for user, events in self.log[self.log["is_rand"] == 0].groupby("user_id"):
            events = events.sort_values("time_ms", kind="stable")
            for part in ("valid", "test"):
                positive = events[(events["part"] == part) & events["label"].eq(True)]  # None is neither
                if not len(positive):
                    continue
                first = positive.iloc[0]
                if not self.seen(user, first["time_ms"]).intersection([first["video_id"]]):
                    found.append((user, part, first["time_ms"], first["video_id"]))
        return pd.DataFrame(found, columns=["user_id", "part", "time_ms", "video_id"])

    def seen(self, user_id: int, before_ms: float = math.inf) -> set[int]:
        """The videos of a user's standard events before a moment."""
        log = self.log
        return set(log[(log["user_id"] == user_id) & (log["is_rand"] == 0) & (log["time_ms"] < before_ms)]["video_id"])

    def catalogue(self, part: str) -> set[int]:
        """The videos with a standard event before a part."""
        earlier = [name for name in ORDER if part == "next" or ORDER[name] < ORDER[part]]
        return set(self.log[self.log["part"].isin(earlier)]["video_id"])

    @cached_property
    def cases(self) -> pd.DataFrame:
        """The cases of `targets` with their case_id, and video_idx of the target."""
        asked = self.table("cases")
        asked = asked[asked["protocol"] == "next_item"][["case_id", "user_id", "part", "time_ms"]]
        index = pd.Series(self.video_id.index, self.video_id.to_numpy())
        cases = self.targets.merge(asked, on=["user_id", "part", "time_ms"], validate="one_to_one")
        return cases.assign(video_idx=cases["video_id"].map(index))

    def target_ranks(self, part: str, lists: pd.DataFrame) -> list[int]:
        """The place of each target of a part in its case's list, 0 where it is not listed."""
        place = lists.set_index(["case_id", "video_idx"])["rank"].to_dict()
        cases = self.cases[self.cases["part"] == part]
        return [place.get(pair, 0) for pair in zip(cases["case_id"], cases["video_idx"], strict=True)]

    # --- the ranking stage

    def tenth(self, lists: pd.DataFrame) -> pd.Series:
        """s_10 by case_id, of lists of the model of exposure: the tenth highest score, the last of a shorter one."""
        return lists[(lists["score"] > 0) & (lists["rank"] <= 10)].groupby("case_id")["score"].min().astype(float)

    def terms(self, entries: pd.DataFrame) -> pd.DataFrame:
        """log_odds and r = log(1 + s / s_10) of entries (case_id, video_idx) of lists, in their order, from the lists
        of the ranker and of the model of exposure."""
        ranker, exposure = (self.table(f"lists/{self.params['rank'][role]}") for role in ("model", "exposure"))
        pair = ["case_id", "video_idx"]
        found = entries[pair].merge(ranker[[*pair, "score"]], on=pair, how="left", validate="one_to_one")
        found = found.rename(columns={"score": "log_odds"}).merge(exposure[[*pair, "score"]], on=pair, how="left")
        found["r"] = np.log1p(found["score"].astype(float) / found["case_id"].map(self.tenth(exposure)))
        return self._with_medians(found).set_axis(entries.index)

    @staticmethod
    def _with_medians(terms: pd.DataFrame) -> pd.DataFrame:
        """The case's median r where the model of exposure has no opinion; the ranker has one on every video."""
        assert terms["log_odds"].notna().all()
        return terms.assign(r=terms["r"].fillna(terms.groupby("case_id")["r"].transform("median")).fillna(0))

    def blended(self, entries: pd.DataFrame, weight: float) -> pd.Series:
        """log-odds + weight x r of entries (case_id, video_idx) of lists."""
        terms = self.terms(entries)
        return terms["log_odds"] + weight * terms["r"]

    @cached_property
    def terms_of_shown(self) -> pd.DataFrame:
        """The same of every impression, with its `score`, and the s_10 (`tenth`) that the scores of its case tell."""
        rank = self.params["rank"]
        names = {"score": "systems/two_stage/scores"}
        names |= {"log_odds": f"scores/{rank['model']}", "s": f"scores/{rank['exposure']}"}
        rows = self.shown[["impression", "case_id"]]
        for name, table in names.items():
            scores = self.table(table).rename(columns={"score": name})[["impression", name]]
            rows = rows.merge(scores, on="impression", validate="one_to_one")
        r = (rows["score"].astype(float) - rows["log_odds"]) / self.metrics("rank")["weight"]
        surest = rows["s"].dropna().groupby(rows["case_id"]).idxmax()  # where r is the least a matter of rounding
        told = pd.Series((rows["s"] / np.expm1(r)).loc[surest].to_numpy(), surest.index)
        rows["tenth"] = rows["case_id"].map(told)
        rows["r"] = np.log1p(rows["s"].astype(float) / rows["tenth"])
        return self._with_medians(rows)

    def front(self, weights: list[float]) -> tuple[list[float], list[float]]:
        """NDCG@10 of the pool and GAUC of impressions on valid, by weight."""
        pool = self.table("systems/pool/lists")
        asked = self.cases[self.cases["part"] == "valid"]
        pool = pool[pool["case_id"].isin(asked["case_id"])]
        terms, shown = self.terms(pool), self.terms_of_shown
        by_ndcg, by_gauc = [], []
        for weight in weights:
            score = (terms["log_odds"] + weight * terms["r"]).astype(np.float32)
            ordered = pool.assign(score=score).sort_values(["case_id", "score", "rank"], ascending=[True, False, True])
            ordered["rank"] = ordered.groupby("case_id").cumcount() + 1
            by_ndcg.append(ndcg(self.target_ranks("valid", ordered)))
            score = (shown["log_odds"] + weight * shown["r"]).astype(np.float32)
            by_gauc.append(self.gauc(self.judged("valid", shown.assign(score=score))))
        return by_ndcg, by_gauc

    # --- the truth

    @cached_property
    def truth(self) -> dict[str, Any]:
        """By raw id: users' tastes, videos, topics; the topic before each (user, time)."""
        users, videos, topics, events = (
            pd.read_parquet(self.raw / f"truth_{name}.parquet") for name in ("users", "videos", "topics", "events")
        )
        features = pd.read_csv(self.raw / "video_features_basic_simulated.csv").set_index("video_id")
        before: dict[tuple[int, int], int] = {}
        for user, time_ms, topic in zip(events["user_id"], events["time_ms"], events["topic_before"], strict=True):
            before.setdefault((user, time_ms), topic)  # standard rows come first
        return {
            "taste": users.set_index("user_id")["taste"].to_dict(),
            "videos": videos.set_index("video_id").join(features["video_duration"]).to_dict("index"),
            "following": topics.set_index("topic")["next_probability"].to_dict(),
            "strength": topics["sequence_strength"][0],
            "before": before,
        }

    def true_probability(self, user_id: int, time_ms: int, video_id: int) -> float:
        """P(positive | shown) at the moment of a logged row."""
        video = self.truth["videos"][video_id]
        if not video["video_duration"]:
            return 0.0  # an unknown duration: no row of it has a label
        fit = sum(a * b for a, b in zip(self.truth["taste"][user_id], video["vector"], strict=True))
        before = self.truth["before"][user_id, time_ms]
        mood = self.truth["strength"] * self.truth["following"][before][video["topic"]] if before >= 0 else 0.0
        interest = 2.0 * fit + video["quality"] + 1.0 * mood
        bound = self.bounds[bucket_at(self.buckets, video["video_duration"])]
        skip = 1 / (1 + math.exp(interest - 1.2))
        brief = 0.8 * math.exp(-bound / video["skip_mean_ms"])  # a fifth of the skips are of no time at all
        z = (math.log(bound / video["true_duration_ms"]) - video["log_wtr_offset"] - 0.6 * interest) / 0.7
        return skip * brief + (1 - skip) * math.erfc(z / math.sqrt(2)) / 2
