"""Verification: check every hash in a run directory, and generate one segment again to compare it byte for byte."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longtake.core.errors import NonFiniteError
from longtake.core.units import plural
from longtake.planning.scene_changes import TRANSITIONS
from longtake.runs.files import durable, journal, playlist, snapshots
from longtake.runs.files import manifest as manifests
from longtake.runs.files.damage import damaged_segments
from longtake.runs.files.differences import differences
from longtake.runs.files.edit_files import damaged_requests, horizon_is_damaged
from longtake.runs.files.errors import RunError, resume_command
from longtake.runs.files.folder import existing_layout
from longtake.runs.files.input_files import checked_inputs, frames_before, input_facts
from longtake.runs.files.journal import EDIT, SCENE
from longtake.runs.files.layout import Layout
from longtake.runs.files.lost_lines import claims, run_json_altered
from longtake.runs.files.manifest import Manifest
from longtake.runs.files.snapshots import SnapshotFile
from longtake.runs.integrity.regenerate import NewRollout, regenerate_segment

NAMED = 10  # damaged segments that are named one by one
PUBLISHING = 0.5  # seconds between the two looks at a video that does not match its line


@dataclass(frozen=True)
class Check:
    """One line of the report. passed: whether the check found the run as it should be."""

    passed: bool
    text: str


def verify(
    folder: Path | str,
    new_rollout: NewRollout | None = None,
    segment: int | None = None,
    now: Manifest | None = None,
) -> Iterator[Check]:
    """Check a run directory, which may still be growing, and yield each result; nothing is changed.

    new_rollout: gives a rollout with the settings of the run; then segment `segment` (None: a random one) is generated
    again. now: the manifest that the run would have here, to name the differences. Raises RunError if there is no run.
    """
    layout = existing_layout(Path(folder))
    manifest = manifests.load(layout.manifest)
    if not layout.journal.exists():
        yield Check(False, f"{layout.journal.name} is missing: put it back, or start a new run in another folder")
    length = journal.complete_length(layout.journal)  # of a run that is growing, what was durable by now is checked
    try:
        count, damaged = damaged_segments(layout, length=length)
        altered = run_json_altered(layout, length)
    except RunError as error:
        yield Check(False, str(error))
        return
    yield _check_run_json(layout, altered)
    yield from _check_segments(layout, manifest, count, damaged, length)
    yield _check_playlist(layout, manifest, count)
    yield from _check_lost_lines(layout)
    yield from _check_inputs(layout, manifest)
    yield from _list_edits(layout, manifest, length)
    yield from _check_edit_files(layout)
    yield from _check_snapshots(layout)
    yield from _check_video(layout)
    for difference in differences(manifest, now) if now else []:
        yield Check(True, f"this machine or its software differs, so bytes may differ: {difference}")
    if new_rollout and count and not altered:
        chosen = random.randrange(count) if segment is None else segment
        yield _check_regenerated(layout, manifest, new_rollout, chosen, count)


def _check_run_json(layout: Layout, altered: tuple[str, str] | None) -> Check:
    if altered is None:
        return Check(True, f"{layout.manifest.name} is as the run wrote it")
    text = f"{layout.manifest.name} was altered: put back the file with SHA-256 {altered[0]}"
    return Check(False, f"{text} (no segment is generated again from other settings)")


def _check_segments(layout: Layout, manifest: Manifest, count: int, damaged: list[int], length: int) -> Iterator[Check]:
    frames = size = 0
    for entry in journal.segments(layout.journal, length=length):
        frames, size = frames + entry.frames, size + entry.bytes
    seconds = float(frames / manifest.fps)
    found = f"{plural(count, 'segment')}, {plural(frames, 'frame')}, {seconds:.1f} s, {size:,} bytes"
    yield Check(not damaged, f"{found}: " + (f"{len(damaged)} damaged" if damaged else "every SHA-256 is right"))
    init_damaged = count > 0 and durable.file_digest(layout.init) != journal.init_digest(layout.journal, length)
    repair = f"{resume_command(layout.folder, '--repair')} generates it again"
    if init_damaged:
        yield Check(False, f"{layout.init.name} {_problem(layout.init)}: {repair}")
    for index in damaged[:NAMED]:
        path = layout.segment(index)
        entry = next(journal.segments(layout.journal, start=index, length=length))
        if durable.file_digest(path) != entry.digest:
            yield Check(False, f"{path.name} {_problem(path)}: {repair}")


def _problem(path: Path) -> str:
    return "was altered" if path.exists() else "is missing"


def _check_playlist(layout: Layout, manifest: Manifest, count: int) -> Check:
    """The playlist of a run that is growing may be one segment behind the journal, or have more than was read of it."""
    listed = playlist.listed(layout, manifest)
    name, resume = layout.playlist.name, resume_command(layout.folder)
    if listed is None or listed < count - 1:
        return Check(False, f"{name} does not match the journal: {resume} writes it again")
    behind = " (one behind, as while it grows)" if listed == count - 1 else ", as the journal does"
    return Check(True, f"{name} lists {plural(listed, 'segment')}{behind}")


def _check_lost_lines(layout: Layout) -> Iterator[Check]:
    """What names more segments than the journal; the journal is read last, since it grows first."""
    found = claims(layout)
    now = max((entry.index + 1 for entry in journal.segments(layout.journal)), default=0)
    for claim in found:
        if claim.segments > now:
            text = f"{layout.journal.name} names {plural(now, 'segment')}, but {claim.text}: put the journal back"
            yield Check(False, f"{text}, or {resume_command(layout.folder, '--repair')} generates them again")


def _check_inputs(layout: Layout, manifest: Manifest) -> Iterator[Check]:
    try:
        for path in checked_inputs(layout.folder, input_facts(manifest)).values():
            yield Check(True, f"the input {path.name} has its SHA-256")
    except RunError as error:
        yield Check(False, str(error))


def _list_edits(layout: Layout, manifest: Manifest, length: int) -> Iterator[Check]:
    """The edits of the script during the run, and the transitions between its scenes."""
    before = frames_before(manifest)
    for line in journal.lines_of_kind(layout.journal, EDIT, length):
        decision = "refused"
        if "at" in line:
            decision = f"{line['op']} from {float((line['at'] + before) / manifest.fps):.2f} s on"
        yield Check(True, f"an edit before window {line['window']}: {decision}")
    for line in journal.lines_of_kind(layout.journal, SCENE, length):
        transition = f"{TRANSITIONS.get(line['did'], line['did'])}; prompt distance {line['distance']:.2f}"
        yield Check(True, f"a scene change at {float(line['frame'] / manifest.fps):.2f} s: {transition}")


def _check_edit_files(layout: Layout) -> Iterator[Check]:
    for number in damaged_requests(layout):
        text = f"line {number} of {layout.edit_requests.name} is damaged, so the run ignores it"
        yield Check(False, f"{text}: remove it, and request the edit again if the run did not decide it yet")
    if horizon_is_damaged(layout):
        yield Check(False, f"{layout.edit_horizon.name} is damaged: delete it, a resume writes it again")


def _check_snapshots(layout: Layout) -> Iterator[Check]:
    """A run that is growing deletes old snapshots meanwhile, which is no damage."""
    folder = layout.snapshots
    facts = snapshots.damaged_facts(folder)
    have = [(one, _snapshot_fault(folder, one)) for one in snapshots.snapshots(folder)]
    have = [(one, fault) for one, fault in have if not fault or one.line(folder).exists()]
    if have:
        text = f"{plural(len(have), 'snapshot')}, the last after frame {have[-1][0].frames}"
        bad = sum(fault is not None for _, fault in have)
        yield Check(not bad, f"{text}: " + (f"{bad} damaged, which a resume will not use" if bad else "all intact"))
    for fault in [*(f"{path.name} was altered" for path in facts), *(fault for _, fault in have if fault)]:
        yield Check(False, fault)


def _snapshot_fault(folder: Path, one: SnapshotFile) -> str | None:
    tensors = one.tensors(folder)
    if not snapshots.is_intact(folder, one):
        return f"{tensors.name} {_problem(tensors)}"
    try:
        name = snapshots.non_finite(folder, one)
    except FileNotFoundError:
        return None
    if name is None:
        return None
    return f"{name} of {tensors.name} holds NaN or infinity: the video after frame {one.frames} is black or noise"


def _check_video(layout: Layout) -> Iterator[Check]:
    """A run that ends meanwhile writes both files before their line, so they are looked at twice."""
    checks = _checks_of_video(layout)
    if not all(check.passed for check in checks):
        time.sleep(PUBLISHING)
        checks = _checks_of_video(layout)
    yield from checks


def _checks_of_video(layout: Layout) -> list[Check]:
    found, sheet = durable.file_digest(layout.video), durable.file_digest(layout.sheet)
    line, resume = journal.last_video(layout.journal), resume_command(layout.folder)
    if line is None:
        return [Check(True, f"no {layout.video.name} yet")]
    wanted = {layout.video: (found, line["sha256"]), layout.sheet: (sheet, line["sheet_sha256"])}
    checks = []
    for path, (digest, sha256) in wanted.items():
        if digest is None:
            checks.append(Check(False, f"{path.name} is missing: {resume} writes it from the segments"))
        elif digest.sha256 == sha256:
            checks.append(Check(True, f"{path.name} has SHA-256 {sha256}, as recorded"))
        else:
            checks.append(Check(False, f"{path.name} was altered: delete it, and {resume} writes it again"))
    return checks


def _check_regenerated(layout: Layout, manifest: Manifest, new_rollout: NewRollout, index: int, count: int) -> Check:
    if not 0 <= index < count:
        return Check(False, f"there is no segment {index}: choose one from 0 to {count - 1}")
    try:
        found = regenerate_segment(layout, manifest, new_rollout, index)
    except (RunError, NonFiniteError) as error:
        return Check(False, f"segment {index} cannot be generated again: {error}")
    entry = next(journal.segments(layout.journal, start=index))
    frames = f"frames {found.first} to {found.first + found.frames - 1}"
    text = f"segment {index} ({frames}) generated again from frame {found.since} on"
    if durable.digest(found.media) == entry.digest:
        return Check(True, f"{text}: the same {entry.bytes:,} bytes, SHA-256 {entry.sha256}")
    return Check(False, f"{text}: different bytes ({len(found.media):,}, recorded {entry.bytes:,})")
