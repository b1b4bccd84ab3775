import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from nextreel.reporting import results_picture
from nextreel.reporting.eda import DPI, WIDTH_IN

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "reports" / "results.png"
METRICS = ROOT / "metrics"


def texts(figure):
    """All that is written in a picture."""
    written = [text.get_text() for axes in figure.axes for text in [axes.title, *axes.texts]]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    return [*names, *written, figure.get_supxlabel()]


def without(model, folder):
    """The committed comparison, but for the models whose names begin so."""
    with (METRICS / "comparison.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "comparison.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row for row in rows if not any(row[name].startswith(model) for name in ("model", "minus")))
    return folder


def test_the_picture_shows_the_committed_metrics(committed, tmp_path):
    again = tmp_path / "again.png"
    results_picture.write(METRICS, committed["evaluate"]["confidence"], again)
    assert np.array_equal(imread(again), imread(COMMITTED)), "stale: run `make table`"


def test_the_picture_is_white_and_nothing_is_cut_off():
    pixels = imread(COMMITTED)
    assert pixels.shape[1] == WIDTH_IN * DPI
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edge == 1).all()
    assert b"matplotlib" not in COMMITTED.read_bytes().lower()


def test_every_value_lies_on_its_axis():
    for axes in results_picture.draw(METRICS, 0.95).axes:
        left, right = axes.get_xlim()
        drawn = np.concatenate([line.get_xdata() for line in axes.lines])
        assert left <= drawn.min()
        assert drawn.max() < right


def test_the_picture_names_the_confidence_and_says_that_it_is_simulated():
    caption = results_picture.draw(METRICS, 0.995).get_supxlabel()
    assert "99.5 % intervals" in caption
    assert results_picture.SIMULATED in caption


def test_without_an_oracle_nothing_is_said_of_a_simulator(tmp_path):
    written = " | ".join(texts(results_picture.draw(without("oracle", tmp_path), 0.95)))
    assert "sasrec" in written
    assert not any(word in written.lower() for word in ("oracle", "simulat"))


def test_what_answers_one_protocol_alone_is_left_out_unless_all_do(tmp_path):
    left, right = results_picture.draw(METRICS, 0.95).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert {"two_stage", "oracle_laws", "rates"} < set(names)
    assert {"pool", "exhaustive", "oracle_ranker"}.isdisjoint(names)
    lines = (METRICS / "comparison.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "comparison.csv").write_text("".join(line for line in lines if not line.startswith("impressions,")))
    left, right = results_picture.draw(tmp_path, 0.95).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert {"pool", "two_stage"} < set(names)
    assert [text.get_text().strip() for text in right.texts] == ["next video only"] * len(names)


@pytest.mark.parametrize("rows", ["without a value", "none"])
def test_a_log_that_has_no_gauc_leaves_that_panel_empty(tmp_path, rows):
    """One of positives only, and one that is cut by leave-one-out."""
    with (METRICS / "comparison.csv").open(encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    protocol, first = header.index("protocol"), header.index("value")
    kept = [line for line in lines if line[protocol] == "next_item" or rows != "none"]
    for line in kept:
        if line[protocol] != "next_item":
            line[first:] = [""] * len(line[first:])
    with (tmp_path / "comparison.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *kept])
    figure = results_picture.draw(tmp_path, 0.95)
    figure.canvas.draw()
    left, right = figure.axes
    assert len(left.lines) > 0
    assert len(right.lines) == 0
    assert len(right.texts) == len(left.get_yticklabels())


def test_without_intervals_every_value_lies_on_its_axis_all_the_same(few_users):
    figure = results_picture.draw(few_users, 0.95)
    figure.canvas.draw()
    for axes in figure.axes:
        left, right = axes.get_xlim()
        drawn = np.concatenate([line.get_xdata() for line in axes.lines])
        assert left <= drawn.min()
        assert drawn.max() < right
        assert all(np.isfinite(text.xy).all() for text in axes.texts if hasattr(text, "xy"))
