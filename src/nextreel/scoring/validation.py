"""How a neural model in training is watched and kept: what chooses its epoch on valid, where its state lies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from nextreel import arrays
from nextreel.cases.asked import Cases
from nextreel.cases.pairs import Pairs
from nextreel.cases.store import Histories, Store
from nextreel.contract import Judge, Scorer
from nextreel.metrics import ranks
from nextreel.nn.checkpoint import Checkpoint
from nextreel.nn.heads import NEXT_ITEM
from nextreel.nn.trainer import Measured, Session
from nextreel.scoring.retrieve import target_ranks
from nextreel.scoring.sets import EvalSet, ShownPairs


class Learner(Scorer, Protocol):
    """What is trained by a loss."""

    params: Any

    @classmethod
    def makes_lists(cls, params: Any) -> bool:
        """Whether it is trained on what is shown next."""
        ...

    def mean_loss(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> float:
        """Of the videos [n] that the cases are to find, as far as it knows them; NaN if it knows none."""
        ...


class Showings(NamedTuple):
    """Impressions [m] of valid."""

    pairs: Pairs
    told: Mapping[str, np.ndarray]  # what came of them, by column of the store's events [m]; NaN where nobody knows

    @classmethod
    def load(cls, data: Path, store: Store, shown: ShownPairs) -> Self:
        """Read valid_outcomes.parquet, see `ShownPairs.first`."""
        told = arrays.load(data / "valid_outcomes.parquet")
        told = {name: values[shown.first(told["impression"])] for name, values in told.items()}
        pairs = shown.pairs(store).where(told.pop("impression"))
        return cls(pairs, told | {"positive": told.pop("label").astype(float)})


def validate(model: Learner, store: Store, asked: EvalSet, showings: Showings | None = None) -> Measured:
    """Of the next video, if it is trained on that, the mean loss of the targets of valid that the model knows, NaN
    without one, and metrics of their ranks; of a Judge what its other heads are worth on showings."""
    found: dict[str, Mapping[str, float]] = {}
    if model.makes_lists(model.params):
        valid = asked.of("valid")
        loss = model.mean_loss(valid.cases, valid.cases.histories(store), valid.target)
        found[NEXT_ITEM] = {"loss": loss} | _metrics(target_ranks(model, store, asked, "valid", "validating"))
    if showings and isinstance(model, Judge):
        found |= model.judged(*showings)
    return found


def session(
    store: Store,
    asked: EvalSet,
    showings: Showings,
    seed: int,
    cut: str,
    key: str,
    curve: Path,
    rates: Path,
    kept: Path,
) -> Session:
    """Of the fit on a cut. The one on train chooses its epoch on valid, and the first seed's (`asked.seed`) writes the
    curve. rates, kept: folders, of a file a fit. key: of everything else that decides how the fit goes."""
    on_train = cut == "train"
    return Session(
        measure=(lambda model: validate(model, store, asked, showings)) if on_train else None,
        curve=curve if on_train and seed == asked.seed else None,
        rates=rates / f"{seed}-{cut}.csv",
        checkpoint=Checkpoint(kept / f"{seed}-{cut}.safetensors", f"{key} {seed} {cut}"),
    )


def of_ranks(path: Path, asked: EvalSet) -> dict[str, float]:
    """The same from a table of target ranks, see `predict.fit_and_predict`: over the cases of all its seeds."""
    table, valid = arrays.load(path), asked.of("valid").cases.case_id
    return {f"valid_{key}": value for key, value in _metrics(table["rank"][np.isin(table["case_id"], valid)]).items()}


def _metrics(rank: np.ndarray) -> dict[str, float]:
    return {"hr@10": float(ranks.hit(rank, 10).mean()), "ndcg@10": float(ranks.ndcg(rank, 10).mean())}
