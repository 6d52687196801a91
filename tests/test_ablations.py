"""The rows of the ablations, how they are run, and the tables that come of them."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from click.testing import Result
from conftest import rounds
from filelock import FileLock
from scipy import stats
from trl.trainer.model_config import ModelConfig
from trl.trainer.sft_config import SFTConfig
from typer.testing import CliRunner

import rewards
from vqathinker.cli import app
from vqathinker.data.benchmarks import BENCHMARKS
from vqathinker.evaluation.ablations import read_figures, read_table
from vqathinker.launch.build import build
from vqathinker.launch.settings import merge
from vqathinker.training import TrainingConfig
from vqathinker.training.setup import DataConfig, SupervisedDataConfig

RECIPES = Path(__file__).parents[1] / "recipes"
sys.path.append(str(RECIPES))  # they are no installed package

import ablate  # noqa: E402
from world import build as world_build  # noqa: E402
from world import runs  # noqa: E402
from world.starts import STARTS  # noqa: E402

TABLES: dict[str, Any] = yaml.safe_load((RECIPES / "ablations/tables.yaml").read_text(encoding="utf-8"))
ROWS = {
    row: entry
    for table in TABLES.values()
    for row, entry in table["rows"].items()
    if entry.get("recipe") != "none"
}
KINDS = {"grpo": (DataConfig, TrainingConfig), "sft": (SupervisedDataConfig, SFTConfig)}
ON_CPU = ["--use_cpu", "true", "--bf16", "false", "--dtype", "float32", "--gradient_checkpointing", "false"]


def test_every_file_is_a_row_of_some_table() -> None:
    files = {path.stem for path in (RECIPES / "ablations").glob("*.yaml")} - {"tables"}
    assert files == set(ROWS)


@pytest.mark.parametrize("name", TABLES)
def test_the_entries_of_a_table(name: str) -> None:
    table = TABLES[name]
    for entry in table["rows"].values():
        assert entry.get("scale", "full") in set(ablate.Scale)
        assert entry.get("start", "base") in STARTS
        assert entry.get("against", table["against"]) in table["rows"]
        assert all(len(values) == 2 for values in entry.get("paper", {}).values())
    assert len({entry["title"] for entry in table["rows"].values()}) == len(table["rows"])
    assert list(read_table(name).rows) == list(table["rows"])


@pytest.mark.parametrize("base", ["demo", "lsvq"])
@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_a_difference_that_its_recipe_takes(name: str, base: str) -> None:
    scale = ROWS[name].get("scale")
    if scale is not None and (scale == "laptop") != (base == "demo"):
        pytest.skip("the table does not have it at this scale")
    recipe = ROWS[name].get("recipe", "grpo")
    shared = RECIPES / (f"demo_{recipe}.yaml" if base == "demo" else f"{recipe}_lsvq.yaml")
    row = RECIPES / f"ablations/{name}.yaml"
    options = ["--output_dir", "out", *ON_CPU]
    alone = merge(recipe, shared, ["--config", str(shared), *options])
    settings = merge(recipe, shared, ["--config", str(shared), str(row), *options])
    changed = yaml.safe_load(row.read_text(encoding="utf-8"))
    assert {key for key in settings.given if settings[key] != alone[key]} == set(changed)
    _, args, _ = settings.build(*KINDS[recipe], ModelConfig)
    if isinstance(args, TrainingConfig):
        labels = [plugin.label for plugin in build(args.rewards, rewards.REWARDS, group="vqathinker.rewards")]
        assert labels[0] == "format"  # in every row of the paper


def test_published_figures_are_those_of_the_test_sets() -> None:
    """The paper's averages over in-domain and other sets, weighted by their numbers of videos."""
    paper = TABLES["4"]["rows"]["full"]["paper"]
    for domain, wanted in (("in_domain", True), ("ood", False)):
        sets = [one for one in BENCHMARKS.values() if one.in_domain is wanted]
        mean = np.average([one.paper for one in sets], axis=0, weights=[one.num_videos for one in sets])
        assert paper[domain] == pytest.approx(mean, abs=1.5e-3)


def run_ablate(*options: object) -> Result:
    program = typer.Typer()
    program.command()(ablate.main)
    return CliRunner().invoke(program, [str(option) for option in options])


def test_the_commands_of_the_laptop() -> None:
    result = run_ablate("--table", 4, "--row", "no_motion", "--seed", 3, "--out", "o", "--dry-run")
    train, evaluate = (shlex.split(line) for line in result.stdout.splitlines())
    assert train[:3] == ["vqathinker", "train", "grpo"]
    settings = merge("grpo", Path("unused"), train[train.index("--config") :])
    assert settings["rewards"] == ["format", "regression", "ranking"]
    assert settings["num_generations"] == 8  # of demo_grpo.yaml
    assert settings["model_name_or_path"] == "o/laptop/starts/no_motion/final"
    assert (settings["seed"], settings["train_labels"]) == (3, "o/laptop/world/train.csv")
    assert evaluate[:3] == ["vqathinker", "evaluate", f"{settings['output_dir']}/final"]
    assert "--answer-only" in evaluate


def test_a_start_is_scored_once_as_it_is() -> None:
    options = ["--table", "starts", "--row", "base_after_sft", "--out", "o", "--dry-run"]
    for seeds in ([], ["--seed", 1, "--seed", 2]):
        (line,) = run_ablate(*options, *seeds).stdout.splitlines()
        assert shlex.split(line)[:3] == ["vqathinker", "evaluate", "o/laptop/starts/sft/final"]


def test_the_commands_of_the_full_scale(tmp_path: Path) -> None:
    content = {
        "starts": {"base": "init-8b"},
        "sets": "sets.yaml",
        "options": ["--train_labels", "l.csv", "--train_videos", "LSVQ"],
        "launch": ["--config_file", "zero2"],
    }
    (tmp_path / "setup.yaml").write_text(yaml.safe_dump(content))
    options = ["--scale", "full", "--setup", tmp_path / "setup.yaml", "--dry-run"]
    result = run_ablate("--table", 7, "--row", "sft", "--row", "full", *options)
    lines = [shlex.split(line) for line in result.stdout.splitlines()]
    assert len(lines) == 2 * 2 * len(ablate.SEEDS)
    first = lines[0]
    assert first[1:5] == ["train", "sft", "--config_file", "zero2"]
    settings = merge("sft", Path("unused"), first[5:])
    assert settings["learning_rate"] == 1e-5  # of sft_lsvq.yaml
    assert (settings["model_name_or_path"], settings["train_labels"]) == ("init-8b", "l.csv")
    refused = run_ablate("--table", 4, *options)
    assert refused.exit_code == 2
    assert "no_motion needs starts: no_motion; there are base" in refused.stderr
    content["launcher"] = []
    (tmp_path / "setup.yaml").write_text(yaml.safe_dump(content))
    assert "expected starts and sets, and maybe others of" in run_ablate("--table", 4, *options).stderr
    (tmp_path / "setup.yaml").write_text("starts: {base: init-8b}\nsets: [a]\n")
    assert "sets is ['a'], expected a str" in run_ablate("--table", 4, *options).stderr
    assert "would share the GPUs" in run_ablate("--table", 4, *options, "--jobs", 2).stderr


def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    options = ["--table", 4, "--row", "full", "--seed", 3, "--out", tmp_path, "--dry-run"]
    assert "--overwrite_output_dir true" in run_ablate(*options).stdout
    checkpoint = tmp_path / "laptop/full/seed3/train/checkpoint-20"
    checkpoint.mkdir(parents=True)
    assert "--overwrite_output_dir true" in run_ablate(*options).stdout  # one that was never finished
    (checkpoint / "trainer_state.json").write_text("{}")
    again = run_ablate(*options).stdout
    assert "--resume_from_checkpoint true" in again
    assert "--overwrite_output_dir" not in again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--table", "5"], "--table 5: expected one of 4, 7, 1"),
        (["--table", "4", "--row", "sft"], "--row sft: table 4 has ranking, "),
        (["--table", "4", "--scale", "full"], "--scale full needs --setup FILE"),
    ],
)
def test_what_cannot_be_run(options: list[str], message: str) -> None:
    result = run_ablate(*options)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trainings of one step in a world of four clips a set."""
    sets = {name: dataclasses.replace(wanted, num_clips=4) for name, wanted in world_build.SETS.items()}
    monkeypatch.setattr(world_build, "SETS", sets)
    for recipe in ("grpo", "sft"):
        content = yaml.safe_load((RECIPES / f"demo_{recipe}.yaml").read_text())
        content |= {"max_steps": 1, "eval_steps": 1, "warmup_steps": 0}
        (tmp_path / f"{recipe}.yaml").write_text(yaml.safe_dump(content))
    laptop = ablate.laptop

    def shortened(out: Path) -> ablate.Setup:
        setup = laptop(out)
        settings = {recipe: str(tmp_path / f"{recipe}.yaml") for recipe in ("grpo", "sft")}
        options = [*setup.options, "--per_device_train_batch_size", "16"]
        return dataclasses.replace(setup, settings=settings, options=options)

    monkeypatch.setattr(ablate, "laptop", shortened)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_row_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["--table", "4", "--row", "ranking", "--row", "full"]
    options = [*rows, "--seed", 0, "--out", tmp_path / "out"]
    results = tmp_path / "out/laptop/results"
    result = run_ablate(*options, "--jobs", 2)
    assert result.exit_code == 0, result.output
    written = {path.name: json.loads(path.read_text()) for path in results.iterdir()}
    assert set(written) == {"ranking-0.json", "full-0.json"}
    ranking = written["ranking-0.json"]
    assert ranking["settings"]["rewards"] == ["format", "ranking"]
    assert ranking["settings"]["max_steps"] == 1  # of the recipe's file
    assert set(ranking["results"]) == set(world_build.SCORED)
    assert all(-1 <= found["srcc"] <= 1 for found in ranking["results"].values())
    assert set(ranking["versions"]) == set(ablate.PACKAGES)
    first, last = ranking["course"]["entropy"]
    assert first == last > 0  # of the one step
    monkeypatch.setattr(ablate, "call", None)
    assert run_ablate(*options).exit_code == 0  # nothing is left
    (results / "full-0.json").unlink()
    with FileLock(tmp_path / "out/laptop/full/seed0/running.lock"):
        assert "full, seed 0: is running already" in run_ablate(*options).stderr
    assert not (results / "full-0.json").exists()
    monkeypatch.setattr(ablate, "call", runs.call)
    assert run_ablate(*options).exit_code == 0  # goes on with the evaluation
    again = json.loads((results / "full-0.json").read_text())
    assert again["results"] == written["full-0.json"]["results"]
    recipe = tmp_path / "grpo.yaml"
    recipe.write_text(recipe.read_text() + "weight_decay: 0.1\n")
    assert "-0.json is of other settings; move it away" in run_ablate(*options).stderr


def test_the_course_of_a_training(tmp_path: Path) -> None:
    steps: list[dict[str, float | None]] = [{"reward": float(i), "entropy": 1 - i / 20} for i in range(20)]
    for i, step in enumerate(steps):
        step["scores/srcc"] = 0.5 if i == 1 else None  # as transformers writes NaN
    state = {"log_history": [*steps, {"eval_srcc": 0.5, "eval_reward": 9.0}, {"train_loss": 0.1}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    assert runs.course(tmp_path) == {
        "reward": [0.5, 18.5], "entropy": [0.975, 0.075], "scores/srcc": [0.5, None],
    }  # fmt: skip
    state["log_history"] = [{"loss": 0.5, "entropy": 0.2}, {"eval_srcc": 0.5}]  # of a supervised one
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    assert runs.course(tmp_path) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_the_other_starts_and_supervised_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the bases without motion and without reasoning, taught for one step, and on described labels."""
    monkeypatch.setattr("world.starts.NUM_CLIPS", 4)
    again = ("--max_steps", "1", "--per_device_train_batch_size", "2")
    monkeypatch.setattr("world.starts.AGAIN", again)
    rows = [("4", "no_motion"), ("7", "sft_described"), ("4", "no_reasoning")]
    for table, row in rows[: rounds(1, 3)]:
        result = run_ablate("--table", table, "--row", row, "--seed", 0, "--out", tmp_path / "out")
        assert result.exit_code == 0, result.output
        found = json.loads((tmp_path / f"out/laptop/results/{row}-0.json").read_text())
        assert found["results"]["test"]["videos"] == 4


@pytest.mark.usefixtures("short")
def test_a_row_that_fails_is_said_and_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def run(job: ablate.Job, setup: ablate.Setup, *, shown: bool) -> None:
        if job.seed == 1:
            raise ablate.CalledProcessError(1, ["vqathinker"])
        ended.append(job.seed)

    monkeypatch.setattr(ablate, "run", run)
    monkeypatch.setattr(ablate, "prepare", lambda *_: None)
    seeds = [word for seed in (0, 1, 2) for word in ("--seed", seed)]
    result = run_ablate("--table", "4", "--row", "full", *seeds, "--out", tmp_path)
    assert result.exit_code == 1
    assert ended == [0, 2]
    assert "full, seed 1: Command '['vqathinker']' returned non-zero exit status 1" in result.stderr


SETS = {"test": 600, "ood_content": 400, "ood_distortion": 200}


def write_results(folder: Path, row: str, seeds: dict[int, float], scale: str = "laptop") -> None:
    """Result files: each set has its seed's SRCC, less by .1 and .2 out of domain, and half of it as PLCC."""
    for seed, value in seeds.items():
        results = {
            name: {"srcc": value - 0.1 * i, "plcc": (value - 0.1 * i) / 2, "videos": videos}
            for i, (name, videos) in enumerate(SETS.items())
        }
        content = {"row": row, "seed": seed, "scale": scale, "results": results}
        (folder / f"{row}-{seed}.json").write_text(json.dumps(content))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_results(tmp_path, "full", {1: 0.70, 2: 0.74, 3: 0.72})
    write_results(tmp_path, "ranking", {1: 0.60, 2: 0.63, 3: 0.65, 4: 0.2})
    write_results(tmp_path, "regression", {1: 0.90, 2: 0.93, 3: 0.95})
    write_results(tmp_path, "sft", {1: 0.5})  # of another table
    return tmp_path


def report(*options: object) -> Result:
    return CliRunner(env={"COLUMNS": "250"}).invoke(app, ["report", *map(str, options)])


def cells(text: str) -> list[list[str]]:
    """The cells of Markdown tables."""
    return [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]


def test_a_table_agrees_with_scipy(results: Path, tmp_path: Path) -> None:
    done = report("--table", 4, results, "--markdown", "--png", tmp_path / "table.png")
    assert done.exit_code == 0, done.output
    rows = {tuple(row[:2]): row for row in cells(done.stdout)}
    values = np.array([0.70, 0.74, 0.72])
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert rows[("all rewards", "3")][2] == f"0.720 [{low:.3f}, {high:.3f}]"
    ood = values - (0.1 * 400 + 0.2 * 200) / 600  # weighted by the numbers of videos
    assert rows[("all rewards", "3")][4].startswith(f"{ood.mean():.3f} [")
    assert rows[("all rewards", "3")][6:] == ["0.855", "0.662"]
    change = np.array([0.60, 0.63, 0.65]) - values  # the seeds that both have
    p_value = stats.ttest_1samp(change, 0).pvalue
    expected = []
    for share in (1, 0.5):  # of the SRCC, which the PLCC is half of
        low, high = stats.t.interval(0.95, 2, share * change.mean(), share * stats.sem(change))
        expected.append(f"{share * change.mean():+.3f} [{low:+.3f}, {high:+.3f}] p = {p_value:.3f}")
    assert rows[("ranking − all rewards", "in-domain")][2:] == [*expected, "-0.075", "agrees"]
    assert rows[("regression − all rewards", "OOD")][4:] == ["-0.042", "disagrees"]
    assert not any("SFT" in name for name, _ in rows)
    missing = "ranking and regression, ranking and regression, no motion, all rewards, no reasoning"
    assert f"without a result yet: {missing}" in done.stderr
    assert (tmp_path / "table.png").read_bytes()[:4] == b"\x89PNG"


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    for row, value in (("ranking", 0.6), ("full", 0.7)):
        write_results(tmp_path, row, {1: value})
    rows = {tuple(row[:2]): row for row in cells(report("--table", 4, tmp_path, "--markdown").stdout)}
    assert rows[("ranking", "1")][2] == "0.600"
    assert rows[("ranking − all rewards", "in-domain")][2:] == ["-0.100", "-0.050", "-0.075", "undecided"]


def test_latex_of_a_table(results: Path) -> None:
    done = report("--table", 4, results, "--latex")
    assert done.stdout.count(r"\begin{tabular}") == 2


def test_tables_that_cannot_be_shown(results: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for options, message in (
        ((["--table", "5", results]), "--table 5: expected one of 4, 7, 1"),
        ((["--table", "4", empty]), "no result of this table; recipes/ablate.py makes them"),
        ((["--table", "4", tmp_path / "none"]), "is not a folder"),
        ((["--png", "a.png", results]), "--png draws the table of an ablation: --table NAME"),
        ((["--table", "4", "--png", tmp_path / "none/a.png", results]), "expected FILE.png in a folder that"),
        ((["--table", "4", "--paper", results]), "leave --paper out"),
    ):
        done = report(*options)
        assert done.exit_code == 2
        assert message in done.stderr
    write_results(empty, "full", {9: 0.5}, scale="full")
    with pytest.raises(ValueError, match="different scales"):
        read_figures([results, empty], list(read_table("4").rows))
    (empty / "full-9.json").unlink()
    write_results(empty, "full", {1: 0.5})
    with pytest.raises(ValueError, match="a second result for full and seed 1"):
        read_figures([results, empty], list(read_table("4").rows))


def test_sets_that_are_not_known_or_differ(tmp_path: Path) -> None:
    for row, names in (("full", ["test"]), ("ranking", ["test", "ood_content"])):
        results = {name: {"srcc": 0.5, "plcc": 0.5, "videos": 9} for name in names}
        content = {"row": row, "seed": 1, "scale": "laptop", "results": results}
        (tmp_path / f"{row}.json").write_text(json.dumps(content))
    assert "results on different sets cannot be compared" in report("--table", 4, tmp_path).stderr
    (tmp_path / "ranking.json").unlink()
    content["results"] = {"mine": content["results"]["test"]}
    (tmp_path / "full.json").write_text(json.dumps(content))
    assert "mine: neither a set that `vqathinker datasets` lists" in report("--table", 4, tmp_path).stderr


def test_figures_of_another_setup_are_not_taken(tmp_path: Path) -> None:
    (row,) = [row for row in read_table("7").rows.values() if row.name == "full"]
    setup = ablate.Setup(starts={"base": "init-8b"}, sets="sets.yaml", environment={"KEY": "secret"})
    job = ablate.Job(
        row=row, seed=1, scale=ablate.Scale.FULL, settings={"beta": 0.1}, setup=setup.shaping(),
        folder=tmp_path, result=tmp_path / "full-1.json",
    )  # fmt: skip
    job.result.write_text(json.dumps(job.origin))
    assert job.is_done()
    assert "secret" not in job.result.read_text()
    other = dataclasses.replace(setup, starts={"base": "init-1b"})
    with pytest.raises(ValueError, match="of other settings"):
        dataclasses.replace(job, setup=other.shaping()).is_done()
