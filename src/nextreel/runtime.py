"""How the processor is used. Asked for before torch is imported: plain `dvc repro` never sees a Makefile.

Torch's bytes differ between AVX512 and AVX2 processors; holding every library to AVX2 makes x86 machines agree.
Threads that spin while they wait slow training several times on shared cores, so they sleep.
"""

import os
import sys

_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def prepare(threads: int, cpu_isa: str) -> None:
    """Set the environment that torch, MKL, oneDNN and OpenMP read when they load.

    Raises RuntimeError if torch is loaded already, since the settings would then be ignored.
    """
    if "torch" in sys.modules:
        raise RuntimeError("prepare() must run before torch is imported")
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": str(threads)}
    if cpu_isa == "avx2":
        os.environ |= _AVX2
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
