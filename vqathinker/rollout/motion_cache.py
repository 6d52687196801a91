"""Motion features of files on disk: SlowFast is frozen, so a video's feature is computed once for all epochs.

One small file per video, written aside and renamed, so that several processes and a crash can do no harm.
Knows how to keep features, not how to compute them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from tempfile import NamedTemporaryFile

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vqathinker.model import FrameSetting, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.fingerprint import weights_digest

SUFFIX = ".safetensors"
PUTS_PER_CHECK = 256  # the size of the folder is looked at this often


class MotionCache:
    """Keeps the motion features of video files.

    A file is known by its path, size and time of change; another SlowFast, another number or size of frames
    or another normalisation is another entry.

    Args:
        folder: made when needed; processes may share it.
        computed_by: what else shapes a feature, anything JSON can hold.
        max_bytes: size of the folder above which the entries that were not read for longest are deleted.

    Raises:
        OSError: if the folder cannot be made.
    """

    def __init__(self, folder: str | Path, computed_by: Sequence[object], max_bytes: float) -> None:
        self.folder, self.computed_by, self.max_bytes = Path(folder), list(computed_by), max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        self.num_puts = 0
        self.is_writable = True  # False after the first failure, for those who ask

    @classmethod
    def of_policy(
        cls,
        folder: str | Path,
        model: VQAThinkerForConditionalGeneration,
        processor: VQAThinkerProcessor,
        setting: FrameSetting,
        max_bytes: float,
    ) -> MotionCache:
        """The cache for a policy's SlowFast, which must have one, and its frames."""
        normalisation = (*processor.image_mean, *processor.image_std)
        weights = weights_digest(model.model.slowfast).hexdigest()
        return cls(folder, [weights, model.config.motion, *astuple(setting), *normalisation], max_bytes)

    def get(self, path: str) -> Tensor | None:
        """The (M, motion_dim) feature of a file, None if it is not there."""
        place = self._place(path)
        try:
            feature = load_file(place)["feature"]
            os.utime(place)
        except FileNotFoundError:  # never written, or deleted by another process
            return None
        except SafetensorError:  # half an entry, left by a machine that lost power
            place.unlink(missing_ok=True)
            return None
        return feature

    def put(self, path: str, feature: Tensor) -> None:
        """Keep the feature of a file.

        Raises:
            OSError: if it cannot be written, on a full disk for example.
        """
        place = self._place(path)
        place.parent.mkdir(exist_ok=True)
        with NamedTemporaryFile(dir=self.folder, delete=False) as file:
            try:
                file.write(save({"feature": feature.detach().cpu().contiguous()}))
                file.close()
                Path(file.name).replace(place)
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise
        self.num_puts += 1
        if self.num_puts % PUTS_PER_CHECK == 0:
            self.shrink()

    def shrink(self) -> None:
        """Delete the entries that were not read for longest until the folder is small enough."""
        entries = []
        for place in self.folder.rglob(f"*{SUFFIX}"):
            try:
                state = place.stat()
            except FileNotFoundError:  # another process was faster
                continue
            entries.append((state.st_mtime_ns, state.st_size, place))
        total = sum(size for _, size, _ in entries)
        for _, size, place in sorted(entries):
            if total <= self.max_bytes:
                return
            place.unlink(missing_ok=True)
            total -= size

    def _place(self, path: str) -> Path:
        state = Path(path).stat()
        known_by = [str(Path(path).resolve()), state.st_size, state.st_mtime_ns, self.computed_by]
        name = hashlib.sha256(json.dumps(known_by).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}{SUFFIX}"
