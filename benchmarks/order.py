"""What is order worth, by `simulate.sequence_strength`? In worlds of the size in params.yaml, one a strength.

Without a model: how often the tag that followed the last one most often in train is the next one in valid, sessions in
order and shuffled (mean of several shuffles). With one: NDCG@10 of SASRec on histories as they are, against the same
with each user's days shuffled inside; days stay in place, so that only the order within a day (the sessions' walk over
topics) is lost, not what is fresh. Both are trained and judged with the settings of params.yaml, each on its own
histories; the difference is paired, case by case, over the mean of the seeds. The oracle knows the hidden state.

A row is printed after each training, over the seeds so far: the last ones hold them all.

    python benchmarks/order.py [SEEDS]
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime
from nextreel.params import Params

params = Params.load(Path("params.yaml"))
runtime.prepare(params.threads, params.cpu_isa)

import numpy as np
import worlds
from ibis import _

from nextreel import cases, engine, evaluation, exploration, labelling, labels
from nextreel.evaluation import next_item, validation
from nextreel.evaluation.intervals import bootstrap_means, interval
from nextreel.evaluation.oracle import Oracle
from nextreel.exam import Exam, target_ranks
from nextreel.models import Scorer, sasrec
from nextreel.nn import trainer
from nextreel.schema import DAY_MS, UTC8_MS
from nextreel.sequences import Events

STRENGTHS = (0.0, 0.35, 0.7, 1.0)


def world(data: Path, strength: float) -> tuple[Exam, str]:
    """The exam of a world of this strength, made in `data`; the cells of a row that no model is trained for."""
    con = engine.connect(params.section("engine", engine.Params), params.threads)
    parts = worlds.parts(con, data, params, sequence_strength=strength)
    settings = params.section("label", labels.Params)
    durations = labelling.fit(parts, settings, leave_one_out=False)
    engine.write_arrays(durations, data / "durations.parquet")
    labelled = labels.label(parts, durations, settings)
    labelling.write(con, labelled, data, params.section("cases", cases.Params), leave_one_out=False)
    videos = engine.read(con, data / "tables/videos.parquet")
    gap_ms = params.section("eda", exploration.Params).session_gap_minutes * exploration.MINUTE_MS
    rng = np.random.default_rng(params.seed)
    found = exploration.dependence(labelled.filter(_.part != "random"), videos, gap_ms, rng)
    con.disconnect()
    in_order, *shuffles = found["hit_rate"][found["level"] == "tag"]
    exam = Exam.load(data, params.seed)
    ceiling = ndcg(Oracle(data, settings), exam).mean()
    return exam, f"{in_order:.4f} | {np.mean(shuffles):.4f} | {ceiling:.4f}"


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


def ndcg(model: Scorer, exam: Exam) -> np.ndarray:
    """Of each test case."""
    return validation.per_case(target_ranks(model, exam, "test", ""))[next_item.HEADLINE]


def trained(exam: Exam, seed: int) -> Scorer:
    settings = params.section("train.sasrec", sasrec.Params, defaults="model")
    on_valid = trainer.Validation(lambda model: validation.validate(model, exam), None)
    n_videos = exam.catalogue.n_videos
    return sasrec.Model.fit(exam.events.train(), n_videos, settings, np.random.default_rng(seed), on_valid)


def cells(values: list[np.ndarray], user_idx: np.ndarray, confidence: float) -> str:
    """Each seed's values [n, 2] in order and shuffled -> the means of every seed, and the paired difference."""
    mean = np.mean(values, axis=0)
    means = bootstrap_means(mean, user_idx, 1000, np.random.default_rng(params.seed))
    (low,), (high,) = interval(means[:, :1] - means[:, 1:], confidence)
    in_order, other = (", ".join(f"{x:.4f}" for x in column) for column in np.mean(values, axis=1).T)
    apart = mean[:, 0].mean() - mean[:, 1].mean()
    return f"{in_order} | {other} | {apart:+.4f} ({low:+.4f} to {high:+.4f}) | {len(mean)}"


def main() -> None:
    n_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    confidence = params.section("evaluate", evaluation.Params).confidence
    print("| strength | next tag, in order | shuffled | oracle | sasrec in order, by seed | shuffled |", end="")
    print(f" difference ({confidence:.0%}) | test cases |\n|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        made = {strength: world(Path(folder) / f"{strength:g}", strength) for strength in STRENGTHS}
        values: dict[float, list[np.ndarray]] = {strength: [] for strength in STRENGTHS}
        for seed in range(n_seeds):
            for strength, (exam, fixed) in made.items():
                other = replace(exam, events=shuffled(exam.events, exam, np.random.default_rng(seed)))
                pair = [ndcg(trained(each, seed), each) for each in (exam, other)]
                values[strength].append(np.stack(pair, axis=1))
                row = cells(values[strength], exam.of("test").cases.user_idx, confidence)
                print(f"| {strength:g} | {fixed} | {row} |", flush=True)


if __name__ == "__main__":
    main()
