"""In a simulated world, the best possible answers to the same questions; elsewhere an empty folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import files, labels, oracle
    from nextreel.cases.store import Store
    from nextreel.scoring.sets import EvalSet, ShownPairs

    data = Path("data")
    with files.replacing(data / "systems/oracle") as folder:
        folder.mkdir()
        if oracle.Oracle.knows(data):
            best = oracle.Oracle(data, params.section("label", labels.Params))
            asked, shown = EvalSet.load(data, params.seed), ShownPairs.load(data)
            oracle.write(best, Store.load(data / "inputs/oracle"), asked, shown, folder)


stage.run(main)
