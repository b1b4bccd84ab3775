"""Judging what models wrote: tables in, metrics out. No model is imported here."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from nextreel.params import Float, Section


class Params(Section):
    confidence: Annotated[Float, Field(gt=0, lt=1)]


def tables(data: Path, models: Iterable[str]) -> dict[str, dict[str, Path]]:
    """lists, ranks and scores -> the table of each model, of the two-stage system and, where there is one, the oracle.
    A system that scores no impressions has no table of them."""
    found = {kind: {name: data / kind / f"{name}.parquet" for name in models} for kind in ("lists", "ranks", "scores")}
    for system in ("two_stage", "oracle"):
        for kind, paths in found.items():
            if (path := data / "systems" / system / f"{kind}.parquet").exists():
                paths[system] = path
    return found
