"""What a video is worth to a case: how likely it is liked once shown, and how likely it is shown next.

    score = log-odds of P(positive | shown) + weight x r        r = log(1 + s / s_10)

The log-odds are the ranker's, or the mean over several; one that gives none is calibrated on valid, by a logistic
regression on its score (Platt, 1999). s is what another model holds to be shown next, and s_10 the tenth highest s of
the case: r has no unit, so that one weight holds across cases and fits. Far below the tenth r is about 0. Most of what
users are shown lies there, and how unlikely it was tells little of how it is liked. Of a video that a model does not
know, the case's median stands for the model's term.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from sklearn.linear_model import LogisticRegression

from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Store
from nextreel.contract import Scale, Scorer
from nextreel.metrics.impressions import with_medians
from nextreel.parts import answering
from nextreel.scoring.retrieve import retrieve
from nextreel.scoring.sets import EvalSet

REFERENCE_RANK = 10  # the end of the list that a user sees first, as in NDCG@10
_PAIRS = 1 << 18  # scored at a time
PairsOf = Callable[[Store], Pairs]  # the same pairs to models that read different columns


class Fitted(Scorer, Protocol):
    """A scorer that says what its scores are: any model, and `trees`."""

    @property
    def scale(self) -> Scale: ...


class Fits(NamedTuple):
    """A scorer by the cut that it was fitted on, and the columns that it reads."""

    by_cut: Mapping[str, Fitted]
    store: Store

    def of(self, part: str) -> Fitted:
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


class Ranker(NamedTuple):
    """How likely a video is liked once shown: log-odds = slope x score + intercept."""

    fits: Fits
    slope: float = 1.0
    intercept: float = 0.0

    def calibrated(self, shown: PairsOf, label: np.ndarray) -> "Ranker":
        """With log-odds, whatever it gives; as it is where the rows that it knows are not of both classes.

        shown: pairs of valid; label [m] bool.
        """
        if self.fits.of("valid").scale == "log_odds":
            return self
        score = self.fits.score("valid", shown)
        known = ~np.isnan(score)
        if len(np.unique(label[known])) < 2:
            return self
        fitted = LogisticRegression(C=np.inf).fit(score[known, None], label[known])
        return Ranker(self.fits, float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


class Terms(NamedTuple):
    """Of m entries."""

    log_odds: np.ndarray  # [rankers, m]
    r: np.ndarray  # [m]

    def score(self, weight: float) -> np.ndarray:
        """float32 [m]."""
        return (self.log_odds.mean(axis=0) + weight * self.r).astype(np.float32)

    def where(self, keep: np.ndarray) -> "Terms":
        """Some of the entries, by mask or positions."""
        return Terms(self.log_odds[:, keep], self.r[keep])


@dataclass(frozen=True)
class Blend:
    """The models of a ranking stage."""

    rankers: Sequence[Ranker]  # `rank.model`, and `trees` if they stand beside it
    exposure: Fits

    def calibrated(self, shown: PairsOf, label: np.ndarray) -> "Blend":
        """Each ranker with log-odds, see `Ranker.calibrated`."""
        return replace(self, rankers=[ranker.calibrated(shown, label) for ranker in self.rankers])

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
        scores = [ranker.fits.score(part, pairs) for ranker in self.rankers]
        return self.blended(part, scores, self.exposure.score(part, pairs), row, reference)

    def blended(
        self, part: str, scores: Sequence[np.ndarray], exposed: np.ndarray, row: np.ndarray, reference: np.ndarray
    ) -> Terms:
        """The terms of entries [m] from all models' scores, of each ranker [m], NaN where there is none."""
        log = _log(self.exposure.of(part).scale, exposed)
        r = np.full(len(row), np.nan)
        known = ~np.isnan(log - reference[row])
        r[known] = np.logaddexp(0.0, (log - reference[row])[known])
        by_case = (row, len(reference))
        log_odds = [
            with_medians(ranker.slope * score + ranker.intercept, *by_case)
            for ranker, score in zip(self.rankers, scores, strict=True)
        ]
        return Terms(np.stack(log_odds), with_medians(r, *by_case))


def _log(scale: Scale, score: np.ndarray) -> np.ndarray:
    """Scores as logs of shares, up to a constant."""
    if scale != "share":
        return score
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(score.astype(float)))
