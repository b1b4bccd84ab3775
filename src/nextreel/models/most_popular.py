"""The most popular videos of train for everybody: the floor that every other model must clear."""

from pathlib import Path
from typing import Self

import numpy as np

from nextreel.cases.protocols import Cases
from nextreel.cases.store import Histories
from nextreel.models import load_arrays, save_arrays
from nextreel.params import Section


class Params(Section):
    pass


class Model:
    """Score = how often the video was a positive in train."""

    def __init__(self, params: Params, count: np.ndarray) -> None:
        self.params = params
        self.count = count  # [n_videos + 1] float32

    @classmethod
    def fit(cls, histories: Histories, n_videos: int, params: Params, rng: np.random.Generator) -> Self:
        position, _owner = histories.positives()
        video_idx = histories.events.video_idx[position]
        return cls(params, np.bincount(video_idx, minlength=n_videos + 1).astype(np.float32))

    def score(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.count[video_idx], (len(cases), video_idx.shape[-1])).copy()

    def save(self, folder: Path) -> None:
        save_arrays(folder, self.params, count=self.count)

    @classmethod
    def load(cls, folder: Path) -> Self:
        params, arrays = load_arrays(folder, Params)
        return cls(params, **arrays)
