"""Videos that were replaced after they were prepared: their cached latents would be those of the old ones."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from longtake.core.errors import ConfigError
from longtake.data.prepare import WORK
from longtake.data.scan import HASHES, HashCache, stamp_of
from longtake.data.shots.analysis import file_sha256

NAMED = 3  # videos that the error names


def refuse_changed(prepared: Path, folder: Path, hashes: Mapping[str, str]) -> None:
    """Raise ConfigError if a video has other contents than when the folder was prepared.

    hashes: the SHA-256 of every video then. A video whose size and modification time are those of then is not read. One
    that is gone is no error: its latents may be in the cache.
    """
    cache, changed = HashCache(prepared / WORK / HASHES), []
    for video, sha256 in sorted(hashes.items()):
        path = folder / video
        if (stamp := stamp_of(path)) is None:
            continue
        if (now := cache.get(video, stamp)) is None:
            now = file_sha256(path)
            with suppress(OSError):  # the prepared folder is read-only
                cache.put(video, stamp, now)
        if now != sha256:
            changed.append(video)
    if changed:
        more = ", ..." if len(changed) > NAMED else ""
        raise ConfigError(
            f"{len(changed)} of the videos changed after {prepared} was prepared ({', '.join(changed[:NAMED])}{more}): "
            "prepare the folder again, and only what changed is read and encoded again"
        )
