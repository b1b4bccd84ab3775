import numpy as np
import pytest

from nextreel.answers import Exam
from nextreel.cases import Log, build


def make_exam(sequences, n_train, n_valid, positive=None):
    """An exam on users' sequences of videos: the first n_train events of each are train, n_valid valid, the rest test.

    positive: an array like `sequences`, all True by default.
    """
    sequences = np.asarray(sequences)
    n_users, length = sequences.shape
    positive = np.ones(sequences.shape, bool) if positive is None else positive
    user_idx = np.repeat(np.arange(1, n_users + 1, dtype=np.int32), length)
    time_ms = np.tile(np.arange(length) * 1000, n_users)
    part = np.tile(np.repeat([0, 1, 2], [n_train, n_valid, length - n_train - n_valid]), n_users).astype(np.int8)
    tab = np.zeros(len(user_idx), np.int16)
    log = Log(user_idx, sequences.ravel().astype(np.int32), time_ms, tab, positive.ravel(), part)
    nobody = Log(*(column[:0] for column in (user_idx, user_idx, time_ms, tab, positive.ravel(), part)))
    questions = build(log, nobody, n_users + 1)  # the last user has no event
    first = questions.cases.where(questions.protocol == "first")
    target = np.zeros(len(first), np.int32)
    target[questions.target_case_id] = questions.target_video_idx
    return Exam(first, log.events(n_users + 1), log.catalogue(), target, seed=42)


@pytest.fixture(scope="session")
def cycle():
    """Users walk round a circle of 60 videos from anywhere: only order tells what comes next."""
    start = np.random.default_rng(0).integers(0, 60, 300)
    return make_exam(1 + (start[:, None] + np.arange(24)) % 60, n_train=20, n_valid=2)


@pytest.fixture(scope="session")
def blocks():
    """Checkerboard: each user draws from one of two halves of 80 videos, without order or repeats."""
    rng = np.random.default_rng(1)
    return make_exam(
        np.array([1 + 40 * (user % 2) + rng.permutation(40)[:26] for user in range(240)]), n_train=22, n_valid=2
    )
