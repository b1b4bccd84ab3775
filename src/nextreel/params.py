"""params.yaml as typed, frozen sections. Each section's owner declares its own model; none lives here.

`dvc exp run -S model.lr=1e-5` leaves `1e-05` in the file, which YAML reads as text, and `no` and `on` become
booleans. Numeric text therefore becomes a number here, a boolean never does, and `none` means None.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from nextreel.errors import UserError


def _reject_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number, not a boolean")
    return value


def _none_text(value: object) -> object:
    return None if isinstance(value, str) and value.lower() in {"none", "null"} else value


Int = Annotated[int, BeforeValidator(_reject_bool)]
Float = Annotated[float, BeforeValidator(_reject_bool), Field(allow_inf_nan=False)]
Share = Annotated[Float, Field(ge=0, le=1)]
PositiveInt = Annotated[Int, Field(ge=1)]
NonNegativeInt = Annotated[Int, Field(ge=0)]
PositiveFloat = Annotated[Float, Field(gt=0)]
NonNegativeFloat = Annotated[Float, Field(ge=0)]


class Section(BaseModel):
    """One section of params.yaml: immutable, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return _none_text(value)


class Run(Section):
    """The keys at the top of params.yaml that are no section."""

    seed: Annotated[Int, Field(ge=0, lt=2**63)]  # of the one numpy Generator handed down
    threads: PositiveInt  # of DuckDB, BLAS and torch; another number gives other bytes
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
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} is missing; run from the project's root") from None
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not valid YAML: {error}") from None
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


def parse(key: str, values: object, owner: type[S]) -> tuple[S | None, list[str]]:
    """Validate `values` against `owner`; on failure None and one line per problem, each naming its key."""
    if not isinstance(values, Mapping):
        return None, [f"`{key}` is {values!r}; it must be a section with the keys {', '.join(owner.model_fields)}"]
    try:
        return owner.model_validate(dict(values)), []
    except ValidationError as error:
        return None, [_sentence(key, dict(problem), owner) for problem in error.errors()]


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`, did you mean ...?` where a name is close to an allowed one, else an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _sentence(key: str, problem: dict[str, Any], owner: type[Section]) -> str:
    path = ".".join(str(part) for part in (key, *problem["loc"]) if part != "")
    if problem["type"] == "extra_forbidden":
        hint = nearest(str(problem["loc"][-1]), owner.model_fields)
        return f"`{path}` is unknown{hint or '; allowed: ' + ', '.join(owner.model_fields)}"
    if problem["type"] == "missing":
        return f"`{path}` is missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if not problem["loc"]:  # a rule over several keys says all of it
        return f"`{path}`: {message}"
    return f"`{path}` is {problem['input']!r}; allowed: {_allowed(owner, str(problem['loc'][0]), message)}"


_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _allowed(owner: type[Section], key: str, message: str) -> str:
    """`an integer, at least 1` for a number's key; other kinds have their own message. `or none` where it may be."""
    field = owner.model_fields.get(key)
    if field is None:
        return message
    kinds = get_args(field.annotation) or (field.annotation,)
    number = next((name for name in ("int", "float") if any(name in str(kind) for kind in kinds)), None)
    words = [message if number is None else "an integer" if number == "int" else "a number"]
    for rule in _rules([*field.metadata, *kinds]) if number else ():
        words += [f"{word} {getattr(rule, name):g}" for name, word in _BOUNDS.items() if hasattr(rule, name)]
    return ", ".join(words) + (", or none" if type(None) in kinds else "")


def _rules(holders: Iterable[Any]) -> Iterator[Any]:
    """The bounds in a field's metadata, however deep annotations nest them."""
    for holder in holders:
        yield holder
        yield from _rules([*getattr(holder, "__metadata__", ()), *getattr(holder, "metadata", ())])
