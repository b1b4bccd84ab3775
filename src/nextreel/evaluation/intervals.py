"""Bootstrap intervals of means over cases. Users are resampled, not cases: a user's cases hang together."""

import numpy as np


def bootstrap_means(values: np.ndarray, user_idx: np.ndarray, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of values [n, m] over cases, in each of R resamples of users. user_idx [n] -> [R, m].

    Columns share their resamples, so the difference of two is a paired one.
    """
    _users, user = np.unique(user_idx, return_inverse=True)
    n_users = int(user.max(initial=-1)) + 1
    count = np.bincount(user, minlength=n_users).astype(float)
    total = np.stack([np.bincount(user, weights=column, minlength=n_users) for column in values.T], axis=1)
    means = np.empty((n_resamples, values.shape[1]))
    for resample in range(n_resamples):
        times = np.bincount(rng.integers(0, n_users, n_users), minlength=n_users).astype(float)
        means[resample] = times @ total / (times @ count)
    return means


def interval(means: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper percentile bounds of resampled means [R, m] -> [m], [m]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high
