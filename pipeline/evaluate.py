"""Judge every model, the two-stage system and, in a simulated world, the oracle, from their tables alone."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import stage
from nextreel.params import Params


def main(params: Params) -> None:
    from nextreel import answers, engine, evaluation, files, labels
    from nextreel.evaluation import next_item, oracle
    from nextreel.exam import Exam

    data = Path("data")
    settings = params.section("evaluate", evaluation.Params)
    exam = Exam.load(data, params.seed)
    judged = {name: (data / "lists" / f"{name}.parquet", data / "ranks" / f"{name}.parquet")
              for family in ("recall", "train") for name in params.get(family)}  # fmt: skip
    judged["two_stage"] = (data / "two_stage/lists.parquet", data / "two_stage/ranks.parquet")
    if oracle.Oracle.knows(data):
        scratch = tempfile.TemporaryDirectory()  # goes when the stage ends: the oracle is judged, never fused
        judged["oracle"] = (Path(scratch.name) / "lists.parquet", Path(scratch.name) / "ranks.parquet")
        best = oracle.Oracle(data, params.section("label", labels.Params))
        answers.write({"valid": best, "test": best}, "oracle", exam, *judged["oracle"])
    marks = {name: engine.load(ranks) for name, (_lists, ranks) in judged.items()}
    with files.replacing(Path("metrics/models")) as folder:
        for name, (lists, _ranks) in judged.items():
            top = engine.load(lists, [("rank", "<=", 10)])
            files.write_json(folder / f"{name}.json", next_item.summary(exam, marks[name], top))
    next_item.write_per_user(exam, marks, data / "per_user.parquet")
    comparison = next_item.compare(exam, marks, settings)
    files.write_csv(Path("metrics/comparison.csv"), comparison)
    files.write_csv(Path("plots/models.csv"), next_item.chart(comparison))


stage.run(main)
