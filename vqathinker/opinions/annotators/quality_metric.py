"""Metrics of pyiqa (IQA-PyTorch), which brings MUSIQ, TOPIQ, LIQE, Q-Align and others with their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.medium import read_medium


class QualityMetricAnnotator:
    """A no-reference metric of pyiqa, the mean over evenly spread frames.

    Args:
        metric: its name there, such as "musiq"; `pip install pyiqa` brings them.
        num_frames: of a video.
        device: such as "cuda"; pyiqa's choice if omitted.
        num_workers: files read at the same time.
        **options: of the metric.

    Raises:
        ImportError: if pyiqa is not installed.
        ValueError: if it has no such metric, or one that needs a reference.
    """

    def __init__(
        self,
        metric: str,
        *,
        num_frames: int = 8,
        device: str | None = None,
        num_workers: int = 2,
        **options: Any,
    ) -> None:
        try:
            import pyiqa
        except ModuleNotFoundError as error:
            raise ImportError(f"pyiqa:{metric} needs pyiqa: pip install pyiqa") from error
        known = pyiqa.list_models(metric_mode="NR")
        if metric not in known:
            raise ValueError(f"pyiqa has no metric {metric!r} without a reference, but {', '.join(known)}")
        # weights are loaded when it first scores: a recipe is checked without
        self._create = partial(pyiqa.create_metric, metric, device=device, **options)
        self.num_frames = num_frames
        self.reader = GuardedReader(num_workers=num_workers)

    @cached_property
    def metric(self) -> Any:  # noqa: ANN401  pyiqa's
        """The metric itself."""
        return self._create()

    def __call__(self, paths: Sequence[str]) -> list[float]:
        """The scores of N files, NaN for those that cannot be read."""
        import torch

        job = partial(read_medium, num_keyframes=self.num_frames, resize=None)
        sign = -1 if self.metric.lower_better else 1
        scores = []
        for clip in self.reader.map(job, paths):
            if isinstance(clip, VideoError):
                scores.append(math.nan)
                continue
            frames = torch.from_numpy(np.ascontiguousarray(clip.frames)).permute(0, 3, 1, 2) / 255
            with torch.inference_mode():
                # one frame at a time: some metrics resize a batch as a whole
                values = [float(self.metric(frame[None])) for frame in frames]
            scores.append(sign * float(np.mean(values)))
        return scores
