"""What `runtime` makes of the processor, seen in processes of their own: libraries read their settings once."""

import json
import os
import platform
import subprocess
import sys

import pytest

CORES = len(os.sched_getaffinity(0))
HOSTILE = {
    **{"OMP_DYNAMIC": "true", "OMP_NUM_THREADS": "7", "OPENBLAS_NUM_THREADS": "7", "MKL_NUM_THREADS": "7"},
    **{"MKL_DYNAMIC": "TRUE", "MKL_DOMAIN_NUM_THREADS": "7", "OMP_MAX_ACTIVE_LEVELS": "0"},
}
FEWER = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1", "OMP_DYNAMIC": "true"}
PRINTED = """
found = {}
for pool in threadpoolctl.threadpool_info():
    found.setdefault(pool["user_api"], set()).add(pool["num_threads"])
print(json.dumps({kind: sorted(numbers) for kind, numbers in found.items()}))
"""


@pytest.fixture
def pools(root):
    """Threads that the libraries of a process use, after some code, in an environment of someone else's making."""

    def run(code, environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "OPENBLAS_"))}
        done = subprocess.run(
            [sys.executable, "-c", f"import json, threadpoolctl\nfrom nextreel import runtime\n{code}\n{PRINTED}"],
            env=kept | environment | {"PYTHONPATH": str(root / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("threads", sorted({1, min(2, CORES)}))
@pytest.mark.parametrize("environment", [{}, HOSTILE, FEWER], ids=["own", "more", "fewer"])
def test_numpy_takes_the_threads_of_params_whatever_the_environment(pools, threads, environment):
    assert pools(f"runtime.limit_threads({threads}); import numpy", environment)["blas"] == [threads]


@pytest.mark.parametrize("environment", [HOSTILE, FEWER], ids=["more", "fewer"])
def test_torch_takes_the_threads_of_params_whatever_the_environment(pools, environment):
    code = """
runtime.prepare(2, "portable")
import ctypes, torch
assert torch.get_num_threads() == 2
openmp = ctypes.CDLL(next(pool["filepath"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "openmp"))
assert not openmp.omp_get_dynamic()
assert openmp.omp_get_thread_limit() > 2
assert openmp.omp_get_max_active_levels() > 0
"""
    assert pools(code, environment)["openmp"] == [2]


@pytest.mark.parametrize(("loaded", "code"), [("numpy", "limit_threads(1)"), ("torch", "prepare(1, 'native')")])
def test_a_call_that_comes_too_late_is_refused(root, loaded, code):
    done = subprocess.run(
        [sys.executable, "-c", f"import {loaded}\nfrom nextreel import runtime\nruntime.{code}"],
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RuntimeError: limit_threads() must run before numpy is imported" in done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no thresholds")
def test_freed_memory_is_used_again_without_page_faults(pools):
    pools(
        """
runtime.prepare(1, "native")
import resource, torch
def faults():
    torch.ones(1 << 21).add(1)  # two blocks of 8 MiB: 4,096 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = [faults() for _ in range(30)]
assert counts[-1] - counts[9] < 4096  # at first the heap grows
""",
        {},
    )
