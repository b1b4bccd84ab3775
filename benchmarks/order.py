"""What is order worth, by `simulate.sequence_strength`? In worlds of the size in params.yaml.

Without a model: how often the tag that followed the last one most often in train is the next one in valid, sessions in
order and shuffled (mean of several shuffles); NDCG@10 of the oracle, which knows the hidden state. Means of WORLDS
worlds, the gain from order with their range.

With one, in the first of the worlds: NDCG@10 of SASRec on histories as they are, against the same with each user's days
shuffled inside; days stay in place, so that only the order within a day (the sessions' walk over topics) is lost, not
what is fresh. Both are trained and judged with the settings of params.yaml, each on its own histories; the difference
is paired, case by case, over the mean of the seeds. A row is printed after each pair of trainings, over the seeds so
far: the last ones hold them all. SEEDS 0 trains nothing.

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

from nextreel import eda, engine, evaluation, labels
from nextreel.cases.store import NamedColumns, Store
from nextreel.clock import DAY_MS, UTC8_MS
from nextreel.contract import Model, Training
from nextreel.evaluation import next_item
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics.next_item import per_case
from nextreel.metrics.ratios import Parts
from nextreel.models import sasrec
from nextreel.nn import trainer
from nextreel.oracle.truth import Oracle
from nextreel.scoring import validation
from nextreel.scoring.retrieve import target_ranks
from nextreel.scoring.sets import EvalSet
from nextreel.simulation import generator

STRENGTHS = (0.0, 0.35, 0.7, 1.0)
WORLDS = 5


def world(data: Path, strength: float, seed: int) -> tuple[tuple[Store, EvalSet], tuple[float, ...]]:
    """What a world, made in `data`, knows and asks; how often the next tag is guessed in order and shuffled, and the
    oracle."""
    con = engine.connect(params.section("engine", engine.Params), params.threads, data)
    labelled = worlds.labelled(con, data, params, sequence_strength=strength, seed=seed)
    videos = engine.read(con, data / "tables/videos.parquet")
    gap_ms = params.section("eda", eda.Params).session_gap_minutes * eda.MINUTE_MS
    rng = np.random.default_rng(params.seed)
    found = eda.dependence(labelled.filter(_.part != "random"), videos, gap_ms, rng)
    con.disconnect()
    in_order, *shuffles = found["hit_rate"][found["level"] == "tag"]
    store, asked = Store.load(data / "store"), EvalSet.load(data, params.seed)
    best = np.concatenate(
        [
            some.target_rank
            for some in Oracle(data, params.section("label", labels.Params)).answers(store, asked, "test", 0)
        ]
    )
    return (store, asked), (in_order, float(np.mean(shuffles)), ndcg(best).mean())


def shuffled(store: Store, asked: EvalSet, rng: np.random.Generator) -> Store:
    """Videos and reactions in random order within each stretch of (user, day) that no part or case cuts."""
    user = np.repeat(np.arange(len(store.offsets) - 1), np.diff(store.offsets))
    day = (store.events("time_ms") + UTC8_MS) // DAY_MS
    cut = np.zeros(len(user) + 1, bool)  # what a case or the part train must not see stays behind its cut
    cut[store.cuts["train"]] = True
    cut[asked.cases.histories(store).stop] = True
    stretch = np.cumsum(cut[:-1]) + np.cumsum((np.diff(user, prepend=-1) != 0) | (np.diff(day, prepend=-1) != 0))
    order = np.lexsort((rng.random(len(user)), stretch))
    events = NamedColumns(store.tables["events"])
    events |= {name: store.events(name)[order] for name in ("video_idx", "positive")}
    return replace(store, tables={**store.tables, "events": events})


def ndcg(rank: np.ndarray) -> np.ndarray:
    """Of each test case."""
    return per_case(rank)[next_item.HEADLINE]


def trained(store: Store, asked: EvalSet, seed: int) -> Model:
    settings = params.section("train.sasrec", sasrec.Params, defaults="model")
    session = trainer.Session(lambda model: validation.validate(model, store, asked), None)
    return sasrec.Model.fit(settings, Training(store.fitted_on("train"), np.random.default_rng(seed), session))


def cells(values: list[np.ndarray], asked: EvalSet, confidence: float) -> str:
    """Each seed's values [n, 2] in order and shuffled -> the means of every seed, and the paired difference."""
    mean = np.mean(values, axis=0)
    gain = Parts.of(mean[:, 0] - mean[:, 1]).estimate()
    (reach,) = Clusters(asked.cases.user_idx, asked.target).sums(gain).reach(confidence)
    in_order, other = (", ".join(f"{x:.4f}" for x in column) for column in np.mean(values, axis=1).T)
    bounds = f"{gain.value - reach:+.4f} to {gain.value + reach:+.4f}"
    return f"{in_order} | {other} | {gain.value:+.4f} ({bounds}) | {len(mean)}"


def without_model(folder: Path) -> dict[float, tuple[Store, EvalSet]]:
    """Print the first table; what each strength's first world, made in `folder`, knows and asks."""
    first_seed = params.section("simulate", generator.Params).seed
    first = {}
    print("| strength | next tag, in order | shuffled | difference | oracle |\n|---|---|---|---|---|")
    for strength in STRENGTHS:
        seeds = range(first_seed, first_seed + WORLDS)
        made = [world(folder / f"{strength:g}@{seed}", strength, seed) for seed in seeds]
        first[strength] = made[0][0]
        in_order, other, ceiling = np.array([found for _world, found in made]).T
        gain = in_order - other
        apart = f"{gain.mean():+.4f} ({gain.min():+.4f} to {gain.max():+.4f})"
        row = f"{in_order.mean():.4f} | {other.mean():.4f} | {apart} | {ceiling.mean():.4f}"
        print(f"| {strength:g} | {row} |", flush=True)
    return first


def main() -> None:
    n_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    confidence = params.section("evaluate", evaluation.Params).confidence
    with tempfile.TemporaryDirectory() as folder:
        made = without_model(Path(folder))
        print(f"\n| strength | in order, by seed | shuffled | difference ({confidence:.0%}) | test cases |")
        print("|---|---|---|---|---|", flush=True)
        values: dict[float, list[np.ndarray]] = {strength: [] for strength in STRENGTHS}
        for seed in range(n_seeds):
            for strength, (store, asked) in made.items():
                stores = store, shuffled(store, asked, np.random.default_rng(seed))
                models = [trained(each, asked, seed) for each in stores]
                pair = [
                    ndcg(target_ranks(model, each, asked, "test", ""))
                    for model, each in zip(models, stores, strict=True)
                ]
                values[strength].append(np.stack(pair, axis=1))
                row = cells(values[strength], asked.of("test"), confidence)
                print(f"| {strength:g} | {row} |", flush=True)


if __name__ == "__main__":
    main()
