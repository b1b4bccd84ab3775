"""BPR-MF: matrix factorisation by Bayesian personalised ranking (Rendle et al., UAI 2009), trained by `implicit`.

    score(user, video) = user factors . video factors + video bias + log count(video)

`implicit` draws negatives from the positives of all users, so by popularity: what it learns is how far a video departs
from its popularity, which the last term gives back (the logQ correction of sampled losses).

Users are known by the key of their raw id, as they were in train: what they watch later changes nothing. A user without
a positive there, or of another log, has no factors and gets the rest.
"""

from pathlib import Path
from typing import Self

import numpy as np
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.recommender_base import ModelFitError
from scipy import sparse

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Histories
from nextreel.contract import Scale, Training, product_scores
from nextreel.errors import UserError
from nextreel.models import load_arrays, save_arrays
from nextreel.params import NonNegativeFloat, PositiveFloat, PositiveInt, Section


class Params(Section):
    factors: PositiveInt
    lr: PositiveFloat
    regularization: NonNegativeFloat
    iterations: PositiveInt  # passes over the positives
    threads: PositiveInt  # more than one, and no two runs are alike


class Model:
    """No opinion on videos without a positive in train."""

    scale: Scale = "log_share"

    def __init__(
        self, params: Params, user_key: np.ndarray, user_factors: np.ndarray, video_factors: np.ndarray
    ) -> None:
        self.params = params
        self.user_key = user_key  # [U] in order, of the users with a positive in train
        self.user_factors = user_factors  # [U + 1, F + 1] float32: 1 in the last column; the last row is any other's
        self.video_factors = video_factors  # [n_videos + 1, F + 1] float32; NaN without a positive in train

    @classmethod
    def columns(cls, params: Params) -> tuple[str, ...]:
        return ("events/positive", "users/user_key")

    @classmethod
    def fit(cls, params: Params, training: Training) -> Self:
        store = training.store
        position, owner = training.histories.positives()
        # Numbered without gaps, so that users and videos of later days do not change the random start of the others.
        users, row = np.unique(store.users("user_key")[owner], return_inverse=True)
        videos, column = np.unique(store.events("video_idx")[position], return_inverse=True)
        watched = sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), (len(users), len(videos)))
        learner = BayesianPersonalizedRanking(
            factors=params.factors,
            learning_rate=params.lr,
            regularization=params.regularization,
            iterations=params.iterations,
            num_threads=params.threads,
            random_state=training.rng,
        )
        try:
            learner.fit(watched, show_progress=False)
        except ModelFitError:
            raise UserError(f"bpr_mf: the factors diverge; lower `recall.bpr_mf.lr` ({params.lr:g})") from None
        width = params.factors + 1
        user_factors = np.zeros((len(users) + 1, width), np.float32)
        user_factors[:, -1] = 1
        user_factors[:-1] = learner.user_factors
        video_factors = np.full((store.n_videos + 1, width), np.nan, np.float32)
        video_factors[videos] = learner.item_factors
        video_factors[videos, -1] += np.log(np.bincount(column)).astype(np.float32)
        return cls(params, users, user_factors, video_factors)

    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        user_key = histories.store.users("user_key")[cases.user_idx]
        row = np.searchsorted(self.user_key, user_key)
        known = np.append(self.user_key, np.zeros_like(self.user_key, shape=1))[row] == user_key  # none behind all is 0
        return self.user_factors[np.where(known, row, len(self.user_key))]

    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        return self.video_factors[video_idx]

    def score(self, pairs: Pairs) -> np.ndarray:
        return product_scores(self, pairs)

    def save(self, folder: Path) -> None:
        arrays = {"user_key": self.user_key, "user_factors": self.user_factors, "video_factors": self.video_factors}
        save_arrays(folder, self.params, **arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        params, arrays = load_arrays(folder, Params)
        return cls(params, **arrays)
