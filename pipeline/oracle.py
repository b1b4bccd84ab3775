"""In a simulated world, the best possible answers and the true worth of every system's lists; elsewhere nothing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import labels
    from nextreel.oracle import answers

    models = [name for family in ("recall", "train") for name in params.get(family)]
    answers.write_systems(Path("data"), params.section("label", labels.Params), models, params.seed)


stage.run(main)
