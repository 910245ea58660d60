"""The line that announces a download before it begins."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from longtake.models.checkpoints.hub import DownloadInfo
from longtake.models.family import ReleasedCheckpoint
from longtake.models.registry import presets


def announce(offer: DownloadInfo) -> None:
    """Say what will be downloaded, before it is."""
    known = next((p for p in presets().values() if p.hub == offer.repo), None)
    Console(stderr=True, highlight=False).print(escape(_words(offer, known)), soft_wrap=True)


def _words(offer: DownloadInfo, known: ReleasedCheckpoint | None) -> str:
    parts = known.gigabytes() if known else {}
    memory = ", ".join(f"{name} {size:.1f}" for name, size in parts.items())
    return (
        f"{offer.repo} at {offer.revision[:12]}: {offer.bytes / 1e9:.1f} GB in {offer.files} files, licence "
        f"{offer.licence}" + (f"; weights in memory: {sum(parts.values()):.1f} GB ({memory})" if parts else "")
    )
