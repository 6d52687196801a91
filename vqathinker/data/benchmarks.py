"""The ten test sets of VQAThinker (arXiv 2508.06051): how many videos, which scale, which names, from where.

`paper` is the published SRCC and PLCC of the full model (its Table 8, last row). The native range
of CGVDS is that of a seven-point scale; its labels run from 1.71 to 6.06.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vqathinker.data.dataset import LabelReading
from vqathinker.media.names import has_video_suffix
from vqathinker.nearest import alike, no_data_set
from vqathinker.types import FloatArray

if TYPE_CHECKING:
    from datasets import Dataset

NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Benchmark:
    """A test set.

    Attributes:
        name: as results and tables call it.
        num_videos: labelled videos.
        low: lowest possible MOS on the native scale.
        high: highest possible MOS.
        in_domain: whether its videos are like those of LSVQ, the training set.
        label_file: name of the published label file.
        names: regular expression that a name fulfils, without extension; without folders unless it has some.
        source: where its publishers offer it.
        paper: published SRCC and PLCC.
        higher_is_better: orientation of the labels.
        factors: what label files in circulation multiply the native scale by.
        scale: how the native range reaches 1-5, one of `scale.SCALES`.
    """

    name: str
    num_videos: int
    low: float
    high: float
    in_domain: bool
    label_file: str
    names: str
    source: str
    paper: tuple[float, float]
    higher_is_better: bool = True
    factors: tuple[float, ...] = (1.0,)
    scale: str = "divide"

    def native_range(self, mos: FloatArray) -> tuple[float, float]:
        """Return the range, low and high, of the labels of a file.

        Raises:
            ValueError: if they fit none of the scales that the set is published on.
        """
        ranges = [(self.low * factor, self.high * factor) for factor in self.factors]
        for low, high in ranges:
            if low <= mos.min() and mos.max() <= high:
                return low, high
        known = " or ".join(f"{low:g} to {high:g}" for low, high in ranges)
        raise ValueError(
            f"the MOS run from {mos.min():g} to {mos.max():g}, those of {self.name} from {known}; "
            "is it the right file?"
        )

    def reading(self, **options: Any) -> LabelReading:
        """How its label files are read: on its scale and under its name.

        Args:
            options: others of `LabelReading`, such as `split`.
        """
        return LabelReading(dataset=self.name, mos_range=self.native_range, scale=self.scale, **options)

    def is_name(self, name: str) -> bool:
        """Whether a name, with or without extension and folders in front, follows the rule."""
        base = os.path.splitext(name)[0] if has_video_suffix(name) else name
        return bool(re.fullmatch(f"(?:.*/)?(?:{self.names})", base))


LSVQ_NAMES = r"(ia-batch\d+|yfcc-batch\d+|backup\d*)/[^/]+"
LSVQ_SOURCE = "https://github.com/baidut/PatchVQ"
BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="LSVQ-test",
            num_videos=7182,
            low=0,
            high=100,
            in_domain=True,
            label_file="LSVQ_whole_test_ds_score.json",
            names=LSVQ_NAMES,
            source=LSVQ_SOURCE,
            paper=(0.883, 0.880),
        ),
        Benchmark(
            name="LSVQ-1080p",
            num_videos=3573,
            low=0,
            high=100,
            in_domain=True,
            label_file="LSVQ_whole_test_1080p_ds_score.json",
            names=LSVQ_NAMES,
            source=LSVQ_SOURCE,
            paper=(0.798, 0.834),
        ),
        Benchmark(
            name="KoNViD-1k",
            num_videos=1200,
            low=1,
            high=5,
            in_domain=True,
            label_file="Konvid-1k_total_ds_score.json",
            names=r"\d+",
            source="http://database.mmsp-kn.de/konvid-1k-database.html",
            paper=(0.881, 0.884),
            factors=(1.0, 20.0),
        ),
        Benchmark(
            name="LIVE-VQC",
            num_videos=585,
            low=0,
            high=100,
            in_domain=True,
            label_file="LIVE-VQC_total_ds_score.json",
            names=r"[A-Z]\d{3}",
            source="https://live.ece.utexas.edu/research/LIVEVQC/",
            paper=(0.808, 0.847),
        ),
        Benchmark(
            name="YouTube-UGC",
            num_videos=1020,
            low=1,
            high=5,
            in_domain=True,
            label_file="youtube_ugc_total.json",
            names=r"[A-Za-z]+_\d+P-[0-9a-f]{4}(_crf_\d+_ss_\d+_t_[\d.]+)?",
            source="https://media.withyoutube.com/",
            paper=(0.860, 0.863),
        ),
        Benchmark(
            name="LIVE-YT-Gaming",
            num_videos=600,
            low=0,
            high=100,
            in_domain=False,
            label_file="LIVE-YT-Gaming_total_score.json",
            names=r"\w+-\d{3}",
            source="https://live.ece.utexas.edu/research/LIVE-YT-Gaming/",
            paper=(0.767, 0.806),
        ),
        Benchmark(
            name="CGVDS",
            num_videos=357,
            low=1,
            high=7,
            in_domain=False,
            label_file="CGVDS_total_score.json",
            names=r"\w+_\d+x\d+_\d+_\d+_h264_nvenc",
            source="https://github.com/stootaghaj/CGVDS",
            paper=(0.856, 0.845),
            scale="affine",
        ),
        Benchmark(
            name="LIVE-YT-HFR",
            num_videos=480,
            low=0,
            high=100,
            in_domain=False,
            label_file="live_hfr_total_score.json",
            names=r"\w+_crf_\d+_\d+fps",
            source="https://live.ece.utexas.edu/research/LIVE_YT_HFR/",
            paper=(0.528, 0.610),
        ),
        Benchmark(
            name="Waterloo-IVC-4K",
            num_videos=1200,
            low=0,
            high=100,
            in_domain=False,
            label_file="Waterloo_IVC_4K_total_score.json",
            names=r"(H264|HEVC|VP9|AV1|AVS2)_\d{2}_\d+x\d+_\d",
            source="https://ivc.uwaterloo.ca/database/4KVQA.html",
            paper=(0.573, 0.624),
        ),
        Benchmark(
            name="VDPVE",
            num_videos=839,
            low=0,
            high=100,
            in_domain=False,
            label_file="VDPVE_train_score.json",
            names=r"[A-C]\d{4}_\d{2}",
            source="https://github.com/YixuanGao98/VDPVE",
            paper=(0.707, 0.716),
        ),
    )
}


def find(name: str) -> Benchmark | None:
    """Return a test set by its name, whatever its capitals, hyphens, spaces and underscores; None if unknown.

    >>> find("konvid 1K").num_videos, find("mine")
    (1200, None)
    """
    return alike(name, BENCHMARKS)


def require(name: str) -> Benchmark:
    """Return a test set by its name.

    Raises:
        ValueError: if there is none of this name.
    """
    benchmark = find(name)
    if benchmark is None:
        raise ValueError(no_data_set(name, BENCHMARKS))
    return benchmark


def findings(benchmark: Benchmark, rows: Dataset) -> list[str]:
    """Say in a line each what in the labels differs from the record; nothing if all is as it should be."""
    lines = []
    if rows.num_rows != benchmark.num_videos:
        lines.append(f"{rows.num_rows} labels, {benchmark.name} has {benchmark.num_videos}")
    strange = [name for name in rows["video_id"] if not benchmark.is_name(name)]
    if strange:
        examples = ", ".join(strange[:NUM_EXAMPLES])
        lines.append(f"{len(strange)} names are not those of {benchmark.name}: {examples}")
    return lines
