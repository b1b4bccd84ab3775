from math import nan
from pathlib import Path

import pytest

from nextreel.errors import UserError
from nextreel.params import Params
from nextreel.reporting import clones, worlds, worlds_table
from nextreel.reporting.worlds_table import COLUMNS, Cell, Made

MADE = Made("abc", 3)


def cells_of(world, ndcg=0.1):
    values = dict.fromkeys(COLUMNS, nan) | {"ndcg@10": ndcg}
    return [Cell(world, name, values) for name in ("itemcf", "sasrec")]


class Run:
    """What stands for a run of the pipeline: notes the worlds that it is asked for, and is stopped in one of them."""

    def __init__(self, stopped_in=None):
        self.asked, self.stopped_in = [], stopped_in

    def __call__(self, world, seeds):
        self.asked.append((world, seeds))
        if world == self.stopped_in:
            raise KeyboardInterrupt
        return cells_of(world), 60.0


def test_a_stopped_command_goes_on_where_it_stopped(tmp_path, capsys):
    path, stopped, again, third = tmp_path / "worlds.csv", Run(stopped_in=44), Run(), Run()
    with pytest.raises(KeyboardInterrupt):
        worlds.fill(path, (42, 43, 44), MADE, stopped)
    assert [cell.world for cell in worlds_table.read(path)[MADE]] == [42, 42, 43, 43]
    worlds.fill(path, (42, 43, 44), MADE, again)
    assert again.asked == [(44, 3)]
    whole = path.read_bytes()
    found = worlds.fill(path, (42, 43, 44), MADE, third)
    assert third.asked == []
    assert [cell.world for cell in found] == [42, 42, 43, 43, 44, 44]
    assert path.read_bytes() == whole
    told = capsys.readouterr().out.splitlines()
    assert "world 44 (3 of 3): 2 systems, 1.0 minutes" in told
    assert told[-3:] == [f"world {world} ({at} of 3): there already" for at, world in enumerate((42, 43, 44), 1)]


@pytest.mark.parametrize("other", [Made("xyz", 3), Made("abc", 1)], ids=["state", "seeds"])
def test_rows_that_were_made_otherwise_are_dropped_and_made_anew(tmp_path, capsys, other):
    path, run = tmp_path / "worlds.csv", Run()
    worlds_table.write(path, other, cells_of(42) + cells_of(43))
    worlds.fill(path, (42,), MADE, run)
    assert run.asked == [(42, 3)]
    assert list(worlds_table.read(path)) == [MADE]
    assert "4 rows are of another state" in capsys.readouterr().out


@pytest.mark.parametrize("seeds", ["", "0", "-1", "three"])
def test_a_wrong_number_of_seeds_is_told(seeds):
    assert f"SEEDS is {seeds!r}; allowed: an integer, at least 1" in worlds.main(seeds)


def test_the_world_of_the_committed_run_is_not_run_again(monkeypatch, root):
    """Its cells are those of the committed metrics; another seed of training would be another run."""
    monkeypatch.chdir(root)
    params = Params.load(Path("params.yaml"))
    world, seeds = params.get("simulate.seed"), params.get("model.seeds")

    def cloned(kind):
        raise UserError("a clone is made")

    monkeypatch.setattr(clones, "clone", cloned)
    found, seconds = worlds.run(world, seeds)
    assert (found, seconds) == (worlds_table.collect(world, Path("metrics")), 0.0)
    for other in ((world + 1, seeds), (world, seeds + 1)):
        with pytest.raises(UserError, match="a clone is made"):
            worlds.run(*other)
