"""The head's loss against plain loops, and against the full softmax that a sampled one stands for."""

import copy
import itertools
import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nextreel.nn.heads import NextItem, Params

WIDTH, N = 4, 9
EVENTS = np.array([40, 20, 10, 8, 8, 6, 4, 3, 1])
TARGET = torch.tensor([0, 3, 8, 0])
SETTINGS = {"loss": "softmax", "negatives": 5, "negatives_from": "uniform", "logq": None, "gbce_t": 0.75}
OWN = ["bce", "bpr", "gbce"]  # losses by negatives of each target
SAMPLED = [*OWN, "sampled_softmax"]


class Head(NextItem):
    def losses(self, queries, target, items, rng):
        """The loss of each target [M], by a weight on it alone; for each the same is drawn."""
        alone = torch.eye(len(target), dtype=queries.dtype)
        generators = [*(copy.deepcopy(rng) for _ in target[1:]), rng]
        each = zip(alone, generators, strict=True)
        return torch.stack([self.loss(queries, target, weight, items, same) for weight, same in each])


class Table:
    """Vectors without a model."""

    def __init__(self, values):
        self.weight = torch.nn.Parameter(values)

    def __len__(self):
        return len(self.weight)

    def vectors(self, index):
        return self.weight if index is None else self.weight[index]


@pytest.fixture
def items():
    return Table(torch.from_numpy(np.random.default_rng(1).standard_normal((N, WIDTH))))


@pytest.fixture
def queries():
    return torch.from_numpy(np.random.default_rng(2).standard_normal((len(TARGET), WIDTH))).requires_grad_()


def head(events=EVENTS, targets=EVENTS, **changes):
    return Head(Params(**SETTINGS | changes), events, targets)


def gradients(loss, queries, items):
    return torch.autograd.grad(loss, [queries, items.weight])


# --- against plain loops ---


def test_softmax_weighs_all_known_videos(items, queries):
    found = head().losses(queries, TARGET, items, np.random.default_rng(0))
    for loss, query, video in zip(found, queries, TARGET, strict=True):
        logits = items.weight @ query
        assert loss.item() == pytest.approx((logits.logsumexp(0) - logits[video]).item())


def expected_of_one(loss, positive, rivals, n):
    """The loss of one target from its logits, term by term. n: negatives, hits included."""
    if loss == "sampled_softmax":
        return torch.log((positive.exp() + rivals.exp().sum()) / positive.exp())
    if loss == "bpr":
        return -torch.sigmoid(positive - rivals).log().sum() / n
    power = 1 - 0.75 * (1 - min(1, n / (N - 1))) if loss == "gbce" else 1
    return -power * torch.sigmoid(positive).log() - (1 - torch.sigmoid(rivals)).log().sum()


@pytest.mark.parametrize(
    ("loss", "source"),
    [*((loss, "uniform") for loss in SAMPLED), *((loss, "popularity") for loss in SAMPLED if loss != "gbce")],
)
@pytest.mark.parametrize("n", [5, 50])
def test_a_sample_holds_known_videos_and_leaves_the_target_out(items, queries, loss, source, n):
    one = head(loss=loss, negatives=n, negatives_from=source)
    found = one.losses(queries, TARGET, items, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    if loss == "sampled_softmax":
        drawn = one.negatives.shared(TARGET, rng).expand(len(TARGET), n)
    else:
        drawn = one.negatives.own(len(TARGET), rng)
    assert n == 5 or (drawn == TARGET[:, None]).any()  # far more than there are videos: the target is drawn
    for loss_of_row, query, video, mine in zip(found, queries, TARGET, drawn, strict=True):
        rivals = torch.stack([items.weight[rival] @ query for rival in mine if rival != video])
        expected = expected_of_one(loss, items.weight[video] @ query, rivals, n)
        assert loss_of_row.item() == pytest.approx(expected.item())


def test_in_batch_negatives_are_the_targets_of_the_other_rows_that_are_other_videos(items, queries):
    found = head(loss="sampled_softmax", negatives=99, negatives_from="in_batch").losses(
        queries, TARGET, items, np.random.default_rng(0)
    )
    for loss, query, video in zip(found, queries, TARGET, strict=True):
        rivals = torch.stack([items.weight[other] @ query for other in TARGET if other != video])
        assert loss.item() == pytest.approx(
            expected_of_one("sampled_softmax", items.weight[video] @ query, rivals, 3).item()
        )


def test_uncorrected_draws_cost_one_call_of_the_generator(items, queries):
    """A batch's draws do not depend on what is made of them."""
    after = []
    for changes in ({}, {"logq": "negatives"}):
        rng = np.random.default_rng(0)
        head(loss="sampled_softmax", **changes).losses(queries, TARGET, items, rng)
        after.append(rng.integers(1 << 40))
    assert after[0] == after[1]


def test_all_items_learn_from_the_softmax_and_only_those_drawn_from_a_sample(items, queries):
    full = gradients(head().losses(queries, TARGET, items, np.random.default_rng(0)).sum(), queries, items)
    assert (full[1].abs().sum(1) > 0).all()
    one = head(loss="sampled_softmax", negatives=2)
    sampled = gradients(one.losses(queries, TARGET, items, np.random.default_rng(0)).sum(), queries, items)
    drawn = one.negatives.shared(TARGET, np.random.default_rng(0))
    assert set(sampled[1].abs().sum(1).nonzero().flatten().tolist()) == {*drawn.tolist(), *TARGET.tolist()}


@pytest.mark.parametrize("loss", ["softmax", *SAMPLED])
def test_the_loss_of_a_batch_is_the_mean_by_weight(items, queries, loss):
    weight = torch.tensor([1.0, 0.25, 0.5, 0.0], dtype=torch.float64)
    losses = head(loss=loss).losses(queries, TARGET, items, np.random.default_rng(0))
    found = head(loss=loss).loss(queries, TARGET, weight, items, np.random.default_rng(0))
    assert found.item() == pytest.approx(((weight * losses).sum() / 1.75).item())


# --- logQ ---


class Drawn:
    """A generator whose every draw is handed to it."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def integers(self, low, high, shape):
        return self.values.reshape(shape)

    def choice(self, n, k, replace, shuffle):
        return np.arange(k)


def test_logq_of_all_by_hand():
    """Videos with Q 1/2, 1/4, 1/4 and logits log 2, log 3, log 5; target 0, drawn 1, 2, 2. What is added to the
    sum is exp / Q: 4 for the target, 12 for video 1, twice 20 for video 2."""
    items, query = Table(torch.tensor([2.0, 3.0, 5.0]).double().log()[:, None]), torch.ones(1, 1).double()
    one = head(
        np.array([2, 1, 1]), loss="sampled_softmax", negatives=3, negatives_from="popularity", logq="all"
    )  # events 0, 0, 1, 2
    found = one.losses(query, torch.tensor([0]), items, Drawn([2, 3, 3]))
    assert found.item() == pytest.approx(-np.log(4 / (4 + 12 + 20 + 20)))


def test_logq_of_negatives_by_hand():
    """The same, with the target's 2 as it is, and the negatives' by how often they are expected, 3/4 each: 4 for
    video 1, twice 20/3 for video 2."""
    items, query = Table(torch.tensor([2.0, 3.0, 5.0]).double().log()[:, None]), torch.ones(1, 1).double()
    one = head(np.array([2, 1, 1]), loss="sampled_softmax", negatives=3, negatives_from="popularity", logq="negatives")
    found = one.losses(query, torch.tensor([0]), items, Drawn([2, 3, 3]))
    assert found.item() == pytest.approx(-np.log(2 / (2 + 4 + 20 / 3 + 20 / 3)))


@pytest.mark.parametrize("source", ["uniform", "popularity", "in_batch", "mixed"])
def test_the_gradient_is_that_of_the_paper_s_weighted_loss(items, queries, source):
    """stop_grad(1 - P) (log of the sum of exp(s - log Q) over negatives - s of the target), with P from the sample."""
    one = head(loss="sampled_softmax", negatives=6, negatives_from=source, logq="negatives")
    found = gradients(one.losses(queries, TARGET, items, np.random.default_rng(0)).sum(), queries, items)

    drawn = one.negatives.shared(TARGET, np.random.default_rng(0))
    uniform, popular = np.full(N, 1 / N), EVENTS / EVENTS.sum()
    in_batch = popular * 3 / 4  # of a drawn row, another one with this target
    q = {"uniform": uniform, "popularity": popular, "in_batch": in_batch, "mixed": (uniform + in_batch) / 2}[source]
    if source == "mixed":  # 3 uniform ones and 3 of the four rows
        assert len(drawn) == 6
    total = torch.zeros((), dtype=torch.float64)
    for query, video in zip(queries, TARGET, strict=True):
        rivals = torch.stack([(items.weight[j] @ query) - np.log(q[j]) for j in drawn if j != video])
        positive = items.weight[video] @ query
        p = positive.exp() / (positive.exp() + rivals.exp().sum() / len(drawn))
        total = total + (1 - p).detach() * (rivals.logsumexp(0) - positive)
    for mine, theirs in zip(found, gradients(total, queries, items), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


def test_a_sample_that_is_the_catalogue_is_the_full_softmax(items, queries):
    """Each video drawn once, from a uniform Q: nothing to correct, and what stands for all is all."""
    full = head().losses(queries, TARGET, items, np.random.default_rng(0))
    for logq in (None, "negatives"):
        one = head(loss="sampled_softmax", negatives=N, logq=logq)
        found = one.losses(queries, TARGET, items, Drawn(range(N)))
        torch.testing.assert_close(found, full, rtol=1e-6, atol=1e-6)


def test_draws_in_exact_proportion_to_q_are_the_full_softmax(items, queries):
    """Every event of the fit drawn once: video j EVENTS[j] times, as often as it is expected. With the negatives
    corrected that is the full softmax in value and gradient; with all, or none, it is not."""
    full = head().losses(queries, TARGET, items, np.random.default_rng(0))
    of_full = gradients(full.sum(), queries, items)
    error = {}
    for logq in ("negatives", "all", None):
        one = head(loss="sampled_softmax", negatives=100, negatives_from="popularity", logq=logq)
        found = one.losses(queries, TARGET, items, Drawn(range(100)))
        mine = gradients(found.sum(), queries, items)
        error[logq] = max((a - b).abs().max().item() for a, b in zip(mine, of_full, strict=True))
        if logq == "negatives":
            torch.testing.assert_close(found, full, rtol=1e-6, atol=1e-6)
    assert error["negatives"] < 1e-6
    assert min(error["all"], error[None]) > 0.1


def over_all_samples(items, query, video, logq):
    """The expected gradient by `items`: of every possible sample of four, by its probability."""
    events = np.array([5, 2, 1])
    one = head(events, loss="sampled_softmax", negatives=4, negatives_from="popularity", logq=logq)
    total = torch.zeros_like(items.weight)
    for sample in itertools.product(range(3), repeat=4):
        found = one.losses(query, video, items, Drawn([(0, 5, 7)[j] for j in sample]))  # the first event of each
        total += np.prod(events[list(sample)] / 8) * torch.autograd.grad(found.sum(), items.weight)[0]
    return total


def test_over_all_possible_samples_a_correction_brings_the_gradient_nearer_to_the_full_softmax_s():
    """Three videos, four draws, 81 samples: exact expectations; over four sets of vectors, and a popular and a rare
    target."""
    error = {None: [], "all": [], "negatives": []}
    for seed, video in itertools.product(range(4), (0, 2)):
        rng = np.random.default_rng(seed)
        items = Table(torch.from_numpy(rng.standard_normal((3, 2))))
        query, target = torch.from_numpy(rng.standard_normal((1, 2))), torch.tensor([video])
        full = torch.autograd.grad(head().losses(query, target, items, rng).sum(), items.weight)[0]
        for logq, found in error.items():
            off = over_all_samples(items, query, target, logq) - full
            found.append((off.norm() / full.norm()).item())
    assert np.mean(error["negatives"]) < 0.8 * np.mean(error["all"])
    assert np.mean(error["all"]) < np.mean(error[None])


@pytest.mark.parametrize("source", ["popularity", "in_batch", "mixed"])
def test_over_many_batches_the_mean_gradient_is_the_full_softmax_s_with_the_negatives_corrected(source):
    """40 negatives for batches of 60, whose first row asks for a popular video or a rarer one, the others for any. The
    correction of all treats a popular target as if it were one of many draws."""
    rng = np.random.default_rng(5)
    items = Table(torch.from_numpy(rng.standard_normal((N, WIDTH))))
    queries = torch.from_numpy(rng.standard_normal((60, WIDTH)))
    error = {}
    first = torch.eye(60, dtype=torch.float64)[0]  # weighs the first row alone
    for video, logq in itertools.product((0, 2), (None, "all", "negatives")):
        full = head().loss(queries, torch.full((60,), video), first, items, rng)
        of_full = torch.autograd.grad(full, items.weight)[0]
        one = head(loss="sampled_softmax", negatives=40, negatives_from=source, logq=logq)
        total = torch.zeros_like(items.weight)
        for _ in range(300):
            target = torch.from_numpy(rng.choice(N, 60, p=EVENTS / EVENTS.sum()))
            target[0] = video
            total += torch.autograd.grad(one.loss(queries, target, first, items, rng), items.weight)[0]
        error[video, logq] = ((total / 300 - of_full).norm() / of_full.norm()).item()
    assert error[0, "negatives"] < 0.05
    assert error[0, "negatives"] < 0.2 * min(error[0, "all"], error[0, None])
    assert max(error[2, "negatives"], error[2, "all"]) < 0.3 * error[2, None]


# --- extremes ---

KINDS = [
    *({"loss": loss} for loss in ("softmax", *OWN)),
    *(
        {"loss": "sampled_softmax", "negatives_from": source, "logq": logq}
        for source in ("uniform", "popularity", "in_batch", "mixed")
        for logq in (None, "all", "negatives")
        if (source, logq) != ("uniform", "all")
    ),
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))


@each_kind
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e4])
@pytest.mark.parametrize("target", [[0, 3, 8, 0], [8, 8, 8, 8], [2]])
def test_losses_and_gradients_are_finite(kind, scale, target):
    """Also where every negative is the target, and a batch is one row."""
    rng = np.random.default_rng(2)
    items = Table(torch.from_numpy(rng.standard_normal((N, WIDTH)).astype(np.float32) * scale))
    queries = torch.from_numpy(rng.standard_normal((len(target), WIDTH)).astype(np.float32)).requires_grad_()
    losses = head(**kind).losses(queries, torch.tensor(target), items, rng)
    assert torch.isfinite(losses).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients(losses.sum(), queries, items))


@each_kind
def test_one_known_video_is_no_question(kind):
    items, queries = Table(torch.ones(1, WIDTH)), torch.ones(2, WIDTH, requires_grad=True)
    target = torch.zeros(2, dtype=torch.int64)
    losses = head(np.array([3]), np.array([2]), **kind).losses(queries, target, items, np.random.default_rng(0))
    assert all(torch.isfinite(gradient).all() for gradient in gradients(losses.sum(), queries, items))
    if "softmax" in kind["loss"]:
        assert losses.tolist() == [0, 0]


@each_kind
def test_every_loss_overfits_one_batch(kind):
    """Twelve free queries and nine free vectors: every query comes to score its own target highest."""
    torch.manual_seed(0)
    items, queries = Table(torch.randn(N, 8) * 0.1), torch.nn.Parameter(torch.randn(12, 8) * 0.1)
    target = torch.tensor([*range(N), 0, 1, 0])
    one, rng = head(**kind), np.random.default_rng(0)
    optimizer = torch.optim.Adam([queries, items.weight], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        one.loss(queries, target, torch.ones(12), items, rng).backward()
        optimizer.step()
    assert ((queries @ items.weight.T).argmax(1) == target).all()


# --- what goes together ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logq": "all"}, "`logq` is 'all', but `loss` is 'softmax'; only sampled_softmax is corrected"),
        ({"logq": "negatives", "loss": "bce"}, "`logq` is 'negatives', but `loss` is 'bce'"),
        ({"logq": "all", "loss": "sampled_softmax"}, "choose `logq` negatives or none"),
        ({"negatives_from": "popularity"}, "softmax draws none"),
        ({"negatives_from": "in_batch", "loss": "bpr"}, "only sampled_softmax takes negatives from the batch"),
        ({"negatives_from": "mixed", "loss": "gbce"}, "only sampled_softmax takes negatives from the batch"),
        ({"negatives_from": "popularity", "loss": "gbce"}, "gbce reckons with uniform ones"),
        ({"negatives_from": "mixed", "loss": "sampled_softmax", "negatives": 1}, "allowed: at least 2"),
        ({"gbce_t": 1.5}, "less than or equal to 1"),
        ({"loss": "hinge"}, "loss"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        Params(**SETTINGS | changes)


@pytest.mark.parametrize("kind", [*KINDS, *({"loss": loss, "negatives_from": "popularity"} for loss in ("bce", "bpr"))])
def test_what_makes_sense_is_taken(kind):
    Params(**SETTINGS | kind)
