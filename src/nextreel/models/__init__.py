"""Recommenders, one file each. A file declares `Params`, its section of params.yaml, and `Model`, see `contract`.

Adding one = its file and its section under `recall` (counting and factor models) or `train` (neural models).
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np

from nextreel.contract import Model
from nextreel.params import S, Section
from nextreel.parts import CUTS


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


def load(name: str, folder: Path) -> Mapping[str, Model]:
    """A saved recommender by the cut that it was fitted on."""
    return {cut: module(name).Model.load(folder / cut) for cut in CUTS if (folder / cut).exists()}
