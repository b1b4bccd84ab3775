"""The ranker orders the pool: the two-stage system's lists and ranks, and recommendations for every user."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.prepare(params.threads, params.cpu_isa)
    from nextreel import engine, models
    from nextreel.cases.store import Store
    from nextreel.scoring.sets import EvalSet
    from nextreel.two_stage import recommend, rerank

    settings = params.section("rank", rerank.Params)
    data, name = Path("data"), settings.model
    asked = EvalSet.load(data, params.seed)
    fitted = models.load(name, data / "models" / name)
    store, system = Store.load(data / "inputs" / name), data / "systems/two_stage"
    rerank.rerank(fitted, name, store, asked, data / "candidates.parquet", system)
    con = engine.connect(params.section("engine", engine.Params), params.threads, Path(".work"))
    recommend.recommend(con, data, settings.n_recommendations)


stage.run(main)
