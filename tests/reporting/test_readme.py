import shutil
from pathlib import Path

import pytest

from nextreel import files
from nextreel.files import read_json, write_json
from nextreel.reporting import clones, readme

ROOT = Path(__file__).parents[2]


def test_readme_shows_the_committed_metrics(committed):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    confidence = committed["evaluate"]["confidence"]
    state = clones.state((ROOT / "dvc.lock").read_text(encoding="utf-8"))
    assert readme.update(text, ROOT / "metrics", state, confidence) == text, "stale: run `make table`"


@pytest.mark.parametrize(("confidence", "written"), [(0.95, "95 %"), (0.995, "99.5 %"), (0.9, "90 %"), (0.29, "29 %")])
def test_a_confidence_is_written_as_percent(confidence, written):
    assert readme.percent(confidence) == written


@pytest.mark.parametrize("table", [readme.results, readme.impressions])
def test_tables_name_the_confidence_of_the_run(table):
    heading = table(ROOT / "metrics", 0.995).splitlines()[0]
    assert "| 99.5 % interval |" in heading
    assert "95 %" not in heading


@pytest.mark.parametrize(("said", "written"), [("valid", "2, chosen on valid"), ("rank.weight", "2, rank.weight")])
def test_the_weight_of_exposure_is_told_whoever_chose_it(tmp_path, said, written):
    shutil.copytree(ROOT / "metrics", tmp_path / "metrics")
    about = {"ranker": "rates", "weight": 2.0, "weight_from": said}
    files.write_json(tmp_path / "metrics/rank.json", about)
    assert readme.stages(tmp_path / "metrics", 0.95).endswith(f"Weight of exposure: {written}.")


def test_a_log_of_positives_only_has_no_gauc(tmp_path):
    shutil.copytree(ROOT / "metrics", tmp_path / "metrics")
    (tmp_path / "metrics/by_video.csv").write_text("model,videos,value\n", encoding="utf-8")
    for path in (tmp_path / "metrics/impressions").iterdir():
        files.write_json(path, files.read_json(path) | {"gauc": None})
    rows = readme.impressions(tmp_path / "metrics", 0.95).splitlines()[2:-2]
    assert [row.split(" | ")[1] for row in rows] == ["-"] * len(rows)
    assert rows == sorted(rows)


def test_a_run_of_too_few_users_has_values_and_no_intervals(few_users):
    """Neither has a model that lacks a metric a number there."""
    row = next(line for line in readme.results(few_users, 0.95).splitlines() if line.startswith("| sasrec |"))
    assert row.split(" | ")[2] == "-"
    row = next(line for line in readme.impressions(few_users, 0.95).splitlines() if line.startswith("| sasrec |"))
    assert [at for at, cell in enumerate(row.split(" | ")) if cell == "-"] == [2, 5, 11]


def test_without_a_random_log_its_columns_are_empty(tmp_path):
    shutil.copytree(ROOT / "metrics", tmp_path / "metrics")
    shutil.rmtree(tmp_path / "metrics/random")
    lines = (tmp_path / "metrics/comparison.csv").read_text().splitlines(keepends=True)
    (tmp_path / "metrics/comparison.csv").write_text("".join(x for x in lines if not x.startswith("random,")))
    table = readme.impressions(tmp_path / "metrics", 0.95).splitlines()
    whole = readme.impressions(ROOT / "metrics", 0.95).splitlines()
    for line, full in zip(table[2:-2], whole[2:-2], strict=True):
        assert line.split(" | ")[:10] == full.split(" | ")[:10]
        assert line.split(" | ")[10:] == ["-", "-", "- |"]
    assert table[-1].endswith(" impressions of test, 0 shown at random.")
    row = next(x for x in readme.stages(tmp_path / "metrics", 0.95).splitlines() if x.startswith("| **two_stage**"))
    assert row.split(" | ")[-1] == "- |"


def test_stages_stand_side_by_side(committed):
    """From the best channel on valid to the ceilings, each with what the tables of single models hold of it."""
    metrics = ROOT / "metrics"
    table = readme.stages(metrics, 0.95).splitlines()
    channels = {name: read_json(metrics / f"models/{name}.json") for name in committed["candidates"]["from"]}
    best = max(channels, key=lambda name: channels[name]["valid_ndcg@10"])
    assert table[2].startswith(f"| {best}, the best channel | {channels[best]['ndcg@10']:.4f} ± ")
    system = read_json(metrics / "models/two_stage.json")
    row = next(line for line in table if line.startswith("| **two_stage**"))
    worth = f"{system['list_value@10']:.4f} ± {system['list_value@10_half_width']:.4f}"
    assert row.split(" | ")[1:3] == [f"{system['ndcg@10']:.4f} ± {system['ndcg@10_half_width']:.4f}", worth]
    assert table[-1] == f"Test; ± half of the 95 % interval. Weight of exposure: {weight():.3g}, chosen on valid."


def weight():
    return read_json(ROOT / "metrics/rank.json")["weight"]


def test_of_real_data_no_list_value_is_told(tmp_path):
    shutil.copytree(ROOT / "metrics", tmp_path / "metrics")
    for path in (tmp_path / "metrics/models").glob("*.json"):
        found = {name: value for name, value in read_json(path).items() if not name.startswith("list_value")}
        path.unlink()
        if not path.stem.startswith("oracle"):
            write_json(path, found)
    table = readme.stages(tmp_path / "metrics", 0.95).splitlines()
    assert not any("oracle" in line for line in table)
    assert {line.split(" | ")[2] for line in table[2:-2]} == {"-"}
