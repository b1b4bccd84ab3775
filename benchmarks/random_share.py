"""How large must the log of random exposures be for two models .03 GAUC apart to be told apart on it?

Counting and factor models are fitted on train, in worlds of params.yaml with other values of `simulate.random_share`,
and judged on the random rows of test. The standard log, and so each model, is the same at every share. For each pair of
models: the difference of GAUC and half of its 95 % interval over users and videos; means over the worlds. `power` is
how often models whose true difference is .03 would be told apart at a half width such as the worst of these.

    python benchmarks/random_share.py [WORLDS]
"""

import sys
import tempfile
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
import numpy as np
import worlds
from scipy import stats

from nextreel import engine, models
from nextreel.cases.store import Store
from nextreel.contract import Training
from nextreel.evaluation.impressions import Impressions, headline_estimate, headline_parts
from nextreel.evaluation.intervals import Clusters, Sums
from nextreel.params import Params
from nextreel.scoring.sets import ShownPairs
from nextreel.simulation import generator

SHARES = (0.03, 0.1, 0.15, 0.2, 0.3)
MODELS = ("rates", "tag_chain", "itemcf", "bpr_mf", "most_popular")
CONFIDENCE, APART = 0.95, 0.03


def judged(data: Path, params: Params, share: float, seed: int) -> tuple[int, np.ndarray, Sums]:
    """Random rows of test in a world made in `data`; GAUC of each model, and what its interval is made of."""
    con = engine.connect(params.section("engine", engine.Params), params.threads, data)
    worlds.labelled(con, data, params, random_share=share, seed=seed)
    store, shown = Store.load(data / "store"), Impressions.load(data, params.seed)
    at = np.flatnonzero(shown.rows("random"))
    rows, pairs = shown.where(at), ShownPairs.load(data).pairs(store).where(at)
    clusters, train = Clusters(rows.user_idx[rows.case], rows.video_idx), store.fitted_on("train")
    values, sums = [], []
    for name in MODELS:
        owner = models.module(name)
        own = params.section(f"recall.{name}", owner.Params)
        model = owner.Model.fit(own, Training(train, np.random.default_rng(params.seed), None))
        score = rows.filled(model.score(pairs))
        found = headline_estimate(rows, headline_parts(rows, score))
        values.append(found.value)
        sums.append(clusters.sums(found))
    return len(at), np.array(values), Sums.stack(sums)


def main() -> None:
    params = Params.load(Path("params.yaml"))
    first = params.section("simulate", generator.Params).seed
    seeds = range(first, first + (int(sys.argv[1]) if len(sys.argv) > 1 else 3))
    left, right = np.array(list(combinations(range(len(MODELS)), 2))).T
    names = [f"{MODELS[a]} - {MODELS[b]}" for a, b in zip(left, right, strict=True)]
    print("| share | random rows of test | " + " | ".join(names) + " | power |\n" + "|---" * (len(names) + 3) + "|")
    for share in SHARES:
        n_rows, apart, reach = [], [], []
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                n, value, sums = judged(Path(folder), params, share, seed)
            n_rows.append(n)
            apart.append(value[left] - value[right])
            reach.append(sums.differences(left, right).reach(CONFIDENCE))
        widest = np.mean(reach, axis=0).max()
        power = stats.norm.sf(stats.norm.isf((1 - CONFIDENCE) / 2) * (1 - APART / widest))
        pairs = zip(np.mean(apart, axis=0), np.mean(reach, axis=0), strict=True)
        cells = [f"{share:g}", f"{np.mean(n_rows):,.0f}", *(f"{x:+.4f} ± {half:.4f}" for x, half in pairs)]
        print(f"| {' | '.join(cells)} | {power:.0%} |", flush=True)


if __name__ == "__main__":
    main()
