"""What the test lists hold beyond hits: popularity, reach and variety of the first K videos."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import sparse

from nextreel import arrays
from nextreel.evaluation import Columns, Params
from nextreel.evaluation.estimates import Estimates, stack
from nextreel.metrics import lists as list_metrics
from nextreel.scoring.sets import Exam

K = 10


@dataclass(frozen=True)
class Videos:
    """What is known of videos before valid, by video_idx [n_videos + 1]."""

    count: np.ndarray  # events in train
    tags: sparse.csr_array  # [n_videos + 1, n_tags] 0 or 1

    @classmethod
    def load(cls, data: Path, exam: Exam) -> "Videos":
        position, _user = exam.events.train().flat()
        count = np.bincount(exam.events.video_idx[position], minlength=exam.catalogue.n_videos + 1)
        table = pq.read_table(data / "tables/videos.parquet", columns=["video_idx", "tags"])
        tags = table["tags"].combine_chunks()
        row = table["video_idx"].to_numpy()[pc.list_parent_indices(tags).to_numpy()]
        _tags, column = np.unique(pc.list_flatten(tags).to_numpy(), return_inverse=True)
        shape = (len(count), int(column.max(initial=-1)) + 1)
        once = np.unique(np.stack([row, column]), axis=1)
        return cls(count, sparse.csr_array((np.ones(once.shape[1]), (once[0], once[1])), shape))


def per_list(video_idx: np.ndarray, list_of: np.ndarray, n_lists: int, videos: Videos) -> Columns:
    """Each list's values [n_lists]. video_idx, list_of [M]: the listed videos and the list of each."""
    listed = (video_idx, list_of, n_lists)
    head = list_metrics.short_head(videos.count)
    return {
        f"popularity@{K}": list_metrics.popularity(*listed, videos.count),
        f"long_tail_share@{K}": list_metrics.long_tail_share(*listed, head),
        f"novelty@{K}": list_metrics.novelty(*listed, videos.count),
        f"tag_diversity@{K}": list_metrics.tag_diversity(*listed, videos.tags),
    }


def load_first(lists: Path, seed: int) -> Columns:
    """The first K of every list of a seed."""
    return arrays.load(lists, [("seed", "=", seed), ("rank", "<=", K)], ["case_id", "video_idx"])


def coverage(exam: Exam, listed: Columns, part: str) -> float:
    """The share of the part's catalogue that stands in any list of the part. listed: case_id, video_idx."""
    mine = np.isin(listed["case_id"], exam.of(part).cases.case_id)
    return list_metrics.coverage(listed["video_idx"][mine], len(exam.catalogue.of(part)))


def table(exam: Exam, lists: Mapping[str, Columns], videos: Videos, params: Params) -> Columns:
    """On test, of each model's lists (case_id, video_idx): model, metric, value, low, high; coverage and Gini are of
    all lists together and have no interval."""
    asked, catalogue = exam.of("test"), exam.catalogue.of("test")
    ids = asked.cases.case_id
    values, together = {}, []
    for name, listed in lists.items():
        mine = np.isin(listed["case_id"], ids)
        video_idx, list_of = listed["video_idx"][mine], np.searchsorted(ids, listed["case_id"][mine])
        values[name] = per_list(video_idx, list_of, len(ids), videos)
        whole = {
            f"coverage@{K}": list_metrics.coverage(video_idx, len(catalogue)),
            f"gini@{K}": list_metrics.gini(video_idx, catalogue),
        }
        none = np.full(len(whole), np.nan)
        labels = {"model": np.full(len(whole), name), "metric": np.array(list(whole))}
        together.append({**labels, "value": np.array(list(whole.values())), "low": none, "high": none})
    return stack([Estimates.of(values, asked.cases.user_idx, params, exam.seed).table(), *together])
