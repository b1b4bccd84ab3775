"""What a video is worth to a case: how likely it is liked once shown, and how likely it is shown next.

    score = log-odds of P(positive | shown) + weight x r        r = log(1 + s / s_10)

The log-odds are the ranker's; one that gives none is calibrated on valid, by a logistic regression on its score (Platt,
1999). s is what another model holds to be shown next, and s_10 the tenth highest s of the case: r has no unit, so that
one weight holds across cases and fits. Far below the tenth r is about 0. Most of what users are shown lies there, and
how unlikely it was tells little of how it is liked. Of a video that a model does not know, the case's median stands for
the model's term.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Store
from nextreel.contract import Model, Scale
from nextreel.metrics.impressions import with_medians
from nextreel.parts import answering
from nextreel.scoring.retrieve import retrieve
from nextreel.scoring.sets import EvalSet

REFERENCE_RANK = 10  # the end of the list that a user sees first, as in NDCG@10
_PAIRS = 1 << 18  # scored at a time
PairsOf = Callable[[Store], Pairs]  # the same pairs to models that read different columns


class Fits(NamedTuple):
    """A model by the cut that it was fitted on, and the columns that it reads."""

    by_cut: Mapping[str, Model]
    store: Store

    def of(self, part: str) -> Model:
        """The fit that may answer a part."""
        return answering(part, self.by_cut)

    def score(self, part: str, pairs: PairsOf) -> np.ndarray:
        """float64 [m], NaN where there is no opinion."""
        model, mine = self.of(part), pairs(self.store)
        score = np.empty(len(mine))
        for start in range(0, len(mine), _PAIRS):
            some = slice(start, start + _PAIRS)
            score[some] = model.score(mine.where(some))
        return np.where(score == -np.inf, np.nan, score)


class Terms(NamedTuple):
    """Of m entries."""

    log_odds: np.ndarray  # [m]
    r: np.ndarray  # [m]

    def score(self, weight: float) -> np.ndarray:
        """float32 [m]."""
        return (self.log_odds + weight * self.r).astype(np.float32)


@dataclass(frozen=True)
class Blend:
    """The two models of a ranking stage."""

    ranker: Fits
    exposure: Fits
    slope: float = 1.0  # of the ranker's log-odds over its score
    intercept: float = 0.0

    def calibrated(self, shown: PairsOf, label: np.ndarray) -> "Blend":
        """With log-odds, whatever the ranker gives; as it is where the rows that it knows are not of both classes.

        shown: pairs of valid; label [m] bool.
        """
        if self.ranker.of("valid").scale == "log_odds":
            return self
        score = self.ranker.score("valid", shown)
        known = ~np.isnan(score)
        if len(np.unique(label[known])) < 2:
            return self
        fitted = LogisticRegression(C=np.inf).fit(score[known, None], label[known])
        return replace(self, slope=float(fitted.coef_[0, 0]), intercept=float(fitted.intercept_[0]))

    def references(self, part: str, asked: EvalSet) -> np.ndarray:
        """log s_10 of each of the part's cases [n], of the last one where fewer are listed; NaN where none is."""
        model, store = self.exposure.of(part), self.exposure.store
        case_id = asked.of(part).cases.case_id
        found = np.full(len(case_id), np.inf)
        for some in retrieve(model, store, asked, part, REFERENCE_RANK, "what is shown next"):
            log = _log(model.scale, some.listed["score"])
            row = np.searchsorted(case_id, some.listed["case_id"])
            np.minimum.at(found, row[log > -np.inf], log[log > -np.inf])
        return np.where(found == np.inf, np.nan, found)

    def terms(self, part: str, pairs: PairsOf, row: np.ndarray, reference: np.ndarray) -> Terms:
        """Of pairs of a part's cases. row [m]: of the case; reference [n] of all those cases, see `references`."""
        return self.blended(part, self.ranker.score(part, pairs), self.exposure.score(part, pairs), row, reference)

    def blended(
        self, part: str, score: np.ndarray, exposed: np.ndarray, row: np.ndarray, reference: np.ndarray
    ) -> Terms:
        """The terms of entries [m] from both models' scores, NaN where there is none."""
        log = _log(self.exposure.of(part).scale, exposed)
        r = np.full(len(row), np.nan)
        known = ~np.isnan(log - reference[row])
        r[known] = np.logaddexp(0.0, (log - reference[row])[known])
        by_case = (row, len(reference))
        return Terms(with_medians(self.slope * score + self.intercept, *by_case), with_medians(r, *by_case))


def _log(scale: Scale, score: np.ndarray) -> np.ndarray:
    """Scores as logs of shares, up to a constant."""
    if scale != "share":
        return score
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(score.astype(float)))
