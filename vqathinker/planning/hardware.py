"""GPUs and models by name, as literal records: what `vqathinker plan` counts with.

Rates are those of the makers' data sheets, dense, without sparsity; memory is what CUDA reports to programs,
a little less than what is printed on the box.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from vqathinker.nearest import or_nearest

GIB = 2**30


@dataclass(frozen=True)
class GPU:
    """One type of GPU.

    Attributes:
        name: as its maker writes it.
        memory_gib: that programs can have, in GiB.
        tflops: NaN if not known; dense bf16 multiplications and additions with fp32 accumulation, in 10¹²/s.
        bandwidth: likewise, of its memory, in 10⁹ bytes/s.
    """

    name: str
    memory_gib: float
    tflops: float
    bandwidth: float

    @property
    def memory(self) -> float:
        """Bytes that programs can have."""
        return self.memory_gib * GIB

    @property
    def has_rates(self) -> bool:
        """Whether times can be estimated."""
        return not math.isnan(self.tflops)


GPUS = {
    "rtx3090": GPU("GeForce RTX 3090", 23.7, 71, 936),
    "rtx4090": GPU("GeForce RTX 4090", 23.6, 165, 1008),
    "rtx5090": GPU("GeForce RTX 5090", 31.4, 209, 1792),
    "a10": GPU("A10", 22.1, 125, 600),
    "l4": GPU("L4", 22.0, 121, 300),
    "rtxa6000": GPU("RTX A6000", 47.4, 155, 768),
    "rtx6000ada": GPU("RTX 6000 Ada", 47.4, 364, 960),
    "a40": GPU("A40", 44.4, 150, 696),
    "l40s": GPU("L40S", 44.4, 362, 864),
    "a100-40": GPU("A100 SXM 40 GB", 39.4, 312, 1555),
    "a100-80": GPU("A100 SXM 80 GB", 79.1, 312, 2039),
    "h100": GPU("H100 SXM", 79.1, 989, 3350),
    "h200": GPU("H200 SXM", 139.8, 989, 4800),
    "b200": GPU("B200", 178.3, 2250, 8000),
}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:gib|gb|g)", re.IGNORECASE)
MAKERS = ("nvidia", "geforce", "tesla", "sxm", "pcie", "gb")


def find_gpu(name: str) -> GPU:
    """A GPU by name, in any spelling, or one of unknown rates by its memory: "24GiB".

    Raises:
        ValueError: for an unknown name; the message has the nearest known one.

    >>> find_gpu("NVIDIA GeForce RTX 3090").memory_gib, find_gpu("24 GiB").memory_gib
    (23.7, 24.0)
    """
    size = SIZE.fullmatch(name.strip())
    if size:
        return GPU(f"GPU of {size[1]} GiB", float(size[1]), math.nan, math.nan)
    keys = {_plain(key): gpu for key, gpu in GPUS.items()}
    keys |= {_plain(gpu.name): gpu for gpu in GPUS.values()}
    if _plain(name) in keys:
        return keys[_plain(name)]
    hint = or_nearest(name.lower().replace(" ", ""), list(GPUS))
    raise ValueError(
        f"unknown GPU {name!r}, choose one of {', '.join(GPUS)}, or give its memory, such as 24GiB{hint}"
    )


def _plain(name: str) -> str:
    """Letters and digits of a name, without its maker's."""
    plain = "".join(character for character in name.lower() if character.isalnum())
    for word in MAKERS:
        plain = plain.replace(word, "")
    return plain


VOCABULARY = 151674
VISION_300M: dict[str, Any] = {"attention_bias": True}  # the other widths are the class's defaults
VISION_6B: dict[str, Any] = {
    "hidden_size": 3200, "num_hidden_layers": 45, "num_attention_heads": 25, "intermediate_size": 12800,
    "use_qk_norm": True, "norm_type": "rms_norm",
}  # fmt: skip


def _qwen(width: int, layers: int, heads: int, key_heads: int, mlp: int) -> dict[str, Any]:
    return {
        "model_type": "qwen2", "vocab_size": VOCABULARY, "hidden_size": width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": key_heads, "intermediate_size": mlp,
    }  # fmt: skip


# InternVL3 (arXiv 2504.10479): text widths and vision tower of the published checkpoints
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "InternVL3-1B": (_qwen(896, 24, 14, 2, 4864), VISION_300M),
    "InternVL3-2B": (_qwen(1536, 28, 12, 2, 8960), VISION_300M),
    "InternVL3-8B": (_qwen(3584, 28, 28, 4, 18944), VISION_300M),
    "InternVL3-14B": (_qwen(5120, 48, 40, 8, 13824), VISION_300M),
    "InternVL3-38B": (_qwen(5120, 64, 40, 8, 27648), VISION_6B),
    "InternVL3-78B": (_qwen(8192, 80, 64, 8, 29568), VISION_6B),
}
