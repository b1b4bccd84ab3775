import copy
import gzip
import itertools
import os
import re
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
import torch

from nextreel import checking, datasets, labels, models
from nextreel.errors import UserError
from nextreel.params import Params, Run, parse
from nextreel.two_stage import trees

COMMITTED = Params.load(Path(__file__).resolve().parents[1] / "params.yaml")
MODELS = [(family, name) for family in checking.FAMILIES for name in COMMITTED.get(family)]

DELETED = object()
BY_DATE = {"split.by": "date"}  # the committed dates: valid from 2022-04-22, test from 2022-04-29


@pytest.fixture
def changed(committed):
    """params.yaml with some dotted keys changed."""

    def build(changes):
        raw = copy.deepcopy(committed)
        for key, value in changes.items():
            *path, last = key.split(".")
            node = raw
            for part in path:
                node = node[part]
            if value is DELETED:
                del node[last]
            else:
                node[last] = value
        return Params(raw)

    return build


@pytest.fixture
def check(changed, tmp_path):
    """`check` for some changes."""
    return lambda changes: checking.check(changed(changes), tmp_path / "scratch")


@pytest.fixture
def problems(check, tmp_path, monkeypatch):
    """The message that `check` gives for some changes."""
    monkeypatch.chdir(tmp_path)

    def run(changes):
        with pytest.raises(UserError) as caught:
            check(changes)
        return str(caught.value)

    return run


def test_without_impressions_no_head_chooses_an_epoch(check, problems):
    check({"split.strategy": "leave_one_out"})
    told = problems({"split.strategy": "leave_one_out", "train.sasrec4sv.chosen_by": "positive"})
    assert told.endswith(
        "`train.sasrec4sv.chosen_by` asks for impressions, and `split.strategy` is 'leave_one_out', which has none;"
        " choose next_item"
    )


def test_a_log_of_one_s_own_has_no_durations_of_videos(problems, tmp_path):
    own = {"ingest.layout": "table", "ingest.path": str(tmp_path / "log.csv"), "ingest.table.play_time": "watched"}
    told = problems(own | {"ingest.table.duration": "length", "train.sasrec4sv.weights.watch_time": 1})
    assert "`train.sasrec4sv` reads `videos/duration_ms`, which no log of `ingest.layout` table has; turn off" in told


def test_a_model_that_learns_no_lists_is_no_channel(problems):
    none = {"train.sasrec4sv.weights.next_item": 0, "train.sasrec4sv.chosen_by": "positive"}
    told = problems(none | {"candidates.from": ["sasrec4sv", "tag_chain"]})
    assert told.endswith(
        "`candidates.from` asks for lists of `train.sasrec4sv`, whose `weights.next_item` is 0; choose more"
    )


def test_trees_that_nothing_can_calibrate_are_refused(problems):
    told = problems({"split.strategy": "leave_one_out", "rank.trees": "lambdarank"})
    assert "`rank.trees` is 'lambdarank', whose scores are calibrated on impressions" in told
    assert told.endswith("choose binary or none")


def test_the_committed_file_passes_without_any_data(root, tmp_path, monkeypatch):
    params = Params.load(root / "params.yaml")
    monkeypatch.chdir(tmp_path)
    checking.check(params, tmp_path / "scratch")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", "banana", "`seed` is 'banana'; allowed: an integer, at least 0"),
        ("seed", True, "`seed` is True; allowed: an integer"),
        ("threads", 0, "`threads` is 0; allowed: an integer, at least 1"),
        ("rank.weight", 1e39, "`rank.weight` is 1e+39; allowed: a number, at least 0, at most 1000, or none"),
        ("rank.trees", "foo", "`rank.trees` is 'foo'; allowed: 'binary' or 'lambdarank', or none"),
        (
            "train.sasrec.inputs",
            ["colour"],
            "`train.sasrec.inputs` has 'colour'; allowed: positive, tab, feedback, gap, request_gap, hour, age, wtr",
        ),
        ("train.sasrec.inputs", ["a/b"], "`train.sasrec.inputs` has 'a/b'; allowed: positive, tab, feedback, gap"),
        ("train.sasrec.inputs", [["positive"]], "`train.sasrec.inputs.0` is ['positive']"),
        (
            "train.sasrec.inputs",
            ["time_ms"],
            "`train.sasrec.inputs` has 'time_ms'; allowed: positive, tab, feedback, gap",
        ),
        (
            "train.sasrec.inputs",
            ["positiv"],
            "has 'positiv'; allowed: positive, tab, feedback, gap, request_gap, hour, age, wtr, user; did you",
        ),
        ("train.sasrec.inputs", ["gapp"], "request_gap, hour, age, wtr, user; did you mean `gap`?"),
        ("model.request", ["gap", "author"], "`model`: `request` has author; allowed: gap, hour, tab, profile"),
        (
            "train.sasrec.videos",
            ["tags", "colour"],
            "`train.sasrec.videos` has 'colour'; allowed: author, tags, duration",
        ),
        ("train.sasrec.videos", ["bia"], "allowed: author, tags, duration, age, bias; did you mean `bias`?"),
        ("train.sasrec.videos", ["upload_day"], "`train.sasrec.videos` has 'upload_day'; allowed: author, tags"),
        ("train.sasrec.inputs", ["author"], "`train.sasrec.inputs` has 'author'; allowed: positive, tab"),
        ("model.own_row_from", 0, "`model.own_row_from` is 0; allowed: an integer, at least 1"),
        ("model.temperature", 0, "`model.temperature` is 0; allowed: a number, above 0, or none"),
        ("model.id_dropout", 2, "`model.id_dropout` is 2; allowed: a number, at least 0, at most 1"),
        ("split.refit", "valid", "`split.refit` is 'valid'; allowed: 'train_valid', or none"),
        ("cpu_isa", "avx", "`cpu_isa` is 'avx'; allowed: 'portable' or 'native'"),
        ("model.lr", -1, "`model.lr` is -1; allowed: a number, above 0"),
        ("model.lr", "fast", "`model.lr` is 'fast'"),
        ("model.logq", "both", "`model.logq` is 'both'; allowed: 'all' or 'negatives', or none"),
        ("model.negatives_from", "batch", "allowed: 'uniform', 'popularity', 'in_batch' or 'mixed'"),
        ("model.gbce_t", 2, "`model.gbce_t` is 2; allowed: a number, at least 0, at most 1"),
        ("train.sasrec.logq", "negatives", "`train.sasrec`: `logq` is 'negatives', but `loss` is 'softmax'"),
        ("ingest.layout", "kuairnd", "`ingest.layout` is 'kuairnd'; allowed: 'kuairand'"),
        ("ingest.max_rejected_share", 2, "`ingest.max_rejected_share` is 2"),
        ("modle", {}, "`modle` is unknown; did you mean `model`?"),
        ("model.epoch", 3, "`model.epoch` is unknown; did you mean `epochs`?"),
        ("recall.itemcf.windw", 3, "`recall.itemcf.windw` is unknown; did you mean `window`?"),
        ("train.sasrec.head", 3, "`train.sasrec.head` is unknown; did you mean `heads`?"),
        ("train.sasrec.lr", 0, "`train.sasrec.lr` is 0; allowed: a number, above 0"),
        ("train.sasrec.heads", 3, "`train.sasrec`: `heads` (3) must divide `width` (64)"),
        ("simulate.n_days", 10**7, "`simulate.n_days` is 10000000; allowed: an integer, at least 2, at most 3650"),
        ("simulate.scale", "XL", "`simulate.scale` is 'XL'; allowed: 'S', 'M' or 'L', or none"),
        ("recall.itemfc", {}, "`recall.itemfc` is unknown: there is no src/nextreel/models/itemfc.py"),
        ("rank.model", "sasrek", "; did you mean `sasrec`?"),
        ("candidates.from", ["itemc"], "; did you mean `itemcf`?"),
        ("candidates.from", [], "`candidates.from` is []"),
        (
            "candidates.from",
            ["itemcf", "bpr_mf", "itemcf"],
            "is ['itemcf', 'bpr_mf', 'itemcf']; allowed: each channel once; drop the copies of itemcf",
        ),
        ("train.itemcf", {}, "`train.itemcf` belongs under `recall`"),
        ("recall.sasrec", {}, "`recall.sasrec` belongs under `train`"),
        ("recall.itemcf", 3, "`recall.itemcf` is 3; it must be a section"),
        ("split", DELETED, "`split` is missing"),
        ("seed", DELETED, "`seed` is missing"),
        ("train", DELETED, "`train` must be a section whose keys name models"),
        ("recall.oracle", {}, "`recall.oracle` is the name of a system's own tables; choose another"),
        ("recall", ["itemcf"], "`recall` must be a section whose keys name models"),
        ("label.quantile", DELETED, "`label.quantile` is missing"),
        ("evaluate", 3, "`evaluate` is 3; it must be a section with the keys confidence"),
        ("split.test_from_fraction", 0.5, "0 < valid_from_fraction < test_from_fraction < 1 must hold"),
        ("split.valid_from", "2022-05-01", "`valid_from` (2022-05-01) must be before `test_from` (2022-04-29)"),
        ("split.test_until", "2022-04-01", "`test_until` (2022-04-01) must not be before `test_from` (2022-04-29)"),
        ("split.train_from", "soon", "`split.train_from` is 'soon'"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_key(problems, key, value, message):
    heading, *lines = problems({key: value}).splitlines()
    assert heading == "params.yaml:"
    assert any(message in line for line in lines)
    assert all(key.split(".")[0] in line for line in lines)  # nothing else is blamed


# --- every key of every section, and every kind of wrong value ---

WRONG = [
    *(
        True,
        False,
        "banana",
        "",
        "true",
        -1,
        0,
        3,
        1.5,
        -0.5,
        10**400,
        float("nan"),
        float("inf"),
        None,
        "none",
        "a\0b",
    ),
    *("2022-13-45", "20220422", "2022-04-22 10:00", datetime(2022, 4, 22, 10), 20220422, "1 parsec", "1e999"),
    *([], [[]], [{}], ["a", 1.5], [None], {}, {"a": 1}, {1: {"b": []}}, {"user_id": [], "colour": 3}),
]
THEIRS = re.compile(
    "Input should|valid |should |must be |instance|dictionar|Value error|validation|finite|pars|match|zero time|seconds"
)
OWNERS = {
    **{"": Run},
    **checking.SECTIONS,
    **{"ingest.table": datasets.Names},
    **{f"{family}.{name}": models.module(name).Params for family, name in MODELS},
}


@pytest.mark.parametrize("where", OWNERS)
def test_every_wrong_value_of_every_key_has_a_message_of_our_own(committed, where):
    owner = OWNERS[where]
    good = committed.get("model", {}) if where.startswith("train.") else {}
    for part in filter(None, where.split(".")):
        committed = committed[part]
    keys = [field.alias or name for name, field in owner.model_fields.items()]
    good = {key: value for key, value in (good | committed).items() if key in keys}
    assert sorted(good) == sorted(keys)
    for key, wrong in itertools.product(keys, WRONG):
        section, problems = parse(where, good | {key: wrong}, owner)
        assert (section is None) == bool(problems)
        for problem in problems:
            named = re.match(rf"`{re.escape(where)}\.?{key}(?:\.[^`]+)?`", problem)
            if not named:  # a rule over several keys
                assert problem.startswith(f"`{where}`: ")
                continue
            told = problem.removeprefix(named[0])
            assert re.match(
                r" is .*; allowed: |( is unknown(; allowed: |; did you mean))|( is missing$)", told, re.DOTALL
            )
            if "." not in named[0].removeprefix(f"`{where}."):
                assert told.startswith(f" is {parsed(wrong)!r}; allowed: ")
            assert not told.endswith(": "), "a text is a Name, or has a description"
            assert not THEIRS.search(told.split("; ", 1)[-1]), problem


def parsed(value):
    """What a section makes of a value before it looks at it."""
    return None if value == "none" else value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("candidates.from", [], "allowed: a list whose entries are text of at least one character, at least 1 of them"),
        (
            "candidates.from",
            "itemcf",
            "allowed: a list whose entries are text of at least one character, at least 1 of them",
        ),
        ("candidates.frmo", [], "`candidates.frmo` is unknown; did you mean `from`?"),
        ("split.valid_from", 20220422, "`split.valid_from` is 20220422; allowed: a day such as '2022-04-22'"),
        ("split.train_from", "2022-02-30", "is '2022-02-30'; allowed: a day such as '2022-04-22', or none"),
        ("label.truncate", "often", "`label.truncate` is 'often'; allowed: true or false"),
        ("engine.memory_limit", "1", "`engine.memory_limit` is '1'; allowed: a number with its unit, such as 4GB"),
        ("ingest.table", [], "`ingest.table` is []; allowed: a section with the keys user_id, user_id_type, video_id"),
        ("ingest.table.tbl", 1, "`ingest.table.tbl` is unknown; did you mean `tab`?"),
        ("ingest.table.user_id", DELETED, "`ingest.table.user_id` is missing"),
        ("ingest.table.user_id", 1.5, "`ingest.table.user_id` is 1.5; allowed: text of at least one character; a word"),
        ("label.wtr_most", 1, "`label.wtr_most` is unknown"),
        (
            "label.positive",
            "sasrec",
            "`label.positive` is 'sasrec'; allowed: 'wtg_quantile', 'wtg', 'dvr', 'sasrec4sv',",
        ),
        ("evaluate.confidence", 1, "`evaluate.confidence` is 1; allowed: a number, above 0, below 1"),
        ("seed", 2**63, "`seed` is 9223372036854775808; allowed: an integer, at least 0, below 9.22337e+18"),
    ],
)
def test_what_is_allowed_is_said_in_our_words(problems, key, value, message):
    assert message in problems({key: value})


@pytest.mark.parametrize("positive", labels.PUBLISHED)
def test_a_published_label_hides_no_mistake_in_the_keys_that_it_fixes(check, problems, positive):
    check({"label.positive": positive})  # which are set otherwise in the committed file
    wrong = {"label.positive": positive, "label.bucket": "widht", "label.shrinkage": -1, "label.truncate": DELETED}
    assert problems(wrong).splitlines()[1:] == [
        "  `label.bucket` is 'widht'; allowed: 'width' or 'frequency'",
        "  `label.truncate` is missing",
        "  `label.shrinkage` is -1; allowed: a number, at least 0",
    ]


def test_an_input_that_models_share_is_told_once(problems):
    told = "allowed: positive, tab, feedback, gap, request_gap, hour, age, wtr, user; did you mean `gap`?"
    assert problems({"model.inputs": ["gapp"]}) == f"params.yaml:\n  `model.inputs` has 'gapp'; {told}"
    assert problems({"model.inputs": ["gapp"], "train.sasrec.inputs": ["gap"]}).count(told) == 1


def test_a_column_that_the_store_does_not_have_is_told(problems, monkeypatch):
    monkeypatch.setattr(models.module("itemcf").Model, "columns", lambda params: ("events/tba", "events/positive"))
    told = "`recall.itemcf` reads `events/tba`, which is no column of the store; did you mean `events/tab`?"
    assert problems({}) == f"params.yaml:\n  {told}"


def test_a_head_on_watch_time_needs_a_log_that_has_it(problems, tmp_path):
    (tmp_path / "log.csv").write_text("user_id,video_id,time_ms\n1,2,1650812741436\n")
    own = {"ingest.layout": "table", "ingest.path": str(tmp_path / "log.csv"), "train.sasrec4sv.weights.gain": 1}
    message = problems(own)
    lacking = "`ingest.table.play_time`, `ingest.table.duration` are none"
    assert f"`train.sasrec4sv` reads `events/wtg`, but {lacking}: name the column of your log" in message


def test_feedback_needs_one_of_its_columns(problems, check, tmp_path):
    (tmp_path / "log.csv").write_text("user_id,video_id,time_ms,liked\n1,2,1650812741436,0\n")
    own = {"ingest.layout": "table", "ingest.path": str(tmp_path / "log.csv"), "model.inputs": ["positive", "feedback"]}
    lacking = "`ingest.table.like`, `ingest.table.comment`, `ingest.table.forward` are none"
    told = f"`train.sasrec` reads `events/feedback`, but {lacking}: name the column of one of them of your log"
    assert told in problems(own)
    check(own | {"ingest.table.like": "liked"})


def test_a_model_that_reads_a_column_that_the_own_log_lacks_is_told(problems, tmp_path):
    (tmp_path / "log.csv").write_text("user_id,video_id,time_ms\n1,2,1650812741436\n")
    own = {"ingest.layout": "table", "ingest.path": str(tmp_path / "log.csv"), "model.inputs": ["positive", "tab"]}
    message = problems(own)
    assert "`train.sasrec` reads `events/tab`, but `ingest.table.tab` is none: name the column of your log" in message
    assert "events/positive" not in message
    assert "videos/" not in message  # of which every name may be lacking
    asked = {"model.inputs": ["positive"], "model.request": ["gap", "tab"], "model.videos": ["tags", "duration", "age"]}
    message = problems(own | asked)
    assert "`train.gru4rec` reads `events/tab`, but `ingest.table.tab` is none" in message
    assert "videos/" not in message


def test_the_committed_names_need_nothing_that_an_own_log_lacks(check, tmp_path):
    (tmp_path / "log.csv").write_text("user_id,video_id,time_ms\n1,2,1650812741436\n")
    check({"ingest.layout": "table", "ingest.path": str(tmp_path / "log.csv")})


def test_a_ranker_that_was_removed_is_found(problems):
    assert "`rank.model` is 'sasrec4sv'; allowed: most_popular" in problems({"train.sasrec4sv": DELETED})


@pytest.mark.parametrize("objective", ["none", "binary", "lambdarank"])
def test_trees_of_either_objective_pass(check, objective, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trees, "load", lambda objective: None)
    check({"rank.trees": objective})


def test_trees_that_cannot_be_grown_here_are_told_before_anything_runs(problems, monkeypatch):
    def refuse(objective):
        raise UserError(f"no {objective}")

    monkeypatch.setattr(trees, "load", refuse)
    assert problems({"rank.trees": "binary", "seed": "banana"}).splitlines()[-1] == "  no binary"


def test_the_ranker_and_the_model_of_exposure_are_two(problems):
    told = "`rank.exposure` is 'sasrec4sv', as is `rank.model`; choose another model"
    assert told in problems({"rank.exposure": "sasrec4sv"})
    assert "`rank.exposure` is 'tag_chian'; " in problems({"rank.exposure": "tag_chian"})


def test_what_is_liked_once_shown_is_no_exposure(problems):
    for name in ("rates", "sasrec4sv"):
        told = f"`rank.exposure` is {name!r}, which says what is liked once shown, not what is shown"
        assert told in problems({"rank.exposure": name, "rank.model": "sasrec"})


def test_a_device_that_is_not_there_is_told_once(problems, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert problems({"model.device": "cuda"}).count("`model.device` is 'cuda', which needs an NVIDIA GPU") == 1


def test_no_more_is_recommended_than_is_in_a_pool(problems):
    told = "`rank.n_recommendations` is 600; allowed: at most `candidates.pool_size`, which is 500"
    assert told in problems({"rank.n_recommendations": 600})


def test_all_problems_come_in_one_message(problems):
    wrong = {
        **{"seed": "banana", "modle": {}, "model.lr": -1, "label.positive": "wtq", "split": DELETED},
        **{"recall.itemcf.decay": 2, "recall.itemfc": {}, "train.itemcf": {}},
    }
    message = problems(wrong)
    for key in wrong:
        assert f"`{key}`" in message
    assert len(message.splitlines()) == 1 + len(wrong)


def test_keys_of_the_section_model_that_do_not_go_together_are_told_once(problems):
    told = problems({"model.loss": "bce", "model.negatives_from": "mixed"})
    rule = "`negatives_from` is 'mixed', but `loss` is 'bce'; only sampled_softmax takes negatives from the batch"
    assert told == f"params.yaml:\n  `model`: {rule}"
    told = problems({"model.loss": "sampled_softmax", "model.negatives_from": "mixed", "train.gru4rec.loss": "bce"})
    assert told == f"params.yaml:\n  `train.gru4rec`: {rule}"


@pytest.mark.parametrize(
    "wrong", [{"seed": "banana", "rank.model": "sasrek"}, {"model.lr": -1, "train.sasrec.heads": 0}]
)
def test_problems_of_all_kinds_come_together(problems, wrong):
    message = problems(wrong)
    assert all(f"`{key}`" in message for key in wrong)


@pytest.mark.parametrize(("section", "key"), [(None, True), (None, 3), ("recall", 3), ("train", False)])
def test_a_key_that_yaml_reads_as_no_text_is_a_user_error(committed, tmp_path, section, key):
    raw = copy.deepcopy(committed)
    (raw[section] if section else raw)[key] = {}
    with pytest.raises(UserError, match=f"`.*{key}`"):
        checking.check(Params(raw), tmp_path)


def test_the_package_itself_is_no_model(problems):
    assert "`recall.__init__` is unknown" in problems({"recall.__init__": {}})


def test_dates_of_the_default_data_follow_from_its_parameters(check, problems):
    check(BY_DATE)
    days = "allowed are the days of the log, 2022-04-08 to 2022-04-28"  # 21 days
    assert f"`split.test_from` is '2022-04-29': {days}" in problems(BY_DATE | {"simulate.n_days": 21})
    check(BY_DATE | {"simulate.n_days": 22})
    assert "`split.train_from` is '2022-04-07'" in problems(BY_DATE | {"split.train_from": "2022-04-07"})


def test_dates_outside_the_log_do_not_matter_to_a_split_by_fraction(check):
    check({"split.by": "fraction", "simulate.n_days": 10})


def test_dates_are_held_against_the_days_of_the_log_in_utc8(check, problems, folder):
    midnight = 1_650_816_000_000  # 2022-04-25 00:00 in UTC+8
    day = 86_400_000
    path = {"ingest.path": str(folder.path)}
    dates = BY_DATE | {"split.valid_from": "2022-04-25", "split.test_from": "2022-04-26"}
    folder.log({"time_ms": midnight}, {"time_ms": midnight + day})
    check(path | dates)
    folder.log({"time_ms": midnight}, {"time_ms": midnight + day - 1})
    assert "`split.test_from` is '2022-04-26': allowed are the days of the log, 2022-04-25 to 2022-04-25" in problems(
        path | dates
    )
    check(path)  # by fraction


def test_dates_are_held_against_all_logs(check, folder):
    folder.log({"time_ms": 1_650_600_000_000})  # 2022-04-22
    folder.log({"time_ms": 1_651_200_000_000}, name="log_random_b.csv")  # 2022-04-29
    check(BY_DATE | {"ingest.path": str(folder.path)})


def test_one_row_in_microseconds_does_not_stop_the_check(check, folder):
    folder.log({"time_ms": 1_650_600_000_000}, {"time_ms": 1_650_600_000_000_000}, {"time_ms": 1_651_200_000_000})
    check(BY_DATE | {"ingest.path": str(folder.path)})


def test_one_row_in_seconds_does_not_widen_the_log(problems, folder):
    folder.log({"time_ms": 1_650_600_000}, {"time_ms": 1_651_200_000_000})  # 2022-04-22 in seconds, then 04-29
    assert "`split.valid_from`" in problems(BY_DATE | {"ingest.path": str(folder.path)})


def test_the_real_slice_begins_after_the_committed_valid_from(problems, check, real_data):
    path = {"ingest.path": str(real_data / "kuairand-pure-slice" / "data")}
    assert "allowed are the days of the log, 2022-04-24 to 2022-05-08" in problems(BY_DATE | path)
    check(BY_DATE | path | {"split.valid_from": "2022-04-24"})


def test_a_missing_folder_is_named(problems):
    message = problems({"ingest.path": "raw/nowhere"})
    assert "`ingest.path` is 'raw/nowhere', which is no folder" in message


def test_the_folder_above_the_logs_is_told_apart(problems, folder):
    inner = folder.path / "data"
    inner.mkdir()
    folder.log({}).rename(inner / "log_standard_a.csv")
    assert f"did you mean {inner}?" in problems({"ingest.path": str(folder.path)})


def test_a_folder_without_logs_is_named(problems, tmp_path):
    message = problems({"ingest.path": str(tmp_path)})
    assert f"{tmp_path}: no log_standard_*.csv or log_random_*.csv" in message
    assert "did you mean" not in message


@pytest.mark.parametrize(("kind", "column"), [("log", "tab"), ("users", "onehot_feat3"), ("videos", "tag")])
def test_a_missing_column_is_named(problems, folder, kind, column):
    folder.log({}, name="log_random_good.csv")
    path = getattr(folder, kind)({})
    path.write_text(path.read_text().replace(column, "other", 1))
    assert f"{path}: columns missing: {column}; the header has: " in problems({"ingest.path": str(folder.path)})


def test_a_column_that_nothing_reads_may_be_missing(check, folder):
    path = folder.log({})
    path.write_text(path.read_text().replace("hourmin", "other", 1))
    check({"ingest.path": str(folder.path)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (gzip.compress(b"user_id,video_id\n1,2\n"), "is gzip-compressed although its name ends in .csv"),
        (b"user_id,video_id,user_id\n1,2,3\n", "the header "),
    ],
    ids=["empty", "gzip", "duplicate"],
)
@pytest.mark.parametrize("name", ["log_standard_b.csv", "user_features_x.csv", "video_features_basic_x.csv"])
def test_a_file_that_cannot_be_read_is_named(problems, folder, name, content, message):
    folder.log({})
    (folder.path / name).write_bytes(content)
    assert f"{folder.path / name}" in problems({"ingest.path": str(folder.path)})
    assert message in problems({"ingest.path": str(folder.path)})


def test_two_feature_files_are_one_too_many(problems, folder):
    folder.log({})
    other = folder.videos({}).rename(folder.path / "video_features_basic_a.csv")
    folder.videos({})
    message = problems({"ingest.path": str(folder.path)})
    assert f"found {other.name}, video_features_basic_hand.csv" in message


# --- what an unfinished experiment has left ---


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Calls git in a folder, as a person without settings of their own; a hook that runs the suite sets GIT_DIR."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

    def run(folder, *arguments):
        who = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "protocol.file.allow=always"]
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)

    return run


@pytest.fixture
def repository(git, tmp_path):
    """A project in a folder of a repository, committed."""
    project = tmp_path / "repository" / "project"
    project.mkdir(parents=True)
    (project / "params.yaml").write_text(COMMITTED_TEXT, encoding="utf-8")
    git(project.parent, "init", "--quiet")
    git(project.parent, "add", "--all")
    git(project.parent, "commit", "--quiet", "--message", "first")
    return project.parent


COMMITTED_TEXT = "seed: 42\nmodel:\n  epochs: 4\n  lr: 0.00001\ntrain:\n  sasrec: {}\n  toy: {heads: 2}\n"


def changed_at(project, monkeypatch, text=None):
    monkeypatch.chdir(project)
    if text is not None:
        (project / "params.yaml").write_text(text, encoding="utf-8")
    return checking.changes(Params.load(Path("params.yaml")))


def test_each_key_that_differs_from_the_last_commit_is_a_line(repository, monkeypatch):
    project = repository / "project"
    assert changed_at(project, monkeypatch) == []
    assert changed_at(project, monkeypatch, COMMITTED_TEXT.replace("0.00001", "1e-05") + "# the same\n") == []
    other = COMMITTED_TEXT.replace("epochs: 4", "epochs: 8").replace("  sasrec: {}\n", "").replace("heads", "blocks")
    assert changed_at(project, monkeypatch, other) == [
        f"params.yaml differs from the last commit: {change}"
        for change in ("model.epochs 4 -> 8", "train.sasrec {} -> absent", "train.toy.heads 2 -> absent",
                       "train.toy.blocks absent -> 2")
    ]  # fmt: skip


def test_a_change_is_seen_that_git_overlooks(repository, git, monkeypatch):
    """Of the same size, written within the same instant as the index."""
    project = repository / "project"
    at = (project / "params.yaml").stat()
    git(repository, "update-index", "--assume-unchanged", "project/params.yaml")
    lines = changed_at(project, monkeypatch, COMMITTED_TEXT.replace("epochs: 4", "epochs: 8"))
    os.utime(project / "params.yaml", ns=(at.st_atime_ns, at.st_mtime_ns))
    git(repository, "diff", "--quiet", "HEAD")  # says that nothing has changed
    assert lines == ["params.yaml differs from the last commit: model.epochs 4 -> 8"]


def test_a_worktree_and_a_submodule_have_their_own_commit(repository, git, tmp_path, monkeypatch):
    git(repository, "worktree", "add", "--quiet", str(tmp_path / "tree"))
    git(tmp_path, "init", "--quiet", "outer")
    git(tmp_path / "outer", "submodule", "--quiet", "add", str(repository), "inner")
    for project in (tmp_path / "tree/project", tmp_path / "outer/inner/project"):
        lines = changed_at(project, monkeypatch, COMMITTED_TEXT.replace("seed: 42", "seed: 7"))
        assert lines == ["params.yaml differs from the last commit: seed 42 -> 7"]


@pytest.mark.parametrize("text", ["model: [", "- a", "", "\0"])
def test_a_commit_that_holds_no_sections_is_passed_over(repository, git, monkeypatch, text):
    (repository / "project/params.yaml").write_text(text, encoding="utf-8")
    git(repository, "commit", "--quiet", "--all", "--message", "broken")
    assert changed_at(repository / "project", monkeypatch, COMMITTED_TEXT) == []


def test_no_git_no_repository_and_no_commit_are_passed_over(git, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    project = tmp_path / "plain"
    project.mkdir()
    assert changed_at(project, monkeypatch, COMMITTED_TEXT) == []
    git(project, "init", "--quiet")
    assert changed_at(project, monkeypatch) == []  # without a commit
    monkeypatch.setenv("PATH", str(tmp_path))
    assert changed_at(project, monkeypatch) == []
