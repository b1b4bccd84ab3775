"""Losses of next-item prediction: functions of the logits of M targets [M] and of their n negatives [M, n], to [M].

A negative that is its row's own target has the logit -inf and counts for nothing. With every video of the catalogue as
a negative, `softmax` is the full cross-entropy; with a sample, the sampled one (uniform, so logQ is a constant).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def bce(positive: Tensor, negative: Tensor) -> Tensor:
    """Binary cross-entropy, negatives summed; with n = 1 SASRec's own (Kang & McAuley, 2018)."""
    return F.softplus(-positive) + F.softplus(negative).sum(-1)


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """-log sigmoid(positive - negative), averaged over negatives (Rendle et al., UAI 2009)."""
    return F.softplus(negative - positive[:, None]).mean(-1)


def softmax(positive: Tensor, negative: Tensor) -> Tensor:
    """Cross-entropy of the target among itself and its negatives."""
    return torch.logaddexp(positive, negative.logsumexp(1)) - positive


LOSSES: dict[str, Loss] = {"bce": bce, "bpr": bpr, "sampled_softmax": softmax, "softmax": softmax}
