"""Pure functions of what lists hold, hits apart. M entries: `video_idx` [M] and the list each belongs to, `list_of` [M]
in 0 to n_lists - 1. Means are by list [n_lists], NaN where a list is empty, so that intervals come free."""

import numpy as np
from scipy import sparse

_PAIRS = 1 << 20  # compared at a time


def coverage(video_idx: np.ndarray, n_catalogue: int) -> float:
    """The share of the catalogue that appears in any list."""
    return len(np.unique(video_idx)) / max(n_catalogue, 1)


def gini(video_idx: np.ndarray, catalogue: np.ndarray) -> float:
    """The Gini coefficient of how often each video of the catalogue [N] is listed, never included: 0 = all alike."""
    count = np.bincount(video_idx, minlength=int(catalogue.max(initial=0)) + 1)[catalogue]
    count = np.sort(count)
    n, total = len(count), count.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ count / (n * total)) if total else np.nan


def short_head(count: np.ndarray, share: float = 0.8) -> np.ndarray:
    """Whether a video [n_videos + 1] is in the short head: the fewest most popular ones that hold `share` of all
    interactions, equal ones in order of their index. count [n_videos + 1]."""
    by_count = np.argsort(-count, kind="stable")
    before = count[by_count].cumsum() - count[by_count]
    head = np.zeros(len(count), bool)
    head[by_count[before < share * count.sum()]] = True
    return head & (count > 0)


def popularity(video_idx: np.ndarray, list_of: np.ndarray, n_lists: int, count: np.ndarray) -> np.ndarray:
    """ARP: the mean training popularity of a list's videos (Yin et al., VLDB 2012). count [n_videos + 1]."""
    return _mean(count[video_idx], list_of, n_lists)


def long_tail_share(video_idx: np.ndarray, list_of: np.ndarray, n_lists: int, head: np.ndarray) -> np.ndarray:
    """APLT: the share of a list's videos outside the short head (Abdollahpouri et al., FLAIRS 2019)."""
    return _mean(~head[video_idx], list_of, n_lists)


def novelty(video_idx: np.ndarray, list_of: np.ndarray, n_lists: int, count: np.ndarray) -> np.ndarray:
    """The mean of -log2 P(video) over a list (Vargas & Castells, RecSys 2011), bits. P = (count + 1) / (all + videos):
    one that train never saw stays finite."""
    n_videos = len(count) - 1
    return _mean(-np.log2((count[video_idx] + 1) / (count.sum() + n_videos)), list_of, n_lists)


def tag_diversity(video_idx: np.ndarray, list_of: np.ndarray, n_lists: int, tags: sparse.csr_array) -> np.ndarray:
    """The mean of 1 - Jaccard similarity of tags over all pairs of a list's videos; two without any tag are alike.

    tags: [n_videos + 1, n_tags] 0 or 1. NaN in lists of fewer than two.
    """
    by_list = np.argsort(list_of, kind="stable")
    video, owner = video_idx[by_list], list_of[by_list]
    n_tags = np.asarray(tags.sum(axis=1)).ravel()
    length = np.bincount(owner, minlength=n_lists)
    distance = np.zeros(n_lists)
    for apart in range(1, int(length.max(initial=0))):
        left = np.flatnonzero(owner[apart:] == owner[:-apart])
        for start in range(0, len(left), _PAIRS):
            some = left[start : start + _PAIRS]
            a, b = video[some], video[some + apart]
            shared = np.asarray(tags[a].multiply(tags[b]).sum(axis=1)).ravel()
            either = n_tags[a] + n_tags[b] - shared
            distance += np.bincount(owner[some], np.where(either > 0, 1 - shared / np.maximum(either, 1), 0.0), n_lists)
    n_pairs = length * (length - 1) / 2
    return np.where(n_pairs > 0, distance / np.maximum(n_pairs, 1), np.nan)


def _mean(value: np.ndarray, list_of: np.ndarray, n_lists: int) -> np.ndarray:
    n = np.bincount(list_of, minlength=n_lists)
    return np.where(n > 0, np.bincount(list_of, value, n_lists) / np.maximum(n, 1), np.nan)
