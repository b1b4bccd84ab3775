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
COVERAGE = f"coverage@{K}"
LIST_VALUE = f"list_value@{K}"  # in a simulated world: the mean true P(positive | shown) of a list's first K


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


def load_values(data: Path) -> dict[str, Columns]:
    """system -> case_id and list_value: what its first K are truly worth, see `oracle.answers`; {} of real data."""
    table = arrays.load(data / "list_values.parquet")
    of = table.pop("system").astype(str)
    return {str(system): {name: x[of == system] for name, x in table.items()} for system in np.unique(of)}


def headline(table: Columns, model: str) -> dict[str, float]:
    """The flat metrics of a model, from what `table` returns."""
    found = {}
    for at in np.flatnonzero(table["model"] == model):
        metric, value = str(table["metric"][at]), float(table["value"][at])
        if metric == COVERAGE:
            found[metric] = value
        if metric == LIST_VALUE:
            found |= {metric: value, f"{metric}_half_width": float(table["high"][at]) - value}
    return found


def table(
    eval_set: EvalSet, lists: Mapping[str, Columns], worth: Mapping[str, Columns], videos: Videos, params: Params
) -> Columns:
    """On test, of each model's lists (case_id, video_idx): model, metric, value, low, high. worth: see `load_values`.

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
        values = per_list(video_idx, list_of, len(ids), videos)
        if name in worth:
            values[LIST_VALUE] = np.full(len(ids), np.nan)
            on_test = np.isin(worth[name]["case_id"], ids)
            at = np.searchsorted(ids, worth[name]["case_id"][on_test])
            values[LIST_VALUE][at] = worth[name]["list_value"][on_test]
        for metric, value in values.items():
            found.add(name, metric, Parts.of(value).estimate())
        found.add(name, COVERAGE, list_metrics.coverage(video_idx, len(catalogue)))
        found.add(name, f"gini@{K}", list_metrics.gini(video_idx, catalogue))
    return found.table()
