"""How a neural model in training is watched and kept: what chooses its epoch on valid, where its state lies."""

from pathlib import Path
from typing import Protocol

import numpy as np

from nextreel import arrays
from nextreel.cases.asked import Cases
from nextreel.cases.store import Histories, Store
from nextreel.contract import Scorer
from nextreel.metrics import ranks
from nextreel.nn.checkpoint import Checkpoint
from nextreel.nn.trainer import Session
from nextreel.scoring.retrieve import target_ranks
from nextreel.scoring.sets import EvalSet


class Learner(Scorer, Protocol):
    """What is trained by a loss."""

    def mean_loss(self, cases: Cases, histories: Histories, video_idx: np.ndarray) -> float:
        """Of the videos [n] that the cases are to find, as far as it knows them; NaN if it knows none."""
        ...


def validate(model: Learner, store: Store, asked: EvalSet) -> dict[str, float]:
    """The mean loss of the targets of valid that the model knows, NaN without one; metrics to select by."""
    valid = asked.of("valid")
    loss = model.mean_loss(valid.cases, valid.cases.histories(store), valid.target)
    return {"loss": loss} | _metrics(target_ranks(model, store, asked, "valid", "validating"))


def session(
    store: Store, asked: EvalSet, seed: int, cut: str, key: str, curve: Path, rates: Path, kept: Path
) -> Session:
    """Of the fit on a cut. The one on train chooses its epoch on valid, and the first seed's (`asked.seed`) writes the
    curve. rates, kept: folders, of a file a fit. key: of everything else that decides how the fit goes."""
    on_train = cut == "train"
    return Session(
        measure=(lambda model: validate(model, store, asked)) if on_train else None,
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
