"""What does it cost to rank targets in a catalogue of KuaiRand-27K's size? Against the bare product of the same run.

1,000 cases by 4.37 million videos by width 64, all vectors made up; every user has seen thousands. Side by side: the
product alone in fp32 in the best of several block sizes, the ranks as validation asks for them, and the first 100 of
every case by plain argpartition. Median seconds of some rounds, and the most memory held before the last of them.

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

from nextreel.cases.protocols import NO_TAB, Cases, Catalogue
from nextreel.cases.store import Events, Histories
from nextreel.scoring import sets
from nextreel.scoring.sets import Exam

WIDTH, SEEN, TOP = 64, 5000, 100
BLOCKS = (2048, 4096, 16384, 65536)


class Made:
    """A model of made-up vectors."""

    def __init__(self, n_cases: int, n_videos: int, rng: np.random.Generator) -> None:
        self.of_case = rng.standard_normal((n_cases + 1, WIDTH), dtype=np.float32)
        self.of_video = rng.standard_normal((n_videos + 1, WIDTH), dtype=np.float32)

    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        return self.of_case[cases.user_idx]

    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        return self.of_video[video_idx]

    def score(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> np.ndarray:
        return self.queries(cases, histories) @ self.vectors(video_idx).T


def made_exam(n_cases: int, n_videos: int, rng: np.random.Generator) -> Exam:
    """A case a user, of the part valid; every video is in its catalogue."""
    user = np.arange(1, n_cases + 1, dtype=np.int32)
    end = np.concatenate([[0, 0], np.full(n_cases, SEEN).cumsum()])
    video = rng.integers(1, n_videos + 1, n_cases * SEEN, dtype=np.int32)
    events = Events(end, end[:-1], end[1:], end[1:], video, np.arange(len(video)), np.ones(len(video), bool))
    cases = Cases(
        np.arange(n_cases), np.full(n_cases, "valid"), user, user.astype(np.int64), np.full(n_cases, NO_TAB, np.int16),
        np.full(n_cases, SEEN),
    )  # fmt: skip
    first_part = np.ones(n_videos + 1, np.int8)
    first_part[0] = 5
    target = rng.integers(1, n_videos + 1, n_cases, dtype=np.int32)
    return Exam(cases, user, events, Catalogue(first_part, np.arange(n_videos + 1)), target, seed=0)


def product(model: Made, block: int) -> None:
    queries, vectors = model.of_case[1:].T, model.of_video[1:]
    out = np.empty((block, queries.shape[1]), np.float32)
    for start in range(0, len(vectors), block):
        some = vectors[start : start + block]
        np.matmul(some, queries, out=out[: len(some)])


def top(model: Made, block: int) -> None:
    """The first TOP of each block and case, then of those: what a list costs, no seen video left out."""
    queries, vectors = model.of_case[1:], model.of_video[1:]
    best = np.full((len(queries), 0), 0, np.float32)
    for start in range(0, len(vectors), block):
        scores = np.hstack([best, queries @ vectors[start : start + block].T])
        best = np.partition(scores, scores.shape[1] - TOP, axis=1)[:, -TOP:]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    rounds, n_cases, n_videos = (
        int(given) for given in [*sys.argv[1:], *("3", "1000", "4370000")[len(sys.argv) - 1 :]]
    )
    rng = np.random.default_rng(0)
    model, asked = Made(n_cases, n_videos, rng), made_exam(n_cases, n_videos, rng)
    work: dict[str, Callable[[], object]] = {
        f"product, blocks of {block}": partial(product, model, block) for block in BLOCKS
    }
    work["ranks"] = lambda: sets.target_ranks(model, asked, "valid", "ranking")
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, one in work.items():
            taken[name].append(seconds(one))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    median = {name: statistics.median(values) for name, values in taken.items()}
    bare = min(value for name, value in median.items() if name != "ranks")
    for name, value in median.items():
        print(f"{name}: {value:.1f} s, {value / bare:.2f} times the best product")
    print(f"most memory: {memory:.2f} GB, of which the vectors of the videos {model.of_video.nbytes / 1e9:.2f}")
    for block in (8192, 65536):
        value = seconds(partial(top, model, block))
        print(f"first {TOP} by argpartition, blocks of {block}: {value:.1f} s")


main()
