import pytest

from nextreel.errors import UserError
from nextreel.reporting.book import Book, fingerprint

TEXT = "# Rows\n\n<!-- rows: make rows -->\n\n<!-- /rows -->\n\nThe end.\n"


@pytest.fixture
def book(tmp_path):
    (tmp_path / "book.md").write_text(TEXT)
    return Book(tmp_path / "book.md", "rows")


class Makes:
    """Cells that note when they are made; one of them is stopped."""

    def __init__(self, *names, stopped=None):
        self.made, self.stopped = [], stopped
        self.wanted = {name: lambda name=name: self(name) for name in names}

    def __call__(self, name):
        if name == self.stopped:
            raise KeyboardInterrupt
        self.made.append(name)
        return f"### {name}"


def test_a_cell_is_written_as_soon_as_it_is_made_and_skipped_then(book):
    stopped, again = Makes("a", "b, c", stopped="b, c"), Makes("a", "b, c")
    with pytest.raises(KeyboardInterrupt):
        book.fill("s1", stopped.wanted)
    assert book.read() == {"a, s1": "### a"}
    assert book.fill("s1", again.wanted) == book.read() == {"a, s1": "### a", "b, c, s1": "### b, c"}
    assert again.made == ["b, c"]
    text = book.path.read_text()
    assert text.startswith("# Rows\n")
    assert text.endswith("\n\nThe end.\n")


def test_cells_of_another_state_go_and_others_that_are_not_wanted_stay(book):
    book.fill("s1", Makes("a").wanted)
    book.fill("s2", Makes("b").wanted)
    assert list(book.fill("s2", Makes("c").wanted)) == ["b, s2", "c, s2"]


def test_a_fingerprint_is_of_names_and_sizes(tmp_path):
    (tmp_path / "data").mkdir()
    log = tmp_path / "data/log.csv"
    log.write_text("a,b\n")
    before = fingerprint(tmp_path / "data"), fingerprint(log)
    log.write_text("a,b\n1,2\n")
    after = fingerprint(tmp_path / "data"), fingerprint(log)
    assert not set(before) & set(after)
    with pytest.raises(UserError, match="holds no files; give the folder or file of the log"):
        fingerprint(tmp_path / "absent")
