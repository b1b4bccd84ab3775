"""What a score means: from scores of any scale to probabilities and watch-time ratios, fitted on valid."""

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

from nextreel.metrics import impressions as metrics

N_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Isotonic regressions of label and WTR on the score (Zadrozny & Elkan, KDD 2002), and the threshold that is best
    on the same rows."""

    label: IsotonicRegression
    wtr: IsotonicRegression | None  # None where no WTR is known
    threshold: float  # of the probability: the best F1

    @classmethod
    def fit(cls, label: np.ndarray, wtr: np.ndarray, score: np.ndarray) -> "Calibration":
        """label [n] bool; wtr [n], NaN where unknown; score [n]."""
        x = score.astype(float)
        known = ~np.isnan(wtr)
        by_label = IsotonicRegression(out_of_bounds="clip").fit(x, label.astype(float))
        by_wtr = IsotonicRegression(out_of_bounds="clip").fit(x[known], wtr[known]) if known.any() else None
        return cls(by_label, by_wtr, metrics.best_threshold(label, by_label.predict(x)))

    def probability(self, score: np.ndarray) -> np.ndarray:
        """P(label) [n]."""
        return np.asarray(self.label.predict(score.astype(float)))

    def watch_ratio(self, score: np.ndarray) -> np.ndarray:
        """Expected WTR [n], NaN where none is known."""
        if self.wtr is None:
            return np.full(len(score), np.nan)
        return np.asarray(self.wtr.predict(score.astype(float)))
