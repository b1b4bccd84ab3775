"""The ranker orders the pool: the two-stage system's lists and ranks, and recommendations for every user."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.prepare(params.threads, params.cpu_isa)
    from nextreel import answers, engine, models
    from nextreel.exam import Exam

    settings = params.section("rank", answers.Params)
    exam = Exam.load(Path("data"), params.seed)
    fitted = models.load(settings.model, Path("data/models") / settings.model)
    lists, ranks = Path("data/two_stage/lists.parquet"), Path("data/two_stage/ranks.parquet")
    answers.rerank(fitted, settings.model, exam, Path("data/candidates.parquet"), lists, ranks)
    con = engine.connect(params.section("engine", engine.Params), params.threads, Path(".work"))
    answers.recommend(con, Path("data"), settings.n_recommendations)


stage.run(main)
