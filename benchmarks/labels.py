"""Which watch label says most of explicit reactions, on real rows in KuaiRand's layout? The rule by which the default
is chosen was written before: experiments/labels.md, whose tables these are.

(a) the value of each label as the score of its row, no model; (b) what models fitted to it make of it. Judged on valid,
and on test for the label that the rule picks beside DVR and long_view.

    python benchmarks/labels.py FOLDER [SEEDS]

FOLDER holds the logs and features, such as $NEXTREEL_REAL_DATA/kuairand-pure-slice/data; SEEDS of sasrec, 3 by
default, 0 for none: a table is printed after each, over the seeds so far.
"""

import copy
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
from nextreel import runtime
from nextreel.params import Params

params = Params.load(Path("params.yaml"))
runtime.prepare(params.threads, params.cpu_isa)

import numpy as np
import paired
from ibis import _

from nextreel import datasets, engine, evaluation, labels, splits
from nextreel.cases import protocols, write
from nextreel.cases.store import NamedColumns, Store
from nextreel.contract import Training
from nextreel.datasets import kuairand
from nextreel.evaluation.intervals import Clusters
from nextreel.metrics import impressions as metrics
from nextreel.metrics import ratios
from nextreel.metrics.ratios import Estimate
from nextreel.models import rates, sasrec
from nextreel.nn import trainer
from nextreel.scoring import validation
from nextreel.scoring.sets import EvalSet, ShownPairs

REACTIONS = ("like", "follow", "comment", "forward", "profile_enter")
EVEN = 1.5  # of the positive share over deciles of duration, largest over smallest
SHARE = 0.2  # of train's rows that are positive, so that definitions are compared and not thresholds
DVR, TOP, LONG_VIEW = "DVR", "top share, 30", "long_view"
SECOND = {"bucket": "width", "bucket_width_s": 1, "truncate": False, "shrinkage": 0}
THIRTY = {"bucket": "frequency", "n_buckets": 30, "truncate": False, "shrinkage": 50}
Z_SCORES: dict[str, dict[str, Any]] = {
    DVR: SECOND | {"truncate": True},
    "z, 1 s, truncated, shrinkage 50": SECOND | {"truncate": True, "shrinkage": 50},
    "z, 1 s": SECOND,
    "z, 60 s (SASRec4SV)": SECOND | {"bucket_width_s": 60},
    "z, 30, truncated": THIRTY | {"truncate": True},
    "z, 30": THIRTY,
}
confidence = params.section("evaluate", evaluation.Params).confidence


class Label(NamedTuple):
    """A label of all standard rows [n]."""

    value: np.ndarray  # NaN without a duration
    positive: np.ndarray  # cut where SHARE of train is positive, or as logged
    own: np.ndarray  # the same by the cut in print
    rule: labels.Params | None  # that makes `positive` of rows, where models are to be fitted to it


class Log(NamedTuple):
    """The standard rows [n], in order of (user, time, file order)."""

    columns: Mapping[str, np.ndarray]
    reaction: np.ndarray  # bool

    def rows(self, part: str) -> np.ndarray:
        return np.asarray(self.columns["part"] == part)

    @property
    def has_duration(self) -> np.ndarray:
        return ~np.isnan(self.columns["duration_ms"].astype(float))


def made_of(**changes: Any) -> labels.Params:
    """The committed section `label` with some of its keys changed."""
    return labels.Params(**{**params.get("label"), **changes})


def connected(scratch: Path) -> engine.Connection:
    return engine.connect(params.section("engine", engine.Params), params.threads, scratch)


def prepare(folder: str, data: Path) -> None:
    """Tables and parts of the raw files."""
    con = connected(data)
    ingest = params.section("ingest", datasets.Params).model_copy(update={"layout": "kuairand", "path": folder})
    tables = datasets.write_tables(con, kuairand.read(con, ingest), data / "tables")
    bounds = splits.bounds(tables["interactions"], params.section("split", splits.Params))
    assert bounds is not None, "the study cuts by time"
    parts = splits.temporal(tables["interactions"], tables["random"], bounds)
    order = ["user_idx", "time_ms", "row"]
    engine.write(con, parts.filter(_.part.notnull()), data / "parts.parquet", order)


def labelled(data: Path, rule: labels.Params, *names: str) -> dict[str, np.ndarray]:
    """Columns of the standard rows under a rule."""
    parts = engine.read(connected(data), data / "parts.parquet")
    rows = labels.label(parts, write.fit(parts, rule, leave_one_out=False), rule).filter(_.part != "random")
    found = rows.order_by("user_idx", "time_ms", "row").select(*names).to_pyarrow()
    return {name: found[name].to_numpy() for name in names}


def read(data: Path) -> Log:
    names = ("user_idx", "video_idx", "part", "duration_ms", "play_time_ms", "click", "long_view", *REACTIONS)
    columns = labelled(data, made_of(positive="all"), *names)
    reaction = np.logical_or.reduce([columns[name] == 1 for name in REACTIONS])
    return Log(columns, reaction)


def known(positive: np.ndarray) -> np.ndarray:
    """Whether rows are known to be positive: null is not."""
    return np.asarray(positive == 1)


def all_labels(data: Path, log: Log) -> dict[str, Label]:
    found, train = {}, log.rows("train")
    for name, scheme in Z_SCORES.items():
        published = made_of(positive="wtg", wtg_threshold=1.0, **scheme)
        at_one = labelled(data, published, "z", "positive")
        threshold = float(np.nanquantile(at_one["z"][train], 1 - SHARE))
        rule = published.model_copy(update={"wtg_threshold": threshold})
        positive = known(labelled(data, rule, "positive")["positive"])
        found[name] = Label(at_one["z"], positive, known(at_one["positive"]), rule)
    rule = made_of(positive="wtg_quantile", quantile=SHARE, **THIRTY)
    top = labelled(data, rule, "bucket", "positive")
    positive, play_ms = known(top["positive"]), log.columns["play_time_ms"].astype(float)
    found[TOP] = Label(shares(top["bucket"], play_ms, train), positive, positive, rule)
    ratio = play_ms / log.columns["duration_ms"].astype(float)
    for name, value, cut in (
        ("play time", np.where(log.has_duration, play_ms, np.nan), np.nan),
        ("WTR", ratio, 0.5),
        ("WTR, capped at 1", np.minimum(ratio, 1), 0.5),
    ):
        equal = float(np.nanquantile(value[train], 1 - SHARE))
        found[name] = Label(value, value > equal, value > cut, None)
    for name in (LONG_VIEW, "click"):
        logged = log.columns[name].astype(float)
        value = np.where(log.has_duration, logged, np.nan)
        found[name] = Label(value, logged == 1, logged == 1, made_of(positive=name))
    return found


def shares(bucket: np.ndarray, play_ms: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The share of its bucket's train rows that each row [n] was watched longer than, equal ones half; NaN without a
    bucket."""
    found = np.full(len(bucket), np.nan)
    for one in np.unique(bucket[~np.isnan(bucket.astype(float))]):
        mine = np.flatnonzero(bucket == one)
        known_ms = np.sort(play_ms[mine[train[mine]]])
        sides = [np.searchsorted(known_ms, play_ms[mine], side) for side in ("left", "right")]
        found[mine] = np.mean(sides, axis=0) / len(known_ms)
    return found


def within_users(reaction: np.ndarray, score: np.ndarray, user: np.ndarray) -> Estimate:
    """AUC within user, users weighted by their rows."""
    users, group = np.unique(user, return_inverse=True)
    weight = np.bincount(group)[group].astype(float)
    return metrics.grouped_auc(reaction, score, group, len(users)).estimate(weight, within_users=True)


def evenness(log: Log, part: str, positive: np.ndarray) -> float:
    """The positive share over deciles of duration, largest over smallest."""
    rows = np.flatnonzero(log.rows(part) & log.has_duration)
    cuts = np.quantile(log.columns["duration_ms"][rows], np.arange(1, 10) / 10)
    decile = np.searchsorted(cuts, log.columns["duration_ms"][rows])
    share = np.bincount(decile, positive[rows]) / np.bincount(decile)
    return float(share.max() / share.min()) if share.min() else np.inf


def without_training(log: Log, found: Mapping[str, Label], part: str) -> dict[str, float]:
    """Print the table of (a); AUC within user by label."""
    rows = np.flatnonzero(log.rows(part) & log.has_duration)
    user, reaction = log.columns["user_idx"][rows], log.reaction[rows]
    clusters = Clusters(user, log.columns["video_idx"][rows])
    over_all = [metrics.auc(reaction, each.value[rows]).estimate() for each in found.values()]
    within = [within_users(reaction, each.value[rows], user) for each in found.values()]
    minus = list(found).index(DVR)
    print(f"\n{part}, rows with a duration: {len(rows)}, of {len(np.unique(user))} users; {tally(reaction, user)}\n")
    print(
        "| label | AUC | minus DVR | AUC within user | minus DVR | shares, equal cut | shares, own cut |\n"
        + "|---" * 7
        + "|"
    )
    both = (paired.texts(each, clusters, minus, confidence) for each in (over_all, within))
    cells = zip(found.items(), *both, strict=True)
    for (name, each), auc, gauc in cells:
        even = " | ".join(f"{evenness(log, part, cut):.2f}" if cut.any() else "" for cut in (each.positive, each.own))
        print(f"| {name} | {auc} | {gauc} | {even} |", flush=True)
    return {name: each.value for name, each in zip(found, within, strict=True)}


def tally(reaction: np.ndarray, user: np.ndarray) -> str:
    """How much there is to decide by."""
    _users, group = np.unique(user, return_inverse=True)
    reactions, rows = np.bincount(group, reaction), np.bincount(group)
    both = (reactions > 0) & (reactions < rows)
    return (
        f"{int(reaction.sum())} reactions; {both.sum()} users with and without, {int(reactions[both].sum())} of theirs"
    )


class Fitted:
    """Models fitted on train under a rule, and their scores of what was shown: by part, an array each."""

    def __init__(self, data: Path, log: Log, rule: labels.Params) -> None:
        parts = engine.read(con := connected(data), data / "parts.parquet")
        rows = labels.label(parts, write.fit(parts, rule, leave_one_out=False), rule)
        own = Path(tempfile.mkdtemp(dir=data))
        (own / "tables").symlink_to(data / "tables")
        write.write(con, rows, own, params.section("cases", protocols.Params), leave_one_out=False)
        self.store, self.asked = Store.load(own / "store"), EvalSet.load(own, params.seed)
        self.shown = ShownPairs.load(own)
        for part in ("valid", "test"):  # impressions of a part are in order of user, time and file
            assert (log.columns["video_idx"][log.rows(part)] == self.shown.video_idx[self._rows(part)]).all()

    def _rows(self, part: str) -> np.ndarray:
        return np.flatnonzero(self.shown.cases.part[self.shown.row] == part)

    def with_positive(self, positive: np.ndarray) -> "Fitted":
        """The same log with other positives [n]; what is asked stays."""
        other = copy.copy(self)
        events = NamedColumns(self.store.tables["events"] | {"positive": positive})
        other.store = replace(self.store, tables={**self.store.tables, "events": events})
        return other

    def by_rates(self) -> dict[str, np.ndarray]:
        return self._scores(rates.Model.fit(params.section("recall.rates", rates.Params), self._training(params.seed)))

    def by_sasrec(self, seed: int) -> dict[str, np.ndarray]:
        settings = params.section("train.sasrec", sasrec.Params, defaults="model")
        session = trainer.Session(lambda model: validation.validate(model, self.store, self.asked), None)
        return self._scores(sasrec.Model.fit(settings, self._training(seed, session)))

    def _training(self, seed: int, session: Any = None) -> Training:
        return Training(self.store.fitted_on("train"), np.random.default_rng(seed), session)

    def _scores(self, model: Any) -> dict[str, np.ndarray]:
        """By part; what has no opinion gets the case's median."""
        pairs, row = self.shown.pairs(self.store), self.shown.row
        found = {}
        for part in ("valid", "test"):
            rows = self._rows(part)
            score = model.score(pairs.where(rows)).astype(float)
            score[score == -np.inf] = np.nan
            found[part] = metrics.with_medians(score, row[rows], len(self.shown.cases))
        return found


def trained(log: Log, scores: Mapping[str, list[dict[str, np.ndarray]]], part: str) -> dict[str, float]:
    """Print a table of (b), the mean over seeds; AUC within user by name."""
    rows = log.rows(part)
    user, reaction = log.columns["user_idx"][rows], log.reaction[rows]
    clusters = Clusters(user, log.columns["video_idx"][rows])
    each = {name: [within_users(reaction, seed[part], user) for seed in seeds] for name, seeds in scores.items()}
    within = [ratios.mean(estimates) for estimates in each.values()]
    print(f"\n{part}: {rows.sum()} rows of {len(np.unique(user))} users; {tally(reaction, user)}\n")
    print(f"| fitted to | AUC within user | minus {next(iter(scores))} | by seed |\n" + "|---" * 4 + "|")
    for (name, estimates), text in zip(each.items(), paired.texts(within, clusters, 0, confidence), strict=True):
        print(f"| {name} | {text} | {', '.join(f'{one.value:.4f}' for one in estimates)} |", flush=True)
    return {name: estimate.value for name, estimate in zip(scores, within, strict=True)}


def main() -> None:
    folder, n_seeds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        prepare(folder, data)
        log = read(data)
        found = all_labels(data, log)
        within = without_training(log, found, "valid")
        gains = sorted([*Z_SCORES, TOP], key=lambda label: -within[label])
        even = [label for label in gains if evenness(log, "valid", found[label].positive) <= EVEN]
        chosen = [*gains[:2], *(even[:1] if even and even[0] not in gains[:2] else [])]
        fitted_to = {label: found[label].rule for label in dict.fromkeys([DVR, *chosen, LONG_VIEW])}
        fitted = {label: Fitted(data, log, rule) for label, rule in fitted_to.items() if rule is not None}
        beside = {
            "DVR as published": Fitted(data, log, made_of(positive="dvr")),
            "the reactions themselves": fitted[LONG_VIEW].with_positive(log.reaction.astype(np.int8)),
        }
        by_rates = {label: [each.by_rates()] for label, each in (fitted | beside).items()}
        print("\nrates")
        judged = trained(log, by_rates, "valid")
        z_scores = [label for label in even if label in Z_SCORES]
        best = max((label for label in chosen if label in even), key=judged.__getitem__)
        print(f"\neven enough: {', '.join(even) or 'none'}; of the z-scores: {', '.join(z_scores) or 'none'}")
        print(f"the highest of them: {best}", flush=True)
        some = [DVR, best, LONG_VIEW]
        without_training(log, {label: found[label] for label in some}, "test")
        print("\nrates")
        trained(log, {label: by_rates[label] for label in some}, "test")
        by_sasrec: dict[str, list[dict[str, np.ndarray]]] = {label: [] for label in fitted}
        for seed in range(params.seed, params.seed + n_seeds):
            for label, each in fitted.items():
                by_sasrec[label].append(each.by_sasrec(seed))
            print(f"\nsasrec, seeds {params.seed} to {seed}")
            trained(log, by_sasrec, "valid")
        if n_seeds:
            trained(log, {label: by_sasrec[label] for label in some}, "test")


if __name__ == "__main__":
    main()
