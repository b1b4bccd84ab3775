"""How the processor is used. Asked for before numpy and torch are imported: plain `dvc repro` never sees a Makefile.

How many threads share a sum decides how it is rounded, so `threads` of params.yaml holds for BLAS and OpenMP too, and
what the environment says of threads counts for nothing. A BLAS takes no more threads than there are cores.

Torch's bytes differ between processors, and training lets the difference grow until metrics move by some thousandths.
`native` takes every instruction there is: the same bytes on one machine. `portable` holds torch and what it loads to
instructions that x86 machines of all makers run alike: AVX2, and for MKL, which obeys no more than that on other
processors than Intel's, its compatible mode. The same bytes on all of them, at less than half the speed of training.

Threads that spin while they wait slow training several times on shared cores, so they sleep.
"""

import ctypes
import os
import sys

_NUMBERS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_EXACTLY = {"OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}  # as many threads as asked for, however busy the machine is
_ASLEEP = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
_OVERRULING = ("OMP_THREAD_LIMIT", "OMP_MAX_ACTIVE_LEVELS", "MKL_DOMAIN_NUM_THREADS")  # the numbers above
_PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "AVX2"}

# Of malloc.h; the largest threshold that glibc takes, bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _LARGEST, _KEPT = -1, -3, 1 << 25, 1 << 30


def limit_threads(threads: int) -> None:
    """Set the environment that BLAS and OpenMP read when they load.

    Raises RuntimeError if numpy or torch is loaded already, since the settings would then be ignored.
    """
    if not sys.modules.keys().isdisjoint({"numpy", "torch"}):
        raise RuntimeError("limit_threads() must run before numpy is imported")
    for name in _OVERRULING:
        os.environ.pop(name, None)
    os.environ |= {**dict.fromkeys(_NUMBERS, str(threads)), **_EXACTLY, **_ASLEEP}


def prepare(threads: int, cpu_isa: str) -> None:
    """`limit_threads`, and the instructions and determinism of torch, MKL and oneDNN, which this loads.

    Raises RuntimeError as `limit_threads` does.
    """
    limit_threads(threads)
    if cpu_isa == "portable":
        os.environ |= _PORTABLE
    _keep_freed_memory()
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # A check for reads of what nobody wrote, 4 to 9 % of a step; torch does not declare its type.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _keep_freed_memory() -> None:
    """Let glibc use freed blocks again. By default it hands those above 128 KiB back to the system, and every step of
    training pays for fetching them: a page fault for 4 KiB, tens of thousands a step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)
