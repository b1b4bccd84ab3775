"""What dvc.yaml and the layers promise about the code, read from the code itself with `ast`."""

import ast
import inspect
import re
from graphlib import TopologicalSorter
from pathlib import Path
from pydoc import locate
from typing import Any, NamedTuple, get_args

import pytest
import yaml

from nextreel import checking, datasets, models
from nextreel.params import Params, Run, Section

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "src" / "nextreel").rglob("*.py"))
}
SCRIPTS = {path.stem: path for path in sorted((ROOT / "pipeline").glob("*.py"))}
CODE = [*MODULES.values(), *SCRIPTS.values()]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in CODE}

# From the top: each imports lower layers only, and nothing of its own layer but its own package.
LAYERS: list[set[str]] = [
    {"checking"},
    {"reporting"},
    {"evaluation"},
    {"oracle", "two_stage"},
    {"scoring"},
    {"models"},
    {"nn"},
    {"contract"},
    {"cases", "metrics"},
    {"datasets", "eda", "labels", "splits"},
    {"simulation"},
    {"raw"},
    {"arrays", "engine", "schema", "stage"},
    {"clock", "files", "params", "parts", "progress", "runtime", "systems"},
    {"errors"},
]
LOADERS = {"nextreel.datasets", "nextreel.models"}  # only these import by name, so that the closures see all of it
MODELS = sorted(name.split(".")[2] for name in MODULES if name.startswith("nextreel.models."))
LAYOUTS = get_args(datasets.Params.model_fields["layout"].annotation)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)}: relative imports hide where a module lives"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return {name for name in found if name.split(".")[0] in ("nextreel", "pipeline", *SCRIPTS)}


def room(module: str) -> str:
    return module.split(".")[1]


def calls(path: Path, owner: str, function: str) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == function
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
        for node in ast.walk(TREES[path])
    )


# --- layers ---


def test_every_module_has_its_layer() -> None:
    named = [name for layer in LAYERS for name in layer]
    assert len(named) == len(set(named))
    assert set(named) == {room(module) for module in MODULES if module != "nextreel"}


def test_imports_go_down_only() -> None:
    depth = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    wrong = [
        f"{module} imports {imported}"
        for module, path in MODULES.items()
        for imported in sorted(imports(path))
        if imported == "nextreel" or module == "nextreel"
        or (room(imported) != room(module) and depth[room(imported)] <= depth[room(module)])
    ]  # fmt: skip
    assert wrong == []


def test_no_module_imports_itself_in_a_circle() -> None:
    TopologicalSorter({module: imports(path) for module, path in MODULES.items()}).prepare()


def test_nobody_imports_a_stage_script() -> None:
    assert {name_of(path): found for path in CODE if (found := imports(path) - set(MODULES))} == {}


def test_models_are_loaded_by_name_only() -> None:
    """Else a stage would depend on a model that is not its own."""
    named = {
        module: sorted(found)
        for module, path in MODULES.items()
        if (found := {name for name in imports(path) if name.startswith("nextreel.models.")})
    }
    assert named == {}
    assert {module for module, path in MODULES.items() if loads_by_name(TREES[path])} == LOADERS


def loads_by_name(tree: ast.Module) -> bool:
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return not used.isdisjoint({"__import__", "import_module"})


def test_loaders_are_called_by_their_full_names() -> None:
    """The closures look for `models.module`, `models.load` and `datasets.layout`; another spelling would hide."""
    full = {"models": "nextreel.models", "datasets": "nextreel.datasets"}
    for path in CODE:
        for alias, target in aliases(path).items():
            hidden = {"nextreel.models.module", "nextreel.models.load", "nextreel.datasets.layout"}
            assert target not in hidden, name_of(path)
            assert (alias in full) == (target in full.values()), f"{name_of(path)}: {target} as {alias}"


# --- dvc.yaml against the code ---


class Stage(NamedTuple):
    """A stage as `dvc repro` would run it; `rank` once for every model that could be the ranker."""

    name: str
    model: str | None  # what `models.module` is asked for
    script: Path
    deps: list[str]
    params: list[Any]


def stages() -> list[Stage]:
    params = Params.load(ROOT / "params.yaml")
    found = []
    for name, spec in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items():
        if "foreach" in spec:
            for key in params.get(spec["foreach"][2:-1]):
                found.append(stage_of(f"{name}@{key}", key, spec["do"], params, {"key": key}))
        elif name == "rank":
            for model in (*params.get("recall"), *params.get("train")):
                found.append(stage_of(name, model, spec, params, {"rank.model": model}))
        else:
            found.append(stage_of(name, None, spec, params, {}))
    return found


def stage_of(name: str, model: str | None, spec: dict[str, Any], params: Params, values: dict[str, str]) -> Stage:
    def resolve(text: str) -> str:
        return re.sub(r"\$\{([^}]+)}", lambda match: values.get(match[1]) or str(params.get(match[1])), text)

    python, script, *arguments = resolve(spec["cmd"]).split()
    assert python == "python"
    assert arguments == name.split("@")[1:]
    deps = [resolve(dep) for dep in spec["deps"]]
    keys = [resolve(key) if isinstance(key, str) else key for key in spec.get("params", [])]
    return Stage(name, model, ROOT / script, deps, keys)


STAGES = stages()
by_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda s: f"rank-{s.model}" if s.name == "rank" else s.name)


def closure(stage: Stage) -> set[str]:
    """Every file of the project that a stage loads, the `__init__` of each package on the way included."""
    chosen = MODELS if stage.name == "check" else [stage.model]
    todo, seen = [stage.script], set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        loaded = imports(path)
        if stage.name == "inputs":
            loaded |= {f"nextreel.models.{name}" for name in MODELS}
        elif calls(path, "models", "module") or calls(path, "models", "load"):
            loaded |= {f"nextreel.models.{name}" for name in chosen}
        if calls(path, "datasets", "layout"):
            loaded |= {f"nextreel.datasets.{name}" for name in LAYOUTS}
        for module in loaded:
            parts = module.split(".")
            todo += [MODULES[".".join(parts[:end])] for end in range(1, len(parts) + 1)]
    return {name_of(path) for path in seen}


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


def test_the_closure_follows_imports_packages_and_names() -> None:
    files = {stage.name: closure(stage) for stage in STAGES if stage.name != "rank" or stage.model == "sasrec"}
    train, rank = files["train@sasrec"], files["rank"]
    assert {"pipeline/train.py", "src/nextreel/models/sasrec.py", "src/nextreel/nn/objectives.py"} <= train
    assert {"src/nextreel/__init__.py", "src/nextreel/nn/__init__.py", "src/nextreel/errors.py"} <= train
    assert "src/nextreel/models/itemcf.py" not in train | rank
    assert "src/nextreel/models/itemcf.py" in files["recall@itemcf"] & files["check"]
    assert "src/nextreel/datasets/kuairand.py" in files["ingest"] & files["check"]
    assert not any("/models/" in file for file in files["evaluate"] - {"src/nextreel/models/__init__.py"})


def test_every_script_is_a_stage() -> None:
    assert {stage.script for stage in STAGES} == set(SCRIPTS.values())


def test_no_stage_that_scores_reads_what_came_of_impressions() -> None:
    """The table is for people, and for judgement."""
    readers = {stage.name.split("@")[0] for stage in STAGES if "data/outcomes.parquet" in stage.deps}
    assert readers == {"evaluate"}
    readers = {stage.name.split("@")[0] for stage in STAGES if "data/valid_outcomes.parquet" in stage.deps}
    assert readers == {"rank", "train"}  # to choose an epoch, and a weight


@by_stage
def test_a_stage_lists_all_code_that_it_loads(stage: Stage) -> None:
    missing = [file for file in sorted(closure(stage)) if not any(covers(dep, file) for dep in stage.deps)]
    assert missing == []


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=list(SCRIPTS))
def test_a_stage_lists_no_code_that_it_never_loads(script: Path) -> None:
    """One list serves every model of a stage, so what any of them loads may stand there."""
    runs = [stage for stage in STAGES if stage.script == script]
    files = set().union(*map(closure, runs))
    for stage in runs:
        code = [dep for dep in stage.deps if dep.startswith(("src/", "pipeline/"))]
        assert [dep for dep in code if not any(covers(dep, file) for file in files)] == []
        if stage.model != Params.load(ROOT / "params.yaml").get(
            "rank.exposure"
        ):  # `check` refuses the same model twice
            assert len(code) == len(set(code))


# --- params.yaml against the code ---


def read_keys(stage: Stage) -> set[str]:
    """The keys of params.yaml that a script reads, `defaults` and loops over names included."""
    tree = TREES[stage.script]
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.comprehension | ast.For)]
    values = {
        node.target.id: [item.value for item in node.iter.elts if isinstance(item, ast.Constant)]
        for node in loops
        if isinstance(node.target, ast.Name) and isinstance(node.iter, ast.Tuple)
    }

    def keys(node: ast.expr) -> list[str]:
        if isinstance(node, ast.Constant):
            return [node.value]
        if isinstance(node, ast.JoinedStr):
            if stage.model is None:  # a loop over all models reads the section that holds them
                return [ast.literal_eval(node.values[0]).rstrip(".")]
            return ["".join(p.value if isinstance(p, ast.Constant) else str(stage.model) for p in node.values)]
        assert isinstance(node, ast.Name), f"{stage.script.name}: cannot tell which key {ast.unparse(node)} is"
        return values[node.id]

    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_params(node.func.value):
            assert node.func.attr in ("section", "get")
            found |= set(keys(node.args[0]))
            found |= {key for keyword in node.keywords if keyword.arg == "defaults" for key in keys(keyword.value)}
        elif isinstance(node, ast.Attribute) and is_params(node.value) and node.attr in Run.model_fields:
            found.add(node.attr)
    return found


def is_params(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "params"


@by_stage
def test_a_stage_declares_the_params_it_reads(stage: Stage) -> None:
    if stage.name == "check":
        assert stage.params == [{"params.yaml:": None}] or stage.params == [{"params.yaml": None}]
        return
    uses = [node for node in ast.walk(TREES[stage.script]) if is_params(node)]
    asked = [
        node for node in ast.walk(TREES[stage.script]) if isinstance(node, ast.Attribute) and is_params(node.value)
    ]
    assert len(uses) == len(asked), "params handed on as a whole could be read anywhere"
    assert {node.attr for node in asked} <= {"section", "get", *Run.model_fields}
    assert set(stage.params) == read_keys(stage)
    assert len(stage.params) == len(set(stage.params))


def owners() -> list[type[Section]]:
    return [Run, *checking.SECTIONS.values(), *(models.module(name).Params for name in MODELS)]


def options() -> list[tuple[type, str]]:
    """Every option with the class that declares it."""
    declared = {
        (next(c for c in owner.__mro__ if name in inspect.get_annotations(c)), name)
        for owner in owners()
        for name in owner.model_fields
    }
    return sorted(declared, key=lambda option: (option[0].__module__, option[1]))


def attributes_read() -> set[tuple[type, str]]:
    """(section, attribute) for every attribute read from what the code declares to be that section."""
    found = set()
    for path in CODE:
        names = {class_.name: f"{module_of(path)}.{class_.name}" for class_ in classes(path)} | aliases(path)
        typed: dict[str, set[type]] = {}
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.arg) and node.annotation:
                _add(typed, node.arg, section(node.annotation, names))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                _add(typed, node.target.id, section(node.annotation, names))
            elif isinstance(node, ast.Assign):
                for target, value in pairs(node.targets[0], node.value):
                    if isinstance(target, ast.Name):
                        _add(typed, target.id, asked_for(value, names))
        for class_ in classes(path):
            owner = section(ast.Name(class_.name), names)
            found |= {(owner, node.attr) for node in of_properties(class_) if owner is not None}
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                holder = node.value
                if isinstance(holder, ast.Name | ast.Attribute):
                    name = holder.id if isinstance(holder, ast.Name) else holder.attr
                    found |= {(type_, node.attr) for type_ in typed.get(name, ())}
                elif (direct := asked_for(holder, names)) is not None:
                    found.add((direct, node.attr))
    return found


def of_properties(class_: ast.ClassDef) -> list[ast.Attribute]:
    """The attributes of itself that a class reads to say something else; what a validator reads is only checked."""
    properties = [
        each
        for each in class_.body
        if isinstance(each, ast.FunctionDef) and "property" in map(ast.unparse, each.decorator_list)
    ]
    nodes = [node for each in properties for node in ast.walk(each) if isinstance(node, ast.Attribute)]
    return [node for node in nodes if ast.unparse(node.value) == "self"]


def module_of(path: Path) -> str:
    return next((module for module, file in MODULES.items() if file == path), path.stem)


def classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in TREES[path].body if isinstance(node, ast.ClassDef)]


def aliases(path: Path) -> dict[str, str]:
    found = {}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("nextreel"):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def section(annotation: ast.expr, names: dict[str, str]) -> type | None:
    """The section that an annotation such as `labels.Params` names; `params.Params` stands for the keys at the top."""
    first, *rest = ast.unparse(annotation).strip("'\"").split(".")
    if first not in names:
        return None
    found = locate(".".join([names[first], *rest]))
    if found is Params:
        return Run
    return found if isinstance(found, type) and issubclass(found, Section) else None


def asked_for(node: ast.expr, names: dict[str, str]) -> type | None:
    """The section that `params.section(key, owner)` returns."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "section":
        return section(node.args[1], names)
    return None


def pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def _add(typed: dict[str, set[type]], name: str, type_: type | None) -> None:
    if type_ is not None:
        typed.setdefault(name, set()).add(type_)


def test_no_option_has_a_name_that_the_run_cache_leaves_out() -> None:
    # DVC leaves these keys out of its hash of a run (dvc/stage/cache.py), at any depth: they count outputs there. After
    # a run with one value, a run with another would be given the first one's outputs.
    def names(section: dict[str, Any]) -> set[str]:
        return set(section).union(*(names(value) for value in section.values() if isinstance(value, dict)))

    params = names(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    assert "scale" in params
    assert not params & {"size", "nfiles"}


def test_every_option_is_read_somewhere() -> None:
    read = attributes_read()
    unread = [
        f"{owner.__module__}.{owner.__name__}.{name}"
        for owner, name in options()
        if not any(attribute == name and issubclass(type_, owner) for type_, attribute in read)
    ]
    assert unread == []


# --- stage scripts ---


@pytest.mark.parametrize("path", SCRIPTS.values(), ids=list(SCRIPTS))
def test_a_script_is_short_and_only_main(path: Path) -> None:
    defined = [
        node
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    ]
    assert [node.name for node in defined] == ["main"]
    assert ast.get_docstring(TREES[path])
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "check"])
def test_a_stage_obeys_threads_before_it_loads_anything(name: str) -> None:
    """`check`, which only reads, must tell a wrong `threads` together with all other mistakes."""
    main = next(node for node in TREES[SCRIPTS[name]].body if isinstance(node, ast.FunctionDef))
    assert re.match(r"runtime\.(limit_threads|prepare)\(params\.threads\b", ast.unparse(main.body[0]))


# --- what no file may hold ---

_UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
_MACHINE_PATH = re.compile(r"(?<![\w.:/*])(?:/(?:home|mnt|opt|root|scratch|tmp|Users|var|work)\b|[A-Z]:\\)")
_BARE_IGNORE = re.compile(r"#\s*type:\s*ignore(?!\[)")


def forbidden(text: str) -> list[str]:
    found = [f"line {number}: {line.strip()}" for number, line in enumerate(text.splitlines(), 1)
             if _MACHINE_PATH.search(line) or _BARE_IGNORE.search(line)]  # fmt: skip
    for node in ast.walk(ast.parse(text)):
        unsafe = False
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            unsafe = any(name.split(".")[0] in _UNSAFE_MODULES for name in names)
        elif isinstance(node, ast.Name):
            unsafe = node.id in ("eval", "exec")
        elif isinstance(node, ast.keyword):
            unsafe = node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
        elif isinstance(node, ast.Attribute):
            unsafe = ast.unparse(node) == "torch.load"
        if unsafe:
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "exec(code)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "x = 1  # type: ignore",
        "path = '/mnt/disk/log.csv'",
    ],
)
def test_forbidden_code_is_found(bad: str) -> None:
    assert len(forbidden(bad)) == 1


@pytest.mark.parametrize(
    "good",
    [
        "network.eval()",
        "np.load(path, allow_pickle=False)",
        "x = 1  # type: ignore[arg-type]",
        "path = root / 'data/tmp'",
        "# https://example.org/home/page",
    ],
)
def test_harmless_code_is_not_taken_for_forbidden(good: str) -> None:
    assert forbidden(good) == []


def test_no_file_holds_forbidden_code() -> None:
    assert {name_of(path): lines for path in CODE if (lines := forbidden(path.read_text(encoding="utf-8")))} == {}


def test_no_file_is_called_utils() -> None:
    assert [name_of(path) for path in CODE if path.stem in ("util", "utils", "helpers", "common")] == []
