"""Losses of choosing a target among sampled videos: functions to the loss [M] of each target. (All: `cross_entropy`.)

They are functions of the logits of the targets [M] and of their n negatives [M, n], where a negative that is its row's
own target has the logit -inf and counts for nothing.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def bce(positive: Tensor, negative: Tensor) -> Tensor:
    """Binary cross-entropy, negatives summed; with n = 1 SASRec's own (Kang & McAuley, 2018)."""
    return F.softplus(-positive) + F.softplus(negative).sum(-1)


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """-log sigmoid(positive - negative), averaged over negatives (Rendle et al., UAI 2009)."""
    return F.softplus(negative - positive[:, None]).mean(-1)


def sampled_softmax(positive: Tensor, negative: Tensor) -> Tensor:
    """Cross-entropy of the target among itself and its negatives, which are uniform, so that logQ is a constant."""
    return torch.logaddexp(positive, negative.logsumexp(1)) - positive


Sampled = Callable[[Tensor, Tensor], Tensor]
SAMPLED: dict[str, Sampled] = {"bce": bce, "bpr": bpr, "sampled_softmax": sampled_softmax}
SHARED = {"sampled_softmax"}  # its negatives are the batch's, the others' each target's own
