"""The whole params.yaml, checked before any stage runs and before DVC deletes any output: all mistakes at once."""

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from nextreel import clock, datasets, eda, engine, evaluation, labels, models, splits
from nextreel.cases import columns, protocols
from nextreel.errors import UserError
from nextreel.nn import device, heads, inputs, recommender
from nextreel.params import Params, Run, Section, from_yaml, nearest, parse
from nextreel.simulation import generator, world
from nextreel.systems import SYSTEMS
from nextreel.two_stage import fusion, trees, weigh

SECTIONS: dict[str, type[Section]] = {
    "engine": engine.Params,
    "simulate": generator.Params,
    "ingest": datasets.Params,
    "split": splits.Params,
    "label": labels.Params,
    "cases": protocols.Params,
    "eda": eda.Params,
    "model": recommender.NeuralParams,
    "candidates": fusion.Params,
    "rank": weigh.Params,
    "evaluate": evaluation.Params,
}
# Keys of ingest.table that a column of the store is made of: all of each row, or at least one of the last.
SOURCES: dict[str, tuple[str, ...]] = {
    "wtr": ("play_time", "duration"), "wtg": ("play_time", "duration"), "play_time_ms": ("play_time",),
}  # fmt: skip
ANY_OF = {"feedback": ("like", "comment", "forward")}
OF_TABLES = ("videos/video_key", "users/user_key")  # what is known of videos and users of such a log: their ids
FAMILIES = ("recall", "train")  # sections whose keys name models
TAKEN = (*SYSTEMS, fusion.FUSED)  # names that stand beside the models, in tables and metrics


def changes(params: Params) -> list[str]:
    """A line for each key whose value is not that of the last commit; none where no commit can be read.

    By content: git looks at size and time first, and may overlook what a stopped `dvc exp run -S` has left.
    """
    try:
        shown = subprocess.run(["git", "show", "HEAD:./params.yaml"], capture_output=True, check=True).stdout
        committed = from_yaml(shown.decode())
    except (OSError, subprocess.CalledProcessError, yaml.YAMLError, ValueError):
        return []
    if not isinstance(committed, Mapping):
        return []
    before, now = dict(_leaves(committed)), dict(_leaves(params.raw))
    found = [(key, before.get(key, "absent"), now.get(key, "absent")) for key in {**before, **now}]
    return [f"params.yaml differs from the last commit: {key} {a} -> {b}" for key, a, b in found if a != b]


def _leaves(values: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys, and what is written there."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", repr(value)


def check(params: Params, scratch: Path) -> None:
    """Raise UserError with a line for every mistake in params.yaml, then for the input that `ingest.path` names.

    scratch: where an engine may lie, see `engine.connect`.
    """
    raw = params.raw
    problems = [*_unknown(raw), *_sections(raw), *_models(raw), *_names(raw), *_inputs(raw)]
    problems += [*_columns(raw), *_devices(raw), *_choices(raw), *_lists(raw), *_trees(raw)]
    if problems:
        raise UserError("params.yaml:\n  " + "\n  ".join(problems))
    check_input(params, scratch)


def check_input(params: Params, scratch: Path) -> None:
    """Raise UserError where the raw files or columns are missing, or a date of the split lies outside the log."""
    ingest, split = params.section("ingest", datasets.Params), params.section("split", splits.Params)
    if Path(ingest.path) == world.FOLDER:
        n_days = params.section("simulate", generator.Params).n_days
        end_ms = clock.start_of_day_ms(world.FIRST_DAY + timedelta(days=n_days))
        splits.check_dates(split, world.FIRST_MS, end_ms - 1)
        return
    layout = datasets.layout(ingest)
    layout.inspect(ingest)
    if split.strategy == "temporal" and split.by == "date":  # else the log need not be read
        con = engine.connect(params.section("engine", engine.Params), params.threads, scratch)
        first_last = layout.time_range(con, ingest)
        if first_last is not None:
            splits.check_dates(split, *first_last)


def _unknown(raw: Mapping[Any, Any]) -> Iterator[str]:
    allowed = [*Run.model_fields, *SECTIONS, *FAMILIES]
    for key in raw:
        if key not in allowed:
            yield f"`{key}` is unknown{nearest(str(key), allowed) or '; allowed: ' + ', '.join(allowed)}"


def _sections(raw: Mapping[str, Any]) -> Iterator[str]:
    top = {key: raw[key] for key in Run.model_fields if key in raw}
    yield from parse("", top, Run)[1]
    for key, owner in SECTIONS.items():
        if key in raw:
            yield from parse(key, raw[key], owner)[1]
        else:
            yield f"`{key}` is missing"


def _models(raw: Mapping[str, Any]) -> Iterator[str]:
    for family in FAMILIES:
        section = raw.get(family)
        if not isinstance(section, Mapping):
            yield f"`{family}` must be a section whose keys name models, such as `{family}.itemcf`"
            continue
        for name, own in section.items():
            if name in TAKEN:
                yield f"`{family}.{name}` is the name of a system's own tables; choose another"
                continue
            if not models.exists(str(name)):
                yield f"`{family}.{name}` is unknown: there is no src/nextreel/models/{name}.py"
                continue
            owner = models.module(name).Params
            if issubclass(owner, recommender.NeuralParams) != (family == "train"):
                yield f"`{family}.{name}` belongs under `{'recall' if family == 'train' else 'train'}`"
            elif not isinstance(own or {}, Mapping):
                yield f"`{family}.{name}` is {own!r}; it must be a section, `{{}}` if empty"
            else:
                yield from _own_problems(family, name, own or {}, raw.get("model"), owner)


def _own_problems(family: str, name: str, own: Mapping[str, Any], shared: object, owner: type[Section]) -> list[str]:
    """What is wrong with a model's own keys; what is wrong with the section `model` is told there."""
    inherited = shared if family == "train" and isinstance(shared, Mapping) else {}
    told = [f"`{family}.{name}.{key}`" for key in inherited if key not in own]
    broken = parse(f"{family}.{name}", inherited, recommender.NeuralParams)[1]
    told += [rule for rule in broken if rule.startswith(f"`{family}.{name}`: ")]  # over several keys of `model`
    problems = parse(f"{family}.{name}", {**inherited, **own}, owner)[1]
    return [problem for problem in problems if not problem.startswith(tuple(told))]


def _names(raw: Mapping[str, Any]) -> Iterator[str]:
    """Names that one section holds and another defines."""
    if not all(isinstance(raw.get(family), Mapping) for family in FAMILIES):
        return
    defined = [str(name) for family in FAMILIES for name in raw[family]]
    rank = parse("rank", raw.get("rank"), weigh.Params)[0]
    candidates = parse("candidates", raw.get("candidates"), fusion.Params)[0]
    wanted = [("rank.model", rank.model), ("rank.exposure", rank.exposure)] if rank else []
    if rank and rank.model == rank.exposure:
        yield f"`rank.exposure` is {rank.exposure!r}, as is `rank.model`; choose another model"
    wanted += [("candidates.from", name) for name in (candidates.channels if candidates else [])]
    for key, name in wanted:
        if name not in defined:
            yield f"`{key}` is {name!r}; allowed: {', '.join(defined)}{nearest(name, defined)}"
        elif key == "rank.exposure" and models.exists(name) and models.module(name).Model.scale == "log_odds":
            yield f"`{key}` is {name!r}, which says what is liked once shown, not what is shown; choose another model"
    if rank and candidates and rank.n_recommendations > candidates.pool_size:
        yield (
            f"`rank.n_recommendations` is {rank.n_recommendations}; allowed: at most `candidates.pool_size`, which is"
            f" {candidates.pool_size}"
        )


def _columns(raw: Mapping[str, Any]) -> Iterator[str]:
    """Columns of the store that a model reads and the data lack."""
    ingest = parse("ingest", raw.get("ingest"), datasets.Params)[0]
    mapped = ingest.table.model_dump() if ingest is not None and ingest.layout == "table" else {}
    declared = [f"{table}/{name}" for table, columns_ in columns.DECLARED.items() for name in columns_]
    for where, owner, params in _sound_models(raw):
        told = {f"{table}/{name}" for _key, table, name, _allowed in _wrong_inputs(params)}
        named = owner.Model.columns(params)
        needed = {name for name in named if not name.endswith("?")}
        for read in sorted({name.removesuffix("?") for name in named} - told):
            table, _, column = read.partition("/")
            if read not in declared:
                hint = nearest(read, declared) or f"; allowed: {', '.join(declared)}"
                yield f"`{where}` reads `{read}`, which is no column of the store{hint}"
            elif table == "events" and read in needed:
                sources = ANY_OF.get(column) or SOURCES.get(column, (column,))
                lacking = [f"`ingest.table.{source}`" for source in sources if mapped.get(source, source) is None]
                if lacking and (column not in ANY_OF or len(lacking) == len(sources)):
                    one = " of one of them" if column in ANY_OF else ""
                    is_none = " is none" if len(lacking) == 1 else " are none"
                    yield (
                        f"`{where}` reads `{read}`, but {', '.join(lacking)}{is_none}: name the column{one} of your log"
                    )
            elif mapped and read in needed and read not in OF_TABLES:
                yield f"`{where}` reads `{read}`, which no log of `ingest.layout` table has; turn off what asks for it"


def _inputs(raw: Mapping[str, Any]) -> Iterable[str]:
    """Inputs of neural models that are unknown, or that no table of vectors can hold. Told once: models mostly share
    theirs."""
    found: dict[str, None] = {}
    for where, _owner, params in _sound_models(raw):
        for key, _table, name, allowed in _wrong_inputs(params):
            own = Params(raw).get(where)
            path = f"{where}.{key}" if key in own else f"model.{key}"
            found[f"`{path}` has {name!r}; allowed: {', '.join(allowed)}{nearest(name, allowed)}"] = None
    return found


def _wrong_inputs(params: Section) -> Iterator[tuple[str, str, str, list[str]]]:
    """key, table, name and what is allowed there."""
    if not isinstance(params, recommender.NeuralParams):
        return
    ids = {
        table: [name for name, each in declared.items() if each.kind != "number" and name != "video_idx"]
        for table, declared in columns.DECLARED.items()
    }
    for key, table, names, allowed in (
        ("inputs", "events", params.inputs, [*ids["events"], *inputs.OF_EVENTS]),
        ("videos", "videos", params.videos, [*ids["videos"], *inputs.OF_VIDEOS]),
    ):
        yield from ((key, table, name, allowed) for name in names if name not in allowed)


def _devices(raw: Mapping[str, Any]) -> Iterator[str]:
    """Told once: models mostly share theirs."""
    names = {params.device for *_, params in _sound_models(raw) if isinstance(params, recommender.NeuralParams)}
    for name in sorted(names):
        try:
            device.choose(name)
        except UserError as error:
            yield str(error)


def _choices(raw: Mapping[str, Any]) -> Iterator[str]:
    """Epochs that nothing on valid can choose."""
    split = parse("split", raw.get("split"), splits.Params)[0]
    if split is None or split.strategy != "leave_one_out":
        return
    for where, owner, params in _sound_models(raw):
        if isinstance(params, recommender.NeuralParams) and owner.Model.choice(params) != heads.BY_LISTS:
            yield (
                f"`{where}.chosen_by` asks for impressions, and `split.strategy` is 'leave_one_out', which has none;"
                f" choose {heads.BY_LISTS.head}"
            )


def _lists(raw: Mapping[str, Any]) -> Iterator[str]:
    """Lists that are asked for, of a model that is not trained to make any."""
    candidates = parse("candidates", raw.get("candidates"), fusion.Params)[0]
    rank = parse("rank", raw.get("rank"), weigh.Params)[0]
    asked = {f"train.{name}": "candidates.from" for name in (candidates.channels if candidates else [])}
    asked |= {f"train.{rank.exposure}": "rank.exposure"} if rank else {}
    for where, owner, params in _sound_models(raw):
        if where in asked and not owner.Model.makes_lists(params):
            yield f"`{asked[where]}` asks for lists of `{where}`, whose `weights.{heads.NEXT_ITEM}` is 0; choose more"


def _trees(raw: Mapping[str, Any]) -> Iterator[str]:
    """Trees that cannot be grown on this machine, or whose scores nothing can calibrate."""
    rank, split = parse("rank", raw.get("rank"), weigh.Params)[0], parse("split", raw.get("split"), splits.Params)[0]
    if rank and split and rank.trees == "lambdarank" and split.strategy == "leave_one_out":
        yield (
            "`rank.trees` is 'lambdarank', whose scores are calibrated on impressions, and `split.strategy` is"
            " 'leave_one_out', which has none; choose binary or none"
        )
    if rank and rank.trees:
        try:
            trees.load(rank.trees)
        except UserError as error:
            yield str(error)


def _sound_models(raw: Mapping[str, Any]) -> Iterator[tuple[str, ModuleType, Any]]:
    """key, module and params of every model whose section holds no mistake of its own."""
    shared: dict[str, Any] = {"recall": {}, "train": raw.get("model")}
    for family in FAMILIES:
        sections, defaults = raw.get(family), shared[family]
        if not isinstance(sections, Mapping) or not isinstance(defaults, Mapping):
            continue
        for name in filter(models.exists, map(str, sections)):
            own, owner = sections[name] or {}, models.module(name)
            params = parse("", {**defaults, **own}, owner.Params)[0] if isinstance(own, Mapping) else None
            if params is not None:
                yield f"{family}.{name}", owner, params
