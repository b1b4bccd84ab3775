"""Trees beside the ranker: gradient-boosted, on what counting says of a showing.

LightGBM (Ke et al., NIPS 2017) on the inputs of `nn.wide`, which hold nothing of an event's own day. All events teach
that are known to be positive or not. `binary` is the log-loss: scores are log-odds. `lambdarank` (Burges, 2010)
orders what one user was shown on one day (UTC+8): scores compare videos for one user, as the logs of shares do.

Nothing is saved: they are grown where they are asked.
"""

from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self

import numpy as np

from nextreel.cases.pairs import Pairs
from nextreel.cases.store import START, UNKNOWN, Store
from nextreel.contract import Scale, Training
from nextreel.errors import UserError
from nextreel.nn import inputs
from nextreel.nn.wide import Wide
from nextreel.progress import track
from nextreel.two_stage.blend import Fits

Objective = Literal["binary", "lambdarank"]
# From a trial of rankers on KuaiRand-Pure. On valid of its slice 150 and 200 trees were ahead of 300 by .003 GAUC, in
# the default world behind by .002 and .001 (three seeds each).
N_TREES = 300
RECIPE = {
    "learning_rate": 0.03,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.4,
    "lambda_l2": 10.0,
}
# A positive is worth 1. Pairs count of which one is among the first 30: most of what a user is shown on a day.
ORDERING = {"label_gain": [0, 1], "lambdarank_truncation_level": 30}
MOST_IN_A_GROUP = 10_000  # LightGBM refuses larger ones


class Trees:
    """A Scorer with a scale: grown trees, and the counts that their inputs are made of."""

    def __init__(self, scale: Scale, wide: Wide, booster: Any, threads: int) -> None:
        self.scale = scale
        self.wide = wide
        self.booster = booster
        self.threads = threads

    @classmethod
    def fit(cls, objective: Objective, training: Training, threads: int) -> Self:
        """The same bytes for one state of the generator and so many threads.

        Raises UserError where LightGBM cannot be loaded.
        """
        lightgbm, store = load(objective), training.store
        wide, of_events = Wide.fit(training.histories)
        position, owner = training.histories.flat()
        positive = store.events("positive")[position]
        judged = np.flatnonzero(positive != UNKNOWN)
        sizes = None
        if objective == "lambdarank":
            day = inputs.day(store.events("time_ms")[position[judged]])
            order, sizes = grouped(owner[judged], day)
            judged = judged[order]
        settings = {
            **{"objective": objective, **RECIPE, **(ORDERING if objective == "lambdarank" else {})},
            **{"seed": int(training.rng.integers(2**31)), "num_threads": threads, "verbosity": -1},
            **{"deterministic": True, "force_row_wise": True},
        }
        data = lightgbm.Dataset(of_events[judged], positive[judged], group=sizes, params=settings)
        booster = lightgbm.Booster(settings, data)
        for _ in track(range(N_TREES), "growing trees"):
            booster.update()
        return cls("log_odds" if objective == "binary" else "log_share", wide, booster, threads)

    def score(self, pairs: Pairs) -> np.ndarray:
        """float32 [m]: there is an opinion on every pair."""
        if not len(pairs):
            return np.zeros(0, np.float32)
        found = self.booster.predict(self.wide.of_pairs(pairs), raw_score=True, num_threads=self.threads)
        return np.asarray(found, np.float32)


def grouped(user: np.ndarray, day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What one user was shown on one day, of events [m]: their order, by user and day, and the sizes of the groups [g],
    which together are m. A group with more than MOST_IN_A_GROUP is cut."""
    order = np.lexsort((day, user))
    new = (np.diff(user[order], prepend=-1) != 0) | (np.diff(day[order], prepend=-1) != 0)
    place = np.arange(len(order))
    within = place - np.maximum.accumulate(np.where(new, place, 0))
    return order, np.diff(np.flatnonzero(within % MOST_IN_A_GROUP == 0), append=len(order))


def beside(objective: Objective | None, columns: Path, seed: int, threads: int) -> list[Fits]:
    """The trees beside a ranker, none or one, grown on each cut of the store in the folder `columns`.

    Raises UserError where LightGBM cannot be loaded.
    """
    if objective is None:
        return []
    store = Store.load(columns)
    by_cut = {
        cut: Trees.fit(objective, Training(store.fitted_on(cut), np.random.default_rng(seed)), threads)
        for cut in store.cuts
        if cut != START
    }
    return [Fits(by_cut, store)]


def load(objective: Objective) -> ModuleType:
    """LightGBM, which is loaded where there are trees and nowhere else.

    Raises UserError where the system lacks what it is linked to.
    """
    try:
        import lightgbm
    except OSError as error:
        raise UserError(
            f"`rank.trees` is {objective!r}, and LightGBM cannot be loaded: {error}; install GCC's OpenMP runtime"
            " (Debian: apt-get install libgomp1), or choose none"
        ) from None
    return lightgbm
