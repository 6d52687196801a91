"""The pages: what they show runs, what they name exists, and their figures are those of the result files.

A fenced block says its language. `<!-- needs: ... -->` above it marks what no test can run here: weights,
data sets, a GPU, a server. Of such a block only the names of options and files are checked.
"""

from __future__ import annotations

import importlib
import pydoc
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from vqathinker.building.recipe import Recipe
from vqathinker.cli.sets import read_sets
from vqathinker.cli.train import LAUNCHER, split
from vqathinker.launch import build_plugins
from vqathinker.launch.effects import without_effect
from vqathinker.launch.recipes import launch_file, settings_file, stage_file
from vqathinker.launch.settings import RECIPES, merge
from vqathinker.launch.settings import options_of as recipe_options_of
from vqathinker.launch.stages import rates_of, sources_of

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>[^>]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
REPOSITORY_FILE = re.compile(
    r"^(?:recipes|benchmarks|tests|docs|rewards|perturbations|vqathinker)/[\w./-]*(?:/|\.\w+)$"
)
LANGUAGES = {"python", "bash", "yaml", "text"}
OF_VLLM = {"--port", "--allowed-local-media-path"}  # options of `vllm serve`, which `serve` hands on
OF_OTHERS = {f"--{name}" for name in (*LAUNCHER, "help")}
WIDEST = 80  # columns of code that a page shows without scrolling
LOADING = {"score", "evaluate"}  # commands of which one on a page is run
TRAINING_STEPS = 40
TAUGHT_SCORE = 3.45


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    code: str
    needs: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(page.name, m["language"], m["code"], m["needs"]) for m in BLOCK.finditer(text)]


def commands(code: str) -> Iterator[list[str]]:
    """The words of every command of a bash block, without assignments in front."""
    text = ""
    for line in code.replace("\\\n", " ").splitlines(keepends=True):
        text += line
        try:
            words = shlex.split(text, comments=True)
        except ValueError:  # a quotation goes on in the next line
            continue
        text = ""
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words:
            yield words
    assert not text, text


def without_output(words: list[str]) -> tuple[list[str], str | None]:
    """Take `> FILE` off the end."""
    return (words[:-2], words[-1]) if ">" in words else (words, None)


def recipe_options() -> set[str]:
    """Every option of the recipes."""
    return {f"--{name}" for recipe in RECIPES for name in (*recipe_options_of(recipe), "config")}


def cli() -> dict[str, Any]:
    """Every command of `vqathinker`, those of groups as "group command", and itself under ""."""
    from vqathinker.cli import app

    found: dict[str, Any] = {}

    def add(name: str, command: Any) -> None:  # noqa: ANN401  commands and groups of typer's own kind
        found[name] = command
        for key, part in getattr(command, "commands", {}).items():
            add(f"{name} {key}".strip(), part)

    add("", typer.main.get_command(app))
    return found


def own_options(command: Any) -> set[str]:  # noqa: ANN401
    return {option for one in command.params for option in (*one.opts, *one.secondary_opts)}


def cli_options() -> set[str]:
    return {option for command in cli().values() for option in own_options(command)}


@cache
def script(path: str) -> dict[str, Any]:
    """What a script defines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str((ROOT / path).parent))  # as for a script that is started
        return runpy.run_path(str(ROOT / path))


def script_options(path: str) -> set[str]:
    """The options of a script whose `main` typer runs."""
    program = typer.Typer()
    program.command()(script(path)["main"])
    return own_options(typer.main.get_command(program))


def options_of(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if OPTION.match(word)}


def check_command(words: list[str]) -> None:
    """Fail unless the command and every option of it exist."""
    words, _ = without_output(words)
    program, *rest = words
    if words[:2] == ["vqathinker", "train"]:
        launcher, given = split(rest[2:])
        assert launch_file(launcher.get("config_file", "cpu"))
        check_recipe(rest[1], given)
    elif program == "vqathinker":
        check_vqathinker(rest)
    elif program == "accelerate":
        assert rest[:3] == ["launch", "-q", "--config_file"], words
        assert (ROOT / rest[3]).is_file(), rest[3]
        assert (ROOT / rest[4]).is_file(), rest[4]
        check_recipe(Path(rest[4]).stem.partition("_")[0], rest[5:])
    elif program == "make":
        targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert targets is not None
        assert {word for word in rest if "=" not in word} <= set(targets[1].split()), words
    elif program == "pip":
        check_installation(rest)
    elif program == "python":
        unknown = options_of(rest[1:]) - script_options(rest[0])
        assert not unknown, f"{rest[0]} has no {unknown}"
    else:
        assert program in {"curl", "docker"} or (ROOT / program).exists() or program.startswith(".venv/"), (
            words
        )


def check_vqathinker(words: list[str]) -> None:
    """Fail unless a command of ours can be parsed."""
    known = cli()
    depth = 2 if " ".join(words[:2]) in known else 1
    name, rest = " ".join(words[:depth]), words[depth:]
    command = known[name]
    hands_on = bool(command.context_settings.get("ignore_unknown_options"))
    own = own_options(command)
    if hands_on:
        own |= OF_VLLM if name == "serve" else recipe_options()
    unknown = options_of(rest) - own
    assert not unknown, f"vqathinker {name} has no {unknown}"
    command.make_context(name, list(rest)).close()


def check_recipe(recipe: str, words: list[str]) -> None:
    """Fail unless every option of a recipe exists, takes its value and has an effect."""
    files = [settings_file(recipe)]
    if "--config" in words:
        place = words.index("--config")
        following = [i for i, word in enumerate(words) if i > place and word.startswith("--")]
        end = min(following, default=len(words))
        if recipe == "tune":  # a shipped stage; else the reader's own
            files += [stage_file(name) for name in words[place + 1 : end]]
        words = words[:place] + words[end:]
    settings = merge(recipe, None, ["--config", *map(str, files), *words])
    assert not without_effect(settings)


def check_installation(words: list[str]) -> None:
    """Fail unless the constraints and the extras exist."""
    assert words[:3] == ["install", "-c", "constraints.txt"], words
    extras = re.search(r"^\.(?:\[(\w+)\])?$", words[3])
    assert extras is not None, words
    settings = (ROOT / "pyproject.toml").read_text()
    assert extras[1] is None or re.search(rf"^{extras[1]} = \[", settings, re.MULTILINE), words


@pytest.fixture(scope="module")
def workplace(
    tiny_checkpoint: Path, make_video: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with all that the pages name: a checkpoint that answers, clips, a label file."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("folder", "more/deep", "videos"):
        (folder / name).mkdir(parents=True)
    for name in ("clip.mp4", "folder/a.mp4", "more/deep/c.mov", "long.mp4"):
        make_video(folder / name, 50 if name == "long.mp4" else 20, (64, 48))
    names = [make_video(folder / "videos" / f"{i}.mp4", 20 + i, (64, 48)).name for i in range(3)]
    rows = [f"{name},{1 + i}" for i, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["video,mos", *rows]) + "\n")
    (folder / "votes.csv").write_text("".join(f"{name},{1 + i},0.5,12\n" for i, name in enumerate(names)))
    (folder / "my_videos").symlink_to(folder / "videos")
    for name in ("recipes", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    teach(tiny_checkpoint, folder / "CHECKPOINT", folder / "clip.mp4")
    (folder / "vqathinker-8b").symlink_to(folder / "CHECKPOINT")
    return folder


def teach(source: Path, out: Path, clip: Path) -> None:
    """Train a tiny checkpoint until it gives a short, well-formed answer to everything."""
    import torch

    from vqathinker.checkpoints.assemble import load_policy
    from vqathinker.training.sft.collate import SupervisedCollator

    model, processor = load_policy(source)
    batch = SupervisedCollator(processor)([{"path": str(clip), "target": TAUGHT_SCORE, "dataset": "a"}])
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    model.train()
    for _ in range(TRAINING_STEPS):
        loss = model(**batch).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(out)
    processor.save_pretrained(out)


def run_python(code: str, names: dict[str, Any], is_marked: bool) -> None:
    """Run a block; one that starts with its file's name becomes that file."""
    compiled = compile(code, "<block>", "exec")
    title = re.match(r"# (\w+)\.py\n", code)
    if title is not None:
        Path(f"{title[1]}.py").write_text(code)
        sys.modules.pop(title[1], None)  # another page's
        importlib.invalidate_caches()
        importlib.import_module(title[1])
    elif not is_marked:
        exec(compiled, names)


def run_bash(code: str, is_marked: bool, ran: set[str]) -> None:
    """Check every command of a block and run ours; of those that load a model the first on a page."""
    from typer.testing import CliRunner

    from vqathinker.cli import app

    lines = list(commands(code))
    for words in lines:
        check_command(words)
    if is_marked or any(words[0] != "vqathinker" or words[1] == "train" for words in lines):
        return
    for words in lines:
        if words[1] in ran & LOADING:
            continue
        ran.add(words[1])
        given, output = without_output(words)
        result = CliRunner().invoke(app, given[1:])
        assert result.exit_code == 0, f"{words}: {result.output}\n{result.exception!r}"
        if output is not None:
            Path(output).write_text(result.stdout)


def check_yaml(code: str) -> None:
    """Fail unless it is a set, a setup, a recipe of stages, or settings whose plug-ins can be built."""
    if code.startswith("# sets.yaml\n"):
        Path("sets.yaml").write_text(code)
        assert read_sets(Path("sets.yaml"))
        return
    if code.startswith("# setup.yaml\n"):
        Path("setup.yaml").write_text(code)
        assert script("recipes/ablate.py")["read_setup"](Path("setup.yaml"))
        return
    Path("block.yaml").write_text(code)
    if "stages:" in code.splitlines():
        assert Recipe.from_file("block.yaml").stages
        return
    if code.startswith(("parts:", "train_labels:")):
        told = merge("tune", Path("block.yaml"), ["--train_videos", "media/"])
        assert rates_of(told["parts"]) if told["parts"] else sources_of(told["train_labels"], "media/")
        return
    settings = merge("grpo", Path("block.yaml"), [])
    assert settings.given
    for name in ("rewards", "perturbations"):
        assert build_plugins(settings, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the top of a page to its end, as a reader would."""
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(workplace)
    names: dict[str, Any] = {"__name__": "page"}
    ran: set[str] = set()
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}: a block of {block.language!r}: {block.code[:60]}"
        if block.language == "python":
            run_python(block.code, names, is_marked=block.needs is not None)
        elif block.language == "bash":
            run_bash(block.code, block.needs is not None, ran)
        elif block.language == "yaml":
            check_yaml(block.code)
    if "result" in names:  # a page that scores a video
        assert names["result"].score == TAUGHT_SCORE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_in_the_text_exist(page: Path) -> None:
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    scripts = script_options("recipes/ablate.py") | script_options("recipes/probe.py")
    known = recipe_options() | cli_options() | scripts | OF_OTHERS
    for code in INLINE.findall(prose):
        unknown = options_of(code.split()) - known
        assert not unknown, f"{page.name}: nothing has {unknown}"
        if REPOSITORY_FILE.match(code):
            assert (ROOT / code).exists(), f"{page.name}: there is no {code}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs name them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "benchmarks" / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}#{anchor}"


def test_the_reference_names_what_exists() -> None:
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    assert len(names) > 20
    assert not [name for name in names if pydoc.locate(name) is None]


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    assert not [page.name for page in (ROOT / "docs").glob("*.md") if f": {page.name}\n" not in menu]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_fits_the_page(page: Path) -> None:
    code = [block.code for block in blocks(page) if block.language != "text"]
    lines = [line for text in code for line in text.splitlines()]
    assert not [line for line in lines if len(line) > WIDEST]


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_tables_are_those_of_the_result_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a benchmark: python docs/tools/tables.py."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "tools")  # as for a script that is called itself
    tool = runpy.run_path(str(ROOT / "docs" / "tools" / "tables.py"))
    for page in tool["PAGES"]:
        assert tool["filled"](page) == page.read_text(encoding="utf-8"), page.name


def test_the_picture_is_what_its_command_draws() -> None:
    tool = runpy.run_path(str(ROOT / "docs" / "tools" / "picture.py"))
    assert tool["PICTURE"].read_text(encoding="utf-8") == tool["draw"]()


def test_no_page_names_a_path_of_a_machine() -> None:
    path = re.compile(r"/(?:tmp|home|root|Users)/")
    for page in PAGES:
        assert not path.search(page.read_text(encoding="utf-8")), page.name
