"""Images of every mode as 8-bit sRGB: 16 bit and floating point are scaled, transparency is laid over white."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms, ImageOps

from longtake.core.errors import InputError
from longtake.core.process.notices import notice


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Turn an image upright and convert it to RGB. name: for messages. InputError if its numbers have no certain range."""
    if image.format == "EPS":  # Pillow would run Ghostscript
        raise InputError(f"{name} is PostScript: save it as PNG or JPEG")
    if (count := getattr(image, "n_frames", 1)) > 1:
        notice(f"{name} has {count} images, of which the first is used")
    try:
        image = ImageOps.exif_transpose(image)
        return _srgb(_without_alpha(_eight_bits(image, name), name))
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} cannot be read as an image: {error}") from error


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Scale an image of 16 bits or floating point to 8 bits."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise InputError(f"{name} has numbers that are not finite: save it again without them")
        shown, most = values * 255, 1
    else:
        shown, most = values / 257, 65535
    least, largest = (float(end) for end in (values.min(), values.max()))
    if least < 0 or largest > most:
        raise InputError(f"{name} has numbers from {least:.4g} to {largest:.4g}, not 0 to {most}: save it as 8-bit PNG")
    return Image.fromarray(np.round(shown).astype(np.uint8))


def _without_alpha(image: Image.Image, name: str) -> Image.Image:
    if not image.has_transparency_data:
        return image
    profile = image.info.get("icc_profile")
    layered = image.convert("RGBA")
    if int(np.asarray(layered.getchannel("A")).min()) == 255:
        flat = layered.convert("RGB")
    else:
        notice(f"the transparent parts of {name} are laid over white")
        flat = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")
    flat.info = {"icc_profile": profile} if profile and image.mode in ("RGBA", "RGB") else {}
    return flat


def _srgb(image: Image.Image) -> Image.Image:
    """Convert an image to sRGB by its colour profile, such as Display P3 or one of CMYK; without one, as Pillow does."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK"):
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(own).lower():
                done = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if done is not None:
                    return done
        except (ImageCms.PyCMSError, OSError):
            notice("the colour profile of an image cannot be read, so its colours are used without it")
    return image.convert("RGB")
