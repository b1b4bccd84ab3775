"""Judging what models wrote: tables in, metrics out. No model is imported here."""

from typing import Annotated

import numpy as np
from pydantic import Field

from nextreel.params import Float, PositiveInt, Section

Columns = dict[str, np.ndarray]


class Params(Section):
    n_resamples: PositiveInt  # of users, for intervals
    confidence: Annotated[Float, Field(gt=0, lt=1)]
