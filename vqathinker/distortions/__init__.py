"""Distortions of pixels: one class and one key each, a file for each family.

25 of space with the five levels of KADIS-700k (arXiv 2001.08113), four of time with three levels (VITAL,
arXiv 2511.17962). Orders of frames are `perturbations`.
"""

from __future__ import annotations

from collections.abc import Callable

from vqathinker.distortions.base import Distortion as Distortion
from vqathinker.distortions.blur import GaussianBlur, LensBlur, MotionBlur
from vqathinker.distortions.brightness import Brighten, Contrast, Darken, MeanShift, Sharpen
from vqathinker.distortions.colour import (
    ColorDiffusion,
    ColorQuantization,
    ColorShift,
    SaturationHSV,
    SaturationLab,
)
from vqathinker.distortions.compression import H264, H265, Jpeg, Jpeg2000
from vqathinker.distortions.local import Place as Place
from vqathinker.distortions.local import distort_locally as distort_locally
from vqathinker.distortions.noise import ColorNoise, Denoise, ImpulseNoise, MultiplicativeNoise, WhiteNoise
from vqathinker.distortions.spatial import ColorBlock, Jitter, Patches, Pixelate, Quantization
from vqathinker.distortions.temporal import CameraShake, Stutter

GROUP = "vqathinker.distortions"
DISTORTIONS: dict[str, Callable[..., Distortion]] = {
    "gaussian_blur": GaussianBlur,
    "lens_blur": LensBlur,
    "motion_blur": MotionBlur,
    "color_diffusion": ColorDiffusion,
    "color_shift": ColorShift,
    "color_quantization": ColorQuantization,
    "saturation_hsv": SaturationHSV,
    "saturation_lab": SaturationLab,
    "jpeg2000": Jpeg2000,
    "jpeg": Jpeg,
    "white_noise": WhiteNoise,
    "color_noise": ColorNoise,
    "impulse_noise": ImpulseNoise,
    "multiplicative_noise": MultiplicativeNoise,
    "denoise": Denoise,
    "brighten": Brighten,
    "darken": Darken,
    "mean_shift": MeanShift,
    "jitter": Jitter,
    "patches": Patches,
    "pixelate": Pixelate,
    "quantization": Quantization,
    "color_block": ColorBlock,
    "sharpen": Sharpen,
    "contrast": Contrast,
    "stutter": Stutter,
    "camera_shake": CameraShake,
    "h264": H264,
    "h265": H265,
}
