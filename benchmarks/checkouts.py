"""Did a change of the code move a model? Two checkouts that have trained it with the same seeds, paired case by case.

NDCG@10 of valid and test cases from data/ranks of both: each checkout's mean, the difference with 95 % intervals over
users and videos and over seeds (Student's t), and the difference of each seed. `dvc repro train@<model>` with
`model.seeds: 5` in each comes first.

    python benchmarks/checkouts.py BEFORE AFTER MODEL...
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
import numpy as np
from scipy import stats

from nextreel import arrays
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics.ranks import ndcg
from nextreel.metrics.ratios import Parts

CONFIDENCE = 0.95


def by_seed(checkout: Path, model: str) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """case_id, and seed -> NDCG@10 of every case."""
    table = arrays.load(checkout / f"data/ranks/{model}.parquet")
    seeds = np.unique(table["seed"])
    found = {int(seed): ndcg(table["rank"][table["seed"] == seed], 10) for seed in seeds}
    return table["case_id"][table["seed"] == seeds[0]], found


def main() -> None:
    before, after, *models = sys.argv[1:]
    cases = arrays.load(Path(after) / "data/cases.parquet", columns=["case_id", "user_idx", "part"])
    targets = arrays.load(Path(after) / "data/targets.parquet", columns=["case_id", "video_idx"])
    print("| model | part | before | after | difference, over users and videos | over seeds | by seed |")
    print("|---" * 7 + "|")
    for model in models:
        (ids, old), (same, new) = by_seed(Path(before), model), by_seed(Path(after), model)
        if ids.tolist() != same.tolist() or old.keys() != new.keys():
            sys.exit(f"{model}: the checkouts ask other cases or seeds")
        at = np.searchsorted(cases["case_id"], ids)
        target = targets["video_idx"][np.searchsorted(targets["case_id"], ids)]
        for part in ("valid", "test"):
            mine = cases["part"][at] == part
            one, other = (np.stack([values[mine] for values in seeds.values()]) for seeds in (old, new))
            gain = other - one  # [seeds, cases]
            clusters = Clusters(cases["user_idx"][at][mine], target[mine])
            (apart,) = clusters.sums(Parts.of(gain.mean(0)).estimate()).reach(CONFIDENCE)
            of_seed = gain.mean(1)
            reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(of_seed) - 1) * stats.sem(of_seed)
            over_rows = f"{gain.mean():+.4f} ({gain.mean() - apart:+.4f} to {gain.mean() + apart:+.4f})"
            over_seeds = f"({gain.mean() - reach:+.4f} to {gain.mean() + reach:+.4f})"
            each = ", ".join(f"{x:+.4f}" for x in of_seed)
            cells = [model, part, f"{one.mean():.4f}", f"{other.mean():.4f}", over_rows, over_seeds, each]
            print(f"| {' | '.join(cells)} |")


main()
