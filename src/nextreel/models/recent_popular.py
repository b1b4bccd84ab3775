"""The most popular videos of train, recent watches counting more: on a stream that is soon stale a hard floor."""

from pathlib import Path
from typing import Self

import numpy as np

from nextreel.cases.protocols import Cases
from nextreel.cases.store import Histories
from nextreel.models import load_arrays, save_arrays
from nextreel.params import PositiveFloat, Section

HOUR_MS = 3_600_000


class Params(Section):
    half_life_hours: PositiveFloat  # a positive this much older counts half


class Model:
    """Score = sum over the video's positives in train of 2 ** (-age / half-life), age from the last positive of all."""

    def __init__(self, params: Params, weight: np.ndarray) -> None:
        self.params = params
        self.weight = weight  # [n_videos + 1] float32

    @classmethod
    def fit(cls, histories: Histories, n_videos: int, params: Params, rng: np.random.Generator) -> Self:
        position, _owner = histories.positives()
        time_ms = histories.events.time_ms[position]
        age_hours = (time_ms.max(initial=0) - time_ms) / HOUR_MS
        decayed = np.exp2(-age_hours / params.half_life_hours)
        weight = np.bincount(histories.events.video_idx[position], weights=decayed, minlength=n_videos + 1)
        return cls(params, weight.astype(np.float32))

    def score(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.weight[video_idx], (len(cases), video_idx.shape[-1])).copy()

    def save(self, folder: Path) -> None:
        save_arrays(folder, self.params, weight=self.weight)

    @classmethod
    def load(cls, folder: Path) -> Self:
        params, arrays = load_arrays(folder, Params)
        return cls(params, **arrays)
