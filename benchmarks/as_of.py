"""What are histories up to each impression worth to the ranker, and what does reading them in one pass cost?

The impressions of valid, scored by sasrec4sv as fitted on train with three kinds of histories: frozen at the user's
first row of the part; as of each impression, each read for itself; and the same in one pass. GAUC and AUC with
intervals over users and videos, and paired differences to frozen; how far the scores are from those of histories read
for themselves, as the mean gap in log-odds and the correlation; seconds. Then the user's share of positives so far in
the part as a score of its own, which shows what GAUC makes of running histories. `dvc repro rank` comes first.

    python benchmarks/as_of.py [FOLDER]
"""

import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
from nextreel import runtime
from nextreel.params import Params

params = Params.load(ROOT / "params.yaml")
runtime.prepare(params.threads, params.cpu_isa)

import numpy as np
import paired

from nextreel import evaluation
from nextreel.cases.store import Store
from nextreel.evaluation.impressions import Impressions, headline_estimate, headline_parts
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics.impressions import auc
from nextreel.metrics.ratios import Estimate
from nextreel.models import sasrec4sv
from nextreel.scoring.sets import ShownPairs

MODEL, PART = "sasrec4sv", "valid"
PRIOR = 20  # rows that are like all
FROZEN, EXACT, ONE_PASS = "frozen", "as of each, each read for itself", "as of each, one pass"


def so_far(rows: Impressions) -> np.ndarray:
    """Of each row [m] the share of positives among its case's rows before it, smoothed."""
    first = np.searchsorted(rows.case, rows.case)
    before = np.concatenate([[0], rows.label.cumsum()])[:-1]
    return np.asarray((before - before[first] + PRIOR * rows.label.mean()) / (np.arange(len(first)) - first + PRIOR))


def estimates(rows: Impressions, score: np.ndarray) -> list[Estimate]:
    """GAUC and AUC."""
    return [headline_estimate(rows, headline_parts(rows, score)), auc(rows.label, score).estimate()]


def main(data: Path) -> None:
    shown, store = ShownPairs.load(data), Store.load(data / "inputs" / MODEL)
    model = sasrec4sv.Model.load(data / "models" / MODEL / "train")
    impressions = Impressions.load(data, params.seed)
    keep = impressions.rows(PART)
    rows, frozen, as_of = impressions.where(keep), *(of(store).where(keep) for of in (shown.pairs, shown.as_of))
    work = {
        FROZEN: partial(model.score, frozen),
        EXACT: partial(model.score, as_of),
        ONE_PASS: partial(model.running_score, as_of),
    }
    found, seconds = {}, {}
    for name, score in work.items():
        start = time.perf_counter()
        found[name] = score().astype(float)
        seconds[name] = time.perf_counter() - start
    clusters = Clusters(rows.user_idx[rows.case], rows.video_idx)
    confidence = params.section("evaluate", evaluation.Params).confidence
    by_metric = zip(*(estimates(rows, score) for score in found.values()), strict=True)
    gauc, all_rows = (paired.texts(each, clusters, 0, confidence) for each in by_metric)
    print(f"{len(frozen)} impressions of {PART}, {frozen.history_end.mean():.0f} events behind each where frozen,"
          f" {as_of.history_end.mean():.0f} as of each; the model looks back on {model.params.length}.\n")  # fmt: skip
    heads = "GAUC | to frozen | AUC | to frozen | mean gap | correlation | seconds"
    print(f"| histories | {heads} |\n" + "|---" * 8 + "|")
    for name, *cells in zip(found, gauc, all_rows, strict=True):
        gap, alike = np.abs(found[name] - found[EXACT]).mean(), np.corrcoef(found[name], found[EXACT])[0, 1]
        print(f"| {name} | {' | '.join(cells)} | {gap:.4f} | {alike:.5f} | {seconds[name]:.1f} |")
    alone = [each.value for each in estimates(rows, so_far(rows))]
    print(f"\nThe user's share of positives so far in the part, alone: GAUC {alone[0]:.4f}, AUC {alone[1]:.4f}.")


main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "data")
