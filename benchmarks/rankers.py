"""Which ranker orders the impressions of test best? SASRec4SV, the trees of `rank.trees`, or the mean of both log-odds.

Fitted on train, and again on train and valid; histories frozen at a user's first row of test; means over seeds. GAUC
with its interval over users and videos, and the paired difference to the trees; mean(GAUC, nDCG@5), which published
boards of KuaiRand order by. Settings are those of `params.yaml`: nothing is chosen here.

    python benchmarks/rankers.py [FOLDER] [SEEDS]

FOLDER is the `data` of a checkout in which `dvc repro label` has run, by default `data` of this one; SEEDS is 3.
"""

import sys
from pathlib import Path

import heads
import paired

from nextreel import evaluation


def main(data: Path, n_seeds: int) -> None:
    confidence = heads.params.section("evaluate", evaluation.Params).confidence
    print("| fitted on | | AUC | GAUC | minus the trees | nDCG@5 | mean(GAUC, nDCG@5) |\n|---|---|---|---|---|---|---|")
    for cut in ("train", "train_valid"):
        bench = heads.Bench(data, n_seeds, "test", cut)
        grown, network = bench.by_trees("binary"), bench.by_network()
        found = {
            "trees, `binary`": grown,
            "sasrec4sv": network,
            "sasrec4sv and trees": heads.together(network, grown),
            "`rates`": bench.by_rates(),
        }
        texts = paired.texts(map(bench.gauc, found.values()), bench.clusters, 0, confidence)
        for (name, each), text in zip(found.items(), texts, strict=True):
            gauc, ndcg = bench.gauc(each).value, bench.per_case(each, "ndcg@5")
            print(
                f"| {cut} | {name} | {bench.auc(each):.4f} | {text} | {ndcg:.4f} | {(gauc + ndcg) / 2:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    folder, seeds = [*sys.argv[1:], "", ""][:2]
    main(Path(folder) if folder else heads.ROOT / "data", int(seeds or 3))
