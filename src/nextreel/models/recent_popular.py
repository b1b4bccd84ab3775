"""The most popular videos of train, recent watches counting more: on a stream that is soon stale a hard floor."""

from pathlib import Path
from typing import Self

import numpy as np

from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Histories
from nextreel.clock import HOUR_MS
from nextreel.contract import Scale, Training, product_scores
from nextreel.models import load_arrays, save_arrays
from nextreel.params import PositiveFloat, Section


class Params(Section):
    half_life_hours: PositiveFloat  # a positive this much older counts half


class Model:
    """Score = sum over the video's positives in train of 2 ** (-age / half-life), age from the last positive of all."""

    scale: Scale = "share"

    def __init__(self, params: Params, weight: np.ndarray) -> None:
        self.params = params
        self.weight = weight  # [n_videos + 1] float32

    @classmethod
    def columns(cls, params: Params) -> tuple[str, ...]:
        return ("events/positive", "events/time_ms")

    @classmethod
    def fit(cls, params: Params, training: Training) -> Self:
        store = training.store
        position, _owner = training.histories.positives()
        time_ms = store.events("time_ms")[position]
        age_hours = (time_ms.max(initial=0) - time_ms) / HOUR_MS
        decayed = np.exp2(-age_hours / params.half_life_hours)
        weight = np.bincount(store.events("video_idx")[position], weights=decayed, minlength=store.n_videos + 1)
        return cls(params, weight.astype(np.float32))

    def queries(self, cases: Cases, histories: Histories) -> np.ndarray:
        return np.ones((len(cases), 1), np.float32)

    def vectors(self, video_idx: np.ndarray) -> np.ndarray:
        return self.weight[video_idx, None]

    def score(self, pairs: Pairs) -> np.ndarray:
        return product_scores(self, pairs)

    def save(self, folder: Path) -> None:
        save_arrays(folder, self.params, weight=self.weight)

    @classmethod
    def load(cls, folder: Path) -> Self:
        params, arrays = load_arrays(folder, Params)
        return cls(params, **arrays)
