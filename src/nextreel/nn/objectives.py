"""Losses of choosing a target among sampled videos: functions to the loss [M] of each target. (All: `cross_entropy`.)

They are functions of the logits of the targets [M] and of their n negatives [M, n], where a negative that is its row's
own target has the logit `HIT` and counts for nothing.
"""

import torch.nn.functional as F
from torch import Tensor

# In place of -inf, which gives a row of nothing else a gradient that is no number. It counts as little: exp(HIT) is 0.
HIT = -1e30


def bce(positive: Tensor, negative: Tensor) -> Tensor:
    """Binary cross-entropy, negatives summed; with n = 1 SASRec's own (Kang & McAuley, ICDM 2018)."""
    return F.softplus(-positive) + F.softplus(negative).sum(-1)


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """-log sigmoid(positive - negative), averaged over negatives (Rendle et al., UAI 2009)."""
    return F.softplus(negative - positive[:, None]).mean(-1)


def gbce(positive: Tensor, negative: Tensor, power: float) -> Tensor:
    """`bce` with the positive's probability to a power (gSASRec: Petrov & Macdonald, RecSys 2023).

    By log(p^power) = power log(p), which is exact; raised itself, the probability needs float64.
    """
    return F.softplus(-positive) * power + F.softplus(negative).sum(-1)


def gbce_power(n_negatives: int, n_items: int, t: float) -> float:
    """beta = alpha (t (1 - 1 / alpha) + 1 / alpha), for negatives drawn uniformly from the other items.

    alpha = n_negatives / (n_items - 1) is the share of negatives that a target sees, at most 1. t = 0 is `bce`; t = 1
    makes sigmoid(logit) a probability again, which few negatives inflate.
    """
    alpha = min(1.0, n_negatives / max(1, n_items - 1))
    return 1 - t * (1 - alpha)


def sampled_softmax(positive: Tensor, negative: Tensor) -> Tensor:
    """Cross-entropy of the target among itself and its negatives."""
    return F.softplus(negative.logsumexp(1) - positive)
