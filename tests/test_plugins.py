"""Plug-ins by key, dotted path and entry point, and the YAML that lists them."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from perturbations import PERTURBATIONS
from rewards import GROUP, REWARDS, RankingReward, RegressionReward, load
from vqathinker import plugins


def double(batch: float, factor: float = 2.0) -> float:
    return batch * factor


double.min_videos = 2  # type: ignore[attr-defined]  # what a reward declares of itself


class Silent:
    """A class whose instances cannot be called."""


def test_key_dotted_path_and_function() -> None:
    assert isinstance(load("ranking"), RankingReward)
    reward = load("rewards.regression:RegressionReward", sigma=0.25)
    assert isinstance(reward, RegressionReward)
    assert reward.sigma == 0.25
    here = f"{__name__}:double"
    assert plugins.resolve(here, {}, group="g") is double
    bound = plugins.resolve(here, {}, group="g", factor=3.0)
    assert isinstance(bound, functools.partial)
    assert bound(2.0) == 6.0
    assert bound.min_videos == 2  # type: ignore[attr-defined]


def test_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="mine", value="rewards.linear:LinearReward", group=GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == GROUP else [])
    assert type(load("mine", span=2.0)).__name__ == "LinearReward"
    with pytest.raises(ValueError, match=r"nearest: mine"):
        load("mines")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rankin", r"'rankin' \(nearest: ranking.*package.module:Name"),
        ("zzz", r"known: choice, coarse_regression, format"),
        ("no_such_module:Name", "no module 'no_such_module'"),
        ("rewards.no_such_file:Name", "no module 'rewards.no_such_file'"),
        ("rewards.format:Nothing", "'rewards.format' has no 'Nothing'"),
        ("rewards.format:", "not of the form"),
        (".format:FormatReward", "not of the form"),
        ("math:pi", "neither a class nor a function"),
        (f"{__name__}:Silent", "cannot be called"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(name)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"'regression': got an unexpected keyword argument 'sigm'.*sigma"):
        load("regression", sigm=1.0)
    with pytest.raises(ValueError, match=r"unexpected keyword argument 'faktor'"):
        plugins.resolve(f"{__name__}:double", {}, group="g", faktor=1.0)
    with pytest.raises(ValueError, match=r"missing a required argument: 'function'"):
        load("rewards.trl:FromTrl")
    with pytest.raises(ValueError, match="alpha and sigma must be positive"):
        load("regression", sigma=-1.0)


def test_a_broken_import_inside_a_module_keeps_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plugin.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        plugins.import_path("broken_plugin:Name")
    assert "broken_plugin" not in sys.modules


def test_build_from_yaml() -> None:
    value = yaml.safe_load(
        """
        - format
        - {name: regression, weight: 0.5, sigma: 0.3}
        - {name: regression, as: wide, sigma: 1.0}
        - name: temporal
          rewards: [{name: regression, alpha: 1.0}, ranking]
        - name: rewards.linear:LinearReward
        """
    )
    built = plugins.build(value, REWARDS, group=GROUP)
    assert [item.label for item in built] == ["format", "regression", "wide", "temporal", "LinearReward"]
    assert [item.weight for item in built] == [1.0, 0.5, 1.0, 1.0, 1.0]
    assert built[2].function.sigma == 1.0  # type: ignore[attr-defined]
    assert built[3].function.rewards[0].alpha == 1.0  # type: ignore[attr-defined]


def test_build_takes_nothing_one_item_and_built_ones() -> None:
    group = "vqathinker.perturbations"
    assert plugins.build(None, PERTURBATIONS, group=group) == []
    assert [item.label for item in plugins.build("reverse", PERTURBATIONS, group=group)] == ["reverse"]
    assert [item.label for item in plugins.build([double, RankingReward()], {}, group=GROUP)] == [
        "double",
        "RankingReward",
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"weight": 1.0}], "a 'name'"),
        ([3], "a name or a mapping"),
        (["format", "format"], "tell them apart"),
        ([{"name": "format", "weight": "heavy"}], "finite number, got 'heavy'"),
        ([{"name": "format", "weight": float("nan")}], "finite number"),
        ([{"name": "format", "weight": True}], "finite number"),
        ([{"name": "formt"}], "nearest: format"),
    ],
)
def test_build_refuses(value: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plugins.build(value, REWARDS, group=GROUP)


@pytest.mark.parametrize("layout", ["rewards.py", "rewards/__init__.py", "perturbations.py"])
def test_a_users_module_of_the_same_name_is_told(layout: str, tmp_path: Path) -> None:
    own = tmp_path / layout
    own.parent.mkdir(exist_ok=True)
    own.write_text("raise SystemExit('this was run')\n")
    root = Path(plugins.__file__).parents[1]
    name = layout.removesuffix(".py").partition("/")[0]
    program = (
        "from vqathinker.launch.build import build_plugins\n"
        f"build_plugins({{{name!r}: ['format']}}, {name!r})\n"
    )
    for code in (program, "import vqathinker.training\n"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
            capture_output=True,
            text=True,
            check=False,
        )
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith(f"ValueError: {own} hides the package {name!r} of vqathinker: rename it")


def test_a_forgotten_pythonpath_gets_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_rewards.py").write_text("def reward(batch):\n    return batch.scores\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])  # as for a script elsewhere
    with pytest.raises(ValueError, match=r"my_own_rewards lies in this folder, .* start with PYTHONPATH=\.$"):
        load("my_own_rewards:reward")
    with pytest.raises(ValueError, match=r"no module 'my_other'; a module of your own lies in"):
        load("my_other:reward")
    with pytest.raises(ValueError, match=r"has no 'florr'; did you mean 'floor'\?"):
        load("math:florr")
