"""Check the whole params.yaml and the input, before DVC deletes any output of a later stage."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import stage
from nextreel.params import Params


def main(params: Params) -> None:
    from nextreel import checking, files

    for change in checking.changes(params):
        print(change, flush=True)
    checking.check(params, Path(".work"))
    # The same bytes always: later stages wait for this file, and rerun only for their own parameters.
    files.write_json(Path("data/check.json"), {"params.yaml": "checked"})


stage.run(main)
