"""The reel: a run directory that is stream, checkpoint and playlist at once."""

from longtake.reel.disk import ReelError
from longtake.reel.edits import PromptStream
from longtake.reel.given import kept
from longtake.reel.layout import claim, vacant
from longtake.reel.manifest import Manifest, describe, manifest_of, threads
from longtake.reel.proof import Finding, verify
from longtake.reel.publish import Published
from longtake.reel.recording import Done, Event, Opened, Snapshot, publish_so_far, record
from longtake.reel.remake import repair
from longtake.reel.segments import Segment
from longtake.reel.snapshot import Keep
from longtake.reel.stop import Stopped, stoppable

__all__ = [
    "Done",
    "Event",
    "Finding",
    "Keep",
    "Manifest",
    "Opened",
    "PromptStream",
    "Published",
    "ReelError",
    "Segment",
    "Snapshot",
    "Stopped",
    "claim",
    "describe",
    "kept",
    "manifest_of",
    "publish_so_far",
    "record",
    "repair",
    "stoppable",
    "threads",
    "vacant",
    "verify",
]
