"""Where a network is trained, and how its batches come there."""

import os
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from nextreel.errors import UserError

Name = Literal["cpu", "cuda"]
T = TypeVar("T")


def choose(name: Name) -> torch.device:
    """Raises UserError where the device is not at hand."""
    if name == "cuda" and not torch.cuda.is_available():
        why = "finds none" if torch.version.cuda else f"{torch.__version__} was built without CUDA"
        raise UserError(
            f"`model.device` is 'cuda', which needs an NVIDIA GPU, but torch {why}; set it to cpu, or install the"
            " driver and a torch that was built with CUDA"
        )
    # Else cuBLAS refuses to be deterministic; read when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device(name)


def moved(x: T, device: torch.device) -> T:
    """Tensors, and those in tuples and dicts, on a device; everything else as it is. What lies there is not copied."""
    found: Any = x
    if isinstance(x, Tensor):
        found = x.to(device)
    elif isinstance(x, dict):
        found = {key: moved(value, device) for key, value in x.items()}
    elif isinstance(x, tuple):
        values = [moved(value, device) for value in x]
        found = type(x)(*values) if hasattr(x, "_fields") else type(x)(values)
    return found
