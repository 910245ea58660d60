"""Published step caching (TeaCache) coefficients of the Wan transformers."""

from __future__ import annotations

from longtake.models.runtime.calibration import Calibration
from longtake.models.wan.config import WanConfig

# published step caching calibrations (TeaCache4Wan2.1, which SkyReels-V2 uses too)
CALIBRATIONS: dict[str, Calibration] = {  # by the size of the network, and for image-to-video of the video
    "1.3b": Calibration((-5.21862437e4, 9.23041404e3, -5.28275948e2, 1.36987616e1, -4.99875664e-2)),
    "14b": Calibration((-3.03318725e5, 4.90537029e4, -2.65530556e3, 5.87365115e1, -3.15583525e-1)),
    "i2v 540p": Calibration((2.57151496e5, -3.54229917e4, 1.40286849e3, -1.35890334e1, 1.32517977e-1)),
    "i2v 720p": Calibration((8.10705460e3, 2.13393892e3, -3.72934672e2, 1.66203073e1, -4.17769401e-2)),
}


def published_calibration(config: WanConfig, size: tuple[int, int]) -> Calibration | None:
    """Return the calibration for a network that generates (height, width) pixels; None for unpublished widths."""
    name = {1536: "1.3b", 5120: "14b"}.get(config.dim)
    if name is not None and config.image_dim is not None:
        name = "i2v 720p" if size[0] * size[1] > 544 * 960 else "i2v 540p"
    return None if name is None else CALIBRATIONS[name]
