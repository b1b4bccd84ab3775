"""The ranker orders the pool: the two-stage system's lists and ranks, and recommendations for every user."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import stage
from nextreel.params import Params


def main(params: Params) -> None:
    from nextreel import runtime

    runtime.prepare(params.threads, params.cpu_isa)
    from nextreel import engine, models
    from nextreel.scoring.sets import Exam
    from nextreel.two_stage import recommend, rerank

    settings = params.section("rank", rerank.Params)
    exam = Exam.load(Path("data"), params.seed)
    fitted = models.load(settings.model, Path("data/models") / settings.model)
    lists, ranks = Path("data/two_stage/lists.parquet"), Path("data/two_stage/ranks.parquet")
    rerank.rerank(fitted, settings.model, exam, Path("data/candidates.parquet"), lists, ranks)
    con = engine.connect(params.section("engine", engine.Params), params.threads)
    recommend.recommend(con, Path("data"), settings.n_recommendations)


stage.run(main)
