"""Recommenders, one file each. A file declares `Params`, its section of params.yaml, and `Model`.

Adding one = its file and its section under `recall` (counting and factor models) or `train` (neural models).
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Protocol, Self

import numpy as np

from nextreel.cases import Cases
from nextreel.sequences import Histories


class Scorer(Protocol):
    """What answers cases."""

    def score(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> np.ndarray:
        """Scores of videos for cases with these histories; higher is better, -inf means no opinion.

        video_idx is [N], the same for all B cases, or [B, C], each case's own (0 = padding, any score).
        Returns float32 [B, N] or [B, C].
        """
        ...


class Model(Scorer, Protocol):
    """A scorer fitted on train. `fit` differs: neural models are told how to validate."""

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path) -> Self: ...


def exists(name: str) -> bool:
    """Whether there is a module for this name."""
    return name.isidentifier() and not name.startswith("_") and find_spec(f"nextreel.models.{name}") is not None


def module(name: str) -> ModuleType:
    """The module of a recommender: its `Params` and its `Model`."""
    return import_module(f"nextreel.models.{name}")
