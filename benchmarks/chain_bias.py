"""What does the counting chain know that a network does not? Its log-probability as a bias, with one weight:

    score = score of the network (a log of a share)  +  weight x log(score of tag_chain)

Over the whole catalogue without seen videos, the models of the last `dvc repro`, first seed. The weight is chosen on
valid, by NDCG@10 of the fits on train; test is answered by the fits of `split.refit`. A video on which one of the two
has no opinion has that one's lowest value of the case. Intervals over users and videos, paired.

    python benchmarks/chain_bias.py [sasrec gru4rec]
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
from nextreel import runtime
from nextreel.params import Params

params = Params.load(ROOT / "params.yaml")
runtime.prepare(params.threads, params.cpu_isa)

import fused
import numpy as np

from nextreel import evaluation, models
from nextreel.cases.store import Store
from nextreel.contract import Factored
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics.ranks import ndcg
from nextreel.metrics.ratios import Parts
from nextreel.progress import track
from nextreel.scoring.answers import columns_of
from nextreel.scoring.sets import EvalSet
from nextreel.two_stage.blend import Fits

DATA, CHAIN = ROOT / "data", "tag_chain"
WEIGHTS = np.append(0.0, 2.0 ** np.arange(-4, 6))
_CASES = 256  # scored at a time, each over the whole catalogue


def fits(name: str) -> Fits:
    return Fits(models.load(name, DATA / "models" / name), Store.load(DATA / "inputs" / name))


def scores(model: Fits, part: str, some: EvalSet, catalogue: np.ndarray) -> np.ndarray:
    """Logs of shares [B, N], up to a constant of each case."""
    fitted = model.of(part)
    assert isinstance(fitted, Factored)
    found = fitted.queries(some.cases, some.cases.histories(model.store)) @ fitted.vectors(catalogue).T
    if fitted.scale == "share":
        found = np.log(np.maximum(found, np.finfo(np.float32).tiny))
    return np.asarray(np.where(np.isnan(found), np.nanmin(found, axis=1, keepdims=True), found))


def target_ranks(network: Fits, chain: Fits, asked: EvalSet, part: str, weights: np.ndarray) -> np.ndarray:
    """The rank of each target by weight [W, n], see `fused.target_rank`."""
    asked, catalogue = asked.of(part), asked.catalogue.of(part)
    found = np.empty((len(weights), len(asked.cases)), np.int32)
    for start in track(range(0, len(asked.cases), _CASES), f"adding up on {part}"):
        some = asked.where(slice(start, start + _CASES))
        position, owner = some.cases.histories(chain.store).flat()
        column, listed = columns_of(catalogue, chain.store.events("video_idx")[position])
        one, other = (scores(model, part, some, catalogue) for model in (network, chain))
        one[owner[listed], column[listed]] = -np.inf
        for number, weight in enumerate(weights):
            rank = fused.target_rank(one + np.float32(weight) * other, some, catalogue)
            found[number, start : start + len(rank)] = rank
    return found


def interval(clusters: Clusters, values: np.ndarray) -> str:
    estimate = Parts.of(values).estimate()
    (reach,) = clusters.sums(estimate).reach(params.section("evaluate", evaluation.Params).confidence)
    return f"{estimate.value:+.4f} ({estimate.value - reach:+.4f} to {estimate.value + reach:+.4f})"


def main(names: list[str]) -> None:
    asked, chain = EvalSet.load(DATA, params.seed), fits(CHAIN)
    test = asked.of("test")
    clusters = Clusters(test.cases.user_idx, test.target)
    print(
        "| network | weight | NDCG@10 on valid, of 0 and of the weight | on test | more than alone | than tag_chain |"
    )
    print("|---" * 6 + "|")
    for name in names:
        network = fits(name)
        on_valid = ndcg(target_ranks(network, chain, asked, "valid", WEIGHTS), 10).mean(1)
        best = int(on_valid.argmax())
        alone, both, chain_alone = ndcg(
            target_ranks(network, chain, asked, "test", np.array([0.0, WEIGHTS[best], 1e6])), 10
        )
        cells = [name, f"{WEIGHTS[best]:g}", f"{on_valid[0]:.4f}, {on_valid[best]:.4f}", f"{both.mean():.4f}"]
        cells += [interval(clusters, both - alone), interval(clusters, both - chain_alone)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["sasrec", "gru4rec"])
