"""The pipeline as DVC runs it, on a tiny world: what reruns when, what a mistake or a kill leaves behind."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from nextreel import labels, splits
from nextreel.models import itemcf, sasrec
from nextreel.params import Params
from nextreel.systems import SYSTEMS
from tests.recomputed import Run, auc, ndcg

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("as_of", "trees", "ranker")  # systems that are not there without trees, and beside a ranker that counts
SMALL = {
    **{"n_users": 60, "n_videos": 150, "n_rows": 3000, "n_days": 10},
    **{"epochs": 1, "pool_size": 50},
}
STAGES = [
    *("check", "simulate", "ingest", "split", "label", "eda", "inputs", "candidates", "rank", "oracle", "evaluate"),
]


class Project:
    """A copy of the project, a git repository of its own."""

    def __init__(self, root: Path, site: Path) -> None:
        self.root = root
        # A git hook that runs the suite sets GIT_DIR; a person's own settings may sign commits or share a cache, or let
        # every stage compile all code again.
        theirs = ("GIT_", "DVC_", "PYTHONDONTWRITEBYTECODE")
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(theirs)} | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "DVC_GLOBAL_CONFIG_DIR": str(site),
            "DVC_SITE_CACHE_DIR": str(site),
        }

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        command = ["git", *who, *arguments]
        return subprocess.run(
            command, cwd=self.root, env=self.env, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "test")

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`, which must succeed; the stages that ran, in order."""
        done = self.dvc("repro", *arguments)
        assert done.returncode == 0, done.stdout
        return ran(done.stdout)

    def edit_params(self, pattern: str, replacement: str) -> None:
        path = self.root / "params.yaml"
        text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert count == 1
        path.write_text(text, encoding="utf-8")

    def lock(self) -> dict[str, Any]:
        """What dvc.lock holds for each stage."""
        stages: dict[str, Any] = yaml.safe_load((self.root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        return stages

    def bytes_in(self, *folders: str) -> dict[str, bytes]:
        files = (path for folder in folders for path in (self.root / folder).rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files}

    def temporary_files(self) -> list[str]:
        return sorted(path for path in self.bytes_in("data", "metrics", "plots") if path.endswith(".tmp"))

    def traces_of(self, model: str) -> list[str]:
        folders = (self.root / folder for folder in ("data", "metrics", "plots"))
        return sorted(str(path) for folder in folders for path in folder.rglob(f"*{model}*"))


def ran(output: str) -> list[str]:
    return re.findall(r"^Running stage '(.+)':$", output, flags=re.MULTILINE)


def rest_on(file: str, lock: dict[str, Any]) -> set[str]:
    """The stages that ran on a file, or on a folder that it lies in, now or one day."""
    places = {str(place) for place in [Path(file), *Path(file).parents]}
    return {stage for stage, entry in lock.items() if any(dep["path"] in places for dep in entry["deps"])}


def models() -> list[str]:
    params = Params.load(ROOT / "params.yaml")
    return [f"{family}@{name}" for family in ("recall", "train") for name in params.get(family)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run, committed. Shared, since it takes some 30 s: tests only look at it, or take a `project`."""
    folder = tmp_path_factory.mktemp("finished") / "user_id=3" / "seed=1 [a]"  # a path is no data and no pattern
    project = Project(folder / "project", folder / "site")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in listed.split("\0"):
        # What the run writes must come from the run.
        if (ROOT / name).is_file() and not name.startswith(("metrics/", "plots/", "dvc.lock")):
            target = project.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    for key, value in SMALL.items():
        project.edit_params(rf"^  {key}: \d+$", f"  {key}: {value}")
    # A ranker whose scores its lists tell, so that what is made of them can be computed again.
    project.edit_params(r"^  model: sasrec4sv$", "  model: rates")
    project.git("init", "--quiet")
    project.commit()
    assert sorted(project.repro()) == sorted([*STAGES, *models()])
    project.commit()
    return project


@pytest.fixture(scope="module")
def lock(finished: Project) -> dict[str, Any]:
    return finished.lock()


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """The finished run in a folder of its own, to be changed at will."""
    shutil.copytree(finished.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project", tmp_path / "site")


def test_a_second_run_runs_nothing(finished: Project) -> None:
    assert finished.repro() == []
    assert finished.git("status", "--porcelain") == ""


def test_the_lock_holds_every_stage_and_every_model(lock: dict[str, Any]) -> None:
    assert sorted(lock) == sorted([*STAGES, *models()])


def test_metrics_show_is_a_table_of_models(finished: Project) -> None:
    shown = json.loads(finished.dvc("metrics", "show", "--json").stdout)[""]["data"]
    names = [*(stage.split("@")[1] for stage in models()), *SYSTEMS]
    for folder, missing, some in (
        ("models", [*BESIDE], {"ndcg@10", "valid_ndcg@10", "list_value@10", "n_cases"}),
        ("impressions", ["pool", "exhaustive", *BESIDE, "oracle_ranker"], {"gauc", "ndcg@5", "ece"}),
        ("random", ["pool", "exhaustive", *BESIDE, "oracle_ranker"], {"gauc", "ndcg@5"}),
    ):
        found = {path: entry["data"] for path, entry in shown.items() if path.startswith(f"metrics/{folder}/")}
        assert set(found) == {f"metrics/{folder}/{name}.json" for name in names if name not in missing}
        keys = [list(metrics) for metrics in found.values()]
        assert some <= set(keys[0])
        assert all(other == keys[0] for other in keys)
        if folder == "models":
            two_stage = len(keys[0])
    # What a change of the ranker alone can move in `dvc metrics diff`: its own files and the system's.
    moved = [entry["data"] for path, entry in shown.items() if path.endswith("/sasrec.json")]
    assert sum(map(len, moved)) + two_stage < 40


def test_every_file_that_a_run_leaves_is_an_output_of_a_stage(finished: Project, lock: dict[str, Any]) -> None:
    """Else DVC neither deletes it nor brings it back."""
    outs = {out["path"] for stage in lock.values() for out in stage["outs"]}
    written = [path for path in finished.bytes_in("data", "metrics", "plots") if not path.endswith(".gitignore")]
    assert [path for path in written if not any(path == out or path.startswith(f"{out}/") for out in outs)] == []


# Over 20 s: the whole run once more. Two kills and the comparison of two runs share it.
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(finished: Project, tmp_path: Path) -> None:
    """Killed when sasrec is fitted on train and its fit on train and valid begins, then while it writes its lists."""
    finished.git("clone", "--quiet", str(finished.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", tmp_path / "site")
    shutil.rmtree(clone.root / "plots/eda")  # git brings all that eda writes, and DVC would not run it again
    before_kill = ran(kill_when_there_is(clone, ".work/checkpoints/sasrec", "42-train.safetensors"))
    assert before_kill[-1] == "train@sasrec"
    assert not (clone.root / "data/models/sasrec").exists()
    again = kill_when_there_is(clone, "data/lists", ".sasrec*")
    assert ran(again) == ["train@sasrec"]
    assert "sasrec was trained to its end, as .work/checkpoints/sasrec/42-train.safetensors has it\n" in again
    assert not (clone.root / "data/ranks/sasrec.parquet").exists()
    done = clone.dvc("repro")
    assert done.returncode == 0, done.stdout
    for cut in ("train", "train_valid"):  # neither is trained again
        told = f"sasrec was trained to its end, as .work/checkpoints/sasrec/42-{cut}.safetensors has it"
        assert told in done.stdout
    resumed = ran(done.stdout)
    assert resumed[0] == "train@sasrec"
    assert sorted(before_kill[:-1] + resumed) == sorted([*STAGES, *models()])

    metrics = Path("metrics/models/sasrec.json")
    assert (clone.root / metrics).read_bytes() == (finished.root / metrics).read_bytes()
    assert clone.temporary_files() == []
    assert not (clone.root / ".work/checkpoints/sasrec").exists()
    assert clone.git("diff", "HEAD") == ""  # dvc.lock holds the hash of every output
    assert clone.git("status", "--porcelain") == ""
    assert clone.bytes_in("data", "metrics", "plots") == finished.bytes_in("data", "metrics", "plots")


def kill_when_there_is(project: Project, folder: str, name: str) -> str:
    """Run `dvc repro`, kill it and its stage once there is such a file in a folder; what was printed until then."""
    output = project.root.parent / "output.txt"
    with output.open("w", encoding="utf-8") as file:
        running = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=project.root,
            env=project.env,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while running.poll() is None and not list((project.root / folder).glob(name)):
                time.sleep(0.002)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
    printed = output.read_text(encoding="utf-8")
    assert running.wait() == -signal.SIGKILL, printed
    return printed


def test_options_of_the_command_line_keep_their_types(project: Project) -> None:
    """`-S` writes 1e-05 and `no`, which YAML 1.1 reads as a text and a boolean, YAML 1.2 the other way round."""
    options = {
        "model.lr": "1e-5",
        "model.weight_decay": "1e-3",
        "recall.itemcf.recency": "5e-1",
        "label.positive": "sasrec4sv",
        "label.truncate": "no",
        "split.train_from": "none",
    }
    done = project.dvc("exp", "run", "check", *(f"-S{key}={value}" for key, value in options.items()))
    assert done.returncode == 0, done.stdout
    assert ran(done.stdout) == ["check"]
    assert "\n  lr: 1e-05\n" in (project.root / "params.yaml").read_text(encoding="utf-8")
    params = Params.load(project.root / "params.yaml")
    neural = params.section("train.sasrec", sasrec.Params, defaults="model")
    assert (neural.lr, neural.weight_decay) == (1e-5, 1e-3)
    label = params.section("label", labels.Params)
    assert label.truncate is False
    assert params.section("split", splits.Params).train_from is None
    assert params.section("recall.itemcf", itemcf.Params).recency == 0.5


def test_a_mistake_stops_at_check_and_spares_all_outputs(project: Project) -> None:
    before = project.bytes_in("data", "metrics", "plots")
    done = project.dvc("exp", "run", "-Sseed=banana", "-Sthreads=on", "-Smodel.lr=null")
    assert done.returncode != 0
    assert ran(done.stdout) == ["check"]
    assert "Traceback" not in done.stdout
    assert done.stdout.count("error: ") == 1
    for key, value in (("seed", "'banana'"), ("threads", "'on'"), ("model.lr", "None")):
        assert f"`{key}` is {value}" in done.stdout
    del before["data/check.json"]  # DVC deletes a stage's own outputs before it runs
    assert project.bytes_in("data", "metrics", "plots") == before


# Over 20 s: the run from the split on, with every model fitted twice for each of two seeds. gru4rec is left out, which
# has all but its network from sasrec.
def test_leave_one_out_refit_and_seeds_run_to_their_end(project: Project) -> None:
    project.edit_params(r"^  strategy: temporal$", "  strategy: leave_one_out")
    project.edit_params(r"^  refit: .*$", "  refit: train_valid")
    project.edit_params(r"^  seeds: 1$", "  seeds: 2")
    project.edit_params(r"^  gru4rec:\n(    .*\n)+", "")
    project.edit_params(r"^  - bpr_mf\n", "  - sasrec\n")
    project.edit_params(r"^  model: rates$", "  model: sasrec4sv")
    assert {"eda", "rank", "evaluate"} < set(project.repro())
    split, label = (json.loads((project.root / f"metrics/{name}.json").read_text()) for name in ("split", "label"))
    assert (split["strategy"], split["refit"], split["rows_random"]) == ("leave_one_out", "train_valid", 0)
    assert label["positives_fitted_on"] == "all rows"
    assert label["cases_test"] > 0
    for stage in set(models()) - {"train@gru4rec"}:
        folder = project.root / "data/models" / stage.split("@")[1]
        recommends = folder.name in ("sasrec4sv", "tag_chain", "sasrec")
        assert sorted(path.name for path in folder.iterdir()) == ["all"] * recommends + ["train", "train_valid"]
    about = json.loads((project.root / "metrics/rank.json").read_text())
    assert (about["weight"], about["weight_from"][:42]) == (0, "no impressions of both classes on valid: t")
    seeds = pq.read_table(project.root / "data/lists/sasrec.parquet", columns=["seed", "case_id"]).to_pandas()
    after = pq.read_table(project.root / "data/cases.parquet", filters=[("part", "=", "next")])["case_id"].to_pylist()
    assert seeds[seeds.case_id.isin(after)].seed.unique().tolist() == [42]  # the first seed alone recommends
    found = json.loads((project.root / "metrics/models/two_stage.json").read_text())
    assert found["n_cases"] == label["cases_test"]
    assert found["cold_share"] == 0
    assert list((project.root / "metrics/impressions").iterdir()) == []  # a part begins with a positive
    with (project.root / "metrics/by_seed.csv").open(encoding="utf-8") as file:
        seeds = [row["seed"] for row in csv.DictReader(file) if (row["part"], row["model"]) == ("test", "sasrec")]
    assert seeds == ["42", "43"]


def test_an_option_of_one_model_reruns_that_model_only(project: Project) -> None:
    project.edit_params(r"^    window: \d+$", "    window: 3")
    assert project.repro("recall@itemcf", "train@sasrec") == ["check", "inputs", "recall@itemcf"]


CHANGES = {
    # a metric
    "src/nextreel/metrics/next_item.py": {"evaluate"},
    "src/nextreel/metrics/impressions.py": {"evaluate", "rank"},
    "src/nextreel/metrics/lists.py": {"evaluate"},
    "src/nextreel/evaluation/impressions.py": {"evaluate"},
    # a chart, a report
    "src/nextreel/reporting/eda.py": {"eda"},
    "src/nextreel/reporting/page.py": set(),
    "src/nextreel/eda.py": {"eda"},
    # a data set, the reader of raw files
    "src/nextreel/datasets/table.py": {"ingest"},
    "src/nextreel/datasets/another.py": {"ingest"},
    "src/nextreel/raw/intake.py": {"ingest"},
    "src/nextreel/simulation/generator.py": {"simulate"},
    # a column of a table, of the store
    "src/nextreel/schema.py": {"ingest"},
    "src/nextreel/cases/columns.py": {"label"},
    # a rule of labels, parts or questions
    "src/nextreel/labels.py": {"split", "label", "eda", "oracle"},
    "src/nextreel/splits.py": {"split"},
    "src/nextreel/cases/protocols.py": {"label"},
    # what comes after the models
    "src/nextreel/two_stage/fusion.py": {"candidates"},
    "src/nextreel/two_stage/recommend.py": {"rank"},
    "src/nextreel/two_stage/trees.py": {"rank"},
    "src/nextreel/two_stage/weigh.py": {"rank"},
    "src/nextreel/oracle/laws.py": {"oracle"},
    # and what does train: a model, and what it is scored by
    "src/nextreel/models/itemcf.py": {"inputs", "recall@itemcf"},
    "src/nextreel/nn/trainer.py": {"inputs", "train@gru4rec", "train@sasrec", "train@sasrec4sv", "rank"},
    "src/nextreel/scoring/validation.py": {"train@gru4rec", "train@sasrec", "train@sasrec4sv"},
}


@pytest.mark.parametrize("file", CHANGES)
def test_a_change_of_a_file_reruns_what_rests_on_it_alone(lock: dict[str, Any], file: str) -> None:
    """But for what follows from changed outputs. `check` rests on all files."""
    assert rest_on(file, lock) == {"check"} | CHANGES[file]


def test_dvc_reruns_what_rests_on_changed_files(project: Project, lock: dict[str, Any]) -> None:
    """A file that is listed, one that is new in a listed folder, and one that no stage but `check` rests on."""
    files = [f"src/nextreel/{name}.py" for name in ("scoring/validation", "datasets/another", "reporting/page")]
    for file in files:
        with (project.root / file).open("a", encoding="utf-8") as text:
            text.write("# changed\n")
    reruns = set(ran(project.dvc("repro", "--dry").stdout))
    assert reruns == set().union(*(rest_on(file, lock) for file in files))
    assert {"ingest", "train@sasrec"} < reruns


# Some 20 s each: everything but the models runs again.
@pytest.mark.parametrize(
    ("file", "line", "more", "reruns"),
    [
        (
            "cases/columns.py",
            '        "tab": ',
            '"click": Declared(_.click, "id", size=2),',
            "evaluate inputs label",
        ),
        ("schema.py", '        "hate": ', '"share": "boolean",', "eda ingest label oracle split"),
    ],
    ids=["of the store", "of a table"],
)
def test_a_new_column_trains_nothing(project: Project, file: str, line: str, more: str, reruns: str) -> None:
    """Named by no model. What looks at whole tables runs again, no model does."""
    path = project.root / "src/nextreel" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(line) == 1
    path.write_text(text.replace(line, f"        {more}\n{line}"), encoding="utf-8")
    assert sorted(project.repro()) == sorted(["check", *reruns.split()])
    assert project.git("diff", "HEAD", "--", "metrics", "plots") == ""


# Over 20 s: the ranker and all that follows it.
def test_trees_beside_the_ranker_train_nothing_and_have_tables_of_their_own(project: Project, lightgbm: Any) -> None:
    """Scores are had pair by pair then, so that there is no system without a pool."""
    done = project.dvc("exp", "run", "-Srank.trees=lambdarank")
    assert done.returncode == 0, done.stdout
    assert sorted(ran(done.stdout)) == ["check", "evaluate", "oracle", "rank"]
    assert json.loads((project.root / "metrics/rank.json").read_text())["trees"] == "lambdarank"
    for folder in ("impressions", "random"):
        assert {"trees", "ranker"} <= {path.stem for path in (project.root / "metrics" / folder).iterdir()}
    assert project.traces_of("exhaustive") == [f"{project.root}/data/systems/exhaustive"]


# Over 20 s: torch is loaded three times over, by check twice and by the ranker.
def test_a_model_comes_and_goes_with_its_file_and_section(project: Project, lock: dict[str, Any]) -> None:
    source = project.root / "src/nextreel/models"
    shutil.copy(source / "most_popular.py", source / "toy.py")
    project.edit_params(r"^recall:$", "recall:\n  toy: {}")
    project.edit_params(r"^  from:$", "  from:\n  - toy")
    assert sorted(project.repro()) == ["candidates", "check", "evaluate", "inputs", "oracle", "rank", "recall@toy"]
    assert {path.removeprefix(f"{project.root}/") for path in project.traces_of("toy")} == {
        "data/inputs/toy",
        "data/lists/toy.parquet",
        "data/models/toy",
        "data/ranks/toy.parquet",
        "data/scores/toy.parquet",
        "metrics/impressions/toy.json",
        "metrics/models/toy.json",
        "metrics/random/toy.json",
    }
    assert "rank_toy" in candidate_columns(project)

    (source / "toy.py").unlink()
    project.git("checkout", "--quiet", "--", "params.yaml")
    assert "train@sasrec" not in project.repro()
    assert project.traces_of("toy") == []
    assert not any("toy" in column for column in candidate_columns(project))
    assert project.git("diff", "HEAD", "--", "metrics", "plots") == ""
    after = project.lock()
    del after["recall@toy"]  # DVC keeps the entry of a stage that is gone
    assert after == lock


def candidate_columns(project: Project) -> list[str]:
    return list(pq.read_schema(project.root / "data/systems/pool/lists.parquet").names)


# --- the numbers, computed again ---


@pytest.fixture(scope="module")
def again(finished: Project) -> Run:
    return Run(finished.root)


ID_AT = ("user_id", "time_ms", "video_id")
EXACT = 0.6e-5  # metrics have five decimals
ON_IMPRESSIONS = [("impressions", "test"), ("random", "random")]


def test_labels_again(again: Run) -> None:
    """From the raw CSV files: which rows are shown to be judged, their labels and gains, and the shares reported."""
    shown, log = again.shown, again.log
    assert len(shown) == log["part"].isin(["valid", "test", "random"]).sum() > 1000
    assert ((shown["track"] == "random") == (shown["part"] == "random")).all()
    outcomes = again.table("outcomes")
    assert outcomes["impression"].tolist() == shown["impression"].tolist()
    assert outcomes["label"].astype("boolean").equals(shown["label"].astype("boolean"))
    assert shown["label"].isna().sum() > 0
    np.testing.assert_allclose(outcomes["wtg"], shown["wtg"], rtol=1e-9, atol=1e-9)
    labels = again.table("valid_outcomes").merge(shown, on="impression", suffixes=("", "_again"))
    assert len(labels) == (shown["part"] == "valid").sum()
    assert labels["label"].astype("boolean").equals(labels["label_again"].astype("boolean"))
    about = again.metrics("label")
    for part in ("train", "valid", "test", "random"):
        share = log[(log["part"] == part) & log["label"].notna()]["label"].astype(float).mean()
        assert about[f"positive_share_{part}"] == pytest.approx(share, abs=EXACT)
    unknown = log[log["part"] != "left out"]["label"].isna().mean()
    assert about["unknown_label_share"] == pytest.approx(unknown, abs=EXACT)


@pytest.mark.parametrize(("folder", "part"), ON_IMPRESSIONS)
def test_impressions_again(again: Run, folder: str, part: str) -> None:
    tables = again.systems("scores")
    assert {f"{name}.json" for name in tables} == {path.name for path in (again.root / "metrics" / folder).iterdir()}
    for name, table in tables.items():
        rows = again.judged(part, table)
        expected = {
            "gauc": again.gauc(rows),
            "auc": auc(rows["label"].to_numpy(bool), rows["filled"].to_numpy(float)),
            "no_opinion_share": rows["score"].isna().mean(),
            "rows": len(rows),
        }
        found = again.metrics(f"{folder}/{name}")
        assert {key: found[key] for key in expected} == pytest.approx(expected, abs=EXACT), name


def test_known_and_new_videos_again(again: Run) -> None:
    table = pd.read_csv(again.root / "metrics/by_video.csv").set_index(["videos", "model"])
    before_test = again.catalogue("test")
    tables = again.systems("scores")
    assert len(table) == 2 * len(tables)
    for name, scores in tables.items():
        rows = again.judged("test", scores)
        known = rows["video_id"].isin(before_test)
        for videos, some in (("known", rows[known]), ("new", rows[~known])):
            found = table.loc[(videos, name)]
            assert found["n"] == len(some) > 0
            assert found["value"] == pytest.approx(again.gauc(some), abs=EXACT, nan_ok=True), (name, videos)


def test_targets_and_lists_again(again: Run) -> None:
    """Who is asked for what; no list holds a video that was seen or is outside the catalogue; scores fall."""
    cases, targets = again.cases, again.table("targets").set_index("case_id")["video_idx"]
    assert len(cases) == len(again.targets) == len(targets) > 20
    assert targets.loc[cases["case_id"]].tolist() == cases["video_idx"].tolist()
    allowed = {
        case_id: again.catalogue(part) - again.seen(user, time_ms)
        for case_id, user, part, time_ms in zip(
            *(cases[name] for name in ("case_id", "user_id", "part", "time_ms")), strict=True
        )
    }
    for name, lists in again.systems("lists").items():
        for case_id, listed in lists[lists["case_id"].isin(allowed)].groupby("case_id"):
            listed = listed.sort_values("rank")
            assert listed["rank"].tolist() == list(range(1, len(listed) + 1))
            assert listed["score"].is_monotonic_decreasing, name
            videos = listed["video_idx"].map(again.video_id)
            assert videos.is_unique
            assert set(videos) <= allowed[case_id], name
            if name in ("rates", "most_popular", "exhaustive"):  # these know every video
                assert set(videos) == allowed[case_id], name


def test_next_video_again(again: Run) -> None:
    ranks = again.systems("ranks")
    for name, lists in again.systems("lists").items():
        written = ranks[name].set_index("case_id")["rank"]
        for part in ("test", "valid"):
            asked = again.cases["case_id"][again.cases["part"] == part]
            assert written.loc[asked].tolist() == again.target_ranks(part, lists), name
        test, valid = (again.target_ranks(part, lists) for part in ("test", "valid"))
        expected = {
            "ndcg@10": ndcg(test),
            "hr@10": np.mean([1 <= rank <= 10 for rank in test]),
            "hr@50": np.mean([1 <= rank <= 50 for rank in test]),
            "unreachable_share": np.mean([rank == 0 for rank in test]),
            "valid_ndcg@10": ndcg(valid),
            "valid_hr@10": np.mean([1 <= rank <= 10 for rank in valid]),
            "n_cases": len(test),
        }
        found = again.metrics(f"models/{name}")
        assert {key: found[key] for key in expected} == pytest.approx(expected, abs=EXACT), name


def test_scores_of_the_ranking_stage_again(again: Run) -> None:
    """In the pool and without one, for the cases of the next video, whose s_10 the lists tell."""
    weight = again.metrics("rank")["weight"]
    assert weight > 0
    tables, pool = again.systems("lists"), again.table("systems/pool/lists")
    asked = tables["two_stage"]
    assert set(zip(asked["case_id"], asked["video_idx"], strict=True)) == set(
        zip(pool["case_id"], pool["video_idx"], strict=True)
    )
    for name in ("two_stage", "exhaustive"):
        lists = tables[name][tables[name]["case_id"].isin(again.cases["case_id"])]
        assert len(lists) > 1000
        np.testing.assert_allclose(lists["score"], again.blended(lists, weight), rtol=1e-4, atol=1e-4, err_msg=name)


def test_scores_of_impressions_again(again: Run) -> None:
    """s_10 of these cases is in no table, but one s_10 a case explains the scores of all its rows, and it is the list's
    where a next video is asked for at the same moment."""
    terms, weight = again.terms_of_shown, again.metrics("rank")["weight"]
    assert len(terms) == len(again.shown)
    np.testing.assert_allclose(terms["score"], terms["log_odds"] + weight * terms["r"], rtol=1e-4, atol=1e-4)
    moment = ["user_id", "part", "time_ms"]
    on_shown = again.table("cases").query("protocol == 'impressions'")
    cases = on_shown.merge(again.cases, on=moment, suffixes=("", "_list"))
    assert len(cases) >= 3
    tenth = terms.groupby("case_id")["tenth"].first().loc[cases["case_id"]]
    of_list = again.tenth(again.table(f"lists/{again.params['rank']['exposure']}")).loc[cases["case_id_list"]]
    np.testing.assert_allclose(tenth, of_list, rtol=1e-3)


def test_choice_of_the_weight_again(again: Run) -> None:
    """The front, the floor and what was taken."""
    about, rank = again.metrics("rank"), again.params["rank"]
    best = {
        name: ndcg(again.target_ranks("valid", again.table(f"lists/{name}")))
        for name in [*again.params["recall"], *again.params["train"]]
    }
    assert best[about["best_single"]] == max(best.values())
    assert about["best_single_valid_ndcg@10"] == pytest.approx(max(best.values()), abs=EXACT)
    least = rank["floor"] * max(best.values())

    weights = [0.0, *(2 ** (quarter / 4) for quarter in range(-8, 29))]
    by_ndcg, by_gauc = again.front(weights)
    chart = pd.read_csv(again.root / "plots/rank.csv").query("model == 'by weight'")
    np.testing.assert_allclose(chart["ndcg@10"], by_ndcg, atol=EXACT)
    np.testing.assert_allclose(chart["gauc"], by_gauc, atol=EXACT)
    allowed = [at for at, value in enumerate(by_ndcg) if value >= least]
    at = max(allowed, key=by_gauc.__getitem__) if allowed else int(np.argmax(by_ndcg))
    assert about["floor_met"] is bool(allowed)
    assert (about["weight"], about["weight_from"]) == (pytest.approx(weights[at], abs=EXACT), "valid")
    on_valid = again.judged("valid", again.table("systems/two_stage/scores"))
    assert about["valid_gauc"] == pytest.approx(again.gauc(on_valid), abs=EXACT)
    in_order = again.target_ranks("valid", again.table("systems/two_stage/lists"))
    assert about["valid_ndcg@10"] == pytest.approx(ndcg(in_order), abs=EXACT)


def test_true_worth_again(again: Run) -> None:
    """What the first ten of every list are worth, and the oracle's score of every impression, by the stated laws."""
    scores = again.systems("scores")["oracle"].merge(again.shown, on="impression")
    true = [again.true_probability(*moment) for moment in zip(*(scores[name] for name in ID_AT), strict=True)]
    np.testing.assert_allclose(scores["score"], true, rtol=1e-9, atol=1e-12)

    values = again.table("list_values").set_index(["system", "case_id"])["list_value"]
    for name, lists in again.systems("lists").items():
        first = lists[lists["rank"] <= 10].merge(again.cases[["case_id", "user_id", "part", "time_ms"]], on="case_id")
        first["video_id"] = first["video_idx"].map(again.video_id)
        first["true"] = [again.true_probability(*moment) for moment in zip(*(first[x] for x in ID_AT), strict=True)]
        by_list = first.groupby(["part", "case_id"])["true"].mean()
        for (_part, case_id), value in by_list.items():
            assert values[name, case_id] == pytest.approx(value, rel=1e-9), name
        found = again.metrics(f"models/{name}")["list_value@10"]
        assert found == pytest.approx(by_list.loc["test"].mean(), abs=EXACT), name


def test_recommendations_again(again: Run) -> None:
    table, cases = again.table("recommendations"), again.table("cases").query("part == 'next'")
    lists = again.table("systems/two_stage/lists").merge(cases[["case_id", "user_id"]], on="case_id")
    lists["video_id"] = lists["video_idx"].map(again.video_id)
    assert set(table["user_id"]) == set(again.log["user_id"])
    for user, mine in table.groupby("user_id"):
        listed = lists[lists["user_id"] == user].sort_values("rank").head(20)
        assert mine["rank"].tolist() == list(range(1, 1 + min(20, len(listed))))
        assert mine["video_id"].tolist() == listed["video_id"].tolist()
        assert mine["score"].tolist() == listed["score"].tolist()
        assert mine["score"].is_monotonic_decreasing
        assert again.seen(user).isdisjoint(mine["video_id"])
        assert again.seen(user).isdisjoint(lists[lists["user_id"] == user]["video_id"])
    expected = again.blended(lists, again.metrics("rank")["weight"])
    np.testing.assert_allclose(lists["score"], expected, rtol=1e-4, atol=1e-4)
    after_train = again.catalogue("next") - again.catalogue("valid")
    assert after_train.intersection(lists["video_id"])
