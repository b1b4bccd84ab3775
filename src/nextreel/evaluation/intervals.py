"""Bootstrap intervals of means over cases. Users are resampled, not cases: a user's cases hang together."""

import numpy as np

# With a value. How fewer differ says little of how users do: resampled, they give intervals that are too narrow, and of
# one user an interval without width.
LEAST_USERS = 30


def enough_users(values: np.ndarray, user_idx: np.ndarray) -> np.ndarray:
    """Whether LEAST_USERS have a value, not NaN: values [n, m] of cases, user_idx [n] -> [m]."""
    _users, user = np.unique(user_idx, return_inverse=True)
    return np.array([np.count_nonzero(np.bincount(user[~np.isnan(x)])) >= LEAST_USERS for x in values.T], dtype=bool)


def bootstrap_means(
    values: np.ndarray,
    user_idx: np.ndarray,
    n_resamples: int,
    rng: np.random.Generator,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Means of values [n, m] over cases, in each of R resamples of users. user_idx [n] -> [R, m].

    weights [n] of the cases are 1 by default; a NaN is no part of its column's mean. Columns share their resamples, so
    the difference of two is a paired one.
    """
    _users, user = np.unique(user_idx, return_inverse=True)
    n_users = int(user.max(initial=-1)) + 1
    known = ~np.isnan(values)
    weight = known if weights is None else known * weights[:, None]
    total, count = (
        np.stack([np.bincount(user, weights=column, minlength=n_users) for column in columns.T], axis=1)
        for columns in (np.where(known, values, 0.0) * weight, weight)
    )  # [n_users, m] each
    means = np.empty((n_resamples, values.shape[1]))
    with np.errstate(invalid="ignore"):  # no user with a value was drawn
        for resample in range(n_resamples):
            times = np.bincount(rng.integers(0, n_users, n_users), minlength=n_users).astype(float)
            means[resample] = (times @ total) / (times @ count)
    return means


def bootstrap_auc(
    label: np.ndarray, score: np.ndarray, user_idx: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """The AUC over all rows [n] in each of R resamples of users -> [R]; ties count half."""
    _users, user = np.unique(user_idx, return_inverse=True)
    n_users = int(user.max(initial=-1)) + 1
    # Rows of a user with one score are counted together. All sums are of halves, so exact in any order.
    by_score = np.lexsort((user, score))
    user, ordered, positive = user[by_score], score[by_score], label[by_score].astype(float)
    cell = _starts(ordered, user)
    n_rows, positive = np.diff(cell, append=len(user)).astype(float), np.add.reduceat(positive, cell)
    user, tied = user[cell], _starts(ordered[cell])
    found = np.empty(n_resamples)
    with np.errstate(invalid="ignore"):  # a single class was drawn
        for resample in range(n_resamples):
            times = np.bincount(rng.integers(0, n_users, n_users), minlength=n_users)[user]
            positives = np.add.reduceat(times * positive, tied)
            negatives = np.add.reduceat(times * n_rows, tied) - positives
            below = negatives.cumsum() - negatives / 2
            found[resample] = (positives * below).sum() / (positives.sum() * negatives.sum())
    return found


def _starts(*columns: np.ndarray) -> np.ndarray:
    """Where a row [n] differs from the one before in any column."""
    new = np.ones(len(columns[0]), bool)
    new[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.flatnonzero(new)


def mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The means of values [n, m] as `bootstrap_means` takes them: [m], NaN where there is no value."""
    known = ~np.isnan(values)
    weight = known if weights is None else known * weights[:, None]
    with np.errstate(invalid="ignore"):
        return np.asarray((np.where(known, values, 0.0) * weight).sum(0) / weight.sum(0))


def interval(means: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper percentile bounds of resampled means [R, m] -> [m], [m]; NaN resamples are left out."""
    tail = (1 - confidence) / 2
    none = np.isnan(means).all(0)
    low, high = np.nanquantile(np.where(none, 0.0, means), [tail, 1 - tail], axis=0)
    return np.where(none, np.nan, low), np.where(none, np.nan, high)


def simultaneous_interval(means: np.ndarray, estimate: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that hold for all m estimates at once, from their resampled means [R, m] -> [m], [m].

    The bootstrap of the largest studentised deviation (Romano & Wolf, JASA 2005, single step): it corrects for the
    number of comparisons and knows how they hang together, which Bonferroni does not. NaN resamples are left out.
    """
    known = ~np.isnan(means).all(0)
    some, reach = means[:, known], np.full(len(estimate), np.nan)
    error = np.nanstd(some, axis=0)
    deviation = np.abs(some - np.nanmean(some, axis=0)) / np.where(error > 0, error, np.inf)
    largest = np.max(np.where(np.isnan(deviation), -np.inf, deviation), axis=1, initial=0.0)
    reach[known] = np.quantile(largest, confidence) * error
    return estimate - reach, estimate + reach
