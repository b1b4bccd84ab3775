"""What comes of a showing, by heads over one hidden layer: the state before it, the video, wide inputs -> a number.

    positive   log-odds of the run's label     cross-entropy
    binary     log-odds of WTR > .5            cross-entropy (SASRec4SV, 2023)
    linear     WTR, not below 0                Huber (SASRec4SV, 2023, by the squared error)
    relevant   log-odds of WTG > 1             cross-entropy
    gain       WTG                             Huber

WTR and WTG as in `labels`, whatever the run's label is.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nextreel.nn.dropout import Dropout
from nextreel.params import Int, NonNegativeFloat, PositiveFloat, Section

Loss = Callable[[Tensor, Tensor], Tensor]  # of predictions [m] and known values [m]: [m]


def above(bound: float) -> Loss:
    """The cross-entropy of whether values are above a bound."""

    def loss(found: Tensor, value: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(found, (value > bound).to(found.dtype), reduction="none")

    return loss


def huber(found: Tensor, value: Tensor) -> Tensor:
    return F.huber_loss(found, value, reduction="none")


class Outcome(NamedTuple):
    column: str  # of the store's events, that tells it
    loss: Loss
    read: Callable[[Tensor], Tensor] = lambda found: found  # of what the layer before says


OUTCOMES = {
    "positive": Outcome("positive", above(0.5)),
    "binary": Outcome("wtr", above(0.5)),
    "linear": Outcome("wtr", huber, torch.relu),
    "relevant": Outcome("wtg", above(1.0)),
    "gain": Outcome("wtg", huber),
}


class Weights(Section):
    """What the loss of each head weighs; 0, where that is allowed: there is no such head."""

    next_item: PositiveFloat
    positive: PositiveFloat
    binary: NonNegativeFloat
    linear: NonNegativeFloat
    relevant: NonNegativeFloat
    gain: NonNegativeFloat

    @property
    def outcomes(self) -> dict[str, float]:
        """Of the heads on outcomes that there are."""
        return {name: weight for name in OUTCOMES if (weight := getattr(self, name))}


class Params(Section):
    weights: Weights
    hidden: Annotated[Int, Field(ge=2)]  # width of the layer that the heads share; the one after it has half of it


class Outcomes(nn.Module):
    """The heads that weigh something."""

    def __init__(self, params: Params, width: int, n_wide: int, dropout: float) -> None:
        super().__init__()
        self.weights, hidden = params.weights.outcomes, params.hidden
        self.names = list(self.weights)
        self.norm_state, self.norm_video = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Sequential(
            *(nn.Linear(3 * width + n_wide, hidden), nn.ReLU(), Dropout(dropout)),
            *(nn.Linear(hidden, hidden // 2), nn.ReLU()),
        )
        self.heads = nn.Linear(hidden // 2, len(self.names))
        self.wide = nn.Linear(n_wide, len(self.names), bias=False)
        nn.init.zeros_(self.heads.weight)  # at the start the wide inputs speak alone

    def forward(self, state: Tensor, video: Tensor, wide: Tensor) -> Tensor:
        """state [M, D], video [M, D], wide [M, K] -> [M, heads]."""
        state, video = self.norm_state(state), self.norm_video(video)
        hidden = self.mix(torch.cat([state, video, state * video, wide], dim=1))
        found = self.heads(hidden) + self.wide(wide)
        read = [OUTCOMES[name].read(column) for name, column in zip(self.names, found.T, strict=True)]
        return torch.stack(read, dim=1)

    def loss(self, found: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """The sum, by weight, of each head's mean loss over the targets [M] of which is known what came of them.

        labels: by column [M], NaN where nobody knows.
        """
        total = found.new_zeros(())
        for column, (name, weight) in zip(found.T, self.weights.items(), strict=True):
            outcome = OUTCOMES[name]
            value = labels[outcome.column]
            known = ~value.isnan()
            losses = outcome.loss(column, torch.where(known, value, 0.0)) * known
            total = total + weight * losses.sum() / known.sum().clamp(min=1)
        return total
