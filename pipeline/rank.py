"""The ranking stage: the weight of exposure chosen on valid, the pool in order, recommendations for every user."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.prepare(params.threads, params.cpu_isa)
    from nextreel import engine, files, models
    from nextreel.cases.store import Store
    from nextreel.scoring.sets import EvalSet, ShownPairs
    from nextreel.two_stage import as_of, exhaustive, recommend, rerank, trees, weigh
    from nextreel.two_stage.blend import Blend, Fits, Ranker

    settings = params.section("rank", weigh.Params)
    data, pool = Path("data"), Path("data/systems/pool/lists.parquet")
    asked, shown = EvalSet.load(data, params.seed), ShownPairs.load(data)
    *rankers, exposure = (
        Fits(models.load(name, data / "models" / name), Store.load(data / "inputs" / name))
        for name in (settings.model, settings.exposure)
    )
    names = [name for family in ("recall", "train") for name in params.get(family)]
    rankers += trees.beside(settings.trees, data / "inputs/trees", params.seed, params.threads)
    blend = Blend([Ranker(fits) for fits in rankers], exposure)
    found = weigh.weigh(blend, asked, pool, weigh.Labelled.load(data, shown), settings, data, names)
    rerank.rerank(found.blend, found.weight, asked, pool, data / "systems/two_stage")
    rerank.score_shown(found.blend, found.weight, shown, asked, data / "systems")
    exhaustive.write(found.blend, found.weight, asked, data / "systems/exhaustive")
    as_of.write(rankers[0], shown, params.seed, data / "systems/as_of")
    files.write_json(Path("metrics/rank.json"), found.about)
    files.write_csv(Path("plots/rank.csv"), found.chart)
    con = engine.connect(params.section("engine", engine.Params), params.threads, Path(".work"))
    recommend.recommend(con, data, settings.n_recommendations)


stage.run(main)
