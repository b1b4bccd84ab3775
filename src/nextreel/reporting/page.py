"""The page of `dvc plots show` and `dvc plots diff`: page.html with the charts' library in it, for no network.

`python -m nextreel.reporting.page` writes it to where .dvc/config looks for it; `make` does so after installation.
"""

from pathlib import Path

import vl_convert

from nextreel.files import replacing

SOURCE = Path(__file__).with_name("page.html")
SLOT = "/* Vega, Vega-Lite and Vega-Embed */"
# What would end the script early, and what DVC replaces in the page.
_BREAKS_THE_PAGE = ("</script", "<!--", "{plot_divs}", "{refresh_tag}", "{scripts}")


def build(source: str, library: str) -> str:
    """`source` with the JavaScript of `library` in its slot, its names kept out of the page's."""
    found = [text for text in _BREAKS_THE_PAGE if text in library]
    if found:
        raise ValueError(f"the charts' library cannot stand in a page: it holds {', '.join(found)}")
    before, after = source.split(SLOT)
    return f"{before}(() => {{\n{library}\n}})();{after}"


def write(path: Path) -> None:
    """Write the page, ready for DVC."""
    library = vl_convert.javascript_bundle("window.library = { embed: vegaEmbed };")
    with replacing(path) as temporary:
        temporary.write_text(build(SOURCE.read_text(encoding="utf-8"), library), encoding="utf-8")


if __name__ == "__main__":
    write(Path(".dvc/plots/page.html"))
