"""What is SASRec4SV made of? Each part of it on and off, fitted on train, judged on the impressions of valid.

Histories are frozen at a user's first row of valid. SASRec4SV whole; `rates`; the wide inputs alone, by a logistic
regression and by the trees of `rank.trees`; the mean of the log-odds of SASRec4SV and of each of the trees (those of
`lambdarank` by a logistic regression on its score, fitted on these very rows: two numbers, of no weight); SASRec4SV
without sequence and video, without wide inputs, with the next item's loss at .3, with other heads beside `positive`,
scored by another head or by its median watch time, with pairs, and with more inputs.

GAUC has its interval over users and videos, and the paired difference to the whole model. Other rulers: WTG@10, the
gain of the ten showings of a user that are scored highest; reactions, the AUC within user of whether a showing got a
like, comment or forward; in a simulated world value@10, the mean true P(positive | shown) of those ten; NDCG@10 of the
next video on valid. Networks and trees are means over seeds.

    python benchmarks/heads.py [FOLDER] [SEEDS] [ROW ...]

FOLDER is the `data` of a checkout in which `dvc repro label` has run, by default `data` of this one (value@10 asks for
the whole of `dvc repro`); SEEDS is 1; of rows only the first and those whose names hold one of the words ROW, if given.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
from nextreel import runtime
from nextreel.params import Params

params = Params.load(ROOT / "params.yaml")
runtime.prepare(params.threads, params.cpu_isa)

import numpy as np
import paired
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from nextreel import evaluation
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import UNKNOWN, Histories, Store
from nextreel.contract import Training
from nextreel.evaluation.impressions import Impressions, case_parts, headline_estimate, headline_parts
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics import impressions as metrics
from nextreel.metrics import ranks, ratios
from nextreel.metrics.ratios import Estimate
from nextreel.models import rates, sasrec4sv
from nextreel.nn.wide import Wide
from nextreel.scoring.retrieve import target_ranks
from nextreel.scoring.sets import EvalSet, ShownPairs
from nextreel.two_stage import trees
from nextreel.two_stage.blend import Fits, Ranker

# Of each seed, the score of each pair, and NDCG@10 of the next video (NaN: not measured).
Found = list[tuple[np.ndarray, float]]
ORACLE = Path("systems/oracle/scores.parquet")


class WithoutSequence(sasrec4sv.Model):
    """Its heads read wide inputs alone."""

    def _predicted(self, shown: Tensor, video: Tensor, wide: Tensor) -> dict[str, Tensor]:
        return self.outcomes(0 * shown, 0 * shown, wide)


class Bench:
    """What is fitted, on a cut, and the judged impressions of a part."""

    def __init__(self, data: Path, n_seeds: int, part: str = "valid", cut: str = "train") -> None:
        self.seeds = range(params.seed, params.seed + n_seeds)
        self.store, self.asked = Store.load(data / "store"), EvalSet.load(data, params.seed)
        shown = Impressions.load(data, params.seed)
        standard = np.flatnonzero((shown.part == part)[shown.case])
        known = shown.rows(part)[standard]
        self.at = standard[known]
        self.shown, self.label = shown.where(self.at), shown.label[self.at] == 1
        told = reacted(self.store, part, shown.video_idx[standard])
        self.reacted = None if told is None else told[known]
        self.truth = shown.load_scores(data / ORACLE)[params.seed][self.at] if (data / ORACLE).exists() else None
        self.pairs: Pairs = ShownPairs.load(data).pairs(self.store).where(self.at)
        self.user_idx = self.pairs.cases.user_idx[self.pairs.row]
        self.clusters = Clusters(self.user_idx, self.pairs.video_idx)
        self.histories = self.store.fitted_on(cut)

    def gauc(self, found: Found) -> Estimate:
        parts = (headline_parts(self.shown, score) for score, _ndcg in found)
        return ratios.mean([headline_estimate(self.shown, each) for each in parts])

    def auc(self, found: Found) -> float:
        return float(np.mean([metrics.auc(self.label, score).estimate().value for score, _ndcg in found]))

    def per_case(self, found: Found, metric: str, shown: Impressions | None = None) -> float:
        """The mean over cases of another metric of `evaluation.impressions`."""
        each = (case_parts(shown or self.shown, score)[metric].estimate().value for score, _ndcg in found)
        return float(np.mean(list(each)))

    def reactions(self, found: Found) -> float:
        """AUC within user of whether a showing got one; NaN where the log tells none."""
        if self.reacted is None:
            return np.nan
        shown = replace(self.shown, label=self.reacted)
        return float(np.mean([headline_estimate(shown, headline_parts(shown, score)).value for score, _ndcg in found]))

    def value(self, found: Found) -> float:
        """The mean over cases of the true P(positive | shown) of the ten showings scored highest; NaN of real data."""
        if self.truth is None:
            return np.nan
        return self.per_case(found, "wtg@10", replace(self.shown, wtg=self.truth))

    def by_rates(self) -> Found:
        model = rates.Model.fit(params.section("recall.rates", rates.Params), self._training(params.seed))
        return [(model.score(self.pairs), np.nan)]

    def by_counts(self) -> Found:
        """The wide inputs alone, by a logistic regression."""
        wide, of_events = Wide.fit(self.histories)
        label = self.store.events("positive")[self.histories.flat()[0]]
        fitted = LogisticRegression().fit(of_events[label != UNKNOWN], label[label != UNKNOWN])
        return [(fitted.decision_function(wide.of_pairs(self.pairs)), np.nan)]

    def by_trees(self, objective: trees.Objective) -> Found:
        """Log-odds."""
        found = []
        for seed in self.seeds:
            grown = trees.Trees.fit(objective, self._training(seed), params.threads)
            fits = Fits({"train": grown}, self.store)  # answers valid
            ranker = Ranker(fits).calibrated(lambda _store: self.pairs, self.label)
            score = fits.score("valid", lambda _store: self.pairs)
            found.append((ranker.slope * score + ranker.intercept, np.nan))
        return found

    def by_network(
        self, model: type[sasrec4sv.Model] = sasrec4sv.Model, said: str | None = None, **changes: Any
    ) -> Found:
        """said: which of its predictions is the score, if not the one that its settings choose."""
        found = []
        for seed in self.seeds:
            fitted = self.fitted(seed, model, **changes)
            rank = target_ranks(fitted, self.store, self.asked, "valid", "next video")
            score = fitted.predictions(self.pairs)[said] if said else fitted.score(self.pairs)
            found.append((score, float(ranks.ndcg(rank, 10).mean())))
        return found

    def fitted(self, seed: int, model: type[sasrec4sv.Model] = sasrec4sv.Model, **changes: Any) -> sasrec4sv.Model:
        """All its epochs; with these changes of its settings."""
        settings = params.section("train.sasrec4sv", sasrec4sv.Params, defaults="model").model_dump() | changes
        return model.fit(sasrec4sv.Params.model_validate(settings), self._training(seed))

    def _training(self, seed: int) -> Training:
        return Training(self.histories, np.random.default_rng(seed))


def reacted(store: Store, part: str, video_idx: np.ndarray) -> np.ndarray | None:
    """Whether each showing of a part [m] got a like, comment or forward, 0 or 1: they are the part's events, in the
    order of the store. None where the log tells nothing of that."""
    if "feedback" not in store.tables["events"]:
        return None
    before, after = {"valid": ("train", "train_valid"), "test": ("train_valid", "all")}[part]
    position = Histories(store, store.cuts[before], store.cuts[after]).flat()[0]
    assert (store.events("video_idx")[position] == video_idx).all()
    return (store.events("feedback")[position] > 0).astype(np.int8)


def together(one: Found, other: Found) -> Found:
    """The mean of both, seed by seed."""
    return [((a + b) / 2, np.nan) for (a, _ndcg), (b, _other) in zip(one, other, strict=True)]


def rows(bench: Bench) -> dict[str, Callable[[], Found]]:
    section = params.get("train.sasrec4sv")
    weights, inputs = section["weights"], params.get("model")["inputs"]

    whole, grown = cache(bench.by_network), cache(bench.by_trees)

    def heads(**others: float) -> Callable[[], Found]:
        return lambda: bench.by_network(weights=weights | others)

    def scored_by(name: str, said: str | None = None) -> Callable[[], Found]:
        own = weights | {"positive": 0.0, name: 1.0}
        return lambda: bench.by_network(weights=own, score=name, said=said)

    return {
        "sasrec4sv": whole,
        "`rates`": bench.by_rates,
        "wide inputs, logistic regression": bench.by_counts,
        "trees, `binary`": lambda: grown("binary"),
        "trees, `lambdarank`": lambda: grown("lambdarank"),
        "sasrec4sv and trees, `binary`": lambda: together(whole(), grown("binary")),
        "sasrec4sv and trees, `lambdarank`": lambda: together(whole(), grown("lambdarank")),
        "heads on wide inputs alone": lambda: bench.by_network(WithoutSequence),
        "heads on state and video alone": lambda: bench.by_network(wide=False),
        "id rows zeroed as in lists": lambda: bench.by_network(shown_id_dropout=params.get("model.id_dropout")),
        "all id rows zeroed in training": lambda: bench.by_network(shown_id_dropout=1.0),
        "`weights.next_item` .3": heads(next_item=0.3),
        "heads `linear` and `gain` at .5": heads(linear=0.5, gain=0.5),
        "head `watch_time` at .5": heads(watch_time=0.5),
        "`pairwise` at .3": heads(pairwise=0.3),
        **{f"`{name}` in place of `positive`": scored_by(name) for name in ("binary", "linear", "relevant", "gain")},
        "`watch_time` in place of `positive`": scored_by("watch_time"),
        "`watch_time`, its median": scored_by("watch_time", "watch_time_ms"),
        "inputs `wtr` and `feedback`": lambda: bench.by_network(inputs=[*inputs, "wtr", "feedback"]),
        "input `user`": lambda: bench.by_network(inputs=[*inputs, "user"]),
    }


def main(data: Path, n_seeds: int, words: list[str]) -> None:
    bench = Bench(data, n_seeds)
    found: dict[str, Found] = {}
    for name, fit in rows(bench).items():
        if found and words and not any(word in name for word in words):
            continue
        found[name] = fit()
        print(f"{name}: GAUC {bench.gauc(found[name]).value:.4f}", file=sys.stderr, flush=True)
    confidence = params.section("evaluate", evaluation.Params).confidence
    texts = paired.texts(map(bench.gauc, found.values()), bench.clusters, 0, confidence)
    print("| | AUC | GAUC | minus the whole | WTG@10 | reactions | value@10 | NDCG@10 |" + "\n" + "|---" * 8 + "|")
    for (name, each), text in zip(found.items(), texts, strict=True):
        ndcg = float(np.mean([ndcg for _score, ndcg in each]))
        others = bench.per_case(each, "wtg@10"), bench.reactions(each), bench.value(each), ndcg
        cells = " | ".join("" if np.isnan(value) else f"{value:.4f}" for value in others)
        print(f"| {name} | {bench.auc(each):.4f} | {text} | {cells} |")


if __name__ == "__main__":
    folder, seeds = [*sys.argv[1:], "", ""][:2]
    main(Path(folder) if folder else ROOT / "data", int(seeds or 1), sys.argv[3:])
