"""Judge every model, the two-stage system and, in a simulated world, the oracle, from their tables alone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import evaluation, systems
    from nextreel.cases.store import Store
    from nextreel.evaluation import heads, impressions, lists, next_item, outputs, pool_size
    from nextreel.scoring.sets import EvalSet

    data = Path("data")
    settings = params.section("evaluate", evaluation.Params)
    asked, shown = EvalSet.load(data, params.seed), impressions.Impressions.load(data, params.seed)
    models = [name for family in ("recall", "train") for name in params.get(family)]
    tables = systems.tables(data, models)
    ranks = {name: next_item.load_ranks(path) for name, path in tables["ranks"].items()}
    scores = {name: shown.load_scores(path) for name, path in tables["scores"].items()}
    by_rank = next_item.NextItemResults(asked, ranks, settings)
    by_score = impressions.ImpressionResults(shown, scores, settings) if len(shown.case) else None
    listed = {name: lists.load_first(path, params.seed) for name, path in tables["lists"].items()}
    worth = lists.load_values(data)
    beyond = lists.table(asked, listed, worth, lists.Videos.of(Store.load(data / "store")), settings)
    by_pool = pool_size.table(data, by_rank, int(params.get("candidates.pool_size")))
    by_head = heads.table(data, shown, models, params.seed, settings)
    outputs.write(Path(), by_rank, by_score, beyond, by_pool, by_head)


stage.run(main)
