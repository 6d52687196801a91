"""The model's square of pixels: what becomes of a frame before it is normalised.

Refuses to know about files and models; a decoding process loads it without either.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F


def square(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize frames to a square, bicubic and antialiased; frames of that size stay as they are.

    Args:
        frames: (T, H, W, 3) uint8.
        size: side of the square in pixels.

    Returns:
        (T, size, size, 3) uint8.
    """
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    resized = F.interpolate(images, (size, size), mode="bicubic", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous().numpy()
