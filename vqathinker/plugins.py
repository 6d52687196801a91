"""Find a plug-in by its key, its dotted path or an entry point, and build it from keyword arguments.

Knows no plug-in: the caller brings the literal dict of its own ones. Standard library only.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

Registry = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Plugin:
    """A built plug-in as a recipe names it.

    Attributes:
        label: its name in logs, unique in a recipe.
        function: the plug-in itself.
        weight: its factor in a weighted sum.
    """

    label: str
    function: Callable[..., Any]
    weight: float = 1.0


def own_package(name: str) -> ModuleType:
    """Import a package that lies beside `vqathinker`, and no other of its name.

    Raises:
        ValueError: naming the file that hides it.

    >>> own_package("rewards").GROUP
    'vqathinker.rewards'
    """
    home = Path(__file__).resolve().parents[1] / name
    spec = importlib.util.find_spec(name)
    found = Path(spec.origin if spec and spec.origin else "")
    if found.resolve().parent != home:  # before anything of it is run
        raise ValueError(
            f"{found} hides the package {name!r} of vqathinker: rename it, or leave its folder out of "
            "PYTHONPATH and start elsewhere"
        )
    return importlib.import_module(name)


def import_path(path: str) -> Callable[..., Any]:
    """Import what a dotted path `package.module:Name` points to.

    Raises:
        ValueError: if the path is malformed, the module or the name does not exist, or cannot be called.

    >>> import_path("math:floor")(2.5)
    2
    """
    module_name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), *attribute.split(".")]):
        raise ValueError(f"{path!r} is not of the form 'package.module:Name'")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, something that it imports does not
        raise ValueError(f"{path!r}: there is no module {error.name!r}{_way_to(module_name)}") from error
    try:
        target: object = operator.attrgetter(attribute)(module)
    except AttributeError as error:
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{path!r}: the module {module_name!r} has no {attribute!r}{hint}") from error
    if not callable(target):
        raise ValueError(f"{path!r} is {target!r}, neither a class nor a function")
    return target


def _way_to(module_name: str) -> str:
    """How a module that lies in this folder would be found."""
    top = module_name.partition(".")[0]
    if Path(f"{top}.py").is_file() or Path(top).is_dir():
        return f"; {top} lies in this folder, which Python does not search: start with PYTHONPATH=."
    return "; a module of your own lies in the folder of the call, or in one that PYTHONPATH names"


def find(name: str, registry: Registry, *, group: str) -> Callable[..., Any]:
    """Return the class or function behind a name: registry key, dotted path, or entry point of `group`.

    Raises:
        ValueError: for an unknown name; the message has the nearest known ones.
    """
    if name in registry:
        return registry[name]
    if ":" in name:
        return import_path(name)
    points = {point.name: point for point in entry_points(group=group)}
    if name in points:
        return import_path(points[name].value)
    known = sorted({*registry, *points})
    near = difflib.get_close_matches(name, known)
    hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known)}"
    raise ValueError(f"{group} has no {name!r} ({hint}); name your own one as 'package.module:Name'")


def resolve(name: str, registry: Registry, /, *, group: str, **kwargs: object) -> Callable[..., Any]:
    """Build the plug-in behind a name: a class is instantiated, a function gets its keyword arguments bound.

    Args:
        name: a key of `registry`, a dotted path `package.module:Name`, or an entry point of `group`.
        registry: the built-in plug-ins.
        group: the entry point group, e.g. "vqathinker.rewards".
        **kwargs: arguments of the class or function.

    Raises:
        ValueError: for an unknown name, module, attribute or argument, or something that cannot be called.

    >>> resolve("root", {"root": pow}, group="demo", exp=0.5)(16)
    4.0
    """
    return _make(name, find(name, registry, group=group), kwargs)


def _make(name: str, target: Callable[..., Any], kwargs: Mapping[str, object]) -> Callable[..., Any]:
    signature = inspect.signature(target)
    is_class = inspect.isclass(target)
    try:
        (signature.bind if is_class else signature.bind_partial)(**kwargs)
    except TypeError as error:
        raise ValueError(f"{name!r}: {error}; its arguments are {signature}") from error
    if not is_class:
        return _bind(target, kwargs) if kwargs else target
    try:
        instance: object = target(**kwargs)
    except (TypeError, ValueError) as error:  # a plug-in's message need not say whose argument is wrong
        raise ValueError(f"{name!r}: {error}") from error
    if not callable(instance):
        raise ValueError(f"{name!r} makes {instance!r}, which cannot be called")
    return instance


def _bind(function: Callable[..., Any], kwargs: Mapping[str, object]) -> Callable[..., Any]:
    """The function with its arguments, and with what it declares of itself in attributes."""
    bound = partial(function, **kwargs)
    vars(bound).update(getattr(function, "__dict__", {}))
    return bound


def create(item: object, registry: Registry, *, group: str) -> Callable[..., Any]:
    """Build one plug-in from a name, from `{name: ..., argument: value, ...}`, or keep one that is built.

    Raises:
        ValueError: as `resolve`, and for an item of another kind.
    """
    if isinstance(item, str):
        return resolve(item, registry, group=group)
    if isinstance(item, Mapping):
        kwargs = {str(key): value for key, value in item.items()}
        name = kwargs.pop("name", None)
        if isinstance(name, str):
            return _make(name, find(name, registry, group=group), kwargs)
    elif callable(item):
        return item
    raise ValueError(f"{group}: expected a name or a mapping with a 'name', got {item!r}")


def build(value: object, registry: Registry, *, group: str, declares: Sequence[str] = ()) -> list[Plugin]:
    """Build the plug-ins that a YAML value lists.

    Args:
        value: one item or a list of them. An item is a name, or a mapping with `name`, optionally `weight`
            (1), `as` (the label: the key, or the last part of a dotted path), what `declares` names, in place
            of what the plug-in declares itself, and its keyword arguments.
        registry: the built-in plug-ins.
        group: the entry point group.
        declares: what an item may say of the plug-in, lists of names.

    Raises:
        ValueError: as `create`, for a weight that is no finite number, and if two plug-ins share a label.

    >>> plugins = build(["abs", {"name": "math:pow", "as": "power"}], {"abs": abs}, group="demo")
    >>> [plugin.label for plugin in plugins]
    ['abs', 'power']
    """
    plugins: list[Plugin] = []
    for item in value if isinstance(value, list | tuple) else [] if value is None else [value]:
        options = dict(item) if isinstance(item, Mapping) else {}
        weight = options.pop("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ValueError(f"{group}: the weight must be a finite number, got {weight!r} in {item!r}")
        label = options.pop("as", None) or _label(options.get("name", item))
        if any(label == plugin.label for plugin in plugins):
            raise ValueError(f"{group}: two plug-ins are labelled {label!r}; tell them apart with 'as'")
        declared = {name: options.pop(name) for name in declares if options.get(name) is not None}
        function = create(options or item, registry, group=group)
        for name, wanted in declared.items():
            function = _declaring(function, name, wanted, label)
        plugins.append(Plugin(str(label), function, float(weight)))
    return plugins


def _declaring(function: Callable[..., Any], name: str, wanted: object, label: object) -> Callable[..., Any]:
    """A copy of the plug-in that declares something else of itself.

    Raises:
        ValueError: if that is no list of names.
    """
    if not isinstance(wanted, list | tuple) or not all(isinstance(one, str) for one in wanted):
        raise ValueError(f"{label}: {name} must be a list of names, got {wanted!r}")
    own = _bind(function, {}) if inspect.isroutine(function) else copy(function)
    setattr(own, name, tuple(wanted))
    return own


def _label(name: object) -> str:
    if isinstance(name, str):
        return name.rpartition(":")[2]
    return str(getattr(name, "__name__", type(name).__name__))
