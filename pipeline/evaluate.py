"""Judge every model, the two-stage system and, in a simulated world, the oracle, from their tables alone."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import answers, evaluation, labels
    from nextreel.evaluation import impressions, lists, next_item, oracle, outputs, two_stage
    from nextreel.exam import Exam

    data = Path("data")
    settings = params.section("evaluate", evaluation.Params)
    exam, shown = Exam.load(data, params.seed), impressions.Impressions.load(data, params.seed)
    models = [name for family in ("recall", "train") for name in params.get(family)]
    tables = {name: [data / kind / f"{name}.parquet" for kind in ("lists", "ranks")] for name in models}
    tables["two_stage"] = [data / "two_stage/lists.parquet", data / "two_stage/ranks.parquet"]
    scores = {name: shown.load_scores(data / "scores" / f"{name}.parquet") for name in models}
    if oracle.Oracle.knows(data):
        scratch = tempfile.TemporaryDirectory()  # goes when the stage ends: the oracle is judged, never fused
        tables["oracle"] = [Path(scratch.name) / "lists.parquet", Path(scratch.name) / "ranks.parquet"]
        best = oracle.Oracle(data, params.section("label", labels.Params))
        answers.write({"valid": best, "test": best}, "oracle", exam, *tables["oracle"])
        scores["oracle"] = {params.seed: shown.scored_by(best.positive_probability)}
    marks = next_item.Marks(exam, {name: next_item.load_ranks(ranks) for name, (_l, ranks) in tables.items()}, settings)
    judged = impressions.Judged(shown, scores, settings, params.seed) if len(shown.case) else None
    listed = {name: lists.load_first(path, params.seed) for name, (path, _ranks) in tables.items()}
    beyond = lists.table(exam, listed, lists.Videos.load(data, exam), settings)
    ranker = params.get("rank.model")
    by_pool = two_stage.table(data, exam, marks.on_test(ranker), int(params.get("candidates.pool_size")), settings)
    outputs.write(Path(), marks, judged, listed, beyond, by_pool, ranker)


stage.run(main)
