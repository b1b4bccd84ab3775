"""Scorers that are known by heart, as the two models of a blend."""

from types import SimpleNamespace

import numpy as np
import pytest

from nextreel.scoring.sets import ShownPairs
from nextreel.two_stage.blend import Blend, Fits, Ranker


class Known:
    """Factored: the score of a video is in a list, whoever asks; -inf is no opinion."""

    def __init__(self, score, scale="log_odds"):
        self.of_video, self.scale = np.array(score, np.float32), scale

    def queries(self, cases, histories):
        return np.ones((len(cases), 1), np.float32)

    def vectors(self, video_idx):
        found = self.of_video[video_idx, None].copy()
        found[found == -np.inf] = np.nan
        return found

    def score(self, pairs):
        return self.of_video[pairs.video_idx]


@pytest.fixture(scope="session")
def known():
    return Known


@pytest.fixture(scope="session")
def blend_of():
    """A blend of two scorers over the store of a world; beside: another ranker; by_cut replaces fits: cut -> (ranker,
    exposure)."""

    def make(world, ranker, exposure, beside=None, **by_cut):
        cuts = {"train": (ranker, exposure), "all": (ranker, exposure)} | by_cut
        ranked, exposed = ({cut: pair[i] for cut, pair in cuts.items()} for i in (0, 1))
        rankers = [ranked] if beside is None else [ranked, dict.fromkeys(cuts, beside)]
        return Blend([Ranker(Fits(fits, world.store)) for fits in rankers], Fits(exposed, world.store))

    return make


@pytest.fixture(scope="session")
def shown_all():
    """What was shown as `ShownPairs` and labels: each case of valid and test gets these videos [k], liked or not."""

    def make(world, videos, liked):
        some = world.asked.where(world.asked.cases.part != "next")
        n, k = len(some.cases), len(videos)
        row, video_idx = np.repeat(np.arange(n), k), np.tile(np.array(videos, np.int32), n)
        shown = ShownPairs(some.cases, some.user_key, row, video_idx, some.cases.time_ms[row], some.cases.tab[row])
        return SimpleNamespace(shown=shown, label=np.tile(np.array(liked, bool), n))

    return make
