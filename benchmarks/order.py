"""What is order worth? SASRec on histories as they are, against the same with each user's days shuffled inside.

Days stay in place, so that only the order within a day (the sessions' walk over topics) is lost, not what is fresh.
Both are trained and judged with the settings of params.yaml, each on its own histories; the difference is paired.

    dvc repro && python benchmarks/order.py [SEEDS]
    dvc exp run -S simulate.sequence_strength=0 && python benchmarks/order.py
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime
from nextreel.params import Params

params = Params.load(Path("params.yaml"))
runtime.prepare(params.threads, params.cpu_isa)

import numpy as np

from nextreel import evaluation
from nextreel.datasets import simulated
from nextreel.evaluation import next_item, validation
from nextreel.evaluation.intervals import bootstrap_means, interval
from nextreel.exam import Exam, blocks
from nextreel.models import sasrec
from nextreel.nn import trainer
from nextreel.schema import DAY_MS, UTC8_MS
from nextreel.sequences import Events


def shuffled(events: Events, exam: Exam, rng: np.random.Generator) -> Events:
    """Videos and reactions in random order within each stretch of (user, day) that no part or case cuts."""
    user = np.repeat(np.arange(len(events.offsets) - 1), np.diff(events.offsets))
    day = (np.asarray(events.time_ms) + UTC8_MS) // DAY_MS
    cut = np.zeros(len(user) + 1, bool)  # what a case or the part train must not see stays behind its cut
    cut[events.train_end] = True
    cut[exam.cases.histories(events).stop] = True
    stretch = np.cumsum(cut[:-1]) + np.cumsum((np.diff(user, prepend=-1) != 0) | (np.diff(day, prepend=-1) != 0))
    order = np.lexsort((rng.random(len(user)), stretch))
    return replace(events, video_idx=events.video_idx[order], positive=events.positive[order])


def ranks(exam: Exam, seed: int) -> np.ndarray:
    settings = params.section("train.sasrec", sasrec.Params, defaults="model")
    model = sasrec.Model.fit(
        exam.events.train(),
        exam.catalogue.n_videos,
        settings,
        np.random.default_rng(seed),
        trainer.Validation(lambda model: validation.validate(model, exam), Path("logs/order.csv")),
    )
    return np.concatenate([block.target_ranks() for block in blocks(model, exam, "test", "")])


def main() -> None:
    exam = Exam.load(Path("data"), params.seed)
    confidence = params.section("evaluate", evaluation.Params).confidence
    strength = params.section("simulate", simulated.Params).sequence_strength
    values = []
    for seed in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        rng = np.random.default_rng(seed)
        other = replace(exam, events=shuffled(exam.events, exam, rng))
        pair = [validation.per_case(ranks(each, seed))[next_item.HEADLINE] for each in (exam, other)]
        values.append(np.stack(pair, axis=1))
        print(f"seed {seed}: in order {pair[0].mean():.4f}, shuffled {pair[1].mean():.4f}", flush=True)
    mean = np.mean(values, axis=0)  # over seeds, per case
    means = bootstrap_means(mean, exam.of("test").cases.user_idx, 1000, np.random.default_rng(0))
    low, high = interval(means[:, :1] - means[:, 1:], confidence)
    difference = mean[:, 0].mean() - mean[:, 1].mean()
    print(
        f"simulate.sequence_strength {strength:g}, {next_item.HEADLINE} on test, {len(values)} seeds:"
        f" order is worth {difference:+.4f} ({confidence:.0%} interval {low[0]:+.4f} to {high[0]:+.4f})"
    )


main()
