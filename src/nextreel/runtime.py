"""How the processor is used. Asked for before torch is imported: plain `dvc repro` never sees a Makefile.

Torch's bytes differ between processors, and training lets the difference grow until metrics move by some thousandths.
`portable` holds torch and what it loads to instructions that x86 machines of all makers run alike: AVX2, and for MKL,
which obeys no more than that on other processors than Intel's, its compatible mode. Training takes 1.4 times as long.

Threads that spin while they wait slow training several times on shared cores, so they sleep.
"""

import os
import sys

_PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def prepare(threads: int, cpu_isa: str) -> None:
    """Set the environment that torch, MKL, oneDNN and OpenMP read when they load.

    Raises RuntimeError if torch is loaded already, since the settings would then be ignored.
    """
    if "torch" in sys.modules:
        raise RuntimeError("prepare() must run before torch is imported")
    os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": str(threads)}
    if cpu_isa == "portable":
        os.environ |= _PORTABLE
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
