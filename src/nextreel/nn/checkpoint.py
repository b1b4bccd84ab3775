"""The state of a fit in one file, so that one that is killed goes on where it was: tensors, and the rest as JSON in the
header of the safetensors format."""

import hashlib
import json
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nextreel import files

Tensors = dict[str, Tensor]


class Checkpoint(NamedTuple):
    """Where a fit's state lies. A kill at any moment leaves the last one that was whole."""

    path: Path
    key: str  # of all that the fit's course hangs on, see `digest`

    def save(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """about: what JSON holds."""
        there = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        text = json.dumps(about)
        header = {"key": self.key, "about": text, "crc32": str(_checksum(there, text))}
        with files.replacing(self.path) as temporary:
            save_file(there, temporary, header)

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """What was saved last, None where nothing is of use. What another fit left is removed; so is a damaged file,
        which is told."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                header = file.metadata() or {}
                if header["key"] == self.key:
                    names = file.keys()
                    tensors = {name: file.get_tensor(name).clone() for name in names}
                    if header["crc32"] != str(_checksum(tensors, header["about"])):
                        raise ValueError("its checksum is another")
                    return tensors, json.loads(header["about"])
        except (SafetensorError, ValueError, KeyError) as damage:
            print(f"{self.path} is damaged ({damage}): this fit starts again", file=sys.stderr)
        self.path.unlink()
        return None


def _checksum(tensors: Mapping[str, Tensor], text: str) -> int:
    """Of names, bytes and text. It tells of a disk that fails, in half the time of a cryptographic hash."""
    found = zlib.crc32(text.encode())
    for name in sorted(tensors):
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, found)
    return found


def digest(about: object, inputs: Iterable[Path]) -> str:
    """A key of what is to be equal for a fit to go on with the same bytes: `about`, which is what JSON holds (params,
    names), the bytes of files and of those in folders, and this code and the libraries that it computes with."""
    versions = [np.__version__, torch.__version__, torch.backends.cpu.get_cpu_capability()]
    found = hashlib.sha256(json.dumps([about, versions], sort_keys=True).encode())
    loaded = {module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "nextreel"}
    code = [Path(file) for file in sorted(filter(None, loaded))]
    for path in [*code, *_files(inputs)]:
        with path.open("rb") as file:
            found.update(f"{path.name} {path.stat().st_size}\n".encode())
            while piece := file.read(1 << 20):
                found.update(piece)
    return found.hexdigest()


def _files(paths: Iterable[Path]) -> list[Path]:
    """Each file, and in its place those of each folder in order."""
    return [
        file
        for path in paths
        for file in (sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path])
    ]
