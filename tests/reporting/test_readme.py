from pathlib import Path

from nextreel.reporting import readme

ROOT = Path(__file__).parents[2]


def test_readme_shows_the_committed_metrics():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.update(text, ROOT / "metrics") == text, "stale: run `make table`"
