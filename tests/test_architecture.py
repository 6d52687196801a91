"""The house rules that a parser can check: floors (`FLOORS`), import directions, sizes, exceptions."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("vqathinker", "rewards", "perturbations")
LEAVES = ("recipes", "benchmarks", "tests", "docs")
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "decord",
    "trl",
    "vllm",
    "accelerate",
    "matplotlib",
    "wandb",
    "openai",
    "ray",
    "skimage",
    "gradio",
    "choix",
)

# The longest prefix of a module's dotted name decides its floor.
FLOORS = {
    "vqathinker": "front",  # the package itself: re-exports of the ground floor, and `Scorer` on demand
    "vqathinker.types": "ground",
    "vqathinker.answers": "ground",
    "vqathinker.scale": "ground",
    "vqathinker.prompts": "ground",
    "vqathinker.metrics": "ground",
    "vqathinker.plugins": "ground",
    "vqathinker.records": "ground",
    "vqathinker.samples": "ground",
    "vqathinker.journal": "ground",
    "vqathinker.chat": "ground",
    "vqathinker.choices": "ground",
    "vqathinker.grading": "ground",
    "vqathinker.published": "ground",
    "vqathinker.atomic": "ground",
    "vqathinker.seeds": "ground",
    "vqathinker.nearest": "ground",
    "vqathinker.checkpoints.folders": "ground",
    "rewards": "rewards",
    "perturbations": "perturbations",
    "vqathinker.checkpoints.storage": "storage",
    "vqathinker.media": "media",
    "vqathinker.data": "data",
    "vqathinker.distortions": "distortions",
    "vqathinker.model": "model",
    "vqathinker.checkpoints": "checkpoints",
    "vqathinker.rollout": "rollout",
    "vqathinker.opinions": "opinions",
    "vqathinker.instructions": "instructions",
    "vqathinker.building": "building",
    "vqathinker.launch": "launch",
    "vqathinker.training": "training",
    "vqathinker.planning": "planning",
    "vqathinker.scoring": "scoring",
    "vqathinker.evaluation": "evaluation",
    "vqathinker.web": "web",
    "vqathinker.cli": "cli",
}
GROUND = {"ground", "front"}
MODEL = {"model", "storage", "media"} | GROUND
ROLLOUT = {"rollout", "checkpoints"} | MODEL
LAUNCH = {"launch", "rewards", "perturbations"} | GROUND
BELOW = {
    "front": {"ground", "scoring"},  # "scoring" inside functions only, see below
    "ground": GROUND,
    "perturbations": {"perturbations"},
    "rewards": {"rewards"} | GROUND,
    "storage": {"storage"} | GROUND,
    "media": {"media"} | GROUND,
    "data": {"data", "media"} | GROUND,
    "distortions": {"distortions", "media"} | GROUND,
    "model": MODEL,
    "checkpoints": {"checkpoints"} | MODEL,
    "rollout": ROLLOUT,
    "opinions": {"opinions", "data"} | ROLLOUT,
    "instructions": {"instructions", "opinions", "distortions", "data"} | ROLLOUT,
    "building": {"building", "instructions", "opinions", "distortions", "data"} | ROLLOUT,
    "launch": LAUNCH,
    "training": {"training", "data"} | ROLLOUT | LAUNCH,
    "planning": {"planning", "training", "data"} | ROLLOUT | LAUNCH,
    "scoring": {"scoring"} | ROLLOUT,
    "evaluation": {"evaluation", "scoring", "data"} | ROLLOUT | LAUNCH,
    "web": {"web", "evaluation", "scoring", "data"} | ROLLOUT,
    "cli": set(FLOORS.values()),
}
# yaml: prompts read from a file; the hub: checkpoints by name, and openai: language models, when asked for
THIRD_PARTY = {
    "ground": {"numpy", "scipy", "yaml", "huggingface_hub", "openai"},
    "front": set(),
    "launch": {"yaml", "rewards", "perturbations"},
}

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every imported module, also those imported inside functions, and the line."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield (inner if is_module(inner) else origin), node.lineno


def floor(name: str) -> str | None:
    if name == "vqathinker":
        return "front"
    prefixes = [prefix for prefix in FLOORS if f"{name}.".startswith(f"{prefix}.") and prefix != "vqathinker"]
    return FLOORS[max(prefixes, key=len)] if prefixes else None


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@cache
def code_lines(path: Path) -> set[int]:
    """Numbers of the lines that hold code: no blank line, no comment, no docstring."""
    lines = path.read_text(encoding="utf-8").splitlines()
    numbers = {i for i, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            docstring = node.body[0]
            numbers -= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return numbers


def plug_in_names() -> set[str]:
    """Keys and classes of the shipped plug-ins, read from their registries' source."""
    names = set()
    for path in [ROOT / "rewards" / "__init__.py", ROOT / "perturbations" / "__init__.py"]:
        for node in ast.walk(tree(path)) if path.is_file() else ():
            if isinstance(node, ast.Dict):
                names |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
                names |= {value.id for value in node.values if isinstance(value, ast.Name)}
    return names


def test_every_module_has_a_floor() -> None:
    homeless = [label(path) for path in sources(*PACKAGES) if floor(module_name(path)) is None]
    assert not homeless, f"add these to FLOORS, and to the table above: {homeless}"


def test_imports_run_downward() -> None:
    upward = []
    for path in sources(*PACKAGES):
        own = floor(module_name(path))
        for name, line in imports(path):
            if name.split(".")[0] in PACKAGES and own and floor(name) not in BELOW[own]:
                upward.append(f"{label(path)}:{line} ({own}) imports {name} ({floor(name)})")
    assert not upward, "\n".join(upward)


def test_the_front_loads_upper_floors_on_demand_only() -> None:
    path = ROOT / "vqathinker" / "__init__.py"
    inside = {
        line for function in functions(path) for line in range(function.lineno, function.end_lineno + 1)
    }
    (typing,) = (node for node in tree(path).body if isinstance(node, ast.If))
    assert ast.unparse(typing.test) == "TYPE_CHECKING"
    inside |= set(range(typing.lineno, typing.end_lineno + 1))
    found = [name for name, line in imports(path) if floor(name) == "scoring" and line not in inside]
    assert not found, found


def test_the_ground_floor_needs_numpy_and_scipy_only() -> None:
    foreign = []
    for path in sources("vqathinker"):
        allowed = THIRD_PARTY.get(floor(module_name(path)) or "")
        for name, line in imports(path) if allowed is not None else ():
            top = name.split(".")[0]
            if top not in {*sys.stdlib_module_names, "vqathinker", *(allowed or ())}:
                foreign.append(f"{label(path)}:{line} imports {name}")
    assert not foreign, "\n".join(foreign)


def leaf_of(name: str) -> str | None:
    """The leaf that a module lies in, also under the name that it has with the leaf on the path."""
    top = name.split(".")[0]
    if top in LEAVES:
        return top
    if top in sys.stdlib_module_names:
        return None
    places = (f"{top}.py", f"{top}/__init__.py")
    return next((leaf for leaf in LEAVES if any((ROOT / leaf / place).is_file() for place in places)), None)


def test_nothing_imports_a_leaf() -> None:
    """But for what lies in it; benchmarks measure the recipes, and tests test all."""
    found = []
    for path in sources(*PACKAGES, *LEAVES):
        own = path.relative_to(ROOT).parts[0]
        allowed = {None, own, *({"recipes"} if own == "benchmarks" else LEAVES if own == "tests" else ())}
        found += [
            f"{label(path)}:{line} imports {name}"
            for name, line in imports(path)
            if leaf_of(name) not in allowed
        ]
    assert not found, "\n".join(found)


def test_vllm_stays_in_its_own_modules() -> None:
    found = [
        f"{label(path)}:{line}"
        for path in sources(*PACKAGES)
        for name, line in imports(path)
        if name.split(".")[0] == "vllm"
        and not (path.parent == ROOT / "vqathinker" / "rollout" and path.stem.startswith("vllm"))
    ]
    assert not found, found


def test_the_trainer_imports_no_plug_in_by_name() -> None:
    names = plug_in_names()
    found = []
    for path in sources("vqathinker/training"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom | ast.Import):
                origin = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                parts = {part for alias in node.names for part in f"{origin}.{alias.name}".split(".")}
                if parts & {"rewards", "perturbations"} and parts & names:
                    found.append(f"{label(path)}:{node.lineno} imports {sorted(parts & names)}")
    assert not found, "\n".join(found)


def test_the_trainer_asks_for_no_plug_in_by_name() -> None:
    names = plug_in_names()
    found = [
        f"{label(path)}:{node.lineno} asks for {part.value!r}"
        for path in sources("vqathinker/training")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If | ast.IfExp)
        for part in ast.walk(node.test)
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in names
    ]
    assert not found, "\n".join(found)


def test_functions_are_short() -> None:
    lengths = {
        f"{label(path)}:{node.lineno} {node.name}": len(
            code_lines(path) & set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        )
        for path in sources(*PACKAGES, "recipes")
        for node in functions(path)
    }
    assert not {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES}


def test_files_are_short() -> None:
    lengths = {label(path): len(code_lines(path)) for path in sources(*PACKAGES, "recipes")}
    assert not {name: length for name, length in lengths.items() if length >= MAX_FILE_LINES}


def test_no_exception_is_swallowed_wholesale() -> None:
    """`except Exception` is for naming the culprit only: the handler must end by raising."""
    found = []
    for path in sources(*PACKAGES):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler) and not isinstance(node.body[-1], ast.Raise):
                caught = {ast.unparse(part) for part in ast.walk(node.type)} if node.type else {"Exception"}
                if caught & {"Exception", "BaseException"}:
                    found.append(f"{label(path)}:{node.lineno}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    if not (ROOT / package / "__init__.py").is_file():
        pytest.skip(f"{package} does not exist")
    command = [sys.executable, "-c", f"import sys, {package}; print(*sys.modules)"]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert package in loaded
    assert not set(HEAVY) & set(loaded)
