"""The parts of a log in time, and how far a model may read before it answers each. `|` = a bound.

                 before |   train    fuse | valid | test | after
    early               |---------|       |       |      |
    train               |---------|-------|       |      |
    train_valid         |---------|-------|-------|      |
    all                 |---------|-------|-------|------|

`fuse` is the end of train, as many rows as valid has: what a model fitted on `early` answers teaches how to fuse and to
rank. Rows before and after are history, but teach no model.
"""

from collections.abc import Mapping
from typing import TypeVar

PARTS = ("before", "train", "valid", "test", "after")  # of the standard rows
RANDOM = "random"  # the part of the rows exposed at random: they judge, and teach nothing
QUESTIONS = ("valid", "test", "next")  # what models are asked; `next` is whatever comes after the log
CUTS = ("early", "train", "train_valid", "all")  # how far a fit reads
# Which fit answers which part: the first of these that was made. One that reads further would know the answers.
ANSWERED_BY = {
    "fuse": ("early",),
    "valid": ("train",),
    "test": ("train_valid", "train"),
    "next": ("all",),
}

T = TypeVar("T")


def cuts_to_fit(refit: str | None, recommends: bool) -> tuple[str, ...]:
    """The cuts that a model is fitted on: train, the one that answers test, and `all` if it takes part in
    recommendations."""
    return ("train", *((refit,) if refit else ()), *(("all",) if recommends else ()))


def answering(part: str, fitted: Mapping[str, T]) -> T:
    """Of what was fitted, by cut, the one that answers a part. Raises KeyError where there is none."""
    for cut in ANSWERED_BY[part]:
        if cut in fitted:
            return fitted[cut]
    raise KeyError(f"{part} is answered by a fit on {' or '.join(ANSWERED_BY[part])}; there is {', '.join(fitted)}")
