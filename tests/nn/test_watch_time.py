"""Bins of watch time, and what is read off them, against values by hand."""

import numpy as np
import pytest

from nextreel.nn.watch_time import N_BINS, Quantiles

N = 100  # events of each duration


@pytest.fixture(scope="module")
def quantiles():
    """Two durations, 30 of each 100 events watched to their end; short ones are positive where watched longest."""
    ratio = np.concatenate([np.arange(1, N + 1) / N, np.arange(1, N + 1) / (2 * N)])
    ratio[70:N] = 1.0
    duration_ms = np.repeat([10_000.0, 60_000.0], N)
    positive = (np.arange(2 * N) >= 90) & (np.arange(2 * N) < N)
    return Quantiles.fit(duration_ms, ratio * duration_ms, {"positive": positive.astype(float), "wtr": ratio})


def certain(number, n=1):
    """All probability in a bin."""
    return np.tile(np.eye(N_BINS)[number], (n, 1))


def test_bins_are_equally_large_within_a_duration(quantiles):
    ratio = np.arange(1, N + 1) / (2 * N)
    found = quantiles.bin_of(np.full(N, 60_000.0), ratio * 60_000)
    assert found.dtype == np.float32
    assert np.bincount(found.astype(int), minlength=N_BINS).tolist() == [N // N_BINS] * N_BINS


def test_ties_share_a_bin(quantiles):
    """70 % of the short videos have ratios below .7; 30 % are watched to their end."""
    ratio = np.append(np.arange(1, 71) / N, np.ones(30))
    found = quantiles.bin_of(np.full(N, 10_000.0), ratio * 10_000).astype(int)
    counts = np.bincount(found, minlength=N_BINS)
    assert counts[:14].tolist() == [5] * 14
    assert counts[14:].tolist() == [30, 0, 0, 0, 0, 0]
    assert (quantiles.expected("complete", np.array([10_000.0]), certain(14)) == 1).all()
    assert (quantiles.expected("complete", np.array([10_000.0]), certain(13)) == 0).all()


def test_what_is_unknown_has_no_bin(quantiles):
    found = quantiles.bin_of(np.array([np.nan, 0.0, 10_000.0, 10_000.0]), np.array([5.0, 5.0, np.nan, 5_000.0]))
    assert np.isnan(found).tolist() == [True, True, True, False]


def test_a_duration_between_two_is_in_the_bucket_below(quantiles):
    between, below = (quantiles.bin_of(np.array([ms]), np.array([0.3 * ms])) for ms in (59_999.0, 10_000.0))
    assert between == below
    shorter = quantiles.bin_of(np.array([1_000.0]), np.array([300.0]))
    assert shorter == below  # than any


def test_the_median_lies_where_half_of_the_probability_is_below(quantiles):
    """Bin 3 of the long videos has the mean ratio .09, the fourth .115."""
    long = np.array([60_000.0])
    assert quantiles.median_ms(long, certain(3)) == pytest.approx(60_000 * 0.09)
    halves = (certain(3) + certain(4)) / 2  # a quarter below .09, three below .115
    assert quantiles.median_ms(long, halves) == pytest.approx(60_000 * (0.09 + 0.115) / 2)
    quarter = 0.25 * certain(3) + 0.75 * certain(4)  # an eighth below .09, five below .115
    assert quantiles.median_ms(long, quarter) == pytest.approx(60_000 * (0.09 + 0.75 * 0.025))
    assert np.isnan(quantiles.median_ms(np.array([np.nan]), certain(3)))


def test_a_watch_time_that_many_share_is_met(quantiles):
    short = np.array([10_000.0])
    assert quantiles.median_ms(short, certain(14)) == pytest.approx(10_000)  # watched to the end
    nearly = 0.98 * certain(14) + 0.02 * certain(0)
    assert quantiles.median_ms(short, nearly) == pytest.approx(10_000, rel=0.03)
    assert quantiles.median_ms(short, certain(0)) == pytest.approx(10_000 * 0.03)


def test_an_expectation_is_the_sum_of_the_bins_means(quantiles):
    short, share = np.array([10_000.0]), np.full((1, N_BINS), 1 / N_BINS)
    mixed = 0.5 * certain(0) + 0.5 * certain(14)
    assert quantiles.expected("wtr", short, mixed) == pytest.approx(0.5 * 0.03 + 0.5 * 1.0)
    assert quantiles.expected("positive", short, certain(14)) == pytest.approx(10 / 30)
    long = quantiles.expected("wtr", np.array([60_000.0]), share)
    assert long == pytest.approx(np.arange(1, N + 1).mean() / (2 * N))


def test_of_an_unknown_duration_all_are_asked(quantiles):
    """Bin 14 of the short videos is watched to the end by its 30, that of the long ones by none of its 5."""
    unknown = np.array([np.nan, 0.0])
    assert quantiles.expected("complete", unknown, certain(14, 2)) == pytest.approx([30 / 35] * 2)
    assert quantiles.expected("positive", unknown, certain(0, 2)) == pytest.approx([0.0] * 2)


def test_values_that_nobody_knows_have_the_mean_of_those_that_are():
    duration_ms, play_ms = np.full(40, 1_000.0), np.arange(40) * 10.0
    wtg = np.full(40, np.nan)
    wtg[:2] = 3.0, 5.0
    found = Quantiles.fit(duration_ms, play_ms, {"wtg": wtg})
    assert found.expected("wtg", np.array([1_000.0]), certain(0)) == pytest.approx(4.0)
    assert found.expected("wtg", np.array([1_000.0]), certain(9)) == pytest.approx(4.0)


def test_a_fit_without_watch_times_says_nothing():
    found = Quantiles.fit(np.array([np.nan, 1_000.0]), np.array([5.0, np.nan]), {"wtg": np.array([1.0, 1.0])})
    assert found.median_ms(np.array([1_000.0]), certain(0)) == 0
    assert found.expected("wtg", np.array([1_000.0]), certain(0)) == 0


def test_it_is_the_same_after_a_folder(quantiles, tmp_path):
    quantiles.save(tmp_path / "q")
    again = Quantiles.load(tmp_path / "q")
    for name in ("from_ms", "edges", "ratio"):
        np.testing.assert_array_equal(getattr(again, name), getattr(quantiles, name))
    assert list(again.means) == list(quantiles.means)
    for name, mean in quantiles.means.items():
        np.testing.assert_array_equal(again.means[name], mean)
