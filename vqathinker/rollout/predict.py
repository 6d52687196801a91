"""Responses for a list of video files: the loop under validation and evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vqathinker import answers
from vqathinker.media.clips import read_clips
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.model import FrameSetting, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.rollout.encoder import VideoEncoder
from vqathinker.rollout.engine import Sampling
from vqathinker.rollout.hf import HFEngine


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
    """
    setting = setting or processor.scoring
    sampling = sampling or Sampling()
    decoders = decoders or GuardedReader()
    encoder = VideoEncoder(model, processor, setting)
    engine = HFEngine(model, processor)
    for start in range(0, len(paths), batch_size):
        part = paths[start : start + batch_size]
        clips = read_clips(decoders, part, setting)
        videos = encoder.encode([clip.frames for clip in clips if not isinstance(clip, VideoError)])
        requests = [encoder.request(video, str(i)) for i, video in enumerate(videos)]
        responses = iter(engine.generate(requests, 1, sampling))
        for path, clip in zip(part, clips, strict=True):
            if isinstance(clip, VideoError):
                yield Prediction(path, math.nan, "", clip.reason)
                continue
            text = processor.tokenizer.decode(next(responses)[0].token_ids, skip_special_tokens=True)
            yield Prediction(path, answers.score(text, think=think), text)
