"""What frozen histories hide from the ranker: its scores of what was shown, each as of its own moment.

The model is the one that answers the part; the user's history runs on to each showing, and so do the gap since the last
event and the place. Rows that share a time do not see each other.
"""

from pathlib import Path

import numpy as np

from nextreel import arrays, files
from nextreel.cases.pairs import Pairs
from nextreel.contract import Running
from nextreel.progress import track
from nextreel.scoring.answers import score_columns
from nextreel.scoring.sets import ShownPairs
from nextreel.two_stage.blend import Fits

_PAIRS = 1 << 18  # scored at a time


def possible(ranker: Fits) -> bool:
    """Whether the ranker reads a history once for all the moments at which its user is asked."""
    return isinstance(ranker.of("valid"), Running)


def write(ranker: Fits, shown: ShownPairs, seed: int, system: Path) -> None:
    """Write scores.parquet, of every row of impressions.parquet, into a new folder `system`; nothing where that is not
    possible."""
    with files.replacing(system) as folder:
        folder.mkdir()
        if possible(ranker):
            _score(ranker, shown.as_of(ranker.store), seed, folder / "scores.parquet")


def _score(ranker: Fits, pairs: Pairs, seed: int, path: Path) -> None:
    with arrays.Writer(path) as scores:
        scores.add(score_columns(seed, np.zeros(0, np.int64), np.zeros(0, np.float32)))
        for part in ("valid", "test"):
            model, asked = ranker.of(part), np.flatnonzero(pairs.cases.part == part)
            assert isinstance(model, Running)
            for start in track(range(0, len(asked), _PAIRS), f"impressions of {part}, as of each"):
                some = asked[start : start + _PAIRS]
                scores.add(score_columns(seed, some, model.running_score(pairs.where(some))))
