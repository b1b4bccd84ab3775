from datetime import date

import numpy as np
import pytest

from nextreel import checking
from nextreel.cases.store import Column, NamedColumns
from nextreel.params import Params
from nextreel.reporting import clones, published
from nextreel.reporting.book import Book
from nextreel.reporting.published import PUBLISHED, Days


@pytest.mark.parametrize("head", published.PAPER)
def test_the_settings_are_sound_and_what_is_asked_has_the_last_word(root, tmp_path, head):
    """Every mistake that `check` knows would be told here."""
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    params = Params.load(root / "params.yaml")
    clones.change(tmp_path, published.changes(params, head, PUBLISHED, {"model.dropout": 0.2}))
    found = Params.load(tmp_path / "params.yaml")
    checking.check(found, tmp_path / "scratch")
    own = found.get("train.sasrec4sv")
    assert {name for name, weight in own["weights"].items() if weight} == {head}
    assert (own["score"], own["chosen_by"], own["wide"]) == (head, head, False)
    assert (found.get("model.dropout"), found.get("model.epochs"), found.get("label.wtr_cap")) == (0.2, 75, None)
    assert [found.get(f"split.{name}") for name in ("train_from", "valid_from", "test_from", "test_until")] == [
        "2022-04-09", "2022-04-21", "2022-04-22", "2022-04-22"
    ]  # fmt: skip


def test_a_log_without_the_days_of_the_paper_is_cut_in_their_shape():
    assert published.days_of(date(2022, 4, 8), date(2022, 5, 8)) == PUBLISHED
    cut = published.days_of(date(2022, 4, 25), date(2022, 5, 8))
    assert cut == Days(date(2022, 4, 25), date(2022, 5, 7), date(2022, 5, 8))
    assert published.days_of(date(2022, 4, 10), date(2022, 5, 8)).test_from == date(2022, 5, 8)
    assert (cut.valid_from - cut.train_from).days == (PUBLISHED.valid_from - PUBLISHED.train_from).days == 12


def test_the_days_of_the_simulated_log(root):
    first, last = published.logged(Params.load(root / "params.yaml"))
    assert (first, last) == (date(2022, 4, 8), date(2022, 5, 8))


def test_what_counting_says_by_hand(cycle):
    """A video never seen in train has the mean of all; an unknown WTR counts for nothing."""
    store = cycle.store
    wtr = np.where(np.arange(len(store.events("video_idx"))) % 2, 0.75, 0.25)
    wtr[::10] = np.nan
    tables = store.tables | {"events": NamedColumns(store.tables["events"] | {"wtr": wtr})}
    store = type(store)(store.offsets, store.cuts, tables, store.columns | {"events/wtr": Column("number")})
    position, _owner = store.fitted_on("train").flat()
    position = position[~np.isnan(wtr[position])]
    video, mean = store.events("video_idx")[position], wtr[position].mean()
    own = wtr[position][video == 7]
    found = published.counted(store, "linear", np.array([7, 0]))
    assert found["mean of all"] == pytest.approx([mean, mean])
    smoothed = (own.sum() + published.PRIOR * mean) / (len(own) + published.PRIOR)
    assert found["mean of the video"] == pytest.approx([smoothed, mean])
    above = published.counted(store, "binary", np.array([0]))
    assert above["mean of all"] == pytest.approx([(wtr[position] > 0.5).mean()])


def test_curves_are_drawn(tmp_path):
    curve = [
        {"epoch": str(epoch), "loss": str(1 / epoch), "valid_loss": str(1.1 / epoch), "valid_f1": value, "kept": kept}
        for epoch, value, kept in ((1, "0.1", "0"), (2, "0.4", "1"), (3, "", "0"))
    ]
    published.write_picture(curve, "binary", tmp_path / "deeper" / "curve.png")
    assert (tmp_path / "deeper/curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("", "", "gain", ""), "HEAD is 'gain'; allowed: binary, linear"),
        (("/no/such/log", "", "binary", ""), "/no/such/log holds no files"),
    ],
)
def test_what_cannot_be_run_is_told(root, monkeypatch, arguments, told):
    monkeypatch.chdir(root)
    assert told in str(published.main(*arguments))


def test_the_book_has_its_marks(root):
    assert isinstance(Book(root / published.BOOK, published.MODEL).read(), dict)
