"""Pure functions of the scores and labels of rows.

A metric is told by the parts of its rows [n], so that users and videos can be told apart in its error: see `ratios`.
Scores may not be NaN: `with_medians` first. Groups are numbered 0 to G - 1, in any order.
Ties of the grouped rankings go to the smaller `tie` [n], equal ones to the row that stands first.
"""

import numpy as np

from nextreel.metrics.ratios import Parts

CERTAIN = 1e-6


def with_medians(score: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """score [n] with the median of its group in place of NaN, 0 where a group has nothing else."""
    known = ~np.isnan(score)
    if known.all():
        return score
    order = np.lexsort((score[known], group[known]))
    ranked, count = score[known][order], np.bincount(group[known], minlength=n_groups)
    some, first = np.flatnonzero(count), count.cumsum() - count
    median = np.zeros(n_groups, score.dtype)
    median[some] = (ranked[first[some] + (count[some] - 1) // 2] + ranked[first[some] + count[some] // 2]) / 2
    return np.where(known, score, median[group])


def auc(label: np.ndarray, score: np.ndarray) -> Parts:
    """Area under the ROC curve of all rows [n] (Mann-Whitney); ties count half; without a value with a single class."""
    return grouped_auc(label, score, np.zeros(len(label), np.int64), 1)


def grouped_auc(label: np.ndarray, score: np.ndarray, group: np.ndarray, n_groups: int) -> Parts:
    """The AUC of each group; a group with a single class has none. The part of a positive is its placement, the share
    of its group's negatives that score below; of a negative the share of positives that score above (DeLong et al.,
    Biometrics 1988)."""
    order = np.lexsort((score, group))
    positive, of_group = label[order].astype(bool), group[order]
    (first, _group), (tied, run) = _runs(of_group), _runs(of_group, score[order])
    positives, negatives = (np.bincount(group[label == x], minlength=n_groups)[of_group] for x in (True, False))
    below = [_below(x, first[_group], tied, run) for x in (~positive, positive)]
    right = np.where(positive, below[0], positives - below[1])
    alike, other = (np.where(positive, *sizes) for sizes in ((positives, negatives), (negatives, positives)))
    share = (other > 0) / alike
    return Parts(right / np.maximum(other, 1) * share, share, pairs=True).at(order, len(order))


def _runs(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rows [n] begin to differ from the one before in any column, and the number of each row's run."""
    new = np.ones(len(columns[0]), bool)
    new[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.flatnonzero(new), new.cumsum() - 1


def _below(counted: np.ndarray, first: np.ndarray, tied: np.ndarray, run: np.ndarray) -> np.ndarray:
    """How many of the counted rows [n] score lower than each row from the first of its group on, equal ones half.

    first [n]: that row; tied: where rows of equal score begin; run [n]: the number of each row's.
    """
    before = np.append(0, counted.cumsum())
    middle = (before[tied] + before[np.append(tied[1:], len(counted))[: len(tied)]]) / 2
    return np.asarray(middle[run] - before[first])


def grouped_ndcg(
    label: np.ndarray, score: np.ndarray, group: np.ndarray, tie: np.ndarray, n_groups: int, k: int
) -> Parts:
    """NDCG@k of each group with gain 1 for a positive; 0 in a group without one. The first k rows have the shares of
    their discounts."""
    order, place = _ranked(score, group, tie)
    discount = np.where(place <= k, 1 / np.log2(1.0 + place), 0.0)
    positives, rows = np.bincount(group[label.astype(bool)], minlength=n_groups), np.bincount(group, minlength=n_groups)
    total = np.concatenate([[1.0], (1 / np.log2(1.0 + np.arange(1, k + 1))).cumsum()])  # 1: nothing to divide
    ideal, possible = (total[np.minimum(n, k)][group[order]] for n in (positives, rows))
    return Parts(discount * label[order] / ideal, discount / possible).at(order, len(order))


def _ranked(score: np.ndarray, group: np.ndarray, tie: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n] in order of (group, score down, tie up, position), and the place of each in its group, from 1."""
    order = np.lexsort((tie, -score, group))
    at = np.arange(len(order))
    new = np.diff(group[order], prepend=-1) != 0
    return order, at - np.maximum.accumulate(np.where(new, at, 0)) + 1


def grouped_top_mean(
    value: np.ndarray, score: np.ndarray, group: np.ndarray, tie: np.ndarray, n_groups: int, k: int
) -> Parts:
    """The mean value of the k rows scored highest in each group, WTG@K where values are WTG (DVR; Zheng et al., MM
    2022): here the gain of one reference whatever the label, see `labels`. Groups without more than k rows have none;
    rows whose value is NaN are none."""
    return _top(value, score, group, tie, n_groups, np.full(k, 1 / k))


def grouped_discounted_sum(
    value: np.ndarray, score: np.ndarray, group: np.ndarray, tie: np.ndarray, n_groups: int, k: int
) -> Parts:
    """DCWTG@K: the sum over the k rows scored highest in each group of value / ln(1 + place); else as
    `grouped_top_mean`."""
    return _top(value, score, group, tie, n_groups, 1 / np.log(1.0 + np.arange(1, k + 1)))


def _top(
    value: np.ndarray, score: np.ndarray, group: np.ndarray, tie: np.ndarray, n_groups: int, weight: np.ndarray
) -> Parts:
    """The sum of value x weight [k] by place."""
    rows = np.flatnonzero(~np.isnan(value))
    order, place = _ranked(score[rows], group[rows], tie[rows])
    many = np.bincount(group[rows], minlength=n_groups) > len(weight)
    listed = (place <= len(weight)) & many[group[rows[order]]]
    rows, by_place = rows[order[listed]], weight[place[listed] - 1]
    return Parts(value[rows] * by_place, by_place / weight.sum()).at(rows, len(value))


def xauc(predicted: np.ndarray, true: np.ndarray) -> Parts:
    """XAUC: the share of pairs of rows [n] with different true values that the predictions put in the right order; tied
    predictions count half (Zhan et al., KDD 2022). The part of a row are its own pairs in the right order; one whose
    true value is NaN is no part."""
    rows = np.flatnonzero(~np.isnan(true))
    n = len(rows)
    _values, p, n_predicted = np.unique(predicted[rows], return_inverse=True, return_counts=True)
    _values, t, n_true = np.unique(true[rows], return_inverse=True, return_counts=True)
    _values, both, n_both = np.unique(t.astype(np.int64) * (n + 1) + p, return_inverse=True, return_counts=True)
    order = np.lexsort((p, t))
    wrong = np.empty(n, np.int64)
    wrong[order] = _inversions(p[order])
    asked = n - n_true[t]
    half = n_predicted[p] - n_both[both]
    return Parts(asked - wrong - half / 2, asked, pairs=True).at(rows, len(true))


def _inversions(x: np.ndarray) -> np.ndarray:
    """For each of the non-negative integers [n], in how many pairs with it the larger one stands first.

    Radix by bits from the highest: a pair is told apart by the first bit in which it differs, within rows that share
    all bits above it.
    """
    found, row, x = np.zeros(len(x), np.int64), np.arange(len(x)), x.astype(np.int64)
    for bit in range(int(x.max(initial=0)).bit_length() - 1, -1, -1):
        start, run = _runs(x >> (bit + 1))  # rows are in order of it: those that share it stand together
        one = (x >> bit) & 1
        ones, end = np.append(0, one.cumsum()), np.append(start[1:], len(x))
        before = ones[:-1] - ones[start][run]
        after = (end[run] - np.arange(len(x))) - (ones[end][run] - ones[:-1])  # zeros
        found[row] += np.where(one == 1, after, before)
        order = np.argsort(x >> bit, kind="stable")
        x, row = x[order], row[order]
    return found


def threshold_scores(label: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, Parts]:
    """Precision, recall, F1 and accuracy of saying positive from `threshold` on; without a value where undefined."""
    said, there = (x.astype(float) for x in (probability >= threshold, label))
    right = said * there
    return {
        "precision": Parts(right, said),
        "recall": Parts(right, there),
        "f1": Parts(2 * right, said + there),
        "accuracy": Parts((said == there).astype(float), np.ones(len(label))),
    }


def best_threshold(label: np.ndarray, probability: np.ndarray) -> float:
    """The probability that as a threshold has the highest F1, the larger one of two; NaN without a positive."""
    if not label.any():
        return np.nan
    order = np.argsort(-probability, kind="stable")
    probability, right = probability[order], label[order].cumsum()
    last = np.append(probability[1:] != probability[:-1], True)  # a threshold takes all rows of one probability
    f1 = 2 * right / (np.arange(1, len(right) + 1) + label.sum())
    return float(probability[last][np.argmax(f1[last])])


def mse(predicted: np.ndarray, true: np.ndarray) -> Parts:
    """Mean squared error over rows [n]; one without a true value, NaN, is no part."""
    return Parts.of((predicted - true) ** 2)


def mae(predicted: np.ndarray, true: np.ndarray) -> Parts:
    """Mean absolute error, as `mse`."""
    return Parts.of(np.abs(predicted - true))


def log_loss(probability: np.ndarray, label: np.ndarray) -> Parts:
    """Mean cross-entropy over rows [n] of labels 0 and 1; one whose label is NaN is no part. Probabilities are kept
    CERTAIN away from 0 and 1."""
    probability = probability.clip(CERTAIN, 1 - CERTAIN)
    return Parts.of(-(label * np.log(probability) + (1 - label) * np.log1p(-probability)))


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
