"""The whole params.yaml, checked before any stage runs and before DVC deletes any output: all mistakes at once."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from nextreel import answers, datasets, engine, evaluation, files, fusion, labels, models, splits
from nextreel.datasets import simulated
from nextreel.errors import UserError
from nextreel.nn import recommender
from nextreel.params import Params, Run, Section, nearest, parse

SIMULATED = Path("data/raw/simulated")
SECTIONS: dict[str, type[Section]] = {
    "engine": engine.Params,
    "simulate": simulated.Params,
    "ingest": datasets.Params,
    "split": splits.Params,
    "label": labels.Params,
    "model": recommender.NeuralParams,
    "candidates": fusion.Params,
    "rank": answers.Params,
    "evaluate": evaluation.Params,
}
FAMILIES = ("recall", "train")  # sections whose keys name models


def check(params: Params) -> None:
    """Raise UserError with a line for every mistake in params.yaml, then for the input that `ingest.path` names."""
    problems = [*_unknown(params.raw), *_sections(params.raw), *_models(params.raw)]
    if not problems:
        problems = list(_names(params))
    if problems:
        raise UserError("params.yaml:\n  " + "\n  ".join(problems))
    check_input(params)


def check_input(params: Params) -> None:
    """Raise UserError where the raw files or columns are missing, or a date of the split lies outside the log."""
    ingest, split = params.section("ingest", datasets.Params), params.section("split", splits.Params)
    if Path(ingest.path) == SIMULATED:
        world = params.section("simulate", simulated.Params)
        end_ms = splits.start_of_day_ms(simulated.FIRST_DAY + timedelta(days=world.n_days))
        splits.check_dates(split, simulated.FIRST_MS, end_ms - 1)
        return
    layout = datasets.layout(ingest)
    layout.inspect(Path(ingest.path))
    if split.by == "date":  # else the log need not be read
        con = engine.connect(params.section("engine", engine.Params), params.threads)
        first_last = layout.time_range(con, Path(ingest.path))
        if first_last is not None:
            splits.check_dates(split, *first_last)


def remove_stale(root: Path, params: Params) -> None:
    """Delete what models left that params.yaml no longer names: collectors and DVC's folders must not see it."""
    named = {name for family in FAMILIES for name in params.get(family)}
    for folder in ("data/models", "data/lists", "data/ranks", "plots/curves"):
        for path in sorted((root / folder).glob("*")):
            if path.name.split(".")[0] not in named:
                files.remove(path)


def _unknown(raw: Mapping[str, Any]) -> Iterator[str]:
    allowed = [*Run.model_fields, *SECTIONS, *FAMILIES]
    for key in raw:
        if key not in allowed:
            yield f"`{key}` is unknown{nearest(key, allowed) or '; allowed: ' + ', '.join(allowed)}"


def _sections(raw: Mapping[str, Any]) -> Iterator[str]:
    top = {key: raw[key] for key in Run.model_fields if key in raw}
    yield from parse("", top, Run)[1]
    for key, owner in SECTIONS.items():
        if key in raw:
            yield from parse(key, raw[key], owner)[1]
        else:
            yield f"`{key}` is missing"


def _models(raw: Mapping[str, Any]) -> Iterator[str]:
    shared = raw.get("model")
    shared_is_good = parse("model", shared, recommender.NeuralParams)[0] is not None
    for family in FAMILIES:
        section = raw.get(family)
        if not isinstance(section, Mapping):
            yield f"`{family}` must be a section whose keys name models, such as `{family}.itemcf`"
            continue
        for name, own in section.items():
            if not models.exists(name):
                yield f"`{family}.{name}` is unknown: there is no src/nextreel/models/{name}.py"
                continue
            owner = models.module(name).Params
            if issubclass(owner, recommender.NeuralParams) != (family == "train"):
                yield f"`{family}.{name}` belongs under `{'recall' if family == 'train' else 'train'}`"
            elif not isinstance(own or {}, Mapping):
                yield f"`{family}.{name}` is {own!r}; it must be a section, `{{}}` if empty"
            elif family == "recall":
                yield from parse(f"recall.{name}", own or {}, owner)[1]
            elif shared_is_good and isinstance(shared, Mapping):
                yield from parse(f"train.{name}", {**shared, **(own or {})}, owner)[1]


def _names(params: Params) -> Iterator[str]:
    """Names that one section holds and another defines."""
    defined = [name for family in FAMILIES for name in params.get(family)]
    wanted = [("rank.model", params.section("rank", answers.Params).model)]
    wanted += [("candidates.from", name) for name in params.section("candidates", fusion.Params).channels]
    for key, name in wanted:
        if name not in defined:
            yield f"`{key}` is {name!r}; allowed: {', '.join(defined)}{nearest(name, defined)}"
    twice = sorted({name for name in defined if defined.count(name) > 1})
    if twice:
        yield f"{', '.join(twice)} stand under both `recall` and `train`"
