"""Pure functions of the scores and labels of rows.

A score of -inf, no opinion, is tied below all others; NaN is not allowed. Groups are numbered 0 to G - 1, in any order.
Ties of the grouped rankings go to the smaller `tie` [n], equal ones to the row that stands first.
"""

import numpy as np


def auc(label: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve of all rows [n] (Mann-Whitney); ties count half; NaN with a single class."""
    return float(grouped_auc(label, score, np.zeros(len(label), np.int64), 1)[0])


def grouped_auc(label: np.ndarray, score: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """The AUC of each group's rows [G]; NaN with a single class."""
    order = np.lexsort((score, group))
    label, group = label[order].astype(bool), group[order]
    rank = _mid_ranks(group, score[order])
    positives = np.bincount(group[label], minlength=n_groups).astype(float)
    negatives = np.bincount(group[~label], minlength=n_groups).astype(float)
    rank_sum = np.bincount(group[label], rank[label], n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def _mid_ranks(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Ranks [n] from 1 within each group, ties at their mean; rows in order of (group, score)."""
    n = len(group)
    new_group, new = np.ones(n, bool), np.ones(n, bool)
    new_group[1:] = group[1:] != group[:-1]
    new[1:] = new_group[1:] | (score[1:] != score[:-1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], n)[: len(first)] - 1
    start = np.maximum.accumulate(np.where(new_group, np.arange(n), 0))
    return np.repeat((first + last) / 2, last - first + 1) - start + 1


def grouped_ndcg(
    label: np.ndarray, score: np.ndarray, group: np.ndarray, tie: np.ndarray, n_groups: int, k: int
) -> np.ndarray:
    """NDCG@k of each group's rows [G] with gain 1 for a positive; NaN in a group without one."""
    order, place = _ranked(score, group, tie)
    gain = np.where(label[order] & (place <= k), 1 / np.log2(1.0 + place), 0.0)
    positives = np.bincount(group[label.astype(bool)], minlength=n_groups)
    ideal = np.concatenate([[0.0], (1 / np.log2(1.0 + np.arange(1, k + 1))).cumsum()])[np.minimum(positives, k)]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(group[order], gain, n_groups) / ideal)


def _ranked(score: np.ndarray, group: np.ndarray, tie: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n] in order of (group, score down, tie up, position), and the place of each in its group, from 1."""
    order = np.lexsort((tie, -score, group))
    at = np.arange(len(order))
    new = np.diff(group[order], prepend=-1) != 0
    return order, at - np.maximum.accumulate(np.where(new, at, 0)) + 1


def grouped_top_mean(
    value: np.ndarray, score: np.ndarray, group: np.ndarray, tie: np.ndarray, n_groups: int, k: int
) -> np.ndarray:
    """The mean value of the k rows scored highest in each group [G], WTG@K where values are WTG (DVR; Zheng et al., MM
    2022). NaN in groups without more than k rows; rows whose value is NaN are none."""
    return _top_sum(value, score, group, tie, n_groups, k, np.full(k, 1 / k))


def grouped_discounted_sum(
    value: np.ndarray, score: np.ndarray, group: np.ndarray, tie: np.ndarray, n_groups: int, k: int
) -> np.ndarray:
    """DCWTG@K: the sum over the k rows scored highest in each group of value / ln(1 + place); else as
    `grouped_top_mean`."""
    return _top_sum(value, score, group, tie, n_groups, k, 1 / np.log(1.0 + np.arange(1, k + 1)))


def _top_sum(
    value: np.ndarray,
    score: np.ndarray,
    group: np.ndarray,
    tie: np.ndarray,
    n_groups: int,
    k: int,
    weight: np.ndarray,
) -> np.ndarray:
    """The sum of value x weight [k] by place."""
    known = ~np.isnan(value)
    value, score, group, tie = value[known], score[known], group[known], tie[known]
    order, place = _ranked(score, group, tie)
    order, place = order[place <= k], place[place <= k]
    total = np.bincount(group[order], value[order] * weight[place - 1], n_groups)
    return np.where(np.bincount(group, minlength=n_groups) > k, total, np.nan)


def xauc(predicted: np.ndarray, true: np.ndarray) -> float:
    """XAUC: the share of pairs of rows [n] with different true values that the predictions put in the right order; tied
    predictions count half (Zhan et al., KDD 2022). NaN without such a pair."""
    _values, p = np.unique(predicted, return_inverse=True)
    _values, t = np.unique(true, return_inverse=True)
    n_pairs = _pairs(np.array([len(p)]))
    tied_true, tied_predicted = _pairs(np.bincount(t)), _pairs(np.bincount(p))
    tied_both = _pairs(np.unique(t.astype(np.int64) * (len(p) + 1) + p, return_counts=True)[1])
    wrong = _inversions(p[np.lexsort((p, t))])
    asked = n_pairs - tied_true
    half = tied_predicted - tied_both
    return float((asked - wrong - half + half / 2) / asked) if asked else np.nan


def _pairs(count: np.ndarray) -> int:
    """How many pairs there are within groups of these sizes."""
    return int((count.astype(np.int64) * (count.astype(np.int64) - 1) // 2).sum())


def _inversions(x: np.ndarray) -> int:
    """How many pairs of non-negative integers [n] stand with the larger one first.

    Radix by bits from the highest: a pair is told apart by the first bit in which it differs, within rows that share
    all bits above it.
    """
    found, n = 0, len(x)
    x = x.astype(np.int64)
    for bit in range(int(x.max(initial=0)).bit_length() - 1, -1, -1):
        one = (x >> bit) & 1
        above = x >> (bit + 1)  # rows are in order of it: those that share it stand together
        ones_before = one.cumsum() - one
        start = np.maximum.accumulate(np.where(np.diff(above, prepend=-1) != 0, np.arange(n), 0))
        found += int(((1 - one) * (ones_before - ones_before[start])).sum())
        x = x[np.argsort(x >> bit, kind="stable")]
    return found


def threshold_scores(label: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    """Precision, recall, F1 and accuracy of saying positive from `threshold` on; 0 where undefined."""
    said = probability >= threshold
    right = float((said & label).sum())
    precision, recall = right / max(int(said.sum()), 1), right / max(int(label.sum()), 1)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "accuracy": float((said == label).mean())}


def best_threshold(label: np.ndarray, probability: np.ndarray) -> float:
    """The probability that as a threshold has the highest F1, the larger one of two; NaN without a positive."""
    if not label.any():
        return np.nan
    order = np.argsort(-probability, kind="stable")
    probability, right = probability[order], label[order].cumsum()
    last = np.append(probability[1:] != probability[:-1], True)  # a threshold takes all rows of one probability
    f1 = 2 * right / (np.arange(1, len(right) + 1) + label.sum())
    return float(probability[last][np.argmax(f1[last])])


def rmse(predicted: np.ndarray, true: np.ndarray) -> float:
    """Root mean squared error."""
    return float(np.sqrt(((predicted - true) ** 2).mean())) if len(true) else np.nan


def mae(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean absolute error."""
    return float(np.abs(predicted - true).mean()) if len(true) else np.nan


def reliability(label: np.ndarray, probability: np.ndarray, n_bins: int) -> dict[str, np.ndarray]:
    """Rows by equal-width bins of probability, empty ones left out: bin_from, bin_to, rows, the mean predicted and the
    observed share of positives."""
    number = np.minimum((probability * n_bins).astype(np.int64), n_bins - 1)
    rows = np.bincount(number, minlength=n_bins)
    full = np.flatnonzero(rows)
    predicted, observed = (np.bincount(number, x, n_bins)[full] / rows[full] for x in (probability, label))
    return {
        "bin_from": full / n_bins,
        "bin_to": (full + 1) / n_bins,
        "rows": rows[full],
        "predicted": predicted,
        "observed": observed,
    }


def expected_calibration_error(table: dict[str, np.ndarray]) -> float:
    """ECE: the mean gap between predicted and observed over the bins of `reliability`, weighted by their rows."""
    gap = np.abs(table["predicted"] - table["observed"])
    return float(np.average(gap, weights=table["rows"])) if len(gap) else np.nan
