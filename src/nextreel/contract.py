"""What every model promises, and what it is handed to learn from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from scipy import sparse

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs, product
from nextreel.cases.store import Histories, Store

_PAIRS = 1 << 16  # whose vectors are held at a time


# What a model's scores are: log-odds of P(positive | shown); in proportion to how likely a video is shown next and
# liked; or the logs of such shares, up to a constant, as a softmax or BPR leaves them.
Scale = Literal["log_odds", "share", "log_share"]


class Scorer(Protocol):
    """What has an opinion on videos for cases."""

    def score(self, pairs: Pairs) -> np.ndarray:
        """The score of each pair, float32 [m]; higher is better, -inf means no opinion."""
        ...


@runtime_checkable
class Factored(Scorer, Protocol):
    """A scorer whose scores are products, score = query . vector; a Judge's products are its lists' alone."""

    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        """The query of each case with this history, float32 [B, D]."""
        ...

    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        """The vector of each video [N], float32 [N, D]; NaN where there is no opinion. Threads may ask at once."""
        ...


@runtime_checkable
class Sparse(Scorer, Protocol):
    """A scorer with an opinion on few videos a case."""

    def opinions(self, cases: Cases, histories: Histories) -> sparse.csr_array:
        """All of them, float32 [B, n_videos + 1] by video_idx; what is not stored is none."""
        ...


@runtime_checkable
class Judge(Scorer, Protocol):
    """A scorer of what comes of a showing. Its lists are by other numbers, those of what is shown next."""

    def predictions(self, pairs: Pairs) -> dict[str, np.ndarray]:
        """What it says of each pair, by name, float32 [m] each."""
        ...

    def read(self, said: Mapping[str, np.ndarray]) -> np.ndarray:
        """The scores [m] of pairs, from what `predictions` says of them."""
        ...

    def judged(self, pairs: Pairs, told: Mapping[str, np.ndarray]) -> Mapping[str, Mapping[str, float]]:
        """How well each of its heads says what came of pairs, by column of the store's events [m]: `loss`, and more."""
        ...


@runtime_checkable
class Running(Scorer, Protocol):
    """A scorer that reads a user's history once where the user is asked at many moments."""

    def running_score(self, pairs: Pairs) -> np.ndarray:
        """`score` [m] as far as one pass can tell: where a history is longer than the model looks back, fewer of its
        events may be read."""
        ...


@dataclass(frozen=True)
class Training:
    """What a model learns from."""

    histories: Histories  # each user's events, index = user_idx
    rng: np.random.Generator
    session: Any = None  # of a neural model: how it is watched and kept, see `nn.trainer.Session`

    @property
    def store(self) -> Store:
        return self.histories.store


class Model(Scorer, Protocol):
    """A fitted scorer, Factored or Sparse."""

    scale: Scale
    params: Any  # its section, as fitted: with the number of epochs that validation chose

    @classmethod
    def columns(cls, params: Any) -> Iterable[str]:
        """The columns of the store that it reads, as `events/positive`; `videos/tags?`: it can do without."""
        ...

    @classmethod
    def fit(cls, params: Any, training: Training) -> Self: ...

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path) -> Self: ...


def product_scores(model: Factored, pairs: Pairs) -> np.ndarray:
    """`score` of a factored model: each history is read once, and a pair has the same bytes wherever it stands.

    Raises ValueError where a query is not finite: a broken model must not pass for one without opinions.
    """
    cases, which = pairs.asked()
    queries = model.queries(cases, cases.histories(pairs.store))
    if not np.isfinite(queries).all():
        raise ValueError("a query is not finite")
    score = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _PAIRS):
        some = slice(start, start + _PAIRS)
        score[some] = product(queries[which[some]], model.vectors(pairs.video_idx[some]))
    return np.where(np.isnan(score), np.float32(-np.inf), score)
