"""Recommenders, one file each. A file declares `Params`, its section of params.yaml, and `Model`.

Adding one = its file and its section under `recall` (counting and factor models) or `train` (neural models).
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from nextreel.cases.protocols import Cases
from nextreel.cases.store import Histories
from nextreel.params import S, Section


class Scorer(Protocol):
    """What answers cases."""

    def score(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> np.ndarray:
        """Scores of videos for cases with these histories; higher is better, -inf means no opinion.

        video_idx is [N], the same for all B cases, or [B, C], each case's own (0 = padding, any score).
        Returns float32 [B, N] or [B, C].
        """
        ...


@runtime_checkable
class Factored(Scorer, Protocol):
    """A scorer whose scores are products, score = query . vector: targets are ranked without keeping them."""

    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        """The query of each case, float32 [B, D]."""
        ...

    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        """The vector of each video [N], float32 [N, D]; NaN where there is no opinion. Threads may ask at once."""
        ...


@runtime_checkable
class Bounded(Scorer, Protocol):
    """A scorer that tells cheaply how high a score may be: it is asked for those alone on which an answer may hang."""

    def bounds(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> np.ndarray:
        """What no score exceeds, float32 [B, N]; -inf where there can be no opinion."""
        ...


class Model(Scorer, Protocol):
    """A fitted scorer."""

    params: Any  # its section, as fitted: with the number of epochs that validation chose

    @classmethod
    def fit(cls, histories: Histories, n_videos: int, params: Any, rng: np.random.Generator, **validated: Any) -> Self:
        """Learn from each user's events (index = user_idx). Neural models also take a `validation`."""
        ...

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path) -> Self: ...


def save_arrays(folder: Path, params: Section, **arrays: np.ndarray) -> None:
    """Write a model that is no more than params and named arrays."""
    folder.mkdir()
    (folder / "params.json").write_text(params.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def load_arrays(folder: Path, owner: type[S]) -> tuple[S, dict[str, np.ndarray]]:
    """What `save_arrays` wrote."""
    params = owner.model_validate_json((folder / "params.json").read_text(encoding="utf-8"))
    return params, {path.stem: np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


def exists(name: str) -> bool:
    """Whether there is a module for this name."""
    return name.isidentifier() and not name.startswith("_") and find_spec(f"nextreel.models.{name}") is not None


def module(name: str) -> ModuleType:
    """The module of a recommender: its `Params` and its `Model`."""
    return import_module(f"nextreel.models.{name}")


def by_part(fitted: Mapping[str, Model]) -> dict[str, Model]:
    """Who answers which part: valid the model fitted on `train`, the rest the one on `train_valid` if there is one."""
    last = fitted.get("train_valid", fitted["train"])
    return {"valid": fitted["train"], "test": last, "next": last}


def load(name: str, folder: Path) -> dict[str, Model]:
    """A saved recommender for each part."""
    return by_part({path.name: module(name).Model.load(path) for path in sorted(folder.iterdir())})
