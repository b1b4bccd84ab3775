"""The most popular videos of train for everybody: the floor that every other model must clear."""

from pathlib import Path
from typing import Self

import numpy as np

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Histories
from nextreel.contract import Scale, Training, product_scores
from nextreel.models import load_arrays, save_arrays
from nextreel.params import Section


class Params(Section):
    pass


class Model:
    """Score = how often the video was a positive in train."""

    scale: Scale = "share"

    def __init__(self, params: Params, count: np.ndarray) -> None:
        self.params = params
        self.count = count  # [n_videos + 1] float32

    @classmethod
    def columns(cls, params: Params) -> tuple[str, ...]:
        return ("events/positive",)

    @classmethod
    def fit(cls, params: Params, training: Training) -> Self:
        position, _owner = training.histories.positives()
        video_idx = training.store.events("video_idx")[position]
        return cls(params, np.bincount(video_idx, minlength=training.store.n_videos + 1).astype(np.float32))

    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        return np.ones((len(cases), 1), np.float32)

    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        return self.count[video_idx, None]

    def score(self, pairs: Pairs) -> np.ndarray:
        return product_scores(self, pairs)

    def save(self, folder: Path) -> None:
        save_arrays(folder, self.params, count=self.count)

    @classmethod
    def load(cls, folder: Path) -> Self:
        params, arrays = load_arrays(folder, Params)
        return cls(params, **arrays)
