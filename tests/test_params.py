import shutil
from datetime import date

import pytest
from dvc.utils.hydra import apply_overrides
from pydantic import ValidationError

from nextreel.errors import UserError
from nextreel.params import Day, Float, Int, Name, Params, PositiveFloat, PositiveInt, Section, Share


class Model(Section):
    lr: PositiveFloat
    epochs: PositiveInt
    dropout: Share = 0.0
    cap: Float | None = None
    offset: Int = 0


def section(**values):
    return Params({"model": {"lr": 0.1, "epochs": 1, **values}}).section("model", Model)


@pytest.mark.parametrize(("text", "number"), [("1e-05", 1e-5), ("1e-3", 1e-3), ("0.5", 0.5), (".5", 0.5), (2, 2.0)])
def test_numeric_text_becomes_a_number(text, number):
    assert section(lr=text).lr == number


def test_numeric_text_in_yaml_becomes_a_number(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("model: {lr: 1e-3, epochs: '7', cap: '1e-3'}")
    assert Params.load(path).section("model", Model) == Model(lr=0.001, epochs=7, cap=0.001)


class Log(Section):
    path: Name
    tab: Name | None = None
    parts: list[Name]


@pytest.mark.parametrize(
    "spelled",
    [
        *("0", "-7", "user", "yes", "no", "on", "Off", "y", "True", "007", "0x10", "0o7", "1_000", "12:30", "1" * 5000),
        *(
            "2022-04-22",
            "2022-04-22 10:00:00",
            "+1",
            "-0",
            "=",
            "a b",
            "ü",
            "'1e3'",
            "'true'",
            "'null '",
            "'0'",
            "'1.0'",
        ),
    ],
)
def test_a_name_stays_as_it_is_spelled(tmp_path, spelled):
    path = tmp_path / "params.yaml"
    path.write_text(f"log: {{path: {spelled}, tab: {spelled}, parts: [{spelled}]}}")
    name = spelled.strip("'")
    assert Params.load(path).section("log", Log) == Log(path=name, tab=name, parts=[name])


@pytest.mark.parametrize("spelled", ["true", "false", "1.0", "1.50", "1e3", "1E+3", ".5", "1000.0", ".inf", ".nan"])
def test_a_name_whose_spelling_is_lost_is_refused(tmp_path, spelled):
    path = tmp_path / "params.yaml"
    path.write_text(f"log: {{path: {spelled}, tab: {spelled}, parts: [{spelled}]}}")
    with pytest.raises(UserError) as caught:
        Params.load(path).section("log", Log)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(" is ")[0].strip() for line in lines] == ["`log.path`", "`log.tab`", "`log.parts.0`"]
    assert all("is to be quoted, such as 'true' or '1e3'" in line for line in lines)


@pytest.mark.parametrize("name", ["", "a\0b", [], {}, None])
def test_a_name_is_text(name):
    with pytest.raises(UserError, match=r"`log\.path` is .*; allowed: text of at least one character"):
        Params({"log": {"path": name, "parts": []}}).section("log", Log)


@pytest.mark.parametrize("value", ["2022-04-22", date(2022, 4, 22)])
def test_a_day_is_a_day(value):
    class Cut(Section):
        at: Day

    assert Cut(at=value).at == date(2022, 4, 22)


@pytest.mark.parametrize("key", ["lr", "epochs", "cap", "dropout", "offset"])
@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_no_number(key, value):
    with pytest.raises(UserError, match=f"`model.{key}` is {value}; allowed: (a number|an integer)"):
        section(**{key: value})


@pytest.mark.parametrize("value", ["none", "None", "NULL", "null", None])
def test_none_means_none(value):
    assert section(cap=value).cap is None
    with pytest.raises(UserError, match=r"`model\.lr` is None"):
        section(lr=value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", float("nan")])
def test_a_number_is_finite(value):
    with pytest.raises(UserError, match=r"`model\.lr`"):
        section(lr=value)


@pytest.mark.parametrize("value", [1.5, "1.5", "many", 0, -1, "none"])
def test_a_count_is_a_whole_positive_number(value):
    with pytest.raises(UserError, match=r"`model\.epochs` is "):
        section(epochs=value)


def test_unknown_key_names_the_nearest():
    with pytest.raises(UserError, match=r"`model\.drop_out` is unknown; did you mean `dropout`\?"):
        section(drop_out=0.1)


def test_unknown_key_far_from_all_lists_what_is_allowed():
    with pytest.raises(UserError, match=r"`model\.zzz` is unknown; allowed: lr, epochs, dropout, cap, offset"):
        section(zzz=0.1)


def test_missing_key_is_named():
    with pytest.raises(UserError, match=r"`model\.epochs` is missing"):
        Params({"model": {"lr": 1}}).section("model", Model)


def test_all_problems_come_together_each_with_its_value():
    with pytest.raises(UserError) as caught:
        section(lr=-1, epochs="banana", dropout=2, extra=0)
    message = str(caught.value)
    for part in ("`model.lr` is -1", "`model.epochs` is 'banana'", "`model.dropout` is 2", "`model.extra` is unknown"):
        assert part in message
    assert len(message.splitlines()) == 5  # the file, then a line a problem


def test_own_keys_override_defaults():
    params = Params({"model": {"lr": 0.1, "epochs": 3}, "train": {"sasrec": {"lr": "1e-2"}, "gru": None}})
    assert params.section("train.sasrec", Model, defaults="model") == Model(lr=0.01, epochs=3)
    assert params.section("train.gru", Model, defaults="model") == Model(lr=0.1, epochs=3)
    assert params.raw["model"] == {"lr": 0.1, "epochs": 3}


def test_a_section_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        section().lr = 0.2


def test_get_follows_dots_and_names_what_is_missing():
    params = Params({"recall": {"itemcf": {"window": 5}, "most_popular": None}})
    assert params.get("recall.itemcf.window") == 5
    assert params.get("recall.most_popular") == {}
    with pytest.raises(UserError, match=r"`recall\.bpr` is missing"):
        params.get("recall.bpr")
    with pytest.raises(UserError, match=r"`recall\.itemcf\.window\.x` is missing"):
        params.get("recall.itemcf.window.x")


@pytest.mark.parametrize("value", [3, "text"])
def test_a_section_that_is_no_mapping_is_a_user_error(value):
    with pytest.raises(UserError, match=r"`model` is .* it must be a section"):
        Params({"model": value}).section("model", Model)


def test_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(UserError, match="is missing; run from the project's root"):
        Params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nmodel: [1", "is not valid YAML: line 2, column 10: expected ',' or ']'"),
        ("a: !!int b", "is not valid YAML: "),
        ("a: \0", "is not valid YAML: "),
        ("- a\n- b\n", "it holds list"),
        ("", "it holds NoneType"),
    ],
)
def test_bad_file_is_a_user_error(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Params.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_encoding_is_a_user_error(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("path: ä", encoding="latin-1")
    with pytest.raises(UserError, match="is not valid YAML"):
        Params.load(path)


def test_top_keys_are_read_as_numbers():
    params = Params({"seed": "7", "threads": 2, "cpu_isa": "native"})
    assert (params.seed, params.threads, params.cpu_isa) == (7, 2, "native")


def test_an_experiment_that_changes_nothing_leaves_the_file_as_it_is(root, tmp_path):
    """DVC writes lists a line an entry, and loses a comment that follows one."""
    path = tmp_path / "params.yaml"
    shutil.copy(root / "params.yaml", path)
    for key in (
        "seed=42",
        "model.epochs=2",
        "model.inputs=[positive,gap,request_gap]",
        "model.request=[gap,profile]",
        "model.videos=[tags,bias,age]",
        "candidates.from=[tag_chain,bpr_mf]",
    ):
        apply_overrides(path, [key])
    assert path.read_text() == (root / "params.yaml").read_text()


@pytest.mark.parametrize("value", [2**31, 10**18, 1e30])
def test_numbers_have_an_upper_bound(value):
    class Numbers(Section):
        n: PositiveInt

    with pytest.raises(ValidationError):
        Numbers(n=value)
