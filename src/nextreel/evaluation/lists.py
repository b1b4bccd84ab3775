"""What the test lists hold beyond hits: popularity, reach and variety of the first K videos."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from nextreel import arrays
from nextreel.arrays import Columns
from nextreel.cases.store import Store
from nextreel.evaluation import Params
from nextreel.evaluation.estimates import Estimates
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics import lists as list_metrics
from nextreel.metrics.ratios import Parts
from nextreel.scoring.sets import EvalSet

K = 10


@dataclass(frozen=True)
class Videos:
    """What is known of videos before valid, by video_idx [n_videos + 1]."""

    count: np.ndarray  # events in train
    head: np.ndarray  # bool: see `metrics.lists.short_head`
    tags: sparse.csr_array | None  # [n_videos + 1, n_tags] 0 or 1; None where the source has none

    @classmethod
    def of(cls, store: Store) -> "Videos":
        """What the store says of videos and of train."""
        position, _user = store.fitted_on("train").flat()
        count = np.bincount(store.events("video_idx")[position], minlength=store.n_videos + 1)
        head = list_metrics.short_head(count)
        if "tags" not in store.tables["videos"]:
            return cls(count, head, None)
        tags, shape = store.video_sets("tags"), (len(count), store.columns["videos/tags"].size)
        return cls(count, head, sparse.csr_array((np.ones(len(tags.values)), tags.values, tags.offsets), shape))


def per_list(video_idx: np.ndarray, list_of: np.ndarray, n_lists: int, videos: Videos) -> Columns:
    """Each list's values [n_lists]. video_idx, list_of [M]: the listed videos and the list of each."""
    listed = (video_idx, list_of, n_lists)
    none = np.full(n_lists, np.nan)
    return {
        f"popularity@{K}": list_metrics.popularity(*listed, videos.count),
        f"long_tail_share@{K}": list_metrics.long_tail_share(*listed, videos.head),
        f"novelty@{K}": list_metrics.novelty(*listed, videos.count),
        f"tag_diversity@{K}": none if videos.tags is None else list_metrics.tag_diversity(*listed, videos.tags),
    }


def load_first(lists: Path, seed: int) -> Columns:
    """The first K of every list of a seed."""
    return arrays.load(lists, [("seed", "=", seed), ("rank", "<=", K)], ["case_id", "video_idx"])


def coverage(eval_set: EvalSet, listed: Columns, part: str) -> float:
    """The share of the part's catalogue that stands in any list of the part. listed: case_id, video_idx."""
    mine = np.isin(listed["case_id"], eval_set.of(part).cases.case_id)
    return list_metrics.coverage(listed["video_idx"][mine], len(eval_set.catalogue.of(part)))


def table(eval_set: EvalSet, lists: Mapping[str, Columns], videos: Videos, params: Params) -> Columns:
    """On test, of each model's lists (case_id, video_idx): model, metric, value, low, high.

    A list's videos were chosen from this catalogue, not drawn: from another one the model would choose others, of which
    these tell nothing. So the intervals are for other users alone. Coverage and Gini are of all lists together and
    depend on how many there are: they have none.
    """
    asked, catalogue = eval_set.of("test"), eval_set.catalogue.of("test")
    ids = asked.cases.case_id
    found = Estimates(Clusters(asked.cases.user_idx), params.confidence)
    for name, listed in lists.items():
        mine = np.isin(listed["case_id"], ids)
        video_idx, list_of = listed["video_idx"][mine], np.searchsorted(ids, listed["case_id"][mine])
        for metric, values in per_list(video_idx, list_of, len(ids), videos).items():
            found.add(name, metric, Parts.of(values).estimate())
        found.add(name, f"coverage@{K}", list_metrics.coverage(video_idx, len(catalogue)))
        found.add(name, f"gini@{K}", list_metrics.gini(video_idx, catalogue))
    return found.table()
