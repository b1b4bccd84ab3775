"""How much exposure counts beside liking: the weight of the blend, chosen on valid.

It is the one with the highest GAUC on impressions, of those that keep NDCG@10 of the next video at `floor` times that
of the best single model: neither guessing what is shown next nor knowing what is liked may be lost to the other.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from nextreel import arrays
from nextreel.arrays import Columns
from nextreel.metrics import impressions as metrics
from nextreel.metrics import ranks
from nextreel.metrics.ranks import MISS
from nextreel.params import Float, Name, PositiveInt, Section, Share
from nextreel.scoring.sets import EvalSet, ShownPairs
from nextreel.two_stage.blend import Blend, PairsOf
from nextreel.two_stage.rerank import pools, shown_terms
from nextreel.two_stage.trees import Objective

WEIGHTS = np.append(0.0, 2 ** (np.arange(-8, 29) / 4))  # .25 to 128 in quarter octaves
K = 10
Weight = Annotated[Float, Field(ge=0, le=1000)]  # above, float32 scores lose the log-odds


class Params(Section):
    """The section `rank`."""

    model: Name  # the ranker: how likely a video is liked once shown
    trees: Objective | None  # of the trees beside it; None: there are none
    exposure: Name  # how likely it is shown next
    weight: Weight | None  # of exposure; None: chosen on valid
    floor: Share  # of the best single model's NDCG@10 on valid, below which no weight is chosen
    n_recommendations: PositiveInt  # a user, in data/recommendations.parquet


class Labelled(NamedTuple):
    """Impressions of valid whose outcome may be learnt from."""

    shown: ShownPairs
    at: np.ndarray  # [m] positions among all impressions
    label: np.ndarray  # [m] bool

    @classmethod
    def load(cls, data: Path, shown: ShownPairs) -> "Labelled":
        """Read valid_outcomes.parquet, see `ShownPairs.first`; unknown labels are left out."""
        table = arrays.load(data / "valid_outcomes.parquet", columns=["impression", "label"])
        at, label = table["impression"], table["label"].astype(float)
        kept = ~np.isnan(label) & shown.first(at)
        return cls(shown, at[kept], label[kept] > 0)

    @property
    def pairs(self) -> PairsOf:
        return lambda store: self.shown.pairs(store).where(self.at)

    @property
    def tells(self) -> bool:
        """Whether there is anything to fit to: rows of both classes."""
        return bool(self.label.any() and not self.label.all())


def front(blend: Blend, asked: EvalSet, candidates: Path, valid: Labelled, weights: np.ndarray) -> Columns:
    """What each weight [W] is worth on valid: weight, ndcg@10 of the pool in that order, gauc."""
    ndcg, gauc = _ndcg(blend, asked, candidates, weights), _gauc(blend, asked, valid, weights)
    return {"weight": weights, f"ndcg@{K}": ndcg, "gauc": gauc}


def _ndcg(blend: Blend, asked: EvalSet, candidates: Path, weights: np.ndarray) -> np.ndarray:
    """[W] A target's rank is one more than how many candidates of its case are ahead: nothing is sorted."""
    reference, total = blend.references("valid", asked), np.zeros(len(weights))
    for pool in pools(candidates, asked, "valid", "weighing exposure"):
        n, tie = len(pool.asked.cases), pool.tie
        terms = blend.terms("valid", pool.pairs, pool.row, reference[pool.place])
        place = np.full(n, -1)
        is_target = np.flatnonzero(pool.video_idx == pool.asked.target[pool.row])
        place[pool.row[is_target]] = is_target
        rival = np.flatnonzero(place[pool.row] >= 0)
        row, target = pool.row[rival], place[pool.row[rival]]
        for number, weight in enumerate(weights):
            score = terms.score(float(weight))
            ahead = score[rival] > score[target]
            ahead |= (score[rival] == score[target]) & (tie[rival] < tie[target])
            rank = np.where(place >= 0, 1 + np.bincount(row, ahead, n), MISS)
            total[number] += ranks.ndcg(rank, K).sum()
    return np.asarray(total / len(reference))


def _gauc(blend: Blend, asked: EvalSet, valid: Labelled, weights: np.ndarray) -> np.ndarray:
    """[W]"""
    at, terms = shown_terms(blend, "valid", valid.shown, asked)
    terms = terms.where(np.searchsorted(at, valid.at))
    case, n = valid.shown.row[valid.at], len(valid.shown.cases)
    rows = np.bincount(case, minlength=n)[case].astype(float)
    aucs = (metrics.grouped_auc(valid.label, terms.score(float(weight)), case, n) for weight in weights)
    return np.array([parts.estimate(rows, within_users=True).value for parts in aucs])


def best_single(data: Path, names: Iterable[str], asked: EvalSet) -> tuple[str, float]:
    """The model with the highest NDCG@10 on valid over the whole catalogue, and that."""
    on_valid = asked.of("valid").cases.case_id
    found: dict[str, float] = {}
    for name in names:
        where: list[tuple[str, str, object]] = [("seed", "=", asked.seed)]
        ranked = arrays.load(data / f"ranks/{name}.parquet", where, ["case_id", "rank"])
        found[name] = float(ranks.ndcg(ranked["rank"][np.isin(ranked["case_id"], on_valid)], K).mean())
    best = max(sorted(found), key=found.__getitem__)
    return best, found[best]


def chosen(on_front: Mapping[str, np.ndarray], least: float) -> int:
    """Which weight: the highest GAUC of those whose NDCG@10 is at least this, the highest NDCG@10 where none is; the
    smaller weight of two that are alike."""
    ndcg, gauc = on_front[f"ndcg@{K}"], on_front["gauc"]
    if not (ndcg >= least).any():
        return int(np.argmax(ndcg))
    return int(np.argmax(np.where(ndcg >= least, gauc, -np.inf)))


class Weighed(NamedTuple):
    """What the ranking stage goes on with."""

    blend: Blend
    weight: float
    about: dict[str, object]  # flat, for people
    chart: Columns  # model, ndcg@10, gauc: the front, the choice, and what is asked of it


def weigh(
    blend: Blend,
    asked: EvalSet,
    candidates: Path,
    valid: Labelled,
    params: Params,
    data: Path,
    names: Iterable[str],
) -> Weighed:
    """The calibrated blend and its weight. names: of the models whose ranks lie in the folder `data`.

    Where valid has no impressions of both classes nothing can be fitted: the ranker's score alone orders the pool,
    unless params give a weight.
    """
    trees: dict[str, object] = {"trees": params.trees} if params.trees else {}
    about: dict[str, object] = {"ranker": params.model, **trees, "exposure": params.exposure}
    if not valid.tells:
        weight = params.weight or 0.0
        why = "no impressions of both classes on valid: " + ("rank.weight" if weight else "the ranker's score alone")
        none = {name: np.array([]) for name in ("model", f"ndcg@{K}", "gauc")}
        return Weighed(blend, weight, about | {"weight": weight, "weight_from": why}, none)
    blend = blend.calibrated(valid.pairs, valid.label)
    weights = WEIGHTS if params.weight is None else np.array([params.weight])
    found, (best, ndcg) = front(blend, asked, candidates, valid, weights), best_single(data, names, asked)
    least = params.floor * ndcg
    at = chosen(found, least)
    here = {name: float(values[at]) for name, values in found.items()}
    about |= {"weight": here["weight"], "weight_from": "valid" if params.weight is None else "rank.weight"}
    about |= {f"valid_ndcg@{K}": here[f"ndcg@{K}"], "valid_gauc": here["gauc"], "best_single": best}
    about |= {f"best_single_valid_ndcg@{K}": ndcg, "floor_met": here[f"ndcg@{K}"] >= least}
    return Weighed(blend, here["weight"], about, _chart(found, at, least))


def _chart(found: Columns, at: int, least: float) -> Columns:
    """The front, the choice, and the floor as a line across."""
    gauc, n = found["gauc"], len(found["weight"])
    return {
        "model": np.repeat(["by weight", "chosen", "floor"], [n, 1, 2]),
        f"ndcg@{K}": np.concatenate([found[f"ndcg@{K}"], found[f"ndcg@{K}"][[at]], [least, least]]),
        "gauc": np.concatenate([gauc, gauc[[at]], [gauc.min(), gauc.max()]]),
    }
