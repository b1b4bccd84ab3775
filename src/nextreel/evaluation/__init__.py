"""Judging what models wrote: tables in, metrics out. No model is imported here."""

from typing import Annotated

from pydantic import Field

from nextreel.params import Float, PositiveInt, Section


class Params(Section):
    n_resamples: PositiveInt  # of users, for intervals
    confidence: Annotated[Float, Field(gt=0, lt=1)]
