"""Clips in, responses out: the one place where videos are encoded, asked and answered.

Training does it in steps of its own, since its videos have twins and its engine other weights at each step.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import torch

from vqathinker import answers
from vqathinker.media.clips import read_clips
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.names import is_image_name
from vqathinker.media.video import Clip
from vqathinker.model import FrameSetting, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout.encoder import VideoEncoder
from vqathinker.rollout.engine import Response, RolloutEngine, RolloutRequest, Sampling
from vqathinker.rollout.hf import HFEngine
from vqathinker.rollout.levels import expected_level
from vqathinker.seeds import rng_of

SPARSE = 16  # of so many rows and columns one tells clips apart


@dataclass(frozen=True)
class Asking:
    """What is asked of every clip, and how it is answered.

    Attributes:
        question: in place of the checkpoint's own; None for that.
        opening: ids that the response starts with.
        image_opening: those of a response about a picture.
        watched: ids whose log-probabilities the engine tells, which not every engine can.
        num_responses: for each clip.
        sampling: how tokens are drawn.
        seed: of the drawing.
    """

    question: str | None = None
    opening: Sequence[int] = ()
    image_opening: Sequence[int] = ()
    watched: Sequence[int] = ()
    num_responses: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0


@dataclass(frozen=True)
class Viewing:
    """What is shown together, and what is asked about it.

    Attributes:
        clips: one as read, or two that are compared.
        questions: one or more; None for that of `Asking`.
    """

    clips: tuple[Clip | VideoError, ...]
    questions: tuple[str | None, ...] = (None,)

    @property
    def error(self) -> VideoError | None:
        """The first clip that could not be read."""
        return next((clip for clip in self.clips if isinstance(clip, VideoError)), None)


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
        # features of other weights or frames may be in the same engine's cache
        name = uuid4()
        self._keys = (f"{name}-{number}" for number in itertools.count())

    def answer(self, viewings: Sequence[Viewing], asking: Asking) -> list[list[list[Response]]]:
        """The responses to each question of each viewing, in one call of the engine; none without a clip.

        Every clip is encoded once, however many questions are asked about it. The generators of random
        numbers are left as they were.
        """
        readable = [viewing for viewing in viewings if viewing.error is None]
        requests = self._requests(readable, asking)
        options: dict[str, Any] = {"watched": asking.watched} if asking.watched else {}
        device = self.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(_seed_of(asking.seed, readable))
            found = iter(self.engine.generate(requests, asking.num_responses, asking.sampling, **options))
        return [
            [next(found) if viewing.error is None else [] for _ in viewing.questions] for viewing in viewings
        ]

    def _requests(self, viewings: Sequence[Viewing], asking: Asking) -> list[RolloutRequest]:
        """The prompts of viewings whose clips are there."""
        # a clip may be shown beside several others
        clips: dict[int, Any] = {id(clip): clip for viewing in viewings for clip in viewing.clips}
        videos = self.encoder.encode(
            [clip.frames for clip in clips.values()], [is_image_name(clip.path) for clip in clips.values()]
        )
        encoded = dict(zip(clips, videos, strict=True))
        requests = []
        for viewing in viewings:
            first, *others = [encoded[id(clip)] for clip in viewing.clips]
            key = next(self._keys)
            opening = asking.image_opening if first.is_image else asking.opening
            for question in viewing.questions:
                asked = asking.question if question is None else question
                request = self.encoder.request(first, key, asked, *others)
                requests.append(replace(request, prompt_ids=[*request.prompt_ids, *opening]))
        return requests


def _seed_of(seed: int, viewings: Sequence[Viewing]) -> int:
    """Another one for each batch, the same wherever its files lie and whatever is answered before it.

    By the clips' names, places and some of their pixels: windows have one name, and copies the same pixels.
    """
    clips = [clip for viewing in viewings for clip in viewing.clips if isinstance(clip, Clip)]
    names = [os.path.basename(clip.path) for clip in clips]
    places = [clip.indices.tolist() for clip in clips]
    pixels = [hashlib.sha256(clip.frames[:, ::SPARSE, ::SPARSE].tobytes()).hexdigest() for clip in clips]
    return int(rng_of(seed, *names, *places, *pixels).integers(2**63))


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
    levels: bool = False,
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
        levels: whether the score is the expected level, in the checkpoint's words; what is asked stays.
    """
    setting = setting or processor.scoring
    decoders = decoders or GuardedReader()
    answerer = Answerer(model, processor, setting)
    asking = Asking(sampling=sampling or Sampling())
    if levels:
        asking = Asking(
            opening=processor.level_opening_ids(),
            image_opening=processor.level_opening_ids(is_image=True),
            watched=processor.level_ids,
            sampling=Sampling(max_new_tokens=1),
        )
    for start in range(0, len(paths), batch_size):
        part = paths[start : start + batch_size]
        clips = read_clips(decoders, part, setting)
        own = None if questions is None else questions[start : start + batch_size]
        asked = own or [None] * len(part)
        viewings = [Viewing((clip,), (question,)) for clip, question in zip(clips, asked, strict=True)]
        for path, clip, answered in zip(part, clips, answerer.answer(viewings, asking), strict=True):
            if isinstance(clip, VideoError):
                yield Prediction(path, math.nan, "", clip.reason)
                continue
            (responses,) = answered
            text = processor.tokenizer.decode(responses[0].token_ids, skip_special_tokens=True)
            score = expected_level(responses[0]) if levels else answers.score(text, think=think)
            yield Prediction(path, score, text)
