"""The protocol `next_item`: each case's target, ranked over the whole catalogue with seen videos left out.

A model trained with several seeds gets the mean over them, case by case.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nextreel import arrays
from nextreel.arrays import Columns
from nextreel.clock import days_of
from nextreel.evaluation import Params
from nextreel.evaluation.estimates import Estimates, labelled, stack
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics.next_item import per_case
from nextreel.metrics.ranks import MISS
from nextreel.metrics.ratios import Parts
from nextreel.scoring.sets import EvalSet

HEADLINE = "ndcg@10"


def load_ranks(path: Path) -> dict[int, np.ndarray]:
    """Seed -> the rank [n] of every target, in order of case_id."""
    columns = arrays.load(path, columns=["seed", "rank"])
    return {int(seed): columns["rank"][columns["seed"] == seed] for seed in np.unique(columns["seed"])}


class NextItemResults:
    """The target ranks of several models, each case's metrics, and what follows from them."""

    def __init__(self, eval_set: EvalSet, ranks: Mapping[str, dict[int, np.ndarray]], params: Params) -> None:
        """ranks: model -> what `load_ranks` returns."""
        self.eval_set = eval_set.where(eval_set.cases.part != "next")
        self.ranks = ranks
        self.params = params
        self.values = {
            name: {seed: per_case(rank) for seed, rank in by_seed.items()} for name, by_seed in ranks.items()
        }
        self.of_part = {part: self._estimates(self.eval_set.cases.part == part) for part in ("test", "valid")}

    def _estimates(self, cases: np.ndarray, only: str | None = None) -> Estimates:
        """Of the mean over seeds of some cases' metrics; a case's video is its target."""
        clusters = Clusters(self.eval_set.cases.user_idx[cases], self.eval_set.target[cases])
        found = Estimates(clusters, self.params.confidence, HEADLINE, lowest=0.0)
        for name, by_seed in self.values.items():
            for metric in [only] if only else next(iter(by_seed.values())):
                mean = np.mean([values[metric][cases] for values in by_seed.values()], axis=0)
                found.add(name, metric, Parts.of(mean).estimate())
        return found

    def table(self) -> Columns:
        """Every metric: part, model, metric, value, low, high."""
        return stack([labelled(found.table(), part=part) for part, found in self.of_part.items()])

    def headline(self, name: str) -> dict[str, float]:
        """The flat metrics of a model: test, and valid with the prefix `valid_`."""
        test, valid = (self.of_part[part].of_model(name) for part in ("test", "valid"))
        shown = (HEADLINE, f"{HEADLINE}_half_width", "hr@10", "hr@50")
        on_test = self.eval_set.cases.part == "test"
        missed = [(rank[on_test] == MISS).mean() for rank in self.ranks[name].values()]
        shares = {"unreachable_share": float(np.mean(missed))}
        return {key: test[key] for key in shown} | {f"valid_{key}": valid[key] for key in (HEADLINE, "hr@10")} | shares

    def cold_share(self) -> dict[str, float]:
        """The test cases, and the share of their targets outside the catalogue."""
        asked = self.eval_set.of("test")
        return {
            "cold_share": float(1 - np.isin(asked.target, self.eval_set.catalogue.of("test")).mean()),
            "n_cases": len(asked.target),
        }

    def comparison(self) -> Columns:
        """HEADLINE on test of every model and pair of models, see `Estimates.comparison`."""
        return self.of_part["test"].comparison

    def by_day(self) -> Columns:
        """HEADLINE by the day of the test case: day, cases, model, metric, value, low, high."""
        on_test = self.eval_set.cases.part == "test"
        day = days_of(self.eval_set.cases.time_ms)
        tables = []
        for today in np.unique(day[on_test]):
            rows = on_test & (day == today)
            table = self._estimates(rows, HEADLINE).table()
            tables.append({**labelled(table, day=str(today)), "n": np.full(len(table["value"]), rows.sum())})
        return stack(tables)

    def by_seed(self) -> Columns:
        """HEADLINE of every model and seed: part, model, seed, metric, value."""
        rows = [
            (part, name, seed, HEADLINE, values[HEADLINE][self.eval_set.cases.part == part].mean())
            for part in self.of_part
            for name, by_seed in self.values.items()
            for seed, values in by_seed.items()
        ]
        names = ("part", "model", "seed", "metric", "value")
        return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}

    def on_test(self, name: str) -> np.ndarray:
        """The rank [n] of every test target with the run's own seed."""
        return self.ranks[name][self.eval_set.seed][self.eval_set.cases.part == "test"]

    def per_user(self, name: str, seed: int) -> Columns:
        """Every case with its metrics."""
        cases = self.eval_set.cases
        about = {"part": cases.part, "user_idx": cases.user_idx, "case_id": cases.case_id}
        return {**about, "rank": self.ranks[name][seed], **self.values[name][seed]}
