"""Run directories: each is stream, checkpoint and playlist at once. `record` writes and resumes them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longtake.runs.delivery import deliver, delivered, discard
    from longtake.runs.events import (
        Event,
        FileWritten,
        PublishedVideo,
        RunFinished,
        RunOpened,
        SegmentWritten,
        SnapshotSaved,
    )
    from longtake.runs.files.errors import RunError
    from longtake.runs.files.folder import check_output_folder, create_layout
    from longtake.runs.files.input_files import checked_inputs, input_facts
    from longtake.runs.files.manifest import Manifest, describe, manifest_of
    from longtake.runs.files.snapshots import SnapshotPolicy
    from longtake.runs.integrity.regenerate import repair
    from longtake.runs.integrity.verify import Check, verify
    from longtake.runs.prompt_stream import PromptStream
    from longtake.runs.recorder import finished_before, publish_so_far, record

_MODULES = {
    "delivery": ["deliver", "delivered", "discard"],
    "events": ["Event", "FileWritten", "PublishedVideo", "RunFinished", "RunOpened", "SegmentWritten", "SnapshotSaved"],
    "files.errors": ["RunError"],
    "files.input_files": ["checked_inputs", "input_facts"],
    "files.folder": ["check_output_folder", "create_layout"],
    "files.manifest": ["Manifest", "describe", "manifest_of"],
    "files.snapshots": ["SnapshotPolicy"],
    "integrity.regenerate": ["repair"],
    "integrity.verify": ["Check", "verify"],
    "prompt_stream": ["PromptStream"],
    "recorder": ["finished_before", "publish_so_far", "record"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [
    "Check",
    "Event",
    "FileWritten",
    "Manifest",
    "PromptStream",
    "PublishedVideo",
    "RunError",
    "RunFinished",
    "RunOpened",
    "SegmentWritten",
    "SnapshotPolicy",
    "SnapshotSaved",
    "check_output_folder",
    "checked_inputs",
    "create_layout",
    "deliver",
    "delivered",
    "describe",
    "discard",
    "finished_before",
    "input_facts",
    "manifest_of",
    "publish_so_far",
    "record",
    "repair",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: reading the files of a run needs neither torch nor the engine."""
    if name not in _HOME:
        raise AttributeError(f"module 'longtake.runs' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"longtake.runs.{_HOME[name]}"), name)
    return found
