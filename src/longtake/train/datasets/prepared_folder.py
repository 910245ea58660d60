"""How the shots of a prepared folder become clips of a model's sizes and lengths, and the check that they do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from longtake.core.errors import ConfigError
from longtake.core.units import PixelSize, parse_pixels, pixels
from longtake.data.manifest import read_shots, read_summary
from longtake.train.datasets.buckets import Bucket, make_buckets
from longtake.train.datasets.changed_videos import refuse_changed
from longtake.train.datasets.clip_dataset import Encode
from longtake.train.datasets.clip_selection import ClipSelection, held_out_clips, select_clips
from longtake.train.datasets.control_signals import check_kind, with_signal
from longtake.train.datasets.footage import GB, ClipFormat, Footage
from longtake.train.datasets.latent_cache import LatentCache


@dataclass(frozen=True)
class FootageConfig:
    """How shots become clips.

    fps: of the clips (0: the model's). seconds: durations, each rounded up to whole latents (empty: as long as the
    network's view). sizes: WIDTHxHEIGHT in pixels, such as ["832x480"] (empty: the model's). control: the control signal of the clips, the
    suffix of a file beside each video or "sound", the sound track of the video itself (see `control_signals`).

    held_out: share of the clips that evaluations measure the loss on, and that the training never sees, such as 0.1. Whole
    videos are held out, or whole shots of a single video.

    cache: folder of the latents ("": `latents` in the prepared folder). cache_gb: size limit of that folder.
    """

    fps: float = 0.0
    seconds: Sequence[float] = ()
    sizes: Sequence[PixelSize] = ()
    control: str = ""
    held_out: float = 0.0
    cache: str = ""
    cache_gb: float = 50.0

    def __post_init__(self) -> None:
        if self.fps < 0 or self.cache_gb < 0 or any(each <= 0 for each in self.seconds):
            raise ValueError("fps and cache_gb must not be negative, and seconds are durations, such as [4.0, 8.0]")
        if not 0 <= self.held_out < 1:
            raise ValueError(
                f"held_out is {self.held_out:g}: it is a share of the clips, from 0 to below 1, such as 0.1"
            )
        check_kind(self.control)
        for size in self.sizes:
            parse_pixels(size, "sizes")

    @property
    def pixel_sizes(self) -> list[tuple[int, int]]:
        """The sizes as (height, width)."""
        return [parse_pixels(size, "sizes") for size in self.sizes]


def open_footage(
    prepared: Path, config: FootageConfig, clip_format: ClipFormat, encode: Encode, report: Callable[[str], None]
) -> Footage:
    """Open the clips of a prepared folder. ConfigError if there are none or they do not suit the model; ManifestError."""
    fps, sizes = config.fps or clip_format.fps, config.pixel_sizes or [clip_format.size]
    _check_sizes(sizes, clip_format.multiple)
    compression = clip_format.temporal_compression
    seconds = config.seconds or [(1 + compression * (clip_format.max_latent_frames - 1)) / fps]
    buckets = make_buckets(seconds, sizes, compression, clip_format.scale, fps)
    _check_lengths(buckets, clip_format.max_latent_frames)
    selection = select_clips(read_shots(prepared), buckets, fps)
    for line in selection.lines():
        report(line)
    _refuse_nothing(prepared, selection)
    folder, clips = Path(read_summary(prepared)["folder"]), selection.clips
    refuse_changed(prepared, folder, {clip.kept.video: clip.kept.sha256 for clip in clips})
    if config.control:
        clips = with_signal(folder, clips, config.control, fps, report)
    cache = LatentCache(Path(config.cache) if config.cache else prepared / "latents", round(config.cache_gb * GB))
    size, held_out = (buckets[0].height, buckets[0].width), held_out_clips(clips, config.held_out)
    if config.held_out and not held_out:
        raise ConfigError(
            f"[footage] held_out is {config.held_out:g}, but {prepared} gives one clip alone: remove held_out"
        )
    if held_out:
        report(f"{len(held_out)} of {len(clips)} clips are held out for the validation loss")
    return Footage(folder, clips, cache, clip_format, encode, fps, size, config.control, held_out)


def generated_format(model: Path | None, config: FootageConfig) -> tuple[float, tuple[int, int]]:
    """Return the frame rate and size of a model folder's videos; ConfigError if neither it nor the config says them."""
    file = model / "longtake.json" if model else None
    own = json.loads(file.read_text(encoding="utf-8")) if file and file.exists() else {}
    fps, size = own.get("fps", config.fps), own.get("size") or (config.pixel_sizes[0] if config.sizes else None)
    if not fps or size is None:
        raise ConfigError("[footage] the model does not name its frame rate and size: set `fps` and `sizes`")
    return float(fps), (size[0], size[1])


def _check_sizes(sizes: Sequence[Sequence[int]], multiple: int) -> None:
    for size in sizes:
        near = [max(multiple, round(side / multiple) * multiple) for side in size]
        if near != list(size):
            raise ConfigError(
                f'[footage] size "{pixels(size)}": both sides must be multiples of {multiple} pixels here, such as '
                f'"{pixels(near)}"'
            )


def _check_lengths(buckets: Sequence[Bucket], max_latent_frames: int) -> None:
    for bucket in buckets:
        if bucket.shape[0] > max_latent_frames:
            raise ConfigError(
                f"[footage] clips of {bucket.frames} frames are {bucket.shape[0]} latents, but the network's view is "
                f"{max_latent_frames}: shorten seconds"
            )


def _refuse_nothing(prepared: Path, selection: ClipSelection) -> None:
    if not selection.clips:
        reasons = (f"{count} {reason}" for reason, count in selection.rejected.most_common(4))
        why = "; ".join(reasons) or "it holds no shots"
        raise ConfigError(f"{prepared} gives no clip of these lengths and sizes: {why}")
