"""Decoded frames as 8-bit RGB of BT.709, whatever matrix, range, primaries, transfer function and alpha they have.

Numbers of colour matrices, transfer functions and primaries are those of ITU-T H.273. Standard dynamic range passes
through FFmpeg's scaler alone. Wide gamuts and high dynamic range go through linear light: BT.2100 gives the light of PQ and
HLG, BT.2390 (section 5.4.1) the curve that compresses it, with white at 203 cd/m2 (BT.2408) and a peak of 1000 cd/m2.
"""

from __future__ import annotations

from functools import cache

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

BT709, UNSPECIFIED = 1, 2
MATRICES = {0: 1, 1: 1, 3: 5, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # H.273 -> libswscale's number; RGB (0) needs none
LINEAR, LOG, LOG_SQRT, PQ, HLG = 8, 9, 10, 16, 18
HDR = (PQ, HLG)
DISPLAY = (1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15)  # transfer functions that a BT.709 display shows as they are
NEAR_709 = (1, 2, 3, 5, 6, 7, 22)  # primaries that players show as BT.709
WHITE, PEAK = 203.0, 1000.0  # cd/m2
D65 = (0.3127, 0.3290)
PRIMARIES = {  # x, y of red, green, blue and white
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65),
    4: ((0.670, 0.330), (0.210, 0.710), (0.140, 0.080), (0.310, 0.316)),
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), (0.310, 0.316)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
}
GAMMA = 2.4  # of a BT.709 display (BT.1886)
PAPER = 255  # the white ground that transparent pixels are laid over


def unreadable_colour(frame: av.VideoFrame) -> str:
    """Return which colour coding of a frame cannot be converted ("" if all can)."""
    matrix, trc, primaries = int(frame.colorspace), int(frame.color_trc), int(frame.color_primaries)
    if not frame.format.is_rgb and matrix not in (*MATRICES, UNSPECIFIED):
        return f"the colour matrix {matrix} of H.273"
    if trc not in (0, *DISPLAY, LINEAR, LOG, LOG_SQRT, PQ, HLG):
        return f"the transfer function {trc} of H.273"
    return "" if primaries in (0, *NEAR_709, *PRIMARIES) else f"the colour primaries {primaries} of H.273"


def colour_change(frame: av.VideoFrame) -> str:
    """Return what is done to the colours of a frame beyond the usual, as a phrase ("" if nothing)."""
    trc = int(frame.color_trc)
    if trc in HDR:
        return f"tone-maps HDR ({'PQ' if trc == PQ else 'HLG'}) to BT.709, with white at 203 cd/m2"
    if _needs_light(frame):
        return "converts its colours to BT.709"
    if not _has_alpha(frame) or int(frame.reformat(format="rgba").to_ndarray()[..., 3].min()) == 255:
        return ""
    return "lays its transparent parts over white"


def rgb(frame: av.VideoFrame, scaler: VideoReformatter, size: tuple[int, int], scaling: Interpolation) -> np.ndarray:
    """Convert a frame to RGB (H, W, 3) uint8 of BT.709. size: (height, width), to which it is scaled."""
    light, alpha = _needs_light(frame), _has_alpha(frame)
    matrix = _matrix(frame)
    picture = scaler.reformat(
        frame, width=size[1], height=size[0], format="rgb48le" if light else "rgba" if alpha else "rgb24",
        src_colorspace=matrix, dst_colorspace=matrix, interpolation=scaling, threads=1,
    )  # fmt: skip
    pixels = picture.to_ndarray()
    if light:
        return _displayed(pixels, int(frame.color_trc), int(frame.color_primaries))
    return over_white(pixels) if alpha else pixels


def over_white(pixels: np.ndarray) -> np.ndarray:
    """Lay RGBA (H, W, 4) uint8 over white; returns (H, W, 3)."""
    share = pixels[..., 3:].astype(np.uint32)
    return ((pixels[..., :3] * share + PAPER * (255 - share) + 127) // 255).astype(np.uint8)


def _matrix(frame: av.VideoFrame) -> int:
    """The colour matrix as the file states it, else as players guess it: BT.709 for HD, BT.601 below."""
    stated = int(frame.colorspace)
    if stated == UNSPECIFIED and int(frame.color_primaries) == 9:
        stated = 9
    if stated == UNSPECIFIED and int(frame.color_primaries) != BT709:
        return Colorspace.ITU709 if frame.height >= 720 or frame.width >= 1280 else Colorspace.DEFAULT
    return MATRICES.get(BT709 if stated == UNSPECIFIED else stated, int(Colorspace.DEFAULT))


def _has_alpha(frame: av.VideoFrame) -> bool:
    return frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)


def _needs_light(frame: av.VideoFrame) -> bool:
    """Whether the colours are converted in linear light."""
    return int(frame.color_trc) in (LINEAR, LOG, LOG_SQRT, *HDR) or int(frame.color_primaries) not in (0, *NEAR_709)


# ---------------------------------------------------------------- linear light
def _displayed(codes: np.ndarray, trc: int, primaries: int) -> np.ndarray:
    """Convert RGB codes (H, W, 3) uint16 to uint8 RGB of a BT.709 display."""
    light = _light_of(trc)[codes]
    if trc == HLG:  # the system gamma of BT.2100, for a display of 1000 cd/m2
        luminance = np.maximum(light @ np.array([0.2627, 0.6780, 0.0593], np.float32), 1e-6)
        light = light * (PEAK / WHITE * luminance**0.2)[..., None]
    if primaries in PRIMARIES and primaries != BT709:
        light = light @ _to_709(primaries).T
    light = np.maximum(light, 0)
    if trc in HDR:
        brightest = light.max(-1, keepdims=True)
        light = light * (_compressed(brightest) / np.maximum(brightest, 1e-6))
    shades = np.sqrt(np.clip(light, 0, 1)) * 65535 + 0.5  # the root keeps steps of dark shades small
    return _codes()[shades.astype(np.uint16)]


@cache
def _light_of(trc: int) -> np.ndarray:
    """Light of every 16-bit code, float32; 1 is white (of HLG: the scene's light, 1 is its peak)."""
    code = np.linspace(0, 1, 65536)
    if trc == PQ:
        light = _pq_light(code) / WHITE
    elif trc == HLG:
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    elif trc == LINEAR:
        light = code
    elif trc in (LOG, LOG_SQRT):
        light = np.where(code > 0, 10 ** ((2 if trc == LOG else 2.5) * (code - 1)), 0)
    else:
        light = code**GAMMA
    return light.astype(np.float32)


def _pq_light(code: np.ndarray) -> np.ndarray:
    """Light in cd/m2 of PQ codes in [0, 1] (BT.2100)."""
    root = code ** (1 / 78.84375)
    return 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)


def _pq_code(light: np.ndarray) -> np.ndarray:
    """PQ codes in [0, 1] of light in cd/m2 (BT.2100)."""
    power = (np.maximum(light, 0) / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


@cache
def _curve() -> tuple[np.ndarray, np.ndarray]:
    """The curve of BT.2390 from light up to PEAK to light up to WHITE, both relative to WHITE, at 2048 points."""
    light = np.linspace(0, (PEAK / WHITE) ** 0.25, 2048) ** 4
    top = _pq_code(np.array(PEAK))
    code, most = _pq_code(light * WHITE) / top, float(_pq_code(np.array(WHITE)) / top)
    knee = 1.5 * most - 0.5
    t = np.clip((code - knee) / (1 - knee), 0, 1)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return light, _pq_light(np.where(code < knee, code, bent) * top) / WHITE


def _compressed(light: np.ndarray) -> np.ndarray:
    at, value = _curve()
    return np.interp(light, at, value).astype(np.float32)


@cache
def _to_709(primaries: int) -> np.ndarray:
    """The matrix from linear RGB of these primaries to that of BT.709; white stays white."""
    return (np.linalg.inv(_to_xyz(BT709)) @ _white_to_d65(primaries) @ _to_xyz(primaries)).astype(np.float32)


def _to_xyz(primaries: int) -> np.ndarray:
    *corners, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in PRIMARIES[primaries])
    columns = np.stack(corners, 1)
    return columns * np.linalg.solve(columns, white)


def _white_to_d65(primaries: int) -> np.ndarray:
    """The Bradford adaptation from a white point to D65."""
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    before, after = (cone @ (_to_xyz(name) @ np.ones(3)) for name in (primaries, BT709))
    return np.linalg.inv(cone) @ np.diag(after / before) @ cone


@cache
def _codes() -> np.ndarray:
    """The 8-bit code of every root of light."""
    return np.round(255 * np.linspace(0, 1, 65536) ** (2 / GAMMA)).astype(np.uint8)
