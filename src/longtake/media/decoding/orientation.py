"""How a video is turned upright: by the display matrix of its header, which rotates and mirrors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import SideData, Type


@dataclass(frozen=True)
class Orientation:
    """A change of a picture: swap rows and columns first, then mirror from left to right and from top to bottom."""

    swap: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of a picture (height, width) after the change, or before it: both are the same."""
        return (width, height) if self.swap else (height, width)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """Return the picture (H, W, C) upright."""
        if self.swap:
            picture = picture.swapaxes(0, 1)
        step = {True: -1, False: 1}
        return np.ascontiguousarray(picture[:: step[self.mirror_y], :: step[self.mirror_x]])


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Return the orientation that the display matrix of a frame asks for; angles are rounded to quarter turns."""
    parts = cast(Sequence[SideData], frame.side_data)
    data = next((part for n in range(len(parts)) if (part := parts[n]).type == Type.DISPLAYMATRIX), None)
    if data is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if max(abs(a), abs(d)) >= max(abs(b), abs(c)):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)
