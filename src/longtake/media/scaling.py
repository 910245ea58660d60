"""Flags of FFmpeg's scaler: bicubic, with the same bits on every machine."""

from av.video.reformatter import Interpolation

EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.FULL_CHR_H_INT  # without it, white is read back as 253
)
