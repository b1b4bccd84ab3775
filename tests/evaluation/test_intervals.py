import numpy as np
import pytest

from nextreel.evaluation.intervals import bootstrap_means, interval


def test_interval_of_a_mean_agrees_with_the_normal_one():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (2000, 1))
    low, high = interval(bootstrap_means(values, np.arange(2000), 1000, rng), 0.95)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert [low[0], high[0]] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.02)


def test_users_are_resampled_not_cases():
    """Ten equal cases a user say no more than one."""
    rng = np.random.default_rng(1)
    values, users = rng.normal(0, 1, 400), np.arange(400)
    one = bootstrap_means(values[:, None], users, 500, np.random.default_rng(2))
    ten = bootstrap_means(np.repeat(values, 10)[:, None], np.repeat(users, 10), 500, np.random.default_rng(2))
    assert one == pytest.approx(ten)


def test_columns_share_their_resamples():
    rng = np.random.default_rng(3)
    base = rng.normal(0, 1, 300)
    means = bootstrap_means(np.stack([base, base + 0.5], 1), np.arange(300), 200, rng)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.full(200, 0.5))
