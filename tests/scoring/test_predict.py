import numpy as np

from nextreel.scoring import order
from nextreel.scoring.sets import blocks


class Rough:
    """Scores that are rounded and -inf here and there, in bounds that say little."""

    def __init__(self):
        self.asked = 0

    def score(self, cases, histories, video_idx):
        noise = order.tie_hash(cases.case_id.astype(np.uint64)[:, None], video_idx[None]) % np.uint64(40)
        self.asked += noise.size
        return np.where(noise < 3, -np.inf, -noise.astype(np.float32))

    def bounds(self, cases, histories, video_idx):
        scores = self.score(cases, histories, video_idx)
        self.asked -= scores.size
        return np.where(video_idx % 11 == 0, -1, scores + video_idx % 4).astype(np.float32)


def test_scores_with_bounds_are_answered_as_if_all_were_scored(cycle):
    class Whole:
        score = Rough().score

    rough = Rough()
    for part in ("valid", "test"):
        for bounded, whole in zip(blocks(rough, cycle, part, "", 3), blocks(Whole(), cycle, part, ""), strict=True):
            assert bounded.target_ranks().tolist() == whole.target_ranks().tolist()
            (listed, wanted) = (block.top_k(3) for block in (bounded, whole))
            assert all((listed[name] == wanted[name]).all() for name in wanted)
    assert 0 < rough.asked < 0.9 * sum(len(cycle.of(part).cases) * 60 for part in ("valid", "test"))
