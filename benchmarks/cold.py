"""Are videos that a fit has not seen ranked by their content? The control: the same with content dealt out anew.

Fitted on train and valid, one seed, judged on the impressions of test whose video had no event before test; histories
frozen at a user's first row. What is known of videos (tags, author, duration, day of upload) as it is, and with each
video given that of another: if content is what ranks them, the gain goes with it. GAUC with its interval over users and
videos, paired differences to the first row; and GAUC of the videos that are known.

    python benchmarks/cold.py [FOLDER]

FOLDER is the `data` of a checkout in which `dvc repro label` has run, `data` of this one by default.
"""

import sys
from dataclasses import replace
from pathlib import Path

import heads
import numpy as np
import paired

from nextreel import evaluation
from nextreel.cases.store import NamedColumns, Sets, Store
from nextreel.evaluation.intervals import Clusters


def dealt_anew(store: Store, seed: int) -> Store:
    """Every column of videos but their keys in one random order; the padding stays."""
    order = np.append(0, 1 + np.random.default_rng(seed).permutation(store.n_videos))
    videos = {name: _taken(column, order) for name, column in store.tables["videos"].items() if name != "video_key"}
    kept = {"video_key": store.tables["videos"]["video_key"]}
    return replace(store, tables={**store.tables, "videos": NamedColumns({**kept, **videos})})


def _taken(column: np.ndarray | Sets, order: np.ndarray) -> np.ndarray | Sets:
    if not isinstance(column, Sets):
        return np.asarray(column)[order]
    values, row = column.of(order)
    return Sets(values, np.concatenate([[0], np.bincount(row, minlength=len(order)).cumsum()]))


def main(data: Path) -> None:
    bench = heads.Bench(data, 1, "test", "train_valid")
    found = {"sasrec4sv": bench.by_network(), "`rates`": bench.by_rates()}
    bench.store = dealt_anew(bench.store, heads.params.seed)
    bench.pairs, bench.histories = replace(bench.pairs, store=bench.store), bench.store.fitted_on("train_valid")
    found["sasrec4sv, content dealt anew"] = bench.by_network()
    whole, new = bench.shown, ~bench.shown.known
    confidence = heads.params.section("evaluate", evaluation.Params).confidence

    def within(rows: np.ndarray) -> list[str]:
        bench.shown = whole.where(rows)
        clusters = Clusters(bench.user_idx[rows], bench.pairs.video_idx[rows])
        estimates = [bench.gauc([(score[rows], ndcg) for score, ndcg in each]) for each in found.values()]
        return paired.texts(estimates, clusters, 0, confidence)

    print(f"{new.sum()} of {len(new)} impressions of test are of new videos.\n")
    print("| | GAUC, new videos | minus the first | GAUC, known videos | minus the first |\n|---|---|---|---|---|")
    for name, cold, warm in zip(found, within(np.flatnonzero(new)), within(np.flatnonzero(~new)), strict=True):
        print(f"| {name} | {cold} | {warm} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else heads.ROOT / "data")
