"""Motion features of files on disk: SlowFast is frozen, so a video's feature is computed once for all epochs.

One small file per video, written aside and renamed, so that several processes and a crash can do no harm.
Knows how to keep features, not how to compute them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from tempfile import NamedTemporaryFile

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vqathinker.media.video import PIXELS_VERSION
from vqathinker.model import FrameSetting, VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.fingerprint import weights_digest

SUFFIX = ".safetensors"
UNFINISHED = ".part"
CHECKS = 64  # looks at the size of the folder while it could be filled once
ABANDONED = 3600.0  # seconds after which nobody still writes a file


class MotionCache:
    """Keeps the motion features of video files.

    A file is known by its path, size and time of change; another SlowFast, another number or size of frames,
    another normalisation or another way of reading pixels (`PIXELS_VERSION`) is another entry.

    Args:
        folder: made when needed; processes may share it.
        computed_by: what else shapes a feature, anything JSON can hold.
        max_bytes: size of the folder above which the entries that were not read for longest are deleted; each
            process looks at first and whenever it has written a 64th of this.

    Raises:
        OSError: if the folder cannot be made.
    """

    def __init__(self, folder: str | Path, computed_by: Sequence[object], max_bytes: float) -> None:
        self.folder = Path(folder)
        self.computed_by = list(computed_by)
        self.max_bytes = max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        self.unchecked_bytes = 0
        self.is_writable = True  # False after the first failure, for those who ask
        self.shrink()

    @classmethod
    def of_policy(
        cls,
        folder: str | Path,
        model: VQAThinkerForConditionalGeneration,
        processor: VQAThinkerProcessor,
        setting: FrameSetting,
        max_bytes: float,
    ) -> MotionCache | None:
        """The cache for a policy's SlowFast and its frames; None without SlowFast, or of size 0."""
        if model.config.motion == "none" or not max_bytes:
            return None
        normalisation = (*processor.image_mean, *processor.image_std)
        weights = weights_digest(model.model.slowfast).hexdigest()
        frames = [PIXELS_VERSION, *astuple(setting), *normalisation]
        return cls(folder, [weights, model.config.motion, *frames], max_bytes)

    def place(self, path: str) -> Path | None:
        """Where the feature of a file as it is now belongs; None without the file.

        To be asked before the file is read and after: with the same answer it was that file.
        """
        try:
            state = Path(path).stat()
        except OSError:
            return None
        known_by = [str(Path(path).resolve()), state.st_size, state.st_mtime_ns, self.computed_by]
        name = hashlib.sha256(json.dumps(known_by).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}{SUFFIX}"

    def get(self, place: Path) -> Tensor | None:
        """The (M, motion_dim) feature kept at a place, None if it is not there or cannot be read."""
        try:
            feature = load_file(place)["feature"]
        except OSError:  # never written, deleted by another process, not ours to read
            return None
        except SafetensorError:  # half an entry, left by a machine that lost power
            with suppress(OSError):
                place.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # another user's entry keeps its time
            os.utime(place)
        return feature

    def put(self, place: Path, feature: Tensor) -> None:
        """Keep a feature at its place.

        Raises:
            OSError: if it cannot be written, on a full disk for example.
        """
        content = save({"feature": feature.detach().cpu().contiguous()})
        place.parent.mkdir(exist_ok=True)
        with NamedTemporaryFile(dir=self.folder, suffix=UNFINISHED, delete=False) as file:
            try:
                file.write(content)
                file.close()
                Path(file.name).replace(place)
            finally:
                Path(file.name).unlink(missing_ok=True)
        self.unchecked_bytes += len(content)
        if self.unchecked_bytes > self.max_bytes / CHECKS:
            self.shrink()

    def shrink(self) -> None:
        """Delete what a crash left, and the entries that were not read for longest while all is too large.

        Entries of another user, who alone may delete them, stay.
        """
        self.unchecked_bytes = 0
        entries = []
        for place in self.folder.rglob("*"):
            with suppress(OSError):  # another process was faster, or it is not ours
                state = place.stat()
                if place.suffix == SUFFIX:
                    entries.append((state.st_mtime_ns, state.st_size, place))
                elif place.suffix == UNFINISHED and state.st_mtime < time.time() - ABANDONED:
                    place.unlink(missing_ok=True)
        total = sum(size for _, size, _ in entries)
        for _, size, place in sorted(entries):
            if total <= self.max_bytes:
                return
            with suppress(OSError):
                place.unlink(missing_ok=True)
                total -= size
