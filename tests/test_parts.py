"""Which fit answers which part, from the parts and the cuts themselves."""

import numpy as np
import pytest

from nextreel.parts import ANSWERED_BY, CUTS, PARTS, QUESTIONS, answering, cuts_to_fit


@pytest.mark.parametrize(
    ("part", "order"),
    [
        ("fuse", ["early"]),
        ("valid", ["train"]),
        ("test", ["train_valid", "train"]),
        ("next", ["all"]),
    ],
)
def test_the_fit_that_reads_furthest_of_those_that_may_answers(part, order):
    fitted = {cut: f"fitted on {cut}" for cut in CUTS}
    for expected in order:
        assert answering(part, fitted) == f"fitted on {expected}"
        del fitted[expected]


@pytest.mark.parametrize("part", ["fuse", *QUESTIONS])
def test_a_part_that_no_fit_may_answer_is_an_error(part):
    with pytest.raises(KeyError):
        answering(part, {cut: 1 for cut in CUTS if cut not in ANSWERED_BY[part]})


def test_the_order_in_which_models_were_fitted_does_not_matter():
    fitted = {cut: cut for cut in reversed(CUTS)}
    assert [answering(part, fitted) for part in ("fuse", *QUESTIONS)] == ["early", "train", "train_valid", "all"]


def test_one_fit_on_train_answers_what_is_judged():
    assert {answering(part, {"train": 1}) for part in ("valid", "test")} == {1}


def test_the_cuts_to_fit_are_those_that_are_asked_for():
    assert cuts_to_fit(None, recommends=False) == ("train",)
    assert cuts_to_fit("train_valid", recommends=False) == ("train", "train_valid")
    assert cuts_to_fit(None, recommends=True) == ("train", "all")
    assert cuts_to_fit("train_valid", recommends=True) == ("train", "train_valid", "all")


def test_what_is_missing_is_named():
    """A KeyError whose words say which part has no answer and what there is."""
    with pytest.raises(KeyError, match="valid"):
        answering("valid", {"train_valid": 1})


# Where a fit ends and where a question begins, counted in the stretches of the drawing in `parts`.
STRETCHES = ("before", "train", "fuse", "valid", "test", "after", "next")
LAST_READ = {"early": "train", "train": "fuse", "train_valid": "valid", "all": "test"}


def test_no_part_is_answered_by_a_fit_that_reads_it_or_later():
    assert set(LAST_READ) == set(CUTS)
    assert [part for part in STRETCHES if part in PARTS] == list(PARTS)
    for part, cuts in ANSWERED_BY.items():
        for cut in cuts:
            assert STRETCHES.index(LAST_READ[cut]) < STRETCHES.index(part), f"{cut} answers {part}"


def test_no_case_is_answered_by_a_fit_that_reads_its_target(cycle):
    """The same from a log: every position that the fit reads of the case's user lies before the case."""
    for part in QUESTIONS:
        cases = cycle.cases(part)
        for cut in ANSWERED_BY[part]:
            _position, owner = cycle.store.fitted_on(cut).flat()
            read = np.bincount(owner, minlength=cycle.store.n_users + 1)
            assert (read[cases.user_idx] <= cases.history_end).all()
