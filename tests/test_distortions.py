"""Distortions against slow references written from their published numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from vqathinker.distortions import DISTORTIONS, Distortion, Place, distort_locally
from vqathinker.distortions.blur import disk, line
from vqathinker.distortions.local import Spot
from vqathinker.distortions.spatial import otsu

TEMPORAL = ("stutter", "camera_shake", "h264", "h265")
SPATIAL = tuple(name for name in DISTORTIONS if name not in TEMPORAL)
FROM_FIRST = ("color_quantization", "quantization")  # palette and thresholds
CODECS = ("h264", "h265")
SLOW = ("denoise", "h265")
D65 = np.array([0.950456, 1.0, 1.088754])
TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)

Array = NDArray[Any]


def make(name: str, **options: Any) -> Distortion:
    return DISTORTIONS[name](**options)


def apply(name: str, frames: Array, level: int, seed: int = 0, **options: Any) -> Array:
    return make(name, **options)(frames, level, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def scene() -> Array:
    """Four frames (72, 96) of a moving scene: soft shapes, edges, colours, a little texture."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:72, :96]
    texture = ndimage.gaussian_filter(rng.standard_normal((72, 96, 3)), (1, 1, 0)) * 60
    frames = []
    for t in range(4):
        waves = [np.sin((columns + 3 * t) / s + rows / (2 * s)) for s in (7.0, 11.0, 5.0)]
        frame = 128 + 70 * np.stack(waves, axis=-1) + texture
        frame[20:40, 30 + 2 * t : 60 + 2 * t] = (200, 60, 40)
        frames.append(frame)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def test_the_names_and_the_numbers_of_levels() -> None:
    assert len(SPATIAL) == 25
    assert {make(name).num_levels for name in SPATIAL} == {5}
    assert {make(name).num_levels for name in TEMPORAL} == {3}
    words = [make("white_noise").severity(level) for level in range(1, 6)]
    assert words == ["mild", "noticeable", "relatively severe", "severe", "very severe"]
    assert [make("h264").severity(level) for level in (1, 2, 3)] == ["mild", "noticeable", "severe"]


@pytest.mark.parametrize("name", [name for name in DISTORTIONS if name not in SLOW])
def test_every_level_keeps_the_shape_and_repeats(name: str, scene: Array) -> None:
    given = scene.copy()
    distortion = make(name)
    for level in range(1, distortion.num_levels + 1):
        changed = apply(name, scene, level)
        assert (changed.shape, changed.dtype) == (scene.shape, np.uint8)
        np.testing.assert_array_equal(changed, apply(name, scene, level))
        assert (changed == scene).all() == (level not in distortion.drawn_levels)
    np.testing.assert_array_equal(scene, given)


@pytest.mark.parametrize("name", SLOW)
def test_the_slow_ones_too(name: str, scene: Array) -> None:
    small = scene[:2, :64, :64]
    changed = apply(name, small, 1)
    assert (changed.shape, changed.dtype) == (small.shape, np.uint8)
    np.testing.assert_array_equal(changed, apply(name, small, 1))


# where chance decides more than the level on a few frames
BY_CHANCE = ("patches", "color_block", "stutter")


@pytest.mark.parametrize("name", [name for name in DISTORTIONS if name not in (*SLOW, *BY_CHANCE)])
def test_damage_grows_with_severity(name: str, scene: Array) -> None:
    distortion = make(name)
    scene = np.tile(scene, (1, 3, 3, 1))  # the head of a file is no small part of a small picture
    errors = [
        float(((apply(name, scene, level).astype(float) - scene) ** 2).mean())
        for level in distortion.drawn_levels
    ]
    ranks = [distortion.ranks[level - 1] for level in distortion.drawn_levels]
    for (first, left), (second, right) in combinations(zip(ranks, errors, strict=True), 2):
        assert left < right if first < second else left == pytest.approx(right, rel=0.2)


@pytest.mark.parametrize("name", [name for name in DISTORTIONS if name not in (*CODECS, "denoise")])
def test_a_clip_in_parts_is_the_clip(name: str, scene: Array) -> None:
    whole = scene if name not in FROM_FIRST else scene[[0, 0, 1, 1]]
    level = make(name).drawn_levels[-1]
    at_once = make(name).begin(level, (72, 96), np.random.default_rng(1))(whole)
    part = make(name).begin(level, (72, 96), np.random.default_rng(1))
    if name in FROM_FIRST:  # what they take from the first part is the same for all of them
        part(whole)
    np.testing.assert_array_equal(np.concatenate([part(whole[:2]), part(whole[2:])]), at_once)


@pytest.mark.parametrize("name", [name for name in SPATIAL if name not in ("denoise",)])
def test_one_draw_serves_all_frames(name: str, scene: Array) -> None:
    still = scene[[0, 0, 0]]
    changed = apply(name, still, make(name).drawn_levels[0])
    assert (changed == changed[0]).all()


def correlated(frame: Array, kernel: Array) -> Array:
    """The slow way: every channel with the turned kernel, edges replicated."""
    planes = [ndimage.correlate(frame[..., c].astype(float), kernel, mode="nearest") for c in range(3)]
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize(("level", "sigma"), [(2, 0.5), (3, 1), (4, 2), (5, 5)])
def test_gaussian_blur(level: int, sigma: float, scene: Array) -> None:
    reach = math.ceil(2 * sigma)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    assert np.abs(apply("gaussian_blur", scene, level)[0] - correlated(scene[0], kernel)).max() <= 1.01


@pytest.mark.parametrize(("level", "radius"), [(1, 1), (2, 2), (3, 4), (5, 8)])
def test_lens_blur(level: int, radius: int, scene: Array) -> None:
    side = np.arange(-radius - 0.5 + 0.01, radius + 0.5, 0.02)  # another grid than the code's
    inside = side[:, None] ** 2 + side[None] ** 2 <= radius**2
    kernel = inside.reshape(2 * radius + 1, 50, 2 * radius + 1, 50).mean(axis=(1, 3))
    kernel /= kernel.sum()
    assert np.abs(disk(radius) - kernel).max() < 2e-3 / radius
    assert np.abs(apply("lens_blur", scene, level)[0] - correlated(scene[0], kernel)).max() <= 1.5


@pytest.mark.parametrize("length", [2, 4, 6, 10])
def test_motion_blur(length: int) -> None:
    flat = line(length, 0.0)
    assert flat.shape[0] == 1
    np.testing.assert_allclose(line(length, math.pi / 2), flat.T, atol=1e-9)
    np.testing.assert_allclose(flat[0], flat[0, ::-1])
    # every pixel between the ends counts alike, those at the ends by the share that the line covers
    assert flat.sum() == pytest.approx(1)
    assert (np.diff(flat[0][: len(flat[0]) // 2]) >= -1e-9).all()
    for degrees in (30, 45, 77, 120):
        kernel = line(length, math.radians(degrees))
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-9)
        # it runs up to the right for less than 90 degrees, and rows count downward
        down, right = (np.indices(kernel.shape).T - (np.array(kernel.shape) - 1) / 2).T
        slope = (kernel * down * right).sum()
        assert slope <= 0 if degrees < 90 else slope >= 0
        assert slope or length == 2


def to_lab(frame: Array) -> Array:
    """CIELAB by its definition."""
    unit = frame / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    ratios = linear @ TO_XYZ.T / D65
    f = np.where(ratios > 0.008856, np.cbrt(ratios), 7.787 * ratios + 16 / 116)
    light = np.where(ratios[..., 1] > 0.008856, 116 * np.cbrt(ratios[..., 1]) - 16, 903.3 * ratios[..., 1])
    return np.stack([light, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def from_lab(lab: Array) -> Array:
    """Back, cut to bytes."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    ratios = np.where(f > 0.206893, f**3, (f - 16 / 116) / 7.787)
    linear = np.clip(ratios * D65 @ np.linalg.inv(TO_XYZ).T, 0, 1)
    unit = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.clip(unit, 0, 1) * 255


@pytest.mark.parametrize(("level", "a"), [(1, 1), (2, 3), (5, 12)])
def test_colour_diffusion(level: int, a: int, scene: Array) -> None:
    lab = to_lab(scene[0])
    sigma = 1.5 * a + 2
    reach = math.ceil(2 * sigma)
    for plane in (1, 2):
        blurred = ndimage.gaussian_filter(lab[..., plane], sigma, mode="nearest", radius=reach)
        lab[..., plane] = blurred * a
    assert np.abs(apply("color_diffusion", scene, level)[0] - from_lab(lab)).max() <= 3


@pytest.mark.parametrize(("level", "factor"), [(2, 2), (4, 6)])
def test_saturation_in_lab(level: int, factor: int, scene: Array) -> None:
    lab = to_lab(scene[0])
    lab[..., 1:] *= factor
    assert np.abs(apply("saturation_lab", scene, level)[0] - from_lab(lab)).max() <= 3


@pytest.mark.parametrize(("level", "factor"), [(1, 0.4), (4, 0.0), (5, -0.4)])
def test_saturation_in_hsv(level: int, factor: float, scene: Array) -> None:
    """Through hue, saturation and value, one after the other."""
    unit = scene[0] / 255
    value = unit.max(axis=-1)
    chroma = value - unit.min(axis=-1)
    saturation = np.where(value > 0, chroma / np.maximum(value, 1e-9), 0)
    red, green, blue = np.moveaxis(unit, -1, 0)
    safe = np.maximum(chroma, 1e-9)
    sector = np.select(
        [chroma == 0, value == red, value == green],
        [0, ((green - blue) / safe) % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    faded = saturation * factor
    back = []
    for offset in (5, 3, 1):  # of red, green and blue
        k = (offset + sector) % 6
        back.append(value - value * faded * np.clip(np.minimum(k, 4 - k), 0, 1))
    expected = np.clip(np.stack(back, axis=-1), 0, 1) * 255
    assert np.abs(apply("saturation_hsv", scene, level)[0] - expected).max() <= 1


def test_colour_shift_moves_the_green_plane_at_edges(scene: Array) -> None:
    step = np.full((1, 64, 64, 3), 40, np.uint8)
    step[:, 32:, 32:] = 200
    changed = apply("color_shift", step, 5)
    np.testing.assert_array_equal(changed[..., [0, 2]], step[..., [0, 2]])
    rows, columns = np.nonzero(changed[0, ..., 1] != step[0, ..., 1])
    assert len(rows) > 0
    # the square begins later, by at most as many pixels as the level says, and nowhere else
    assert (changed[0, rows, columns, 1] < step[0, rows, columns, 1]).all()
    assert (rows.max() <= 31 + 12 + 32, rows.min()) == (True, 32)
    far = apply("color_shift", scene, 1)
    assert np.abs(far.astype(int) - scene).max() < 256


def test_colour_quantization(scene: Array) -> None:
    for level, number in ((1, 64), (5, 8)):
        colours = np.unique(apply("color_quantization", scene, level).reshape(-1, 3), axis=0)
        assert number // 2 < len(colours) <= number


@pytest.mark.parametrize(("level", "ratio"), [(1, 16), (3, 45)])
def test_jpeg2000_keeps_to_its_ratio(level: int, ratio: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from vqathinker.distortions import compression

    sizes: list[int] = []

    class Counting(io.BytesIO):
        def seek(self, *place: int) -> int:
            sizes.append(len(self.getvalue()))
            return super().seek(*place)

    monkeypatch.setattr(compression.io, "BytesIO", Counting)
    noise = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    apply("jpeg2000", noise, level)
    assert max(sizes) == pytest.approx(256 * 256 * 3 / ratio, rel=0.1)


@pytest.mark.parametrize("level", range(1, 6))
def test_white_noise(level: int) -> None:
    variance = [0.001, 0.002, 0.003, 0.005, 0.01][level - 1]
    grey = np.full((1, 200, 200, 3), 128, np.uint8)
    noise = (apply("white_noise", grey, level).astype(float) - 128) / 255
    assert noise.var() == pytest.approx(variance, rel=0.03)
    assert abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.03


@pytest.mark.parametrize("level", range(1, 6))
def test_colour_noise(level: int) -> None:
    """Its covariance in RGB is that of independent noise in Y, Cb and Cr, in the ranges of BT.601."""
    variance = [0.0001, 0.0005, 0.001, 0.002, 0.003][level - 1]
    grey = np.full((1, 300, 300, 3), 128, np.uint8)
    noise = (apply("color_noise", grey, level).astype(float) - 128) / 255
    back = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]) * [255 / 219, *[255 / 224] * 2]
    expected = variance * back @ back.T + np.eye(3) / 12 / 255**2  # and rounding
    np.testing.assert_allclose(np.cov(noise.reshape(-1, 3).T), expected, atol=0.05 * expected.max())


@pytest.mark.parametrize("level", range(1, 6))
def test_impulse_noise(level: int) -> None:
    share = [0.001, 0.005, 0.01, 0.02, 0.03][level - 1]
    changed = apply("impulse_noise", np.full((1, 400, 400, 3), 100, np.uint8), level)
    for value in (0, 255):
        assert (changed == value).mean() == pytest.approx(share / 2, rel=0.15)
    assert set(np.unique(changed)) == {0, 100, 255}


@pytest.mark.parametrize("level", range(1, 6))
def test_multiplicative_noise(level: int) -> None:
    variance = [0.001, 0.005, 0.01, 0.02, 0.05][level - 1]
    for value in (40, 120):
        changed = apply("multiplicative_noise", np.full((1, 200, 200, 3), value, np.uint8), level)
        noise = changed / value - 1
        assert noise.var() == pytest.approx(variance + 1 / 12 / value**2, rel=0.03)
        assert np.abs(noise).max() <= math.sqrt(3 * variance) + 1 / value


def greys() -> Array:
    return np.repeat(np.arange(256, dtype=np.uint8)[None, None, :, None], 3, axis=-1)


@pytest.mark.parametrize(
    ("name", "values"),
    [("darken", [0.05, 0.1, 0.2, 0.4, 0.8]), ("mean_shift", [0.15, 0.08, 0, -0.08, -0.15])],
)
def test_curves(name: str, values: list[float]) -> None:
    x = np.arange(256) / 255
    for level, value in enumerate(values, 1):
        if name == "darken":
            expected = np.polyval(np.polyfit([0, 0.5, 1], [0, 0.5 - value / 2, 1], 2), x)
        else:
            expected = x + value
        changed = apply(name, greys(), level)[0, 0, :, 0]
        assert np.abs(changed - np.clip(expected, 0, 1) * 255).max() <= 0.5001


@pytest.mark.parametrize("level", range(1, 6))
def test_contrast(level: int) -> None:
    """Two cubics through five points that meet in the middle, solved as a system of equations."""
    a = [0.3, 0.15, 0.0, -0.4, -0.6][level - 1]
    knots = np.array([0, 0.3, 0.5, 0.7, 1])
    heights = np.array([0, 0.25 - a / 4, 0.5, 0.75 + a / 4, 1])
    # not-a-knot over four pieces: two cubics that meet at the middle with equal slope and curvature
    powers = np.arange(4)
    left = [np.concatenate([knot**powers, np.zeros(4)]) for knot in knots[:3]]
    right = [np.concatenate([np.zeros(4), knot**powers]) for knot in knots[2:]]
    slope = powers * 0.5 ** np.maximum(powers - 1, 0)
    bend = powers * (powers - 1) * 0.5 ** np.maximum(powers - 2, 0)
    meets = [np.concatenate([slope, -slope]), np.concatenate([bend, -bend])]
    solution = np.linalg.solve(np.array([*left, *right, *meets]), [*heights[:3], *heights[2:], 0, 0])
    x = np.arange(256) / 255
    expected = np.where(x <= 0.5, np.polyval(solution[3::-1], x), np.polyval(solution[:3:-1], x))
    changed = apply("contrast", greys(), level)[0, 0, :, 0]
    assert np.abs(changed - np.clip(expected, 0, 1) * 255).max() <= 0.5001


@pytest.mark.parametrize(("level", "a"), [(1, 0.1), (3, 0.4), (5, 1.1)])
def test_brighten(level: int, a: float, scene: Array) -> None:
    coefficients = np.polyfit([0, 0.5, 1], [0, 0.5 + a / 2, 1], 2)

    def lifted(x: Array) -> Array:
        return np.clip(np.polyval(coefficients, x), 0, 1)

    lab = to_lab(scene[0])
    lab[..., 0] = 100 * lifted(lab[..., 0] / 100)
    expected = (2 * 255 * lifted(scene[0] / 255) + from_lab(lab)) / 3
    assert np.abs(apply("brighten", scene, level)[0] - expected).max() <= 2


@pytest.mark.parametrize(("level", "amount"), [(1, 1), (5, 12)])
def test_sharpen(level: int, amount: int, scene: Array) -> None:
    lab = to_lab(scene[0])
    light = lab[..., 0]
    soft = ndimage.gaussian_filter(light, 3.0, mode="nearest", radius=6)
    lab[..., 0] = np.clip(light + amount * (light - soft), 0, 100)
    assert np.abs(apply("sharpen", scene, level)[0] - from_lab(lab)).max() <= 3


@pytest.mark.parametrize(("level", "sigma"), [(2, 0.1), (4, 0.5), (5, 1.0)])
def test_jitter(level: int, sigma: float) -> None:
    """On a ramp the error is the way to the pixel that is shown: five steps of that spread."""
    steep = 4
    ramp = np.repeat(steep * np.arange(64, dtype=np.uint8)[None, None, :, None], 3, axis=-1)
    ramp = np.repeat(ramp, 200, axis=1)
    inner = (0, slice(10, -10), slice(10, -10), 0)
    error = (apply("jitter", ramp, level)[inner].astype(float) - ramp[inner]) / steep
    # a later pass smooths what an earlier one has done: between one step and five
    rounding = 1 / 12 / steep**2  # of bytes
    assert sigma * 0.9 <= error.std() <= math.sqrt(5 * sigma**2 + rounding) * 1.3  # OpenCV's cubic overshoots


def test_patches_come_from_beside(scene: Array) -> None:
    size = (200, 240)
    number = np.arange(size[0] * size[1]).reshape(size)
    frames = np.stack([number % 251, number // 251 % 251, number // 63001], axis=-1)[None].astype(np.uint8)
    changed = apply("patches", frames, 1)
    low, middle, high = changed[0].astype(int).transpose(2, 0, 1)
    at = low + 251 * middle + 63001 * high
    down = at // size[1] - np.arange(size[0])[:, None]
    right = at % size[1] - np.arange(size[1])
    moved = (down != 0) | (right != 0)
    assert 0 < moved.sum() <= 20 * 256
    assert np.abs(down).max() <= 16  # a patch may hold part of one that was moved before
    assert np.abs(right).max() <= 16
    assert (down[:8] == 0).all()
    with pytest.raises(ValueError, match="patches need 49 × 49 pixels"):
        apply("patches", scene[:, :40], 1)


@pytest.mark.parametrize(("level", "scale"), [(1, 0.887), (2, 0.784), (3, 0.699), (4, 0.569), (5, 0.290)])
def test_pixelate(level: int, scale: float) -> None:
    rows = np.arange(120, dtype=np.uint8)[None, :, None, None]
    changed = apply("pixelate", np.broadcast_to(rows, (1, 120, 200, 3)).copy(), level)[0, :, 0, 0]
    assert len(np.unique(changed)) == math.ceil(120 * (0.95 - [0.01, 0.05, 0.1, 0.2, 0.5][level - 1] ** 0.6))
    assert len(np.unique(changed)) / 120 == pytest.approx(scale, abs=0.01)
    assert np.abs(changed.astype(int) - np.arange(120)).max() <= math.ceil(1 / scale)


def test_otsu_is_exact() -> None:
    """Every way to cut a few values into three classes is tried."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.choice(256, 12, replace=False))
    counts = np.zeros(256, int)
    counts[values] = rng.integers(1, 50, 12)

    def spread(cuts: tuple[int, ...]) -> float:
        edges = [0, *(cut + 1 for cut in cuts), 256]
        gain = 0.0
        for first, last in pairwise(edges):
            part = counts[first:last]
            if part.sum():
                gain += (part @ np.arange(first, last)) ** 2 / part.sum()
        return gain

    best = max(combinations(range(255), 2), key=spread)
    assert spread(tuple(otsu(counts, 2))) == pytest.approx(spread(best), rel=1e-12)


@pytest.mark.parametrize(("level", "number"), [(1, 20), (3, 13), (5, 7)])
def test_quantization(level: int, number: int, scene: Array) -> None:
    changed = apply("quantization", scene, level)
    heights = np.unique(changed)
    assert {0, 255} <= set(heights.tolist())
    assert len(heights) <= number + 1
    # a value never jumps over another
    order = np.argsort(scene, axis=None, kind="stable")
    assert (np.diff(changed.reshape(-1)[order].astype(int)) >= 0).all()


def test_blocks_are_plain_squares() -> None:
    grey = np.full((2, 128, 128, 3), 77, np.uint8)
    for level, number in ((1, 2), (5, 10)):
        changed = apply("color_block", grey, level)
        covered = (changed[0] != 77).any(axis=-1)
        assert 32 * 32 <= covered.sum() <= number * 32 * 32
        assert len(np.unique(changed[0].reshape(-1, 3), axis=0)) <= number + 1


def test_stutter_shows_what_was_shown() -> None:
    clip = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None, None], (200, 4, 4, 3)).copy()
    for level, chance in enumerate((0.1, 0.25, 0.5), 1):
        shown = apply("stutter", clip, level)[:, 0, 0, 0].astype(int)
        stays = shown[1:] == shown[:-1]
        assert stays.mean() == pytest.approx(chance, abs=0.1)
        assert (shown[1:][~stays] == np.arange(1, 200)[~stays]).all()


def test_the_camera_shakes_by_its_share_of_the_height() -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, None, :, None], (300, 100, 200, 3)).copy()
    for level, share in enumerate((0.005, 0.01, 0.02), 1):
        moved = apply("camera_shake", ramp, level)[:, 50, 80:120, 0].astype(float).mean(axis=1) - 99.5
        rounding = 1 / 12  # of bytes
        assert moved.std() == pytest.approx(math.sqrt((100 * share) ** 2 + rounding), rel=0.15)


@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.5, 9.0])
def test_a_spot_lies_within_the_clip(seconds: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        spot = Spot.draw(rng, seconds)
        assert spot.start + spot.seconds <= max(seconds, 1)


def test_a_place_alone_is_distorted(scene: Array) -> None:
    place = Place(top=10, left=20, height=30, width=40, start=1, stop=3)
    changed = distort_locally(scene, make("white_noise"), 5, place, np.random.default_rng(0))
    outside = np.ones(scene.shape, bool)
    outside[1:3, 10:40, 20:60] = False
    assert (changed == scene)[outside].all()
    assert (changed != scene)[~outside].mean() > 0.5
    with pytest.raises(ValueError, match=r"does not lie in (a clip of 4 frames|frames of 96 × 72)"):
        distort_locally(scene, make("jpeg"), 1, Place(60, 0, 30, 30, 0, 1), np.random.default_rng(0))


def test_stretched_as_kadis_does() -> None:
    """A mean shift is undone where nothing is cut; one that is cut is stretched again."""
    grey = np.array([60, 100, 140], np.uint8).reshape(1, 1, 3, 1).repeat(3, axis=-1)
    stretched = apply("mean_shift", grey, 3, stretch=True)
    np.testing.assert_array_equal(stretched[0, 0, :, 0], [0, 128, 255])
    darker = apply("mean_shift", grey, 5, stretch=True)[0, 0, :, 0]
    middle = (128 / 255 - 0.15) / (1 - 0.15) * 255
    np.testing.assert_allclose(darker, [0, middle, 255], atol=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d(np.zeros((2, 8, 8, 3), np.uint8), 6, None), "WhiteNoise has the levels 1 to 5, not 6"),
        (lambda d: d(np.zeros((8, 8, 3), np.uint8), 1, None), r"frames of uint8 \(8, 8, 3\): expected"),
        (lambda d: d(np.zeros((2, 8, 8, 3)), 1, None), "frames of float64"),
        (lambda d: d.severity(0), "the levels 1 to 5, not 0"),
    ],
)
def test_wrong_calls(call: Callable[[Distortion], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(make("white_noise"))


@pytest.mark.parametrize("size", [(64, 48), (48, 43), (8, 8), (33, 47)])
def test_codecs_take_small_clips(size: tuple[int, int]) -> None:
    """libx265 writes beyond its memory where a side is shorter than its blocks."""
    frames = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    for kind in ("h264", "h265"):
        changed = DISTORTIONS[kind]()(frames, 3, np.random.default_rng(0))
        assert changed.shape == frames.shape
