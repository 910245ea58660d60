"""The proof: every hash of a reel is checked, and a segment is made again and compared byte for byte."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longtake.reel import disk, edits, journal, playlist, snapshot
from longtake.reel import manifest as manifests
from longtake.reel.damage import damaged
from longtake.reel.disk import ReelError, Written
from longtake.reel.given import kept
from longtake.reel.journal import Entry
from longtake.reel.layout import Layout, existing
from longtake.reel.manifest import Manifest
from longtake.reel.remake import MakeRollout, remade

NAMED = 10  # damaged segments that are named one by one


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    fine: bool
    text: str


def verify(
    folder: Path | str, make: MakeRollout | None = None, segment: int | None = None, now: Manifest | None = None
) -> Iterator[Finding]:
    """Check a reel, which may be growing, and say what was found; nothing is changed.

    make: gives a new rollout of the reel's settings; segment `segment` (default: one at random) is then made again.
    now: the manifest as it would be here, to name what differs. Errors: ReelError if there is no reel.
    """
    layout = existing(Path(folder))
    manifest = manifests.load(layout.manifest)
    try:
        count, hurt = damaged(layout)
    except ReelError as error:
        yield Finding(False, str(error))
        return
    yield from _segments(layout, manifest, count, hurt)
    yield _playlist(layout, manifest, count)
    yield from _given(layout, manifest)
    yield from _prompts(layout, manifest)
    yield from _snapshots(layout)
    yield from _video(layout)
    for difference in manifests.differences(manifest, now) if now else []:
        yield Finding(True, f"not as it was when it was made, so bytes may differ: {difference}")
    if make and count:
        chosen = random.randrange(count) if segment is None else segment
        yield _remade(layout, manifest, make, chosen, count)


def _segments(layout: Layout, manifest: Manifest, count: int, hurt: list[int]) -> Iterator[Finding]:
    entries = (0, 0)
    for entry in journal.segments(layout.journal):
        entries = (entries[0] + entry.frames, entries[1] + entry.bytes)
    seconds = float(entries[0] / manifest.fps)
    found = f"{_some(count, 'segment')}, {_some(entries[0], 'frame')}, {seconds:.1f} s, {entries[1]:,} bytes"
    yield Finding(not hurt, f"{found}: " + (f"{len(hurt)} damaged" if hurt else "every SHA-256 is right"))
    for index in hurt[:NAMED]:
        path = layout.segment(index)
        what = "was altered" if path.exists() else "is missing"
        if index == 0 and path.exists() and disk.measure(layout.init) != journal.init(layout.journal):
            what = f"or {layout.init.name} was altered"
        yield Finding(False, f"{path.name} {what}: {disk.resume(layout.folder, '--repair')} makes it again")


def _playlist(layout: Layout, manifest: Manifest, count: int) -> Finding:
    fine = playlist.matches(layout, manifest)
    text = (
        f"lists {_some(count, 'segment')}, as journalled"
        if fine
        else f"is not what the journal says: {disk.resume(layout.folder)} mends it"
    )
    return Finding(fine, f"{layout.playlist.name} {text}")


def _given(layout: Layout, manifest: Manifest) -> Iterator[Finding]:
    facts = manifest.settings.get("given", {})
    try:
        for path in kept(layout.folder, facts).values():
            yield Finding(True, f"{path.name}, which the video was given, has its SHA-256")
    except ReelError as error:
        yield Finding(False, str(error))


def _prompts(layout: Layout, manifest: Manifest) -> Iterator[Finding]:
    """What was changed while it was made, and how it went over from scene to scene."""
    before = manifest.settings.get("given", {}).get("video", {}).get("frames", 0)
    for line in journal.notes(layout.journal, edits.EDIT):
        what = (
            f"{line['op']} from {float((line['at'] + before) / manifest.fps):.2f} s on" if "at" in line else "refused"
        )
        yield Finding(True, f"an edit, before window {line['window']}: {what}")
    for line in journal.notes(layout.journal, edits.SWITCH):
        told = f"{line['did']}, {line['distance']:.2f} from the prompt before"
        yield Finding(True, f"a switch at {float(line['frame'] / manifest.fps):.2f} s: {told}")


def _snapshots(layout: Layout) -> Iterator[Finding]:
    have = snapshot.saved(layout.snapshots)
    bad = [one for one in have if not snapshot.whole(layout.snapshots, one)]
    if have:
        text = f"{_some(len(have), 'snapshot')}, the last after frame {have[-1].frames}"
        yield Finding(not bad, f"{text}: " + (f"{len(bad)} damaged, which will not be used" if bad else "all whole"))


def _video(layout: Layout) -> Iterator[Finding]:
    line, found = journal.published(layout.journal), disk.measure(layout.video)
    name = layout.video.name
    if line is None:
        yield Finding(True, f"no {name} yet")
    elif found is None:
        yield Finding(False, f"{name} is missing: {disk.resume(layout.folder)} makes it from the segments")
    elif found == Written(line["bytes"], line["sha256"]):
        yield Finding(True, f"{name} has SHA-256 {found.sha256}, as recorded")
    else:
        yield Finding(False, f"{name} was altered: delete it, and {disk.resume(layout.folder)} makes it again")


def _remade(layout: Layout, manifest: Manifest, make: MakeRollout, index: int, count: int) -> Finding:
    if not 0 <= index < count:
        return Finding(False, f"there is no segment {index}: choose one from 0 to {count - 1}")
    try:
        made = remade(layout, manifest, make, index)
    except ReelError as error:
        return Finding(False, str(error))
    entry: Entry = next(journal.segments(layout.journal, start=index))
    what = (
        f"segment {index} (frames {made.first} to {made.first + made.frames - 1}) made again from frame {made.since} on"
    )
    if disk.digest(made.media) == entry.written:
        return Finding(True, f"{what}: the same {entry.bytes:,} bytes, SHA-256 {entry.sha256}")
    return Finding(False, f"{what}: different bytes ({len(made.media):,}, recorded {entry.bytes:,})")


def _some(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")
