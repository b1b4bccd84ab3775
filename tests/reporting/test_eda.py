import ibis
import numpy as np
import pytest
from matplotlib.image import imread

from nextreel import eda, labels, splits
from nextreel.cases import write
from nextreel.datasets import kuairand
from nextreel.eda import Findings, Spectrum
from nextreel.reporting import eda as pictures

NAMES = ["dependence", "fans", "lengths", "popularity", "repeats", "watch_time"]


@pytest.fixture(scope="module")
def found(tiny_world, committed, ingest, connect):
    """What a tiny simulated world shows, from the raw files to the numbers."""
    tables = kuairand.read(connect(), ingest(tiny_world)).tables
    bounds = splits.bounds(tables["interactions"], splits.Params(**committed["split"]))
    parts = splits.temporal(tables["interactions"], tables["random"], bounds)
    settings = labels.Params(**committed["label"])
    labelled = labels.label(parts, write.fit(parts, settings, leave_one_out=False), settings)
    asked = eda.Params(**committed["eda"])
    standard = labelled.filter(ibis._.part != "random")
    return eda.explore(standard, tables["users"], tables["videos"], asked, np.random.default_rng(42))


def drawn(found, folder):
    folder.mkdir()
    pictures.draw(found, folder)
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


def without(found, *tables):
    """The findings of a source that says nothing about some tables."""
    bare = {name: {key: column[:0] for key, column in found.tables[name].items()} for name in tables}
    return Findings(found.numbers, found.tables | bare)


def test_the_same_numbers_give_the_same_bytes(found, tmp_path):
    first, second = drawn(found, tmp_path / "first"), drawn(found, tmp_path / "second")
    assert sorted(first) == NAMES
    assert first == second
    assert not any(b"matplotlib" in content.lower() for content in first.values())


def test_pictures_are_white_and_of_one_width(found, tmp_path):
    drawn(found, tmp_path / "all")
    for name in NAMES:
        pixels = imread(tmp_path / "all" / f"{name}.png")
        assert pixels.shape[1] == pictures.WIDTH_IN * pictures.DPI
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])  # nothing is cut off
        assert (edge == 1).all(), name
        assert pixels.min() < 0.5


def test_what_is_unknown_has_no_picture(found, tmp_path):
    bare = without(found, "fans", "watch_time", "dependence")
    assert sorted(drawn(bare, tmp_path / "some")) == ["lengths", "popularity", "repeats"]


def texts(figure):
    return " | ".join(text.get_text() for axes in figure.axes for text in [axes.title, *axes.texts])


def test_titles_hold_the_numbers(found):
    numbers = found.numbers
    assert f"median {numbers['events_per_user_p50']}" in texts(pictures.lengths(found))
    assert f"{numbers['popularity_top_20_percent_share']:.0%}" in texts(pictures.popularity(found))
    assert f"{numbers['fans_1000_or_more_share']:.1%}" in texts(pictures.fans(found))
    assert f"{numbers['repeated_share']:.1%}" in texts(pictures.repeats(found))
    assert f"{numbers['next_video_hr@10_in_order']:.1%}" in texts(pictures.dependence(found))


def test_the_line_of_1000_fans_stands_where_its_bin_begins(found):
    def line(fans):
        value, n = np.unique(np.array(fans), return_counts=True)
        axes = pictures.fans(Findings(found.numbers, {"fans": Spectrum(value, n).by_size()})).axes[0]
        ticks = {tick.get_text(): place for place, tick in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
        return [line.get_xdata()[0] for line in axes.lines], ticks

    places, ticks = line([0, 5, 999, 1000, 5000])
    assert places == [ticks["1,000"]]
    assert ticks["0"] < ticks["1"] < ticks["10"]
    assert line([0, 5, 30])[0] == []  # nobody comes near


def test_a_log_of_one_event_can_be_drawn(tmp_path):
    value, n = np.array([1]), np.array([1])
    one = Spectrum(value, n)
    tables = {"popularity": one.by_rank(), "repeats": eda.repeats(one)}
    tables |= {name: one.by_size() for name in ("events_per_user", "events_per_session", "fans")}
    tables |= {name: {"none": np.array([])} for name in ("watch_time", "dependence")}
    numbers = dict.fromkeys(["events_per_user_p50", "events_per_session_p50"], 1)
    numbers |= dict.fromkeys(["popularity_gini", "repeated_share", "fans_1000_or_more_share"], 0.0)
    numbers |= {f"popularity_top_{percent}_percent_share": 1.0 for percent in (1, 20)}
    assert sorted(drawn(Findings(numbers, tables), tmp_path / "one")) == ["fans", "lengths", "popularity", "repeats"]
