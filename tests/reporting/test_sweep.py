import json

import pytest

from nextreel.errors import UserError
from nextreel.reporting import sweep
from nextreel.reporting.sweep import FailedError, Row


def rows(*settings, state="s1", log="params.yaml"):
    return [Row(state, log, "sasrec", each, ()) for each in settings]


class Runs:
    """What stands for experiments: notes what it is asked for; one cell fails, in another it is stopped."""

    def __init__(self, failing="", stopped=""):
        self.asked, self.failing, self.stopped = [], failing, stopped

    def __call__(self, number, row):
        if row.settings == self.stopped:
            raise KeyboardInterrupt
        self.asked.append((number, row.settings))
        if row.settings == self.failing:
            raise FailedError(f"{row.settings} did not run")
        return 3.0, number / 10, 0.5


def test_a_grid_is_every_combination_and_its_parts_add_up(tmp_path):
    path = tmp_path / "grids.yaml"
    path.write_text(
        "a:\n  model.lr: [0.001, 1e-4]\n  model.inputs: [[], [positive, tab]]\n"
        "b:\n- model.loss: [softmax]\n- model.loss: [bce]\n  model.negatives: [1, 2]\n"
    )
    assert sweep.grids(path) == {
        "a": [
            ("model.lr=0.001", "model.inputs=[]"),
            ("model.lr=0.001", "model.inputs=[positive,tab]"),
            ("model.lr=0.0001", "model.inputs=[]"),
            ("model.lr=0.0001", "model.inputs=[positive,tab]"),
        ],
        "b": [
            ("model.loss=softmax",),
            ("model.loss=bce", "model.negatives=1"),
            ("model.loss=bce", "model.negatives=2"),
        ],
    }


@pytest.mark.parametrize("text", ["a: [", "a", "a: {}", "a: {model.lr: 3}", "a: {model.lr: []}", "a: []"])
def test_what_is_no_grid_is_told(tmp_path, text):
    (tmp_path / "grids.yaml").write_text(text)
    with pytest.raises(UserError, match="grids.yaml"):
        sweep.grids(tmp_path / "grids.yaml")


def test_the_committed_grids_name_keys_that_there_are(root):
    from nextreel.params import Params

    params = Params.load(root / "params.yaml")
    for cells in sweep.grids(root / sweep.GRIDS).values():
        for setting in {setting for cell in cells for setting in cell}:
            params.get(setting.partition("=")[0])


def test_a_stopped_sweep_goes_on_where_it_stopped(tmp_path, capsys):
    path, stopped, again = tmp_path / "sweeps.csv", Runs(stopped="c"), Runs()
    with pytest.raises(KeyboardInterrupt):
        sweep.fill(path, rows("a", "b", "c"), stopped)
    found, failures = sweep.fill(path, rows("a", "b", "c"), again)
    assert again.asked == [(3, "c")]
    assert [row.metrics for row in found] == [(3, 0.1, 0.5), (3, 0.2, 0.5), (3, pytest.approx(0.3), 0.5)]
    assert failures == []
    assert "a (1 of 3): there already" in capsys.readouterr().out


def test_a_failed_cell_is_told_and_tried_again(tmp_path):
    path, again = tmp_path / "sweeps.csv", Runs()
    found, failures = sweep.fill(path, rows("a", "b"), Runs(failing="a"))
    assert ([row.settings for row in found], failures) == (["b"], ["a did not run"])
    sweep.fill(path, rows("a", "b"), again)
    assert again.asked == [(1, "a")]


def test_rows_of_another_state_or_log_stay_and_count_for_nothing(tmp_path):
    path, run = tmp_path / "sweeps.csv", Runs()
    for wanted in (rows("a"), rows("a", state="s2"), rows("a", log="0f")):
        found, _failures = sweep.fill(path, wanted, run)
        assert [row.cell for row in found] == [row.cell for row in wanted]
    assert len(run.asked) == len(sweep.read(path)) == 3


def test_the_best_on_valid_comes_first_and_says_how():
    told = sweep.table(
        [Row("s", "params.yaml", "sasrec", "model.lr=0.1 model.loss=bce", (2, 0.1, 0.3)),
         Row("s", "params.yaml", "sasrec", "model.lr=0.2 model.loss=bpr", (3, 0.2, 0.1))]
    ).splitlines()  # fmt: skip
    assert told[2] == "| model.lr=0.2 model.loss=bpr | 3 | 0.2000 | 0.1000 |"
    assert told[-1].endswith("dvc exp run -S model.lr=0.2 -S model.loss=bpr")


def test_metrics_are_those_of_the_experiment_of_that_name():
    def named(name, metrics):
        data = {"metrics": {"metrics/valid/sasrec.json": {"data": metrics}}} if metrics else None
        return {"name": name, "revs": [{"data": data}]}

    values = {"epochs": 4, "valid_ndcg@10": 0.1, "valid_hr@10": 0.2}
    told = json.dumps(
        [
            {"rev": "workspace", "experiments": None},
            {"rev": "0f", "experiments": [named("cell-1", values), named("cell-2", None), {"name": "x", "revs": None}]},
        ]
    )
    path = "metrics/valid/sasrec.json"
    assert sweep.shown(told, "cell-1", path) == (4.0, 0.1, 0.2)
    assert sweep.shown(told, "cell-2", path) is None
    assert sweep.shown(told, "cell-3", path) is None
    assert sweep.shown(told, "cell-1", "metrics/valid/gru4rec.json") is None
