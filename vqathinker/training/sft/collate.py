"""From rows of samples to padded batches: prompts with their media, and what is to be said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vqathinker import answers
from vqathinker.media.clips import read_clips
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.names import is_image_name
from vqathinker.media.video import Clip
from vqathinker.model import VQAThinkerProcessor
from vqathinker.prompts import LEVEL_SENTENCE
from vqathinker.samples import NUM_LEVELS
from vqathinker.scale import level_of
from vqathinker.training.packing import IGNORE
from vqathinker.training.sft.objective import LossConfig
from vqathinker.training.unreadable import UnreadableVideos, black_video
from vqathinker.types import Shown

REASONING = "The quality is {level}."
UNKNOWN = [math.nan] * NUM_LEVELS


def templated_answer(target: float, reasoning: str | None = None, *, think: bool = True) -> str:
    """The response that a model should give for a target on the 1-5 scale, with the level if not told why.

    Args:
        target: the score.
        reasoning: what stands before it; the level in words if omitted.
        think: False for the answer block alone.

    >>> templated_answer(3.417)
    '<think>The quality is fair.</think><answer>3.42</answer>'
    >>> templated_answer(3.417, "Slight noise.")
    '<think>Slight noise.</think><answer>3.42</answer>'
    """
    if not think:
        return answers.render(None, target)
    return answers.render(reasoning or REASONING.format(level=level_of(target)), target)


def level_told(answer: str | None) -> tuple[str, str] | None:
    """The level that an answer says, with what stands before it; None where it says none.

    >>> level_told("The quality of the video is good, with low noise.")
    ('The quality of the video is', 'good')
    """
    found = LEVEL_SENTENCE.search(answer or "")
    return None if found is None or answer is None else (answer[: found.end(1)], found[2])


@dataclass(frozen=True)
class Example:
    """One prompt with its response.

    Attributes:
        clips: what it shows, one or two.
        prompt: its ids.
        response: ids; where a level is told, up to its word.
        levels: the distribution over levels that the last id is to have; None where no level is told.
        preference: of a pair that this and the next example are; NaN for others.
    """

    clips: tuple[Clip, ...]
    prompt: list[int]
    response: list[int]
    levels: Sequence[float] | None = None
    preference: float = math.nan

    @property
    def ids(self) -> list[int]:
        """Prompt and response."""
        return [*self.prompt, *self.response]

    @property
    def labels(self) -> list[int]:
        """What is learned as text: the prompt is given, and a level is no text."""
        given = [IGNORE] * len(self.prompt)
        if self.levels is None:
            return [*given, *self.response]
        return [*given, *self.response[:-1], IGNORE]


class SupervisedCollator:
    """Turns data set rows into a padded batch with labels on the answer only.

    Args:
        processor: the checkpoint's.
        num_workers: processes that decode.
        decode_seconds: time that reading one file may take.
        unreadable: takes note of unreadable files, whose rows are left out; None to raise at the first.
        decoders: the processes that decode, if others share them.
        think: False teaches the answer block alone, whatever reasoning the rows hold; a row's own `answer` is
            taught as it is.
        losses: for batches that `objective` takes; None for those of TRL's cross entropy.
    """

    def __init__(
        self,
        processor: VQAThinkerProcessor,
        *,
        num_workers: int = 4,
        decode_seconds: float = 60.0,
        unreadable: UnreadableVideos | None = None,
        decoders: GuardedReader | None = None,
        think: bool = True,
        losses: LossConfig | None = None,
    ) -> None:
        self.processor = processor
        self.think = think
        self.unreadable = unreadable
        self.losses = losses
        self.decoders = decoders or GuardedReader(num_workers=num_workers, time_limit=decode_seconds)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Build `input_ids`, `attention_mask`, `labels` (B, L), `pixel_values` (F, 3, S, S), `video_frames`.

        `video_frames` (V, T) are the places in F of the frames of each video. With `losses` there are also
        `level_places`, `levels` and `preference`, as `objective.Targets` has them. B counts prompts: a pair
        whose preference is learned has two. Where no file of the batch can be read, a black video stands for
        it, of which nothing is learned.

        Raises:
            VideoError: if a file cannot be read and `unreadable` is None.
            RunStopped: if too many cannot be read.
        """
        examples = [example for row, clips in self._read(rows) for example in self._examples(row, clips)]
        if not examples:
            return self._blank()
        frames: list[Tensor] = []
        videos = []
        for clip in (clip for example in examples for clip in example.clips):
            start = sum(map(len, frames))
            frames.append(self.processor.pixels(clip.frames, self.processor.training.size))
            if not is_image_name(clip.path):
                videos.append(torch.arange(start, start + len(frames[-1])))
        return self._batch(examples, torch.cat(frames), videos)

    def _batch(
        self, examples: Sequence[Example], pixels: Tensor, videos: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The padded batch of examples, their frames, and which of these are videos."""
        pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        ids = [torch.tensor(example.ids) for example in examples]
        padded = pad(ids, padding_value=self.processor.tokenizer.pad_token_id)
        lengths = torch.tensor(list(map(len, ids)))
        no_video = torch.zeros(0, self.processor.num_frames, dtype=torch.long)
        batch = {
            "input_ids": padded,
            "attention_mask": (torch.arange(padded.shape[1]) < lengths[:, None]).long(),
            "labels": pad([torch.tensor(example.labels) for example in examples], padding_value=IGNORE),
            "pixel_values": pixels,
            "video_frames": torch.stack(list(videos)) if videos else no_video,
        }
        if self.losses is None:
            return batch
        places = [-1 if one.levels is None else len(one.ids) - 1 for one in examples]
        levels = [UNKNOWN if one.levels is None else list(one.levels) for one in examples]
        return batch | {
            "level_places": torch.tensor(places),
            "levels": torch.tensor(levels, dtype=torch.float32),
            "preference": torch.tensor([one.preference for one in examples], dtype=torch.float32),
        }

    def _blank(self) -> dict[str, Tensor]:
        """A batch of a black video, of which nothing is learned."""
        setting = self.processor.training
        prompt = self.processor.prompt_ids(setting.num_frames, setting.tokens_per_frame)
        frames = torch.arange(setting.num_frames)
        return self._batch([Example((), prompt, [])], black_video(self.processor), [frames])

    def _read(self, rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], tuple[Clip, ...]]]:
        """The rows that can be read, with their clips; the others are noted."""
        paths = [list(filter(None, [row["path"], row.get("beside")])) for row in rows]
        flat = read_clips(self.decoders, [path for own in paths for path in own], self.processor.training)
        errors = [clip for clip in flat if isinstance(clip, VideoError)]
        if errors and self.unreadable is None:
            raise errors[0]
        if errors and self.unreadable is not None:
            noted = [(error.path, error.reason) for error in errors]
            self.unreadable.add(noted, None, None, write=True)
        found = iter(flat)
        read = []
        for row, own in zip(rows, paths, strict=True):
            clips = tuple(clip for clip in [next(found) for _ in own] if isinstance(clip, Clip))
            if len(clips) == len(own):
                read.append((row, clips))
        return read

    def _examples(self, row: Mapping[str, Any], clips: tuple[Clip, ...]) -> list[Example]:
        """What a row teaches: one prompt, or two of a pair of which the better one is to be told."""
        if len(clips) > 1 and row.get("answer") is None:
            known = row.get("levels") or [*UNKNOWN, *UNKNOWN]
            first, second = (
                self._level(row, clip, None, known[start : start + NUM_LEVELS])
                for clip, start in zip(clips, (0, NUM_LEVELS), strict=True)
            )
            preferred = Example(
                first.clips, first.prompt, first.response, first.levels, float(row["preference"])
            )
            return [preferred, second]
        learns_levels = self.losses is not None and self.losses.reads_levels
        if learns_levels and len(clips) == 1 and row.get("levels") is not None:
            return [self._level(row, clips[0], row.get("answer"), row["levels"])]
        tokenizer = self.processor.tokenizer
        # it ends as the model has to end it
        text = self._answer(row) + tokenizer.eos_token
        response = tokenizer(text, add_special_tokens=False)["input_ids"]
        return [Example(clips, self._prompt(row, clips), list(response))]

    def _level(
        self, row: Mapping[str, Any], clip: Clip, answer: str | None, levels: Sequence[float]
    ) -> Example:
        """A prompt whose response is to have a level at its end, in the words of an answer or in ours."""
        assert self.losses is not None, "the trainer chose the losses by the rows"
        opening = self.processor.level_opening_ids(is_image=is_image_name(clip.path))
        # what the word is does not matter: its place has the distribution, and nothing follows it
        word = self.losses.words[0]
        if answer is not None:
            told = level_told(answer)
            assert told is not None, "the rows were checked"
            opening = self.processor.tokenizer(told[0], add_special_tokens=False)["input_ids"]
            word = told[1]
        response = [*opening, *self.processor.first_ids([f" {word}"])]
        return Example((clip,), self._prompt(row, (clip,)), response, levels)

    def _prompt(self, row: Mapping[str, Any], clips: tuple[Clip, ...]) -> list[int]:
        """Ids of the prompt that shows the clips."""
        first, *others = [Shown(len(clip.frames), is_image_name(clip.path)) for clip in clips]
        return self.processor.prompt_ids(
            first.num_frames,
            self.processor.training.tokens_per_frame,
            question=row.get("question"),
            is_image=first.is_image,
            beside=others[0] if others else None,
        )

    def _answer(self, row: Mapping[str, Any]) -> str:
        """What a sample says itself, or the form that its score is told in."""
        if row.get("answer") is not None:
            return str(row["answer"])
        return templated_answer(row["target"], row.get("reasoning"), think=self.think)
