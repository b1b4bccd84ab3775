"""Metrics as ratios of sums over rows, and what each row adds to their error.

A metric here is sum(part) / sum(share) over its rows. A mean over groups, such as users, is one: its rows have shares
of their group's value. A row with share 0 is no part of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A value, and what each row [n] adds, to the first order, to its distance from the value of everyone and
    everything (the influence function; Hampel, JASA 1974): a user's rows add the sum of theirs `by_user`, a video's
    rows the sum `by_video`."""

    value: float
    by_user: np.ndarray
    by_video: np.ndarray
    known: np.ndarray  # bool: rows that are part of it

    def root(self) -> "Estimate":
        """Its square root (delta method)."""
        value = np.sqrt(self.value)
        slope = 1 / (2 * value) if value > 0 else 0.0
        return Estimate(float(value), self.by_user * slope, self.by_video * slope, self.known)


class Parts(NamedTuple):
    """The rows [n] of a ratio.

    pairs: it is a mean over pairs of rows, and a row's part is about all of its own. So each pair is told by both of
    its rows, and what happens to a row moves the ratio twice as much as its part says (Hajek's projection; for the AUC:
    DeLong et al., Biometrics 1988).
    """

    part: np.ndarray
    share: np.ndarray
    pairs: bool = False

    @classmethod
    def of(cls, values: np.ndarray) -> "Parts":
        """Of a mean of values [n]; NaN is no part of it."""
        known = ~np.isnan(values)
        return cls(np.where(known, values, 0.0), known.astype(float))

    def at(self, rows: np.ndarray, n: int) -> "Parts":
        """Of n rows, of which those at these places are a part."""
        part, share = np.zeros((2, n))
        part[rows], share[rows] = self.part, self.share
        return Parts(part, share, self.pairs)

    def by_group(self, group: np.ndarray, n_groups: int) -> np.ndarray:
        """The ratio over each group's rows [G]; NaN where it has none."""
        part, share = (np.bincount(group, x, n_groups) for x in (self.part, self.share))
        with np.errstate(invalid="ignore"):
            return np.asarray(part / share)

    def estimate(self, weight: np.ndarray | None = None, within_users: bool = False) -> Estimate:
        """The ratio over all rows, NaN where there are none. weight [n] of the rows, 1 by default.

        within_users: every pair is of rows of one user, which together tell it twice already.
        """
        part, share = (self.part, self.share) if weight is None else (self.part * weight, self.share * weight)
        total = share.sum()
        value = part.sum() / total if total > 0 else np.nan
        influence = (part - value * share) / total if total > 0 else np.zeros(len(part))
        by_video = 2 * influence if self.pairs else influence
        return Estimate(float(value), influence if within_users else by_video, by_video, share > 0)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of estimates from the same rows, such as those of several seeds."""
    if len(estimates) == 1:
        return estimates[0]
    value, by_user, by_video, known = zip(*estimates, strict=True)
    return Estimate(float(np.mean(value)), np.mean(by_user, 0), np.mean(by_video, 0), np.any(known, 0))
