"""GPUs and models by name, as literal records: what `vqathinker plan` counts with.

Rates are those of the makers' data sheets, dense, without sparsity; memory is what CUDA reports to programs,
a little less than what is printed on the box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GIB = 2**30


@dataclass(frozen=True)
class GPU:
    """One type of GPU.

    Attributes:
        name: as its maker writes it.
        memory_gib: that programs can have, in GiB.
        tflops: dense bf16 multiplications and additions with fp32 accumulation, in 10¹²/s.
        bandwidth: of its memory, in 10⁹ bytes/s.
    """

    name: str
    memory_gib: float
    tflops: float
    bandwidth: float

    @property
    def memory(self) -> float:
        """Bytes that programs can have."""
        return self.memory_gib * GIB


GPUS = {
    "rtx4090": GPU("GeForce RTX 4090", 23.6, 165, 1008),
    "l40s": GPU("L40S", 44.4, 362, 864),
    "a100-40": GPU("A100 SXM 40 GB", 39.4, 312, 1555),
    "a100-80": GPU("A100 SXM 80 GB", 79.1, 312, 2039),
    "h100": GPU("H100 SXM", 79.1, 989, 3350),
    "h200": GPU("H200 SXM", 139.8, 989, 4800),
    "b200": GPU("B200", 178.3, 2250, 8000),
}

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
