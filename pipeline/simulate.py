"""The default data: a made-up app's logs in KuaiRand's layout, with the truth beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime, stage
from nextreel.params import Params


def main(params: Params) -> None:
    runtime.limit_threads(params.threads)
    from nextreel import files
    from nextreel.simulation import generator

    with files.replacing(Path("data/raw/simulated")) as folder:
        generator.write(folder, params.section("simulate", generator.Params))


stage.run(main)
