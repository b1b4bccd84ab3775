"""Every metric by hand, and against an independent implementation where there is one."""

import ir_measures
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from nextreel.metrics import impressions as metrics
from nextreel.metrics import next_item, ranks


def value(parts):
    """Of all rows."""
    return parts.estimate().value


RANKS = np.array([1, 2, 10, 11, 0])


def test_ranks_by_hand():
    assert ranks.hit(RANKS, 10).tolist() == [1, 1, 1, 0, 0]
    assert ranks.ndcg(RANKS, 10) == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0, 0])
    assert next_item.reciprocal_rank(RANKS, 10) == pytest.approx([1, 0.5, 0.1, 0, 0])


def test_ranks_agree_with_ir_measures():
    """A list of 20 for each case, with one relevant video that may be missing from it."""
    rng = np.random.default_rng(0)
    rank = rng.integers(0, 25, 50)
    rank[rank > 20] = 0
    qrels = pd.DataFrame({"query_id": np.arange(50).astype(str), "doc_id": "target", "relevance": 1})
    case, place = np.repeat(np.arange(50), 20), np.tile(np.arange(1, 21), 50)
    doc = np.where(place == rank[case], "target", np.char.add("other", place.astype(str)))
    run = pd.DataFrame({"query_id": case.astype(str), "doc_id": doc, "score": -place.astype(float)})
    found = ir_measures.calc_aggregate(
        [ir_measures.nDCG @ 10, ir_measures.R @ 10, ir_measures.RR @ 10, ir_measures.Success @ 10], qrels, run
    )
    ours = {
        ir_measures.nDCG @ 10: ranks.ndcg(rank, 10),
        ir_measures.R @ 10: ranks.hit(rank, 10),  # with one target recall is the hit rate
        ir_measures.RR @ 10: next_item.reciprocal_rank(rank, 10),
        ir_measures.Success @ 10: ranks.hit(rank, 10),
    }
    assert {name: value.mean() for name, value in ours.items()} == pytest.approx(found, abs=1e-6)


# --- AUC ---


def test_auc_by_hand():
    """Positives at 3 and 1, negatives at 2 and 1: of four pairs two are right, one is tied."""
    label, score = np.array([True, True, False, False]), np.array([3.0, 1, 2, 1])
    assert value(metrics.auc(label, score)) == pytest.approx(2.5 / 4)
    assert np.isnan(value(metrics.auc(label[:2], score[:2])))
    assert np.isnan(value(metrics.auc(label[:0], score[:0])))


def test_no_opinion_is_below_all_and_tied():
    label = np.array([True, False, True, False])
    assert value(metrics.auc(label, np.array([-np.inf, -np.inf, -5, -7]))) == pytest.approx(2.5 / 4)


rows = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=60)


@given(rows)
def test_grouped_auc_is_scikit_learns(drawn):
    label, score, group = (np.array(column) for column in zip(*drawn, strict=True))
    found = metrics.grouped_auc(label, score.astype(float), group, 5).by_group(group, 5)
    for g in range(5):
        mine = group == g
        if len(set(label[mine])) == 2:
            assert found[g] == pytest.approx(reference.roc_auc_score(label[mine], score[mine]))
        else:
            assert np.isnan(found[g])


# --- rankings within groups ---


def no_ties(n):
    return np.arange(n).astype(np.uint64)


def test_grouped_ndcg_by_hand():
    """Group 0: positives at places 1 and 3 of 4; group 1 has none; group 2 has one, behind the cut; 3 is empty."""
    label = np.array([False, True, True, False, False, True, False, False])
    score = np.array([5.0, 9, 4, 3, 1, 0, 1, 2])
    group = np.array([0, 0, 0, 0, 1, 2, 2, 2])
    found = metrics.grouped_ndcg(label, score, group, no_ties(8), 4, 2).by_group(group, 4)
    ideal = 1 + 1 / np.log2(3)
    assert found == pytest.approx([1 / ideal, 0, 0, np.nan], nan_ok=True)


@given(rows, st.integers(1, 6), st.randoms(use_true_random=False))
def test_grouped_ndcg_is_scikit_learns(drawn, k, random):
    label, _score, group = (np.array(column) for column in zip(*drawn, strict=True))
    score = np.array(random.sample(range(len(label)), len(label)), float)
    found = metrics.grouped_ndcg(label, score, group, no_ties(len(label)), 5, k).by_group(group, 5)
    for g in range(5):
        mine = group == g
        if mine.sum() > 1 and label[mine].any():
            assert found[g] == pytest.approx(reference.ndcg_score([label[mine]], [score[mine]], k=k))


def test_ties_go_to_the_smaller_hash_then_to_the_first_row():
    label, score, group = np.array([False, True, True]), np.zeros(3), np.zeros(3, int)
    first = metrics.grouped_ndcg(label, score, group, np.array([2, 1, 3], np.uint64), 1, 1).by_group(group, 1)
    last = metrics.grouped_ndcg(label, score, group, np.array([7, 7, 7], np.uint64), 1, 1).by_group(group, 1)
    assert (first.tolist(), last.tolist()) == ([1], [0])


def test_wtg_by_hand():
    """Group 0 has three rows, and one without a WTG that is none; group 1 has no more than two."""
    wtg = np.array([1.0, -1, 3, np.nan, 5, 5])
    score = np.array([3.0, 2, 1, 9, 1, 2])
    group = np.array([0, 0, 0, 0, 1, 1])
    mean = metrics.grouped_top_mean(wtg, score, group, no_ties(6), 2, 2).by_group(group, 2)
    assert mean == pytest.approx([0, np.nan], nan_ok=True)
    gain = metrics.grouped_discounted_sum(wtg, score, group, no_ties(6), 2, 2).by_group(group, 2)
    assert gain == pytest.approx([1 / np.log(2) - 1 / np.log(3), np.nan], nan_ok=True)


# --- XAUC ---


def naive_xauc(predicted, true):
    right = asked = 0.0
    for i in range(len(true)):
        for j in range(len(true)):
            if true[i] < true[j]:
                asked += 1
                right += (predicted[i] < predicted[j]) + (predicted[i] == predicted[j]) / 2
    return right / asked if asked else np.nan


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40))
def test_xauc_is_the_count_of_all_pairs(drawn):
    predicted, true = np.array(drawn, float).reshape(-1, 2).T
    unknown = np.append(true, np.nan), np.append(predicted, 3.0)
    for some in (metrics.xauc(predicted, true), metrics.xauc(unknown[1], unknown[0])):
        assert value(some) == pytest.approx(naive_xauc(predicted, true), nan_ok=True)


def test_xauc_of_classes_is_auc():
    rng = np.random.default_rng(1)
    label, score = rng.random(3_000) < 0.3, rng.integers(0, 50, 3_000)
    assert value(metrics.xauc(score, label.astype(float))) == pytest.approx(value(metrics.auc(label, score)))


# --- thresholds, errors, calibration ---


def test_threshold_scores_are_scikit_learns():
    rng = np.random.default_rng(2)
    label, probability = rng.random(500) < 0.4, rng.integers(0, 11, 500) / 10
    found = {name: value(parts) for name, parts in metrics.threshold_scores(label, probability, 0.5).items()}
    said = probability >= 0.5
    assert found == pytest.approx(
        {
            "precision": reference.precision_score(label, said),
            "recall": reference.recall_score(label, said),
            "f1": reference.f1_score(label, said),
            "accuracy": reference.accuracy_score(label, said),
        }
    )


def test_nothing_said_or_nothing_there_has_no_value():
    label, probability = np.array([True, False]), np.array([0.1, 0.2])
    found = {name: value(parts) for name, parts in metrics.threshold_scores(label, probability, 0.5).items()}
    assert found == pytest.approx({"precision": np.nan, "recall": 0, "f1": 0, "accuracy": 0.5}, nan_ok=True)
    assert np.isnan(value(metrics.threshold_scores(~label & False, probability, 0.0)["recall"]))
    assert np.isnan(metrics.best_threshold(label & False, probability))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=40))
def test_no_threshold_has_a_better_f1(drawn):
    label, tenths = (np.array(column) for column in zip(*drawn, strict=True))
    if not label.any():
        return
    best = metrics.best_threshold(label, tenths / 10)
    scores = {x: value(metrics.threshold_scores(label, tenths / 10, x)["f1"]) for x in np.unique(tenths / 10)}
    assert scores[best] == pytest.approx(max(scores.values()))
    assert all(score < scores[best] + 1e-12 for x, score in scores.items() if x > best)


def test_errors_are_scikit_learns():
    rng = np.random.default_rng(3)
    predicted, true = rng.random((2, 100))
    more = np.append(predicted, 0.5), np.append(true, np.nan)  # unknown
    rmse = metrics.mse(*more).estimate().root().value
    assert rmse == pytest.approx(reference.root_mean_squared_error(true, predicted))
    assert value(metrics.mae(*more)) == pytest.approx(reference.mean_absolute_error(true, predicted))


def test_reliability_by_hand():
    label, probability = np.array([True, False, True, True]), np.array([0.0, 0.15, 0.1, 1.0])
    table = metrics.reliability(label, probability, 10)
    assert table["rows"].tolist() == [1, 2, 1]
    assert table["bin_from"] == pytest.approx([0, 0.1, 0.9])
    assert table["predicted"] == pytest.approx([0, 0.125, 1])
    assert table["observed"] == pytest.approx([1, 0.5, 1])
    assert metrics.expected_calibration_error(table) == pytest.approx((1 + 2 * 0.375 + 0) / 4)


def test_reliability_is_scikit_learns():
    rng = np.random.default_rng(4)
    probability = rng.random(2_000)
    label = rng.random(2_000) < probability
    table = metrics.reliability(label, probability, 10)
    observed, predicted = calibration_curve(label, probability, n_bins=10)
    assert table["observed"] == pytest.approx(observed)
    assert table["predicted"] == pytest.approx(predicted)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(-5, 5))), min_size=1, max_size=30))
def test_medians_are_those_of_numpy(rows):
    group = np.array([g for g, _ in rows])
    score = np.array([np.nan if x is None else float(x) for _, x in rows])
    found = metrics.with_medians(score, group, 5)
    for g in range(5):
        mine = group == g
        known = score[mine & ~np.isnan(score)]
        fill = np.median(known) if len(known) else 0.0
        assert found[mine] == pytest.approx(np.where(np.isnan(score[mine]), fill, score[mine]))
