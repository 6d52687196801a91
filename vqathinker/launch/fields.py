"""The options of a dataclass, read from its source.

TRL's and transformers' dataclasses cannot be imported without torch, which takes seconds. Their names, types,
defaults and help stand in the source, and so do ours.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

UNKNOWN = "(computed)"  # a default that is no literal
SCALARS = {"int": int, "float": float, "bool": bool, "str": str}
ENUMS = {"Enum", "ExplicitEnum"}
# names that a package hands out at its top, and the file that defines them
DEFINED_IN = {
    "transformers.TrainingArguments": "transformers/training_args.py",
    "trl.SFTConfig": "trl/trainer/sft_config.py",
}


@dataclass(frozen=True)
class Kind:
    """What an option takes.

    Attributes:
        scalars: types of a single value.
        items: type of a list's items, None where no list is taken.
        is_mapping: whether a mapping is taken, on the command line as JSON.
        is_optional: whether it may be nothing.
        choices: the only values taken, any if empty.
    """

    scalars: tuple[type, ...] = ()
    items: type | None = None
    is_mapping: bool = False
    is_optional: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Field:
    """One option.

    Attributes:
        name: of the option.
        kind: what it takes.
        default: its value where none is given, `UNKNOWN` where the source computes it.
        help: one or more sentences, empty where the source has none.
        owner: the class that gives the default.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    owner: str


def read_fields(file: str, name: str) -> dict[str, Field]:
    """All options of a dataclass, the inherited ones first, in the order of their definition.

    Args:
        file: its source, from the top of its package: "trl/trainer/grpo_config.py".
        name: of the class.

    Raises:
        LookupError: if there is no such class.
    """
    found: dict[str, Field] = {}
    for source, owner in reversed(list(_lineage(_path(file), name))):
        for field in _own_fields(source, owner):
            base = found.get(field.name)
            if base is not None and not field.help:
                field = Field(field.name, field.kind, field.default, base.help, field.owner)
            found[field.name] = field
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _path(file: str) -> Path:
    """A file of a package that is not imported for it."""
    top, _, inner = file.partition("/")
    package = importlib.util.find_spec(top)
    if package is None or not package.submodule_search_locations:
        raise LookupError(f"the package {top} is not installed")
    return Path(next(iter(package.submodule_search_locations)), inner)


def _lineage(path: Path, name: str) -> Iterator[tuple[Path, ast.ClassDef]]:
    """A class and the bases whose source is found, nearest first."""
    place = _find(path, name)
    if place is None:
        raise LookupError(f"{path} has no class {name}")
    source, node = place
    yield source, node
    for base in node.bases:
        if isinstance(base, ast.Name) and _find(source, base.id) is not None:
            yield from _lineage(source, base.id)


def _find(path: Path, name: str) -> tuple[Path, ast.ClassDef] | None:
    """The definition of a class that a file defines or imports."""
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return path, node
        if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            source = _imported_file(path, node, name)
            return None if source is None else _find(source, name)
    return None


def _imported_file(path: Path, node: ast.ImportFrom, name: str) -> Path | None:
    module = (node.module or "").replace(".", "/")
    if node.level:
        parent = path.parents[node.level - 1]
        file = parent / f"{module}.py"
    elif f"{node.module}.{name}" in DEFINED_IN:
        file = _path(DEFINED_IN[f"{node.module}.{name}"])
    elif "/" in module:
        file = _path(f"{module}.py")
    else:
        return None
    return file if file.is_file() else None


def _own_fields(source: Path, node: ast.ClassDef) -> Iterator[Field]:
    described = _described(ast.get_docstring(node) or "")
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name = statement.target.id
        default, metadata = _default(statement.value)
        if metadata is None:  # no argument of the class
            continue
        kind = _kind(source, statement.annotation, tuple(metadata.get("choices", ())))
        text = str(metadata.get("help") or described.get(name, "")).replace("%%", "%")
        yield Field(name, kind, default, " ".join(text.split()), node.name)


def _described(docstring: str) -> dict[str, str]:
    """The sentences about each attribute in a docstring's section `Attributes`."""
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Attributes:\n")[2].splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent == 0:
            break
        if indent == 4 and ":" in line:
            name, _, text = line.strip().partition(":")
            found[name] = text.strip()
        elif name:
            found[name] += f" {line.strip()}"
    return found


def _default(value: ast.expr | None) -> tuple[Any, dict[str, Any] | None]:
    """A field's default and metadata; no metadata where the class takes no such argument."""
    if value is None:
        return UNKNOWN, {}
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "field"):
        return _literal(value), {}
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    if "init" in given and _literal(given["init"]) is False:
        return None, None
    metadata = _metadata(given.get("metadata"))
    if "default" in given:
        return _literal(given["default"]), metadata
    factory = given.get("default_factory")
    if isinstance(factory, ast.Lambda):
        return _literal(factory.body), metadata
    if isinstance(factory, ast.Name) and factory.id in {"list", "dict"}:
        return ([] if factory.id == "list" else {}), metadata
    return UNKNOWN, metadata


def _metadata(node: ast.expr | None) -> dict[str, Any]:
    """The entries of a field's metadata that are literals."""
    if not isinstance(node, ast.Dict):
        return {}
    pairs = zip(node.keys, node.values, strict=True)
    entries = {_literal(key): _literal(value) for key, value in pairs if key is not None}
    return {key: value for key, value in entries.items() if value != UNKNOWN}


def _literal(node: ast.expr) -> Any:  # noqa: ANN401  a literal of any type
    try:
        return ast.literal_eval(node)
    except ValueError:  # a name or a call
        return UNKNOWN


def _kind(source: Path, annotation: ast.expr, choices: tuple[Any, ...]) -> Kind:
    """What a type lets through; members that no text can give are left out."""
    scalars: list[type] = []
    items: type | None = None
    is_mapping = is_optional = False
    for member in _members(annotation):
        name, arguments = _name(member)
        if name in SCALARS:
            scalars.append(SCALARS[name])
        elif name == "None":
            is_optional = True
        elif name == "list":
            items = SCALARS.get(_name(arguments[0])[0], str) if arguments else str
        elif name == "dict":
            is_mapping = True
        elif name == "Literal":
            values = tuple(_literal(argument) for argument in arguments)
            choices = values if all(isinstance(value, str) for value in values) else choices
            scalars.extend(dict.fromkeys(type(value) for value in values))
        else:
            choices = choices or _enum_values(source, name)
    if choices and not scalars:
        scalars = [str]
    return Kind(tuple(scalars), items, is_mapping, is_optional, choices)


def _members(annotation: ast.expr) -> list[ast.expr]:
    if isinstance(annotation, ast.BinOp):
        return [*_members(annotation.left), *_members(annotation.right)]
    return [annotation]


def _name(node: ast.expr) -> tuple[str, list[ast.expr]]:
    """Name and arguments of a type: `list[str]` is "list" with `str`."""
    if isinstance(node, ast.Subscript):
        inner = node.slice
        return ast.unparse(node.value), inner.elts if isinstance(inner, ast.Tuple) else [inner]
    return ast.unparse(node), []


def _enum_values(source: Path, name: str) -> tuple[Any, ...]:
    place = _find(source, name)
    if place is None or not {ast.unparse(base) for base in place[1].bases} & ENUMS:
        return ()
    assigned = (statement for statement in place[1].body if isinstance(statement, ast.Assign))
    return tuple(_literal(statement.value) for statement in assigned)
