"""How exposure should enter the score of the ranking stage: forms of r, each at the weight that valid chooses.

    python benchmarks/exposure.py

Reads a finished `dvc repro` of a simulated world. Forms: log s standardised within the case; log s as it is;
log(1 + s / s_k) for several k, where s_k is the k-th highest s of the case. A row a form and floor (a share of the best
single model's NDCG@10 on valid): NDCG@10 of the pool in that order, the true P(positive | shown) of its first ten, and
GAUC on impressions; what valid chose by, and test.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
from nextreel import arrays, labels, models
from nextreel.cases.store import Store
from nextreel.evaluation.impressions import Impressions, headline_estimate, headline_parts
from nextreel.metrics import ranks
from nextreel.metrics.impressions import with_medians
from nextreel.oracle.truth import Oracle
from nextreel.params import Params
from nextreel.scoring import order
from nextreel.scoring.sets import EvalSet, ShownPairs
from nextreel.two_stage import blend, rerank, weigh

FLOORS = (0.95, 0.9)


class Plain(blend.Blend):
    """r = log s."""

    def blended(
        self, part: str, scores: Sequence[np.ndarray], exposed: np.ndarray, row: np.ndarray, reference: np.ndarray
    ) -> blend.Terms:
        log = blend._log(self.exposure.of(part).scale, exposed)
        r = with_medians(np.where(log > -np.inf, log, np.nan), row, len(reference))
        return super().blended(part, scores, exposed, row, reference)._replace(r=r)


class Standardised(Plain):
    """r = log s, with mean 0 and deviation 1 within the case."""

    def blended(
        self, part: str, scores: Sequence[np.ndarray], exposed: np.ndarray, row: np.ndarray, reference: np.ndarray
    ) -> blend.Terms:
        terms = super().blended(part, scores, exposed, row, reference)
        n = np.maximum(np.bincount(row, minlength=len(reference)), 1)
        away = terms.r - (np.bincount(row, terms.r, len(n)) / n)[row]
        spread = np.sqrt(np.bincount(row, away**2, len(n)) / n)[row]
        return terms._replace(r=away / np.where(spread > 0, spread, 1))


class Judge:
    """What an order of the pools and of what was shown is worth, on a part."""

    def __init__(self, params: Params, data: Path) -> None:
        self.pool, self.asked, self.shown = (
            data / "systems/pool/lists.parquet",
            EvalSet.load(data, params.seed),
            ShownPairs.load(data),
        )
        self.impressions = Impressions.load(data, params.seed)
        self.oracle = Oracle(data, params.section("label", labels.Params))

    def worth(self, mixed: blend.Blend, part: str, weights: np.ndarray) -> np.ndarray:
        """NDCG@10, list value, GAUC of each weight [W, 3]."""
        found = np.zeros((len(weights), 3))
        reference, mine = mixed.references(part, self.asked), self.asked.of(part)
        for pool in rerank.pools(self.pool, self.asked, part, "ranking pools"):
            cases, ids = pool.asked.cases, pool.asked.cases.case_id
            terms = mixed.terms(part, pool.pairs, pool.row, reference[pool.place])
            truth = self.oracle.positive_probability(cases.user_idx[pool.row], cases.time_ms[pool.row], pool.video_idx)
            for at, weight in enumerate(weights):
                by, rank = order.order(pool.row, terms.score(float(weight)), pool.tie.__getitem__, len(truth))
                listed = {"case_id": ids[pool.row[by]], "video_idx": pool.video_idx[by], "rank": rank}
                found[at, 0] += ranks.ndcg(order.listed_rank(listed, ids, pool.asked.target), 10).sum()
                found[at, 1] += truth[by][rank <= 10].sum() / 10
        found[:, :2] /= len(mine.cases)
        rows_of_part, terms = rerank.shown_terms(mixed, part, self.shown, self.asked)
        keep = self.impressions.rows(part)
        rows, of_rows = self.impressions.where(keep), keep[rows_of_part]
        for number, weight in enumerate(weights):
            parts = headline_parts(rows, terms.score(float(weight))[of_rows])
            found[number, 2] = headline_estimate(rows, parts).value
        return found


def main() -> None:
    """A row a form and floor."""
    params, data = Params.load(ROOT / "params.yaml"), ROOT / "data"
    settings, judge = params.section("rank", weigh.Params), Judge(params, data)
    ranker, exposure = (
        blend.Fits(models.load(name, data / "models" / name), Store.load(data / "inputs" / name))
        for name in (settings.model, settings.exposure)
    )
    names = [name for family in ("recall", "train") for name in params.get(family)]
    best, ndcg = weigh.best_single(data, names, judge.asked)
    print(f"Best single model on valid: {best}, {ndcg:.4f}.\n")
    print("| r | floor | weight | valid: NDCG@10 | list value | GAUC | test: NDCG@10 | list value | GAUC |")
    print("|---" * 9 + "|")
    forms: list[tuple[str, type[blend.Blend], int]] = [("log s, standardised", Standardised, 10), ("log s", Plain, 10)]
    forms += [(f"log(1 + s / s_{k})", blend.Blend, k) for k in (3, 10, 50, 200)]
    for name, form, k in forms:
        blend.REFERENCE_RANK = k
        mixed = form([blend.Ranker(ranker)], exposure)
        on_valid = judge.worth(mixed, "valid", weigh.WEIGHTS)
        for floor in FLOORS:
            at = weigh.chosen({"ndcg@10": on_valid[:, 0], "gauc": on_valid[:, 2]}, floor * ndcg)
            on_test = judge.worth(mixed, "test", weigh.WEIGHTS[[at]])[0]
            numbers = " | ".join(f"{value:.4f}" for value in (*on_valid[at], *on_test))
            print(f"| {name} | {floor} | {weigh.WEIGHTS[at]:.2f} | {numbers} |", flush=True)


if __name__ == "__main__":
    assert arrays.load(ROOT / "data/tables/truth_topics.parquet")["topic"].size, "the data are not simulated"
    main()
