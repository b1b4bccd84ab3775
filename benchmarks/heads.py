"""What is SASRec4SV made of? Each part of it on and off, fitted on train, judged on the impressions of valid.

Histories are frozen at a user's first row of valid. SASRec4SV whole; `rates`; the wide inputs alone, by a logistic
regression and by the trees of `rank.trees`; the mean of the log-odds of SASRec4SV and of each of the trees (those of
`lambdarank` by a logistic regression on its score, fitted on these very rows: two numbers, of no weight); SASRec4SV
without sequence and video, without wide inputs, with the next item's loss at .3, with more heads, and with more inputs.
GAUC with its interval over users and videos, and the paired difference to the whole model; NDCG@10 of the next video on
valid. One seed.

    python benchmarks/heads.py [FOLDER]

FOLDER is the `data` of a checkout in which `dvc repro label` has run, `data` of this one by default.
"""

import sys
from collections.abc import Callable
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

from nextreel import arrays, evaluation
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import UNKNOWN, Store
from nextreel.contract import Training
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics import impressions as metrics
from nextreel.metrics import ranks
from nextreel.metrics.ratios import Estimate
from nextreel.models import rates, sasrec4sv
from nextreel.nn.wide import Wide
from nextreel.scoring.retrieve import target_ranks
from nextreel.scoring.sets import EvalSet, ShownPairs
from nextreel.two_stage import trees
from nextreel.two_stage.blend import Fits, Ranker

Found = tuple[np.ndarray, float]  # the score of each pair, NDCG@10 of the next video (NaN: not measured)


class WithoutSequence(sasrec4sv.Model):
    """Its heads read wide inputs alone."""

    def _predicted(self, shown: Tensor, video: Tensor, wide: Tensor) -> dict[str, Tensor]:
        return self.outcomes(0 * shown, 0 * shown, wide)


class WithoutWide(sasrec4sv.Model):
    """Its heads read state and video alone."""

    def _predicted(self, shown: Tensor, video: Tensor, wide: Tensor) -> dict[str, Tensor]:
        return super()._predicted(shown, video, 0 * wide)


class Bench:
    """What is fitted, and the judged impressions of valid."""

    def __init__(self, data: Path) -> None:
        self.store, self.asked = Store.load(data / "store"), EvalSet.load(data, params.seed)
        labels = arrays.load(data / "valid_outcomes.parquet")
        label = labels["label"].astype(float)
        at = labels["impression"][~np.isnan(label)]
        self.pairs: Pairs = ShownPairs.load(data).pairs(self.store).where(at)
        self.label = label[~np.isnan(label)] > 0
        user_idx = self.pairs.cases.user_idx[self.pairs.row]
        self.clusters = Clusters(user_idx, self.pairs.video_idx)
        self.histories = self.store.fitted_on("train")

    def gauc(self, score: np.ndarray) -> Estimate:
        case, n = self.pairs.row, len(self.pairs.cases)
        rows = np.bincount(case, minlength=n)[case].astype(float)
        return metrics.grouped_auc(self.label, score, case, n).estimate(rows, within_users=True)

    def by_rates(self) -> Found:
        model = rates.Model.fit(params.section("recall.rates", rates.Params), self._training())
        return model.score(self.pairs), np.nan

    def by_counts(self) -> Found:
        """The wide inputs alone, by a logistic regression."""
        wide, of_events = Wide.fit(self.histories)
        label = self.store.events("positive")[self.histories.flat()[0]]
        fitted = LogisticRegression().fit(of_events[label != UNKNOWN], label[label != UNKNOWN])
        return fitted.decision_function(wide.of_pairs(self.pairs)), np.nan

    def by_trees(self, objective: trees.Objective) -> Found:
        """Log-odds."""
        fits = Fits({"train": trees.Trees.fit(objective, self._training(), params.threads)}, self.store)
        ranker = Ranker(fits).calibrated(lambda _store: self.pairs, self.label)
        return ranker.slope * fits.score("valid", lambda _store: self.pairs) + ranker.intercept, np.nan

    def by_network(self, model: type[sasrec4sv.Model] = sasrec4sv.Model, **changes: Any) -> Found:
        fitted = self.fitted(model, **changes)
        rank = target_ranks(fitted, self.store, self.asked, "valid", "next video")
        return fitted.score(self.pairs), float(ranks.ndcg(rank, 10).mean())

    def fitted(
        self, model: type[sasrec4sv.Model] = sasrec4sv.Model, seed: int = params.seed, **changes: Any
    ) -> sasrec4sv.Model:
        """All its epochs; with these changes of its settings."""
        settings = params.section("train.sasrec4sv", sasrec4sv.Params, defaults="model").model_dump() | changes
        return model.fit(sasrec4sv.Params.model_validate(settings), self._training(seed))

    def _training(self, seed: int = params.seed) -> Training:
        return Training(self.histories, np.random.default_rng(seed))


def rows(bench: Bench, found: dict[str, Found]) -> dict[str, Callable[[], Found]]:
    """found: of the rows above."""
    section = params.get("train.sasrec4sv")
    weights, inputs = section["weights"], params.get("model")["inputs"]

    def mean(name: str) -> Found:
        return (found["sasrec4sv"][0] + found[name][0]) / 2, np.nan

    return {
        "sasrec4sv": bench.by_network,
        "`rates`": bench.by_rates,
        "wide inputs, logistic regression": bench.by_counts,
        "trees, `binary`": lambda: bench.by_trees("binary"),
        "trees, `lambdarank`": lambda: bench.by_trees("lambdarank"),
        "sasrec4sv and trees, `binary`": lambda: mean("trees, `binary`"),
        "sasrec4sv and trees, `lambdarank`": lambda: mean("trees, `lambdarank`"),
        "heads on wide inputs alone": lambda: bench.by_network(WithoutSequence),
        "heads on state and video alone": lambda: bench.by_network(WithoutWide),
        "`weights.next_item` .3": lambda: bench.by_network(weights=weights | {"next_item": 0.3}),
        "heads `linear` and `gain` at .5": lambda: bench.by_network(weights=weights | {"linear": 0.5, "gain": 0.5}),
        "inputs `wtr` and `feedback`": lambda: bench.by_network(inputs=[*inputs, "wtr", "feedback"]),
    }


def main(data: Path) -> None:
    bench = Bench(data)
    found: dict[str, Found] = {}
    for name, fit in rows(bench, found).items():
        found[name] = fit()
        print(f"{name}: GAUC {bench.gauc(found[name][0]).value:.4f}", file=sys.stderr, flush=True)
    confidence = params.section("evaluate", evaluation.Params).confidence
    texts = paired.texts((bench.gauc(score) for score, _ndcg in found.values()), bench.clusters, 0, confidence)
    print("| | AUC | GAUC | minus the whole | NDCG@10 |\n|---|---|---|---|---|")
    for (name, (score, ndcg)), text in zip(found.items(), texts, strict=True):
        auc = metrics.auc(bench.label, score).estimate().value
        print(f"| {name} | {auc:.4f} | {text} | {'' if np.isnan(ndcg) else f'{ndcg:.4f}'} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "data")
