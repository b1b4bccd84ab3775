"""What answers, besides the models, and where the answers lie."""

from collections.abc import Iterable
from pathlib import Path

# The pool in the order of its channels; the whole of recall and ranking; the same without a pool. Of what was shown:
# the ranker with the history up to each showing, the trees beside it, and the mean of both. In a simulated world the
# pool by the true P(positive | shown), what can be known without the hidden state, and what with it.
SYSTEMS = (
    *("pool", "two_stage", "exhaustive", "as_of", "trees", "ranker"),
    *("oracle_ranker", "oracle_laws", "oracle"),
)
CEILING = "oracle"  # what the name of a ceiling begins with; there are some only where the data are simulated


def tables(data: Path, models: Iterable[str]) -> dict[str, dict[str, Path]]:
    """lists, ranks and scores -> the table of each model and of each system that has one."""
    found = {kind: {name: data / kind / f"{name}.parquet" for name in models} for kind in ("lists", "ranks", "scores")}
    for system in SYSTEMS:
        for kind, paths in found.items():
            if (path := data / "systems" / system / f"{kind}.parquet").exists():
                paths[system] = path
    return found
