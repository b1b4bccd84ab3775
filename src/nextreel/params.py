"""params.yaml as typed, frozen sections. Each section's owner declares its own model; none lives here.

What a person types after `dvc exp run -S` is read by the shell, by Hydra and, from the file, here. Text becomes a
number where a number is wanted, a boolean never does, and `none` means None. What is to be a name stays as it was
spelled, or is refused where its spelling is lost: Hydra makes `true` of `TRUE`, and 1000.0 of `1e3`.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from nextreel.errors import UserError


def _reject_bool(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "no number")
    return value


def _none_text(value: object) -> object:
    return None if isinstance(value, str) and value.lower() in {"none", "null"} else value


def _spelled(value: object) -> object:
    """A name as it was spelled; a whole number has one spelling."""
    if isinstance(value, bool | float):
        raise ValueError(f"{_TEXT}; a word that is read as another kind is to be quoted, such as 'true' or '1e3'")
    return str(value) if isinstance(value, int) else value


def _day(value: object) -> object:
    """Text alone: pydantic takes a number for seconds since 1970, and a date with a time for a day."""
    if type(value) is date or (isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value)):
        return value
    raise PydanticCustomError("day", "no day")


_DAY = "a day such as '2022-04-22'"
_TEXT = "text of at least one character"
Int = Annotated[int, BeforeValidator(_reject_bool)]
Float = Annotated[float, BeforeValidator(_reject_bool), Field(allow_inf_nan=False)]
Share = Annotated[Float, Field(ge=0, le=1)]
PositiveInt = Annotated[Int, Field(ge=1, lt=2**31)]
NonNegativeInt = Annotated[Int, Field(ge=0, lt=2**31)]
PositiveFloat = Annotated[Float, Field(gt=0)]
NonNegativeFloat = Annotated[Float, Field(ge=0)]
Name = Annotated[str, BeforeValidator(_spelled), Field(pattern=r"^[^\x00]+$", description=_TEXT)]  # or a path
Day = Annotated[date, BeforeValidator(_day)]


class _Loader(yaml.SafeLoader):
    """Takes for a number, a boolean or nothing what YAML 1.2 does, as DVC reads the file, and no more: `yes`, `on`,
    `007`, `1_000`, `12:30` and days stay text."""


_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", "tf"),
    ("int", r"0|-?[1-9]\d{0,18}", "-0123456789"),
    ("float", r"[-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.inf)|\.nan", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))


class Section(BaseModel):
    """One section of params.yaml: immutable, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return _none_text(value)


def _place(error: Exception) -> str:
    """Where and what, in one line."""
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    return where + (getattr(error, "problem", None) or str(error).split("\n")[0])


class Run(Section):
    """The keys at the top of params.yaml that are no section."""

    seed: Annotated[Int, Field(ge=0, lt=2**63)]  # of the one numpy Generator handed down
    threads: Annotated[Int, Field(ge=1, le=1024)]  # of DuckDB, BLAS and torch; another number gives other bytes
    cpu_isa: Literal["portable", "native"]  # instructions for torch, see `runtime`


S = TypeVar("S", bound=Section)


class Params:
    """The parsed params.yaml. Sections are validated when asked for.

    Stages ask only for the sections they list in dvc.yaml, so a change elsewhere leaves them alone.
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw

    @classmethod
    def load(cls, path: Path) -> "Params":
        """Raises UserError where the file is missing, is no YAML or holds no mapping."""
        try:
            raw = from_yaml(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} is missing; run from the project's root") from None
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"{path} is not valid YAML: {_place(error)}; mend it") from None
        if not isinstance(raw, dict):
            raise UserError(f"{path} must hold sections such as `model:`; it holds {type(raw).__name__}")
        return cls(raw)

    @property
    def seed(self) -> int:
        return self._run().seed

    @property
    def threads(self) -> int:
        return self._run().threads

    @property
    def cpu_isa(self) -> str:
        return self._run().cpu_isa

    def _run(self) -> Run:
        run, problems = parse("", {key: self.raw[key] for key in Run.model_fields if key in self.raw}, Run)
        if run is None:
            raise UserError("params.yaml:\n  " + "\n  ".join(problems))
        return run

    def get(self, key: str) -> Any:
        """The value at a dotted key as it stands, such as `recall.itemcf`, `none` as None. Raises UserError where there
        is no such key."""
        value: Any = self.raw
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise UserError(f"params.yaml: `{key}` is missing")
            value = value[part]
        return {} if value is None else _none_text(value)

    def section(self, key: str, owner: type[S], defaults: str | None = None) -> S:
        """The section at `key` as `owner`'s model; keys it lacks come from the section `defaults`.

        Raises UserError that lists every wrong key with its value and what is allowed.
        """
        values, shared = self.get(key), self.get(defaults) if defaults else {}
        if isinstance(values, Mapping) and isinstance(shared, Mapping):
            values = {**shared, **values}
        section, problems = parse(key, values, owner)
        if section is None:
            raise UserError("params.yaml:\n  " + "\n  ".join(problems))
        return section


def from_yaml(text: str) -> Any:
    """What a file such as params.yaml holds. Raises YAMLError or ValueError."""
    return yaml.load(text, _Loader)


def parse(key: str, values: object, owner: type[S]) -> tuple[S | None, list[str]]:
    """Validate `values` against `owner`; on failure None and one line per problem, each naming its key."""
    if not isinstance(values, Mapping):
        return None, [f"`{key}` is {values!r}; it must be {_word(owner)}"]
    try:
        return owner.model_validate(dict(values)), []
    except ValidationError as error:
        return None, [_sentence(key, dict(problem), owner) for problem in error.errors()]


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`, did you mean ...?` where a name is close to an allowed one, else an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _fields(owner: type[Section]) -> dict[str, FieldInfo]:
    """By the keys of params.yaml."""
    return {field.alias or name: field for name, field in owner.model_fields.items()}


def _sentence(key: str, problem: dict[str, Any], owner: type[Section]) -> str:
    path = ".".join(str(part) for part in (key, *problem["loc"]) if part != "")
    kind, says = problem["type"], problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:  # a rule over several keys says all of it
        return f"`{path}`: {says}"
    *above, last = problem["loc"]
    holder: Any = owner
    for part in above:
        holder = _below(holder, part)
    if kind in ("extra_forbidden", "invalid_key"):
        keys = _fields(next(filter(_is_section, _parts(holder))))
        return f"`{path}` is unknown{nearest(str(last), keys) or '; allowed: ' + ', '.join(keys)}"
    allowed = says if kind == "value_error" else _words(_below(holder, last))
    return f"`{path}` is missing" if kind == "missing" else f"`{path}` is {problem['input']!r}; allowed: {allowed}"


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _below(kind: Any, part: str | int) -> Any:
    """What stands at a key of a section, or in a list."""
    inner = next(each for each in _parts(kind) if _is_section(each) or get_origin(each) is list)
    return _fields(inner)[str(part)] if _is_section(inner) else get_args(inner)[0]


def _parts(kind: Any) -> Iterator[Any]:
    """A type with all that fields, annotations and `|` nest in it: types, and their rules."""
    yield kind
    if isinstance(kind, FieldInfo):
        inner = [kind.annotation, *kind.metadata]
    else:
        inner = list(get_args(kind)) if get_origin(kind) in (Annotated, Union, UnionType) else []
    for each in inner:
        yield from _parts(each)


_KINDS = {int: "an integer", float: "a number", bool: "true or false", date: _DAY}  # a text says its own
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _words(kind: Any) -> str:
    """What a type allows, such as `an integer, at least 1, or none`."""
    parts = list(_parts(kind))
    told = [part.description for part in parts if isinstance(part, FieldInfo) and part.description]
    words = told or [word for part in parts if (word := _word(part))]
    words += [
        f"{word} {getattr(part, name):g}" for part in parts for name, word in _BOUNDS.items() if hasattr(part, name)
    ]
    return ", ".join(words) + (", or none" if type(None) in parts else "")


def _word(part: Any) -> str | None:
    if _is_section(part):
        return f"a section with the keys {', '.join(_fields(part))}"
    if get_origin(part) is Literal:
        *others, last = map(repr, get_args(part))
        return f"{', '.join(others)} or {last}" if others else last
    if get_origin(part) is list:
        return f"a list whose entries are {_words(get_args(part)[0])}"
    if hasattr(part, "min_length"):
        return f"at least {part.min_length} of them"
    return _KINDS.get(part) if isinstance(part, type) else None
