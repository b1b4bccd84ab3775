"""A video's watch time as a share of bins: the quantiles of watch time / duration among showings of about its length.

Videos are grouped by duration into equally large buckets of the fit's events, and each bucket's ratios into N_BINS
equally large bins, as far as ties allow (D2Q; Zhan et al., KDD 2022, who regress on the quantile). A model says how
likely each bin is; everything else is read off that:

    the median      where half of the probability lies below, half of a bin's own below its mean, in straight lines
    an expectation  the sum over bins of its probability x the mean of the value there: of WTR, of WTG, of whether the
                    video is watched to its end, of whether it is a positive
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

N_BUCKETS = 30  # of duration
N_BINS = 20  # of the ratio
COMPLETE = "complete"  # watched to its end: the ratio is 1 or more


@dataclass(frozen=True)
class Quantiles:
    """Of a fit's events, B buckets."""

    from_ms: np.ndarray  # [B] the shortest duration of each
    edges: np.ndarray  # [B, N_BINS - 1] of the ratio; a ratio equal to an edge lies below it
    ratio: np.ndarray  # [B, N_BINS] its mean
    means: Mapping[str, np.ndarray]  # [B + 1, N_BINS] of each value, COMPLETE among them; last, of all buckets together

    @classmethod
    def fit(cls, duration_ms: np.ndarray, play_ms: np.ndarray, values: Mapping[str, np.ndarray]) -> Self:
        """From events [E]; NaN where something is unknown. Without an event there is one bucket, and all is 0."""
        known = np.flatnonzero((duration_ms > 0) & ~np.isnan(play_ms))
        duration_ms, ratio = duration_ms[known], play_ms[known] / duration_ms[known]
        values = {name: value[known] for name, value in values.items()} | {COMPLETE: (ratio >= 1).astype(float)}
        if not len(known):
            none = np.zeros((2, N_BINS))
            return cls(np.zeros(1), none[:1, 1:], none[:1], dict.fromkeys(values, none))
        shares = np.arange(N_BUCKETS) / N_BUCKETS
        from_ms = np.unique(np.quantile(duration_ms, shares, method="lower"))
        bucket = _bucket(from_ms, duration_ms)
        within = [ratio[bucket == each] for each in range(len(from_ms))]
        inner = np.arange(1, N_BINS) / N_BINS
        edges = np.stack([np.quantile(some, inner, method="lower") for some in within])
        cell = bucket * N_BINS + _bin(edges, bucket, ratio)
        begins = np.concatenate([edges[:, :1], edges], axis=1)
        means = {name: _with_all(cell, value, len(from_ms)) for name, value in values.items()}
        return cls(from_ms, edges, _cell_means(cell, ratio, begins), means)

    def bin_of(self, duration_ms: np.ndarray, play_ms: np.ndarray) -> np.ndarray:
        """The bin [m] of each watch time, float32, NaN where that or the duration is unknown."""
        found = np.full(len(duration_ms), np.nan, np.float32)
        known = np.flatnonzero((duration_ms > 0) & ~np.isnan(play_ms))
        bucket = _bucket(self.from_ms, duration_ms[known])
        found[known] = _bin(self.edges, bucket, play_ms[known] / duration_ms[known])
        return found

    def median_ms(self, duration_ms: np.ndarray, share: np.ndarray) -> np.ndarray:
        """The median watch time [m], from the share of each bin [m, N_BINS]; NaN of an unknown duration."""
        bucket, row = _bucket(self.from_ms, duration_ms), np.arange(len(duration_ms))
        below = share.cumsum(1) - share / 2  # the mean of each bin
        at = (below < 0.5).sum(1).clip(max=N_BINS - 1)
        before = np.maximum(at - 1, 0)
        step = np.where(at > before, below[row, at] - below[row, before], 1.0)
        part = ((0.5 - below[row, before]) / step).clip(0, 1)
        ratio = (1 - part) * self.ratio[bucket, before] + part * self.ratio[bucket, at]
        return np.where(duration_ms > 0, ratio * duration_ms, np.nan)

    def expected(self, name: str, duration_ms: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Of a value [m], from the share of each bin [m, N_BINS]; of an unknown duration as of all buckets together."""
        bucket = np.where(duration_ms > 0, _bucket(self.from_ms, duration_ms), len(self.from_ms))
        means = self.means[name][bucket]
        return np.asarray(np.einsum("mk,mk->m", means, share))

    def save(self, folder: Path) -> None:
        """Write it into a new folder."""
        folder.mkdir()
        (folder / "means.json").write_text(json.dumps(list(self.means)) + "\n", encoding="utf-8")
        arrays = {"from_ms": self.from_ms, "edges": self.edges, "ratio": self.ratio}
        for name, array in (arrays | {f"mean.{name}": mean for name, mean in self.means.items()}).items():
            np.save(folder / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> Self:
        def array(name: str) -> np.ndarray:
            return np.asarray(np.load(folder / f"{name}.npy", allow_pickle=False))

        names = json.loads((folder / "means.json").read_text(encoding="utf-8"))
        means = {name: array(f"mean.{name}") for name in names}
        return cls(array("from_ms"), array("edges"), array("ratio"), means)


def _bucket(from_ms: np.ndarray, duration_ms: np.ndarray) -> np.ndarray:
    """[m]; a duration that is shorter than all is in the first."""
    return np.searchsorted(from_ms, np.nan_to_num(duration_ms), side="right").clip(min=1) - 1


def _bin(edges: np.ndarray, bucket: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """[m]"""
    found = np.empty(len(ratio), np.int64)
    order = np.argsort(bucket, kind="stable")
    ends = np.searchsorted(bucket[order], np.arange(len(edges) + 1))
    for each, inner in enumerate(edges):
        mine = order[ends[each] : ends[each + 1]]
        found[mine] = np.searchsorted(inner, ratio[mine], side="left")
    return found


def _cell_means(cell: np.ndarray, value: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Of a value [e], NaN where unknown, by cell: [B, N_BINS]; what stands in `otherwise` where none is known."""
    known, n = ~np.isnan(value), otherwise.size
    count, total = np.bincount(cell[known], minlength=n), np.bincount(cell[known], value[known], n)
    return np.where(count > 0, total / np.maximum(count, 1), otherwise.ravel()).reshape(otherwise.shape)


def _with_all(cell: np.ndarray, value: np.ndarray, n_buckets: int) -> np.ndarray:
    """The means of a value by cell, and below them those of all buckets together: [B + 1, N_BINS]."""
    known = value[~np.isnan(value)]
    overall = np.full((1, N_BINS), known.mean() if len(known) else 0.0)
    together = _cell_means(cell % N_BINS, value, overall)
    return np.concatenate([_cell_means(cell, value, np.repeat(overall, n_buckets, axis=0)), together])
