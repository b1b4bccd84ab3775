"""What do ranks and lists over a catalogue of KuaiRand-27K's size cost? Against the bare product of the same run.

1,000 cases by 4.37 million videos by width 64, all vectors made up; every user has seen thousands. Side by side, with
two threads: the product alone in fp32 in the best of several block sizes; the ranks as validation asks for them; ranks
and the first 500 of every case; and, as peers that leave out no seen video, the first 500 by argpartition of blocks and
by implicit. Median seconds of some rounds, the spread, and the most memory held before the peers begin.

    python benchmarks/ranks.py [ROUNDS [CASES [VIDEOS]]]
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
import numpy as np
from implicit.cpu.topk import topk
from threadpoolctl import threadpool_limits

from nextreel.scoring import order, products

WIDTH, SEEN, TOP, THREADS = 64, 5000, 500, 2
BLOCKS = (2048, 4096, 16384, 65536)


def product(queries: np.ndarray, vectors: np.ndarray, block: int) -> None:
    out = np.empty((block, len(queries)), np.float32)
    for start in range(0, len(vectors), block):
        some = vectors[start : start + block]
        np.matmul(some, queries.T, out=out[: len(some)])


def search(
    queries: np.ndarray, vectors: np.ndarray, target: np.ndarray, seen: tuple[np.ndarray, np.ndarray], k: int
) -> None:
    def tie(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return order.tie_hash(row.astype(np.uint64), column)

    products.search(queries, lambda columns: vectors[columns], len(vectors), target, seen, tie, k)


def partitioned(queries: np.ndarray, vectors: np.ndarray, block: int) -> None:
    """The first of each block and of those before it."""
    score = np.zeros((len(queries), 0), np.float32)
    column = np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(vectors), block):
        some = queries @ vectors[start : start + block].T
        score = np.hstack([score, some])
        column = np.hstack([column, np.broadcast_to(start + np.arange(some.shape[1]), some.shape)])
        best = np.argpartition(score, score.shape[1] - TOP, axis=1)[:, -TOP:]
        score, column = np.take_along_axis(score, best, 1), np.take_along_axis(column, best, 1)


def main() -> None:
    rounds, n_cases, n_videos = (
        int(given) for given in [*sys.argv[1:], *("3", "1000", "4370000")[len(sys.argv) - 1 :]]
    )
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((n_cases, WIDTH), dtype=np.float32)
    vectors = rng.standard_normal((n_videos, WIDTH), dtype=np.float32)
    target = rng.integers(0, n_videos, n_cases)
    seen = np.repeat(np.arange(n_cases), SEEN), rng.integers(0, n_videos, n_cases * SEEN)
    products_alone = {f"product, blocks of {block}": partial(product, queries, vectors, block) for block in BLOCKS}
    work: dict[str, Callable[[], object]] = {
        **products_alone,
        "ranks": partial(search, queries, vectors, target, seen, 0),
        f"ranks and first {TOP}": partial(search, queries, vectors, target, seen, TOP),
    }
    peers: dict[str, Callable[[], object]] = {
        f"first {TOP}, argpartition of blocks of 8192": partial(partitioned, queries, vectors, 8192),
        f"first {TOP}, implicit": lambda: topk(vectors, queries, TOP, num_threads=THREADS),
    }
    with threadpool_limits(THREADS):
        taken = measured(work, rounds)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        taken |= measured(peers, rounds)
    median = {name: statistics.median(values) for name, values in taken.items()}
    bare = min(median[name] for name in products_alone)
    for name, values in taken.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{name}: {median[name]:.2f} s ({spread}), {median[name] / bare:.2f} times the best product")
    print(f"most memory before the peers: {memory:.2f} GB; the vectors of the videos are {vectors.nbytes / 1e9:.2f}")


def measured(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round; all work takes turns."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, one in work.items():
            start = time.perf_counter()
            one()
            taken[name].append(time.perf_counter() - start)
    return taken


main()
