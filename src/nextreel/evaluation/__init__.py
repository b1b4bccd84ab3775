"""Judging what models wrote: tables in, metrics out. No model is imported here."""

from typing import Annotated

from pydantic import Field

from nextreel.params import Float, Section


class Params(Section):
    confidence: Annotated[Float, Field(gt=0, lt=1)]
