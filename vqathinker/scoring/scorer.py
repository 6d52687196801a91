"""Scores for videos: files in, numbers and reasons out, one after the other."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.names import is_image_name
from vqathinker.media.windows import check_windows
from vqathinker.model import FrameSetting, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.fingerprint import fingerprint
from vqathinker.prompts import DESCRIBE_QUESTION
from vqathinker.rollout import Response, RolloutEngine
from vqathinker.rollout.answer import Answerer, Asking
from vqathinker.scoring.load import load
from vqathinker.scoring.mode import Mode
from vqathinker.scoring.reading import read
from vqathinker.scoring.result import Reply, Score
from vqathinker.scoring.search import Source, Sources, find_sources
from vqathinker.scoring.sources import Part, read_media, read_parts, read_windows
from vqathinker.scoring.task import Asked

MAX_NEW_TOKENS = 2048


@dataclass(frozen=True)
class Answered:
    """A part with the responses to each of its questions, none where it cannot be read.

    Attributes:
        part: what was shown and asked.
        responses: of each question.
        seen: the attributes of `Seen`.
    """

    part: Part
    responses: list[list[Response]]
    seen: dict[str, Any]


class Scorer:
    """Scores videos with one checkpoint.

    Greedy scores are the same whatever the batch, the order and the engine. Files are decoded in processes
    of their own, ahead of the model; `close`, or `with`, ends them.

    Args:
        model: the policy.
        processor: that of the same checkpoint.
        engine: generates the responses; Hugging Face generation if omitted.
        setting: keyframes; those of scoring if omitted.
        batch_size: videos answered at a time.
        num_workers: videos decoded at a time.
        time_limit: seconds that reading one file may take.
        max_new_tokens: longest response.
        think: False also reads the score of an answer block alone.
        name: fingerprint of the whole checkpoint, to be given if `model` lacks the weights that vLLM has.
    """

    def __init__(
        self,
        model: VQAThinkerForConditionalGeneration,
        processor: VQAThinkerProcessor,
        *,
        engine: RolloutEngine | None = None,
        setting: FrameSetting | None = None,
        batch_size: int = 16,
        num_workers: int = 4,
        time_limit: float = 60.0,
        max_new_tokens: int = MAX_NEW_TOKENS,
        think: bool = True,
        name: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least one video is answered at a time")
        self.model = model
        self.processor = processor
        self.setting = setting or processor.scoring
        self.answerer = Answerer(model, processor, self.setting, engine)
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.think = think
        self.reader = GuardedReader(num_workers=num_workers, time_limit=time_limit)
        self._name = name

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        engine: str = "hf",
        device: str | None = None,
        dtype: str = "float32",
        num_frames: int | None = None,
        frame_size: int | None = None,
        **options: Any,
    ) -> Self:
        """Load a checkpoint.

        Args:
            path: a directory written by training or by `vqathinker init`, or its name on the hub.
            engine: "hf", or "vllm", which must be installed.
            device: such as "cuda:1", "mps" or "cpu"; a GPU if there is one. With vLLM that of the vision
                tower only.
            dtype: precision; "auto" takes the checkpoint's. In half precision the rounding depends on the
                batch, and a response that hangs by a hair can turn out another.
            num_frames: keyframes of a video; the checkpoint's if omitted.
            frame_size: their side in pixels, a multiple of 28; the checkpoint's if omitted.
            options: as the class takes them.

        Raises:
            ValueError: if the checkpoint is none, or engine, device or precision cannot be used.
            ImportError: if vLLM is asked for and not installed.
        """
        limit: int = options.get("max_new_tokens", MAX_NEW_TOKENS)
        loaded = load(
            path,
            engine=engine,
            device=device,
            dtype=dtype,
            max_new_tokens=limit,
            num_frames=num_frames,
            frame_size=frame_size,
        )
        own: dict[str, Any] = {"engine": loaded.engine, "setting": loaded.setting, "name": loaded.fingerprint}
        return cls(loaded.model, loaded.processor, **own | options)

    @overload
    def score(self, source: NDArray[np.uint8], **mode: Any) -> Score: ...
    @overload
    def score(self, source: str | os.PathLike[str], **mode: Any) -> Score | list[Score]: ...
    @overload
    def score(self, source: Sequence[Source], **mode: Any) -> list[Score]: ...
    def score(self, source: Source | Sequence[Source], **mode: Any) -> Score | list[Score]:
        """Score one video, or several.

        Args:
            source: a file, or a uint8 array (T, H, W, 3) of RGB frames, which gives one score; a folder, a
                pattern or a list, which gives a list.
            mode: as `Mode` takes it: `samples=8`, `expected=True`, `levels=True`. Default: greedy.

        Raises:
            VideoError: if a single file cannot be used; in a list that is the score's `error`.
        """
        found = find_sources(source)
        how = Mode(**mode)
        asking = self._asking(how)
        questions = [None] * len(found.sources)
        parts = read_parts(found.sources, questions, self.reader, self.setting, self._ahead)
        scores = list(self._scores(parts, how, asking))
        if not found.is_single:
            return scores
        (score,) = scores
        if score.error is not None:
            raise VideoError(score.path, score.error)
        return score

    def stream(
        self,
        sources: Sources,
        *,
        expand: bool = True,
        questions: Sequence[str | None] | None = None,
        **mode: Any,
    ) -> Iterator[Score]:
        """Yield a score for every video, in order, as soon as its batch is answered.

        Args:
            sources: files, folders, patterns and arrays of frames, one or several.
            expand: False takes every path as the name of one file.
            questions: one for each video, in place of the checkpoint's own; None among them for that.
            mode: as `Mode` takes it.

        Raises:
            TypeError: if a source is none of these.
            ValueError: if the modes contradict one another or the engine cannot tell what they need, the
                questions are not as many as the videos, or levels ask one of their own.
        """
        # what is asked for in vain is told before a file is read
        found = find_sources(sources, expand=expand).sources
        how = Mode(**mode)
        asking = self._asking(how)
        if questions is None:
            questions = [None] * len(found)
        elif len(questions) != len(found):
            raise ValueError(f"{len(questions)} questions for {len(found)} videos")
        elif how.levels and any(question is not None for question in questions):
            raise ValueError("levels asks a question of its own, and the videos have theirs: leave one out")
        parts = read_parts(found, questions, self.reader, self.setting, self._ahead)
        return self._scores(parts, how, asking)

    def timeline(
        self, path: str | os.PathLike[str], window: float, stride: float | None = None, **mode: Any
    ) -> Iterator[Score]:
        """Yield a score for every window of a video, with its `start` and `end` in seconds.

        Each window is scored as a clip of its own, with all keyframes. A file that cannot be used gives one
        score, with its `error`.

        Args:
            path: a video file.
            window: length in seconds; one frame's length gives a score per frame.
            stride: from one window's start to the next; the window's length if omitted.
            mode: as `Mode` takes it.

        Raises:
            ValueError: if window or stride is not positive.
        """
        stride = window if stride is None else stride
        check_windows(window, stride)
        how = Mode(**mode)
        asking = self._asking(how)
        parts = read_windows(os.fspath(path), self.reader, self.setting, window, stride)
        return self._scores(parts, how, asking)

    def ask(self, sources: Sources, question: str, *, expand: bool = True) -> Iterator[Reply]:
        """Yield the model's answer to a free question about every video; it is never read as a score.

        Args:
            sources: files, folders, patterns and arrays of frames, one or several.
            question: what to ask.
            expand: False takes every path as the name of one file.

        Raises:
            TypeError: if a source is none of these.
        """
        found = find_sources(sources, expand=expand).sources
        parts = read_parts(found, [question] * len(found), self.reader, self.setting, self._ahead)
        replies = self._replies(self._batches(parts), Asking(sampling=Mode().sampling(self.max_new_tokens)))
        return (reply for (reply,) in replies)

    def interview(self, media: Sequence[Asked], *, samples: int = 1, seed: int = 0) -> Iterator[list[Reply]]:
        """Yield the answers to several questions about each medium, or about two that are shown together.

        Every file is decoded and encoded once for its questions; `batch_size` counts questions.

        Args:
            media: files with the questions about them.
            samples: answers to each question, which follow one another; greedy if it is one.
            seed: of the samples.
        """
        sampling = Mode(samples=samples).sampling(self.max_new_tokens)
        asking = Asking(num_responses=samples, sampling=sampling, seed=seed)
        batches = read_media(media, self.reader, self.setting, self.batch_size, self._ahead)
        return self._replies(batches, asking)

    def describe(self, sources: Sources) -> Iterator[Reply]:
        """Yield a description of every video's quality."""
        return self.ask(sources, DESCRIBE_QUESTION)

    def close(self) -> None:
        """End the decoding processes; they start again when they are needed."""
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def engine(self) -> RolloutEngine:
        """What generates the responses."""
        return self.answerer.engine

    @property
    def fingerprint(self) -> str:
        """Name of the weights with vocabulary and chat template, see `model.fingerprint`."""
        self._name = self._name or fingerprint(self.model, self.processor)
        return self._name

    @property
    def dtype(self) -> str:
        """Precision of the weights."""
        return str(self.model.model.vision_tower.dtype).removeprefix("torch.")

    @property
    def _ahead(self) -> int:
        return max(self.batch_size, 2 * self.reader.num_workers)

    def _asking(self, mode: Mode) -> Asking:
        """What a mode asks of the engine.

        Raises:
            ValueError: if the engine cannot tell what it needs.
        """
        if mode.needs_probabilities and not self.engine.tells_probabilities:
            raise ValueError(f"{mode.name} needs probabilities that only engine='hf' tells")
        return Asking(
            question=mode.question(self.processor),
            opening=mode.opening_ids(self.processor),
            image_opening=mode.opening_ids(self.processor, is_image=True),
            watched=mode.watched_ids(self.processor),
            num_responses=mode.samples,
            sampling=mode.sampling(self.max_new_tokens),
            seed=mode.seed,
        )

    def _scores(self, parts: Iterator[Part], mode: Mode, asking: Asking) -> Iterator[Score]:
        for answered in self._answers(self._batches(parts), asking):
            if answered.part.error is not None:
                yield Score(mode=mode.name, **answered.seen)
            else:
                (responses,) = answered.responses
                is_image = is_image_name(answered.seen["path"])
                found = read(responses, self.processor, mode, think=self.think, is_image=is_image)
                yield replace(found, **answered.seen)

    def _replies(self, batches: Iterator[list[Part]], asking: Asking) -> Iterator[list[Reply]]:
        for answered in self._answers(batches, asking):
            replies = []
            for question, responses in zip(answered.part.questions, answered.responses, strict=True):
                texts = [self._text(response) for response in responses]
                # what cannot be read has a reply too, which says why
                for text in texts or [""]:
                    replies.append(Reply(question=question or "", text=text, **answered.seen))
            yield replies

    def _text(self, response: Response) -> str:
        text: str = self.processor.tokenizer.decode(response.token_ids, skip_special_tokens=True)
        return text

    def _batches(self, parts: Iterator[Part]) -> Iterator[list[Part]]:
        while batch := list(itertools.islice(parts, self.batch_size)):
            yield batch

    def _answers(self, batches: Iterator[list[Part]], asking: Asking) -> Iterator[Answered]:
        start = time.perf_counter()
        for batch in batches:  # waiting for its files is a part of its time
            found = self.answerer.answer(batch, asking)
            seconds = (time.perf_counter() - start) / len(batch)
            for part, responses in zip(batch, found, strict=True):
                yield Answered(part, responses, part.seen(self.setting.size, seconds))
            start = time.perf_counter()
