import pytest

from nextreel.reporting import real_slice

BOOK = "# Rows\n\n<!-- slice: make slice -->\n\n<!-- /slice -->\n\nThe end.\n"


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/log.csv").write_text("a,b\n")
    return tmp_path / "data"


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.md"
    path.write_text(BOOK)
    return path


@pytest.fixture
def ran(monkeypatch):
    """The cells that were asked of a pipeline that is none; `stop` is one in which it is stopped."""
    asked = []

    def run(data, label, refit, confidence):
        if (label, refit) == run.stop:
            raise KeyboardInterrupt
        asked.append((label, refit))
        return f"### {label}, {refit}\n\n| model |\n|---|"

    run.stop = None
    monkeypatch.setattr(real_slice, "run", run)
    return run, asked


ALL = [("wtg", "none"), ("long_view", "none"), ("wtg", "train_valid"), ("long_view", "train_valid")]


def test_cells_are_written_one_by_one_and_finished_ones_skipped(data, book, ran):
    run, asked = ran
    run.stop = ALL[2]
    with pytest.raises(KeyboardInterrupt):
        real_slice.fill(data, book, "wtg", "abc", 0.95)
    assert "### long_view, none" in book.read_text()
    run.stop = None
    found = real_slice.fill(data, book, "wtg", "abc", 0.95)
    assert asked == ALL
    text = book.read_text()
    assert found in text
    assert [line[4:] for line in text.splitlines() if line.startswith("###")] == [", ".join(cell) for cell in ALL]
    assert text.startswith("# Rows\n")
    assert text.endswith("\n\nThe end.\n")
    real_slice.fill(data, book, "wtg", "abc", 0.95)
    assert asked == ALL
    assert book.read_text() == text


def test_cells_of_another_state_or_of_other_data_are_run_anew(data, book, ran):
    _run, asked = ran
    real_slice.fill(data, book, "wtg", "abc", 0.95)
    before = book.read_text()
    real_slice.fill(data, book, "wtg", "xyz", 0.95)
    (data / "log.csv").write_text("a,b\n1,2\n")
    real_slice.fill(data, book, "wtg", "xyz", 0.95)
    assert asked == 3 * ALL
    assert book.read_text().count("###") == before.count("###")


def test_a_label_is_asked_once(data, book, ran):
    real_slice.fill(data, book, "long_view", "abc", 0.95)
    assert ran[1] == ALL[1::2]
