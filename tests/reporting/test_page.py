"""The page of `dvc plots`: what it may load, what its charts read, and how Chromium draws it with no network."""

import base64
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from nextreel.reporting import page

ROOT = Path(__file__).parents[2]
PLOTS = {
    path: options or {}
    for entry in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    for path, options in ({entry: None} if isinstance(entry, str) else entry).items()
}
TEMPLATES = sorted((ROOT / ".dvc/plots").glob("*.json"))
CHROMIUM = shutil.which("chromium", path=os.pathsep.join([os.environ["PATH"], "/usr/bin"]))
WIDTH = 1000  # px of the window


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    page.write(path)
    return path


# --- the page as DVC gets it ---


class Loads(HTMLParser):
    """What a page names for a browser to load, and the text of its styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.styles = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.styles += data if self.lasttag == "style" else ""


def test_the_page_loads_nothing(built: Path) -> None:
    text = built.read_text(encoding="utf-8")
    loads = Loads()
    loads.feed(text)
    assert loads.found == []
    assert "body {" in loads.styles
    assert not re.search(r"@import|url\(", loads.styles)
    assert "default-src 'none'" in text  # so that a browser refuses what this test overlooks
    assert not re.search(r"https?:", page.SOURCE.read_text(encoding="utf-8"))


def test_dvc_finds_its_places_once(built: Path) -> None:
    text = built.read_text(encoding="utf-8")
    assert [text.count(place) for place in ("{refresh_tag}", "{plot_divs}", "{scripts}")] == [1, 1, 0]


@pytest.mark.parametrize("bad", ["'</script>'", "'<!--'", "const {scripts}=0"])
def test_a_library_that_would_break_the_page_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a page"):
        page.build(page.SLOT, bad)


def test_dvc_is_told_of_the_page_that_make_builds() -> None:
    told = re.search(r"^\s*html_template = (.+)$", (ROOT / ".dvc/config").read_text(encoding="utf-8"), re.MULTILINE)
    assert told
    assert f"PAGE := .dvc/{told[1]}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"/.dvc/{told[1]}\n" in (ROOT / ".gitignore").read_text(encoding="utf-8")


# --- the templates and their rows ---


def fields(node: Any) -> Iterator[str]:
    """Every column that a template names, and after a minus what it computes itself."""
    if isinstance(node, dict):
        yield from [f"-{node['as']}"] if "as" in node else []
        for key, value in node.items():
            if key == "field":
                yield value
            elif key == "parse":
                yield from value
            else:
                yield from fields(value)
    elif isinstance(node, list):
        for value in node:
            yield from fields(value)


def tables(path: str) -> list[Path]:
    """The CSV files of an entry in `plots:`."""
    place = ROOT / path
    return sorted(place.glob("*.csv")) if place.is_dir() else [place] if place.suffix == ".csv" else []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_is_a_chart_that_dvc_can_fill(template: Path) -> None:
    content = json.loads(template.read_text(encoding="utf-8"))
    assert content["data"]["values"] == "<DVC_METRIC_DATA>"
    assert content["title"] == "<DVC_METRIC_TITLE>"
    assert template.stem in {options.get("template") for options in PLOTS.values()}, "nothing uses it"


@pytest.mark.parametrize("path", [path for path in PLOTS if "template" in PLOTS[path]])
def test_a_chart_reads_columns_that_its_files_have(path: str) -> None:
    options = PLOTS[path]
    anchors = {"<DVC_METRIC_X>": options["x"], "<DVC_METRIC_Y>": options["y"], "rev": None}
    own = ROOT / ".dvc/plots" / f"{options['template']}.json"
    found = set(fields(json.loads(own.read_text(encoding="utf-8")))) if own.exists() else set(anchors)  # DVC's own
    named = {anchors.get(field, field) for field in found if f"-{field}" not in found and field[0] != "-"} - {None}
    for table in tables(path):
        with table.open(encoding="utf-8") as file:
            columns = set(next(csv.reader(file)))
        assert named <= columns


def test_the_page_stays_small() -> None:
    """DVC writes every row into the page, and a revision more doubles them."""
    files = [table for path in PLOTS for table in tables(path) if table.exists()]
    assert files
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) - 1 for file in files) < 2_000


# --- in a browser ---

ROWS: dict[str, list[str]] = {
    "plots/models.csv": [
        "model,ndcg@10,low,high",
        *("oracle,0.2,0.18,0.22", "sasrec,0.05,0.04,0.06", "toy,0.03,0.02,0.04"),
    ],
    "plots/curves/gru4rec.csv": [
        "model,head,epoch,loss,valid_loss,valid_hr@10,valid_ndcg@10,kept",
        *("gru4rec,next_item,1,8,8.1,0,0.03,1", "gru4rec,next_item,2,7,7.4,0,0,0"),
    ],
    "plots/curves/sasrec.csv": [
        "model,head,epoch,loss,valid_loss,valid_hr@10,valid_ndcg@10,kept",
        *("sasrec,next_item,1,8,7.8,0,0.02,0", "sasrec,positive,1,0.5,0.6,,,0"),
        *("sasrec,next_item,2,6,6.9,0,0.1,1", "sasrec,positive,2,0.4,0.5,,,1"),
    ],
    "plots/recall.csv": ["model,k,recall", *(f"{m},{k},{k / 500}" for m in ("sasrec", "fused") for k in (10, 50, 200))],
    "plots/label_by_duration.csv": ["duration,rows,positive_share", "01: 1-2 s,9,0.3", "02: 2-300 s,9,0.1"],
}
PICTURE = "plots/eda/watch_time.png"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
# Marks of each chart for one revision, without lines: the curves have 2 epochs and a ring, of training and of valid, of
# 3 heads, and of 2 metrics.
SYMBOLS = {"models": 6, "curves": 24, "recall": 6, "label_by_duration": 2}


@pytest.fixture(scope="module")
def pages(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What `dvc plots show` and `dvc plots diff` write for two revisions of the charts in dvc.yaml and a picture."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    root = tmp_path_factory.mktemp("plots")
    shutil.copytree(ROOT / ".dvc/plots", root / ".dvc/plots", ignore=shutil.ignore_patterns("*.html"))
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copy(built, root / ".dvc/plots/page.html")
    folders = {str(Path(path).parent) for path in ROWS}
    shown = [{path: PLOTS[path]} for path in PLOTS if path in ROWS or path in folders] + [{PICTURE: None}]
    (root / "dvc.yaml").write_text(yaml.safe_dump({"plots": shown}), encoding="utf-8")
    (root / PICTURE).parent.mkdir(parents=True)
    (root / PICTURE).write_bytes(base64.b64decode(PNG))
    site = tmp_path_factory.mktemp("site")
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "DVC_"))} | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "DVC_GLOBAL_CONFIG_DIR": str(site),
        "DVC_SITE_CACHE_DIR": str(site),
    }

    def run(*command: str) -> None:
        done = subprocess.run(
            command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        assert "failed" not in done.stdout

    run("git", "init", "--quiet")
    for tag, share in (("first", "0.3"), ("second", "0.25")):
        for path, lines in ROWS.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("\n".join(lines).replace("0.3", share) + "\n", encoding="utf-8")
        run("git", "add", "--all")
        run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "-m", tag)
        run("git", "tag", tag)
    run(sys.executable, "-m", "dvc", "plots", "show", "-o", "show")
    run(sys.executable, "-m", "dvc", "plots", "diff", "first", "second", "-o", "diff")
    return {name: root / name / "index.html" for name in ("show", "diff")}


@pytest.fixture
def draw(tmp_path: Path) -> Callable[[Path, bool], dict[str, str]]:
    def draw(file: Path, dark: bool) -> dict[str, str]:
        """Load a page with no network; the drawn HTML of each of DVC's boxes, and of the `header`."""
        quiet = ["quic", "background-networking", "component-update", "sync", "gpu"]
        command = [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{it}" for it in quiet)),
            *(f"--user-data-dir={tmp_path}", f"--window-size={WIDTH},1000", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *(f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--enable-logging=stderr"),
            *("--virtual-time-budget=5000", "--dump-dom", file.as_uri()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        # Vega-Lite says so of every chart that is as wide as its place and as high as its rows.
        harmless = 'Dropping "fit-y" because spec has discrete height'
        assert [line for line in done.stderr.splitlines() if "CONSOLE" in line and harmless not in line] == []
        head, main = done.stdout.split("<main>")
        boxes = re.split(r'<div\s+id="plots_', main)[1:]
        names = [box.split('"')[0].removesuffix("_csv").split("_", 1) for box in boxes]
        return {"header": head.split("<header>")[1]} | {
            name[0] if name[0] == "curves" else "_".join(name): box for name, box in zip(names, boxes, strict=True)
        }

    return draw


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("command", ["show", "diff"])
def test_the_page_draws_every_chart_with_no_network(
    pages: dict[str, Path], draw: Callable[[Path, bool], dict[str, str]], command: str, dark: bool
) -> None:
    boxes = draw(pages[command], dark)
    revisions = ["first", "second"] if command == "diff" else []
    for name, count in SYMBOLS.items():
        drawn = re.findall(r'role="graphics-symbol" aria-roledescription="(?:point|bar|circle|rule mark)"', boxes[name])
        assert len(drawn) == count * max(len(revisions), 1), name
        assert [text for text in revisions if f">{text}</text>" not in boxes[name]] == []
        (width,) = re.findall(r'class="marks"[^>]* viewBox="0 0 (\d+)', boxes[name])
        assert int(width) < WIDTH
    own, other = re.findall(r'\bsasrec: \{ light: "(#\w+)", dark: "(#\w+)"', page.SOURCE.read_text(encoding="utf-8"))[0]
    if dark:
        own, other = other, own
    for name in ("models", "curves", "recall"):
        assert own in boxes[name]
        assert other not in boxes[name]
    alts = re.findall(r'<img src="static/[^"]+" alt="([^"]+)"', boxes["eda_watch_time_png"])
    assert alts == [f"Watch time, {text}" for text in revisions] or alts == ["Watch time"]
    assert "Simulated data" in boxes["header"]
    assert ("Strong: first; fainter: second." in boxes["header"]) == bool(revisions)
