"""Clips in, responses out: the one place where videos are encoded, asked and answered.

Training does it in steps of its own, since its videos have twins and its engine other weights at each step.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vqathinker import answers
from vqathinker.media.clips import read_clips
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.names import is_image_name
from vqathinker.media.video import Clip
from vqathinker.model import FrameSetting, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout.encoder import VideoEncoder
from vqathinker.rollout.engine import Response, RolloutEngine, Sampling
from vqathinker.rollout.hf import HFEngine


@dataclass(frozen=True)
class Asking:
    """What is asked of every clip, and how it is answered.

    Attributes:
        question: in place of the checkpoint's own; None for that.
        opening: ids that the response starts with.
        watched: ids whose log-probabilities the engine tells, which not every engine can.
        num_responses: for each clip.
        sampling: how tokens are drawn.
        seed: of the drawing.
    """

    question: str | None = None
    opening: Sequence[int] = ()
    watched: Sequence[int] = ()
    num_responses: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0


class Answerer:
    """Asks clips of a policy.

    Args:
        model: the policy (unwrapped).
        processor: that of the same checkpoint.
        setting: keyframes; those of scoring if omitted.
        engine: generates the responses; Hugging Face generation if omitted.
    """

    def __init__(
        self,
        model: VQAThinkerForConditionalGeneration,
        processor: VQAThinkerProcessor,
        setting: FrameSetting | None = None,
        engine: RolloutEngine | None = None,
    ) -> None:
        self.model = model
        self.encoder = VideoEncoder(model, processor, setting or processor.scoring)
        self.engine = engine or HFEngine(model, processor)
        self._keys = itertools.count()

    def answer(
        self,
        clips: Sequence[Clip | VideoError],
        asking: Asking,
        questions: Sequence[str | None] | None = None,
    ) -> list[list[Response]]:
        """The responses to each clip, in one call of the engine; none to what could not be read.

        The generators of random numbers are left as they were.

        Args:
            clips: as read.
            asking: what is asked, and how it is answered.
            questions: of each clip, where they differ; None among them for that of `asking`.
        """
        own = questions or [None] * len(clips)
        readable = [
            (clip, asking.question if question is None else question)
            for clip, question in zip(clips, own, strict=True)
            if not isinstance(clip, VideoError)
        ]
        videos = self.encoder.encode(
            [clip.frames for clip, _ in readable], [is_image_name(clip.path) for clip, _ in readable]
        )
        requests = [
            self.encoder.request(video, str(next(self._keys)), question=question)
            for video, (_, question) in zip(videos, readable, strict=True)
        ]
        requests = [replace(r, prompt_ids=[*r.prompt_ids, *asking.opening]) for r in requests]
        options: dict[str, Any] = {"watched": asking.watched} if asking.watched else {}
        device = self.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(asking.seed)
            found = iter(self.engine.generate(requests, asking.num_responses, asking.sampling, **options))
        return [[] if isinstance(clip, VideoError) else next(found) for clip in clips]


@dataclass(frozen=True)
class Prediction:
    """What the model said about one file.

    Attributes:
        path: the file.
        score: as parsed, not clipped; NaN where the response does not parse or the file cannot be read.
        text: the response, empty where the file cannot be read.
        error: why the file cannot be read, None otherwise.
    """

    path: str
    score: float
    text: str
    error: str | None = None


def predict(
    model: VQAThinkerForConditionalGeneration,
    processor: VQAThinkerProcessor,
    paths: Sequence[str],
    *,
    setting: FrameSetting | None = None,
    sampling: Sampling | None = None,
    batch_size: int = 16,
    decoders: GuardedReader | None = None,
    think: bool = True,
    questions: Sequence[str | None] | None = None,
) -> Iterator[Prediction]:
    """Answer the prompt's question for every file, in order.

    Args:
        model: the policy (unwrapped).
        processor: that of the same checkpoint.
        paths: video files.
        setting: keyframes; those of scoring if omitted.
        sampling: greedy with responses of up to 2,048 tokens if omitted.
        batch_size: videos at a time.
        decoders: the processes that decode; new ones if omitted.
        think: False also reads the score of an answer block alone.
        questions: of each file, where they differ; None among them for the prompt's.
    """
    setting = setting or processor.scoring
    decoders = decoders or GuardedReader()
    answerer = Answerer(model, processor, setting)
    asking = Asking(sampling=sampling or Sampling())
    for start in range(0, len(paths), batch_size):
        part = paths[start : start + batch_size]
        clips = read_clips(decoders, part, setting)
        own = None if questions is None else questions[start : start + batch_size]
        for path, clip, responses in zip(part, clips, answerer.answer(clips, asking, own), strict=True):
            if isinstance(clip, VideoError):
                yield Prediction(path, math.nan, "", clip.reason)
                continue
            text = processor.tokenizer.decode(responses[0].token_ids, skip_special_tokens=True)
            yield Prediction(path, answers.score(text, think=think), text)
