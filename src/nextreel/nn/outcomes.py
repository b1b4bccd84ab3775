"""What comes of a showing, by heads over one hidden layer: the state before it, the video, wide inputs -> numbers.

    positive     log-odds of the run's label            cross-entropy
    binary       log-odds of WTR > .5                   cross-entropy (SASRec4SV, 2023)
    linear       WTR, not below 0                       Huber (SASRec4SV, 2023, by the squared error)
    relevant     log-odds of WTG > 1                    cross-entropy
    gain         WTG                                    Huber
    watch_time   how likely each bin of watch time is   cross-entropy, see `watch_time`

WTR and WTG as in `labels`, whatever the run's label is. `pairwise` is no head: it trains `positive` to tell the
positives of a history from its other showings, -log sigmoid of the difference (BPR; Rendle et al., UAI 2009).
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from nextreel.nn.dropout import Dropout
from nextreel.nn.heads import BY_LISTS, NEXT_ITEM
from nextreel.nn.trainer import Choice
from nextreel.nn.watch_time import N_BINS
from nextreel.params import Int, NonNegativeFloat, Section, Share

Loss = Callable[[Tensor, Tensor], Tensor]  # of what a head says [m, n] and known values [m]: [m]
POSITIVE, BINARY, LINEAR, RELEVANT, GAIN = "positive", "binary", "linear", "relevant", "gain"
WATCH_TIME, PAIRWISE = "watch_time", "pairwise"
BIN = "watch_time_bin"  # the label of `watch_time`, of the fit's own bins


def above(bound: float) -> Loss:
    """The cross-entropy of whether values are above a bound."""

    def loss(found: Tensor, value: Tensor) -> Tensor:
        is_above = (value > bound).to(found.dtype)
        return F.binary_cross_entropy_with_logits(found[:, 0], is_above, reduction="none")

    return loss


def huber(found: Tensor, value: Tensor) -> Tensor:
    return F.huber_loss(found[:, 0], value, reduction="none")


def of_bins(found: Tensor, value: Tensor) -> Tensor:
    return F.cross_entropy(found, value.long(), reduction="none")


class Outcome(NamedTuple):
    column: str  # of the labels, that tells it: one of the store's events, or BIN
    loss: Loss
    size: int = 1  # numbers of a pair
    read: Callable[[Tensor], Tensor] = lambda found: found  # of what the layer before says
    bound: float | None = None  # what the value is to be above, of a head that says whether it is


def whether_above(column: str, bound: float) -> Outcome:
    return Outcome(column, above(bound), bound=bound)


OUTCOMES = {
    POSITIVE: whether_above("positive", 0.5),
    BINARY: whether_above("wtr", 0.5),
    LINEAR: Outcome("wtr", huber, read=torch.relu),
    RELEVANT: whether_above("wtg", 1.0),
    GAIN: Outcome("wtg", huber),
    WATCH_TIME: Outcome(BIN, of_bins, size=N_BINS),
}
# By which an epoch may be chosen, and how; the two of SASRec4SV as there.
CHOICES = {
    NEXT_ITEM: BY_LISTS,
    POSITIVE: Choice(POSITIVE, "loss", least=True),
    BINARY: Choice(BINARY, "f1"),
    LINEAR: Choice(LINEAR, "rmse", least=True),
    RELEVANT: Choice(RELEVANT, "f1"),
    GAIN: Choice(GAIN, "rmse", least=True),
    WATCH_TIME: Choice(WATCH_TIME, "loss", least=True),
}


class Weights(Section):
    """What the loss of each head weighs; 0: there is no such head."""

    next_item: NonNegativeFloat
    positive: NonNegativeFloat
    pairwise: NonNegativeFloat
    binary: NonNegativeFloat
    linear: NonNegativeFloat
    relevant: NonNegativeFloat
    gain: NonNegativeFloat
    watch_time: NonNegativeFloat

    @property
    def outcomes(self) -> list[str]:
        """The heads on outcomes that there are."""
        return [name for name in OUTCOMES if getattr(self, name)]

    @property
    def of_losses(self) -> dict[str, float]:
        """Of every loss that weighs something."""
        return {name: weight for name in type(self).model_fields if (weight := getattr(self, name))}


RELEVANT_GAIN = "relevant_gain"


class Params(Section):
    weights: Weights
    hidden: Annotated[Int, Field(ge=2)]  # width of the layer that the heads share; the one after it has half of it
    wide: bool  # whether they have counted inputs, see `wide`
    shown_id_dropout: Share  # `id_dropout` of the videos that they read
    # What the score of a pair is: what a head says, of `watch_time` the log-odds of a positive; or how likely it is
    # relevant x its gain (by softplus, which keeps it above 0), as a log.
    score: Literal["positive", "binary", "linear", "relevant", "gain", "watch_time", "relevant_gain"]
    chosen_by: Literal["next_item", "positive", "binary", "linear", "relevant", "gain", "watch_time"]  # see CHOICES

    @model_validator(mode="after")
    def _heads_are_there(self) -> Self:
        asked = {
            "score": (RELEVANT, GAIN) if self.score == RELEVANT_GAIN else (self.score,),
            "chosen_by": (self.chosen_by,),
            "weights.pairwise": (POSITIVE,) if self.weights.pairwise else (),
        }
        for key, names in asked.items():
            if lacking := [name for name in names if not getattr(self.weights, name)]:
                told, are = " and ".join(f"`weights.{name}`" for name in lacking), "is" if len(lacking) == 1 else "are"
                raise ValueError(f"`{key}` asks for {', '.join(names)}, but {told} {are} 0; choose more")
        return self


class Outcomes(nn.Module):
    """The heads that weigh something."""

    def __init__(self, params: Params, width: int, n_wide: int, dropout: float) -> None:
        super().__init__()
        self.names, self.id_dropout, hidden = params.weights.outcomes, params.shown_id_dropout, params.hidden
        self.sizes = [OUTCOMES[name].size for name in self.names]
        self.norm_state, self.norm_video = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Sequential(
            *(nn.Linear(3 * width + n_wide, hidden), nn.ReLU(), Dropout(dropout)),
            *(nn.Linear(hidden, hidden // 2), nn.ReLU()),
        )
        self.heads = nn.Linear(hidden // 2, sum(self.sizes))
        self.wide = nn.Linear(n_wide, sum(self.sizes), bias=False) if n_wide else None
        # At the start all pairs are alike, and above 0: a ReLU that is 0 everywhere learns nothing. Heads that begin at
        # the means of their labels learn less in a few epochs, see the lab book (how heads begin).
        nn.init.zeros_(self.heads.weight)
        if self.wide is not None:
            nn.init.zeros_(self.wide.weight)
        nn.init.constant_(self.heads.bias, 0.5)

    def forward(self, state: Tensor, video: Tensor, wide: Tensor) -> dict[str, Tensor]:
        """state [M, D], video [M, D], wide [M, K], K may be 0 -> what each head says [M, n]."""
        state, video = self.norm_state(state), self.norm_video(video)
        hidden = self.mix(torch.cat([state, video, state * video, wide], dim=1))
        found = self.heads(hidden) if self.wide is None else self.heads(hidden) + self.wide(wide)
        parts = zip(self.names, found.split(self.sizes, dim=1), strict=True)
        return {name: OUTCOMES[name].read(part) for name, part in parts}

    def losses(self, found: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mean of each head's loss over the targets [M] of which is known what came of them; 0 without any.

        labels: by column [M], NaN where nobody knows.
        """
        losses = {}
        for name, said in found.items():
            value = labels[OUTCOMES[name].column]
            known = ~value.isnan()
            loss = OUTCOMES[name].loss(said, torch.where(known, value, 0.0)) * known
            losses[name] = loss.sum() / known.sum().clamp(min=1)
        return losses


def pairwise(score: Tensor, label: Tensor, group: Tensor) -> Tensor:
    """The mean over targets [M] that meet one of the other label when each draws another of its group: of two, -log
    sigmoid of how far the positive is ahead. label: 1, 0 or NaN. group: in order."""
    if not len(group):
        return score.sum()
    _groups, which, size = group.unique_consecutive(return_inverse=True, return_counts=True)
    first = size.cumsum(0) - size
    drawn = (torch.rand(len(group), device=group.device) * size[which]).long().clamp(max=size[which] - 1)
    other = first[which] + drawn
    apart = (label - label[other]).nan_to_num(0.0)  # 1 or -1 of a pair
    told = apart.abs()
    return (F.softplus(-(score - score[other]) * apart) * told).sum() / told.sum().clamp(min=1)


def measures(name: str, found: Tensor, value: Tensor) -> dict[str, float]:
    """How well a head says known values [m]: the root of its mean squared error, or F1 at even odds; NaN of nothing;
    of `watch_time` its loss tells it."""
    outcome = OUTCOMES[name]
    if outcome.bound is not None:
        is_above, said = value > outcome.bound, found[:, 0] > 0
        return {"f1": float(2 * (is_above & said).sum() / (is_above.sum() + said.sum()))}
    return {"rmse": float((found[:, 0] - value).square().mean().sqrt())} if outcome.size == 1 else {}
