"""The clips of multi-resolution training: of a prepared folder, or of the pocket world, in buckets of length and size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from longtake.core.errors import ConfigError
from longtake.models.checkpoints.loading import digest, part_files
from longtake.pocket import FPS
from longtake.train.datasets.bucket_clips import PocketBuckets, fill_clips, filled_clips
from longtake.train.datasets.buckets import Bucket, make_buckets
from longtake.train.datasets.caption_report import report_captions
from longtake.train.datasets.encode_workers import encode_parallel
from longtake.train.datasets.footage import ClipFormat, Footage
from longtake.train.datasets.latent_shards import VAEFingerprint
from longtake.train.datasets.prepared_folder import open_footage
from longtake.train.multi_resolution.components import TokenComponents
from longtake.train.multi_resolution.config import MultiResolutionConfig
from longtake.train.run.device import encoding, process_device
from longtake.train.run.distributed import ranks, reporting, wait_for_all
from longtake.train.weights.families import default_family, load_vae


def open_prepared_clips(settings: MultiResolutionConfig, parts: TokenComponents) -> Footage:
    """Open clips of a prepared folder; the ranks together encode as many as there is room for."""
    config, vae = settings.footage_config(), parts.vae
    if config.held_out:
        raise ConfigError(
            "[multi_resolution.footage] held_out: this recipe measures no validation loss: remove held_out"
        )
    height, width = config.pixel_sizes[0]
    clip_format = ClipFormat(
        config.fps, (height, width), max_latent_frames=parts.network.config.max_latent_frames(config.fps),
        multiple=vae.spatial_compression, temporal_compression=vae.temporal_compression,
        scale=vae.spatial_compression, channels=vae.channels, vae=digest(part_files(parts.vae_folder)),
    )  # fmt: skip
    footage = open_footage(Path(settings.folder), config, clip_format, encoding(vae), reporting())
    report_captions(footage, parts.text, reporting())
    footage.fill(ranks(), reporting())
    wait_for_all()
    return footage


def pocket_buckets(settings: MultiResolutionConfig, parts: TokenComponents) -> list[Bucket]:
    """Return the buckets of the pocket world: every duration at every size."""
    vae = parts.vae
    return make_buckets(settings.seconds, settings.pixel_sizes, vae.temporal_compression, vae.spatial_compression, FPS)


def open_pocket_clips(
    settings: MultiResolutionConfig, parts: TokenComponents, buckets: Sequence[Bucket], out: Path
) -> PocketBuckets:
    """Open pocket clips of all sizes, which the ranks encode first unless the config names a folder of latents."""
    root, count = out / "latents", settings.clips
    if settings.data:
        return PocketBuckets(Path(settings.data), buckets, VAEFingerprint.of(parts.vae, parts.vae_folder))
    done = filled_clips(root, buckets, count)
    encode_parallel(encode_clips, root, buckets, count, settings.seed, parts.vae_folder, done=done)
    return PocketBuckets(root, buckets)


def encode_clips(
    root: Path, buckets: Sequence[Bucket], count: int, seed: int, vae: Path, share: tuple[int, int],
    report: Callable[[str], None],
) -> None:  # fmt: skip
    """Do a share of encoding clips of every size (see `latent_shards.fill_shards`). vae: the folder of the VAE."""
    net = load_vae(vae, default_family("token"), process_device())
    fill_clips(root, buckets, count, seed, encoding(net), share, report, VAEFingerprint.of(net, vae))
