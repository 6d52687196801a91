"""Several tasks, questions and kinds of media in one generation batch, through the real trainer."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from chat_server import ChatServer
from conftest import run_in_two_processes
from PIL import Image
from test_trainer import ScriptedEngine

import rewards
from perturbations import PERTURBATIONS
from vqathinker.checkpoints.assemble import load_policy
from vqathinker.data.dataset import load_labels
from vqathinker.evaluation import Evaluating, Keeping, evaluate
from vqathinker.rollout import HFEngine
from vqathinker.samples import SCORE, Media, Sample, to_line, write_samples
from vqathinker.scoring import Mode, Scorer
from vqathinker.training import TrainingConfig, VQAThinkerTrainer
from vqathinker.training.grpo import generation, rollouts, trainer
from vqathinker.types import FloatArray, RolloutBatch

NUM_VIDEOS = 3
NUM_IMAGES = 2
NUM_SAMPLES = 2 * NUM_VIDEOS + NUM_IMAGES
GROUP = 2
SETTINGS: dict[str, Any] = {
    "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
    "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "decode_workers": 1, "max_steps": 1,
    "num_generations": GROUP, "per_device_train_batch_size": NUM_SAMPLES * GROUP,
    "gradient_accumulation_steps": 1, "max_completion_length": 12, "learning_rate": 1e-3, "beta": 0.04,
    "log_completions": True, "optim": "sgd", "max_grad_norm": 0.0,
}  # fmt: skip


class Recognition:
    """Its score is the length of a response; it keeps what it was called with."""

    tasks = ("recognition",)
    runs_once = True

    def __init__(self) -> None:
        self.batches: list[RolloutBatch] = []

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        self.batches.append(batch)
        return np.array([[len(text) for text in row] for row in batch.texts], dtype=np.float64)


@pytest.fixture
def samples(labelled_videos: Path, tmp_path: Path) -> Path:
    """Each video is scored and asked about, each picture is scored with a question of its own."""
    found = []
    for number in range(NUM_VIDEOS):
        media = (Media(str(labelled_videos / f"{number:02}.mp4")),)
        found.append(Sample(f"{number}", "d", media, target=1.0 + number))
        question = f"Which fault has video {number}?"
        found.append(Sample(f"{number}, asked", "d", media, "recognition", question, f"blur {number}"))
    for number in range(NUM_IMAGES):
        path = tmp_path / f"{number}.png"
        noise = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        found.append(Sample(path.name, "d", (Media(str(path)),), question="How good is it?", target=2.5))
    write_samples(tmp_path / "samples.jsonl", found)
    return tmp_path / "samples.jsonl"


def train(checkpoint: Path | str, samples: Path | str, out: Path | str, **settings: Any) -> VQAThinkerTrainer:
    """A step on all samples, with rewards for one task and for the other."""
    model, processor = load_policy(checkpoint, dtype=torch.float32)
    run = VQAThinkerTrainer(
        model,
        TrainingConfig(**{**SETTINGS, "output_dir": str(out), **settings}),
        processor=processor,
        rewards={
            "regression": rewards.load("regression"),
            "temporal": rewards.load("temporal", rewards=["regression"]),
            "recognition": Recognition(),
        },
        perturbations={"reverse": PERTURBATIONS["reverse"]()},
        train_dataset=load_labels(samples),
    )
    run.train()
    return run


def table(folder: Path) -> pd.DataFrame:
    (path,) = (folder / "completions").glob("*.parquet")
    return pd.read_parquet(path)


def check_batch(run: VQAThinkerTrainer, folder: Path) -> None:
    """Each reward saw the samples of its task, each response is one to its own prompt."""
    recognition: Any = run.rewards["recognition"]
    batch = recognition.batches[-1]  # the first is the rehearsal's
    told = {name: (question, answer) for name, question, answer in zip(
        batch.video_id, batch.question, batch.reference, strict=True
    )}  # fmt: skip
    assert told == {
        f"{number}, asked": (f"Which fault has video {number}?", f"blur {number}")
        for number in range(NUM_VIDEOS)
    }
    assert (set(batch.task), batch.perturbed) == ({"recognition"}, None)
    rows = table(folder)
    asked = rows["prompt"].str.contains("asked")
    pictures = rows["prompt"].str.contains("png")
    assert len(rows) == NUM_SAMPLES * GROUP
    assert rows["recognition"].isna().tolist() == (~asked).tolist()
    assert rows["regression"].isna().tolist() == asked.tolist()
    # a picture has no order of frames
    assert rows["temporal"].isna().tolist() == (asked | pictures).tolist()
    assert rows["twin"].isna().tolist() == (asked | pictures).tolist()
    (entry,) = (entry for entry in run.state.log_history if "reward" in entry)
    assert math.isfinite(entry["reward"])


def test_one_batch_of_two_tasks(
    tiny_checkpoint: Path, samples: Path, tmp_path: Path, encoded: list[int]
) -> None:
    run = train(tiny_checkpoint, samples, tmp_path / "out")
    check_batch(run, tmp_path / "out")
    # a video that is asked twice is encoded once
    assert sorted(encoded) == [1] * NUM_IMAGES + [run.processor.num_frames] * NUM_VIDEOS


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Responses that differ, and so do their rewards."""
    monkeypatch.setattr(trainer, "HFEngine", ScriptedEngine)


def weights(run: VQAThinkerTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in run.model.state_dict().items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.usefixtures("scripted")
def test_groups_by_video_would_mix_questions(
    tiny_checkpoint: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group packed by sample ends where rows on their own end; packed by file it does not."""
    options = {"learning_rate": 0.1}
    plain = weights(train(tiny_checkpoint, samples, tmp_path / "plain", packed=False, **options))
    packed = weights(train(tiny_checkpoint, samples, tmp_path / "packed", **options))
    assert largest_difference(packed, plain) < 1e-5
    videos = generation.AnsweredBatch.videos

    def by_file(batch: generation.AnsweredBatch) -> list[Any]:
        shared: dict[str, Any] = {}
        own = videos.fget(batch)  # type: ignore[attr-defined]
        return [shared.setdefault(row["path"], video) for row, video in zip(batch.rows, own, strict=True)]

    with monkeypatch.context() as fault:
        fault.setattr(generation.AnsweredBatch, "videos", property(by_file))
        mixed = weights(train(tiny_checkpoint, samples, tmp_path / "mixed", **options))
    assert largest_difference(mixed, plain) > 1e-4

    def of_file(row: Any) -> tuple[str, str]:  # noqa: ANN401
        return row["dataset"], row["path"]

    for module in (generation, rollouts, trainer):
        monkeypatch.setattr(module, "key_of", of_file)
    with pytest.raises(IndexError):  # four rows of a video, and two responses
        train(tiny_checkpoint, samples, tmp_path / "two")


@pytest.mark.usefixtures("scripted")
def test_a_judge_and_names_in_one_batch_with_scores(
    tiny_checkpoint: Path, samples: Path, tmp_path: Path
) -> None:
    """Each task by its own rewards: a judge over HTTP, names of distortions, and the regression of scores."""
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    media = next(line["media"] for line in lines if line["task"] == "recognition")
    described = Sample("told", "d", (Media(media[0]),), "description", "What is it like?", "It is soft.")
    with samples.open("a") as file:
        file.write(to_line(described))
    model, processor = load_policy(tiny_checkpoint, dtype=torch.float32)

    def grade(text: str) -> str:
        answer = next(line for line in text.splitlines() if line.startswith("Answer to grade"))
        return json.dumps({"score": len(answer) % 3, "reason": ""})

    with ChatServer(grade) as server:
        settings = {**SETTINGS, "per_device_train_batch_size": (NUM_SAMPLES + 1) * GROUP}
        run = VQAThinkerTrainer(
            model,
            TrainingConfig(**settings, output_dir=str(tmp_path / "out")),
            processor=processor,
            rewards={name: rewards.load(name) for name in ("regression", "recognition", "choice")}
            | {"judge": rewards.load("judge", url=server.url, model="m")},
            perturbations={},
            train_dataset=load_labels(samples),
        )
        run.train()
        asked = len(server.seen)
    rows = table(tmp_path / "out")
    told = rows["prompt"].str.contains("told")
    assert rows["judge"].isna().tolist() == (~told).tolist()
    assert set(rows["judge"].dropna()) <= {0.0, 0.5, 1.0}
    assert rows["recognition"].isna().tolist() == (~rows["prompt"].str.contains("asked")).tolist()
    assert rows["choice"].isna().all()  # there are no options
    assert 1 <= asked <= 2 * GROUP  # the rehearsal's answers and the step's
    (entry,) = (entry for entry in run.state.log_history if "reward" in entry)
    assert math.isfinite(entry["reward"])
    assert 0 <= entry["rewards/recognition/kind"] <= 1


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import test_tasks, test_trainer
test_tasks.trainer.HFEngine = test_trainer.ScriptedEngine
run = test_tasks.train({checkpoint!r}, {samples!r}, {out!r}, per_device_train_batch_size={rows})
test_tasks.keep(run, {out!r})
"""


def keep(run: VQAThinkerTrainer, out: str) -> None:
    """Write the weights of the main process, and how often each has called the reward that runs once."""
    recognition: Any = run.rewards["recognition"]
    Path(out, f"calls-{run.accelerator.process_index}").write_text(str(len(recognition.batches)))
    if run.accelerator.is_main_process:
        torch.save(weights(run), f"{out}/weights.pt")


@pytest.mark.slow
@pytest.mark.usefixtures("scripted")
def test_two_processes_are_one_batch(tiny_checkpoint: Path, samples: Path, tmp_path: Path) -> None:
    keep(train(tiny_checkpoint, samples, tmp_path / "one"), str(tmp_path / "one"))
    two = tmp_path / "two"
    two.mkdir()
    program = PROGRAM.format(
        tests=str(Path(__file__).parent), checkpoint=str(tiny_checkpoint), samples=str(samples),
        out=str(two), rows=NUM_SAMPLES * GROUP // 2,
    )  # fmt: skip
    run_in_two_processes(program, two)
    one, other = (table(tmp_path / name).sort_values(["prompt", "completion"]) for name in ("one", "two"))
    for column in ("prompt", "completion", "twin", "perturbation"):
        assert one[column].tolist() == other[column].tolist()
    for column in ("regression", "temporal", "recognition", "advantage"):
        np.testing.assert_allclose(one[column].tolist(), other[column].tolist(), atol=1e-5)
    assert [(two / f"calls-{rank}").read_text() for rank in range(2)] == ["2", "0"]  # rehearsal and batch
    ends = [torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in ("one", "two")]
    assert largest_difference(*ends) < 1e-5


@pytest.mark.vllm
@pytest.mark.filterwarnings("default")  # vLLM's own imports warn
def test_one_batch_of_two_tasks_by_vllm(tiny_checkpoint: Path, samples: Path, tmp_path: Path) -> None:
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    run = train(tiny_checkpoint, samples, tmp_path / "out", use_vllm=True, vllm_mode="colocate")
    check_batch(run, tmp_path / "out")
    (entry,) = (entry for entry in run.state.log_history if "reward" in entry)
    assert entry["sampling/logp_gap_mean"] < 0.1


def test_each_sample_is_evaluated_by_its_own_question(
    tiny_checkpoint: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    scored = [Sample.from_dict(line) for line in lines if line["task"] == SCORE]
    asked = replace(scored[0], id="asked", question="How sharp is it?")
    write_samples(tmp_path / "scored.jsonl", [*scored, asked])
    prompts: list[list[int]] = []
    generate = HFEngine.generate

    def listening(self: HFEngine, requests: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        prompts.extend(list(request.prompt_ids) for request in requests)
        return generate(self, requests, *args, **options)

    monkeypatch.setattr(HFEngine, "generate", listening)
    with Scorer.from_pretrained(tiny_checkpoint, max_new_tokens=2, batch_size=4, num_workers=1) as scorer:
        result = evaluate(scorer, load_labels(tmp_path / "scored.jsonl"))
        mixed = Evaluating(scorer, load_labels(samples), Keeping(), Mode())
        assert [tuple(row) for row in zip(mixed.dataset["video_id"], mixed.dataset["task"], strict=True)] == [
            (sample.id, SCORE) for sample in scored
        ]
        (question,) = {sample.question for sample in scored} - {None}
        setting = scorer.setting
        own = {
            name: scorer.processor.prompt_ids(setting.num_frames, setting.tokens_per_frame, question=name)
            for name in (None, asked.question)
        }
        with pytest.raises(ValueError, match="levels asks a question of its own"):
            scorer.stream([asked.media[0].path], expand=False, questions=[question], levels=True)
    assert result.num_unreadable == 0
    assert prompts[:NUM_VIDEOS] == [own[None]] * NUM_VIDEOS
    assert prompts[-1] == own[asked.question] != own[None]
    assert len(prompts) == NUM_VIDEOS + NUM_IMAGES + 1
