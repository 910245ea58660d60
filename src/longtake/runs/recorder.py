"""Recording: write the video of a rollout into a run directory as it is generated, or resume a run that was stopped."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from longtake.core.errors import NonFiniteError
from longtake.core.finite import first_non_finite
from longtake.core.process.memory_errors import ADVICE, out_of_memory
from longtake.core.units import pixels, plural
from longtake.engine.events import Event as EngineEvent
from longtake.engine.events import Frames, WindowDone, WindowStarted
from longtake.pipelines.settings.machine import torch_threads
from longtake.pipelines.settings.video_continuation import Generation
from longtake.runs.edit_inbox import EditInbox, follow_accepted_edits
from longtake.runs.events import Event, PublishedVideo, RunFinished, RunOpened, SegmentWritten, SnapshotSaved
from longtake.runs.files import durable, journal, playlist, snapshots
from longtake.runs.files import manifest as manifests
from longtake.runs.files.damage import damaged_segments, refuse_damage
from longtake.runs.files.differences import Difference, agreed_manifest
from longtake.runs.files.errors import OPENING, RunError, explained, resume_command
from longtake.runs.files.folder import check_output_folder, existing_layout
from longtake.runs.files.input_files import copy_inputs, input_facts
from longtake.runs.files.journal import ALLOWED, DONE, VIDEO, Journal
from longtake.runs.files.layout import Layout, locked
from longtake.runs.files.lost_lines import RUN_JSON, check_journal, check_run_json
from longtake.runs.files.manifest import Manifest
from longtake.runs.files.snapshots import SnapshotFile, SnapshotPolicy
from longtake.runs.publish import publish
from longtake.runs.segments import SegmentBuffer, SegmentWriter

CONTENTS_BUDGET = 1 << 28  # bytes of segments up to which a resume compares every hash; behind it only sizes


def record(
    rollout: Generation,
    manifest: Manifest,
    folder: Path | str,
    *,
    fresh: bool = False,
    allow: Iterable[str] = (),
    policy: SnapshotPolicy | None = None,
    finish: bool = False,
    inputs: Mapping[str, Path] | None = None,
) -> Generator[Event]:
    """Run a new rollout of one video and write its frames; a folder that holds the run already is resumed.

    However the loop ends (the caller leaves it, a signal, a kill, a power cut), the run can be resumed, and a resumed run
    becomes the same bytes as one that was never stopped. `SegmentWritten` comes after the segment is durable.

    fresh: refuse a folder that holds a run. allow: names of differences from run.json that may pass ("all"; "segments"
    keeps recorded segments that come out different). policy: which snapshots to keep. finish: publish the segments so far
    if the caller or a signal stops the loop. inputs: the files that settings["inputs"] names, which a new run copies.
    Raises RunError with a sentence that says what to do.
    """
    layout, allowed = check_output_folder(Path(folder), fresh), tuple(allow)
    with explained(layout.folder, OPENING):
        layout.folder.mkdir(parents=True, exist_ok=True)
    with locked(layout):
        recorder = _Recorder.open(layout, manifest, allowed, policy or SnapshotPolicy(), inputs or {})
        with closing(recorder.journal), torch_threads(recorder.manifest.threads):
            try:
                yield from recorder.run(rollout)
            except (GeneratorExit, KeyboardInterrupt):
                recorder.journal.close()
                if finish:
                    _publish_so_far(layout)
                raise
            except Exception as error:
                if not out_of_memory(error):
                    raise
                raise _too_little_memory(layout, recorder) from error


def _too_little_memory(layout: Layout, recorder: _Recorder) -> RunError:
    """Return the error of a run that could not allocate memory: what is safe, and what helps."""
    safe = plural(recorder.writer.index, "segment")
    return RunError(
        f"this run needs more memory than there is; {safe} before it are safe. {resume_command(layout.folder)} continues "
        "after them once there is more, with --offload blocks also where a GPU is too small, and the frames stay the same. "
        f"For a new run, {ADVICE}"
    )


def publish_so_far(folder: Path | str) -> PublishedVideo | None:
    """Write video.mp4 and the contact sheet of a stopped run from its complete segments; the run can still be resumed."""
    layout = existing_layout(Path(folder))
    with locked(layout):
        return _publish_so_far(layout)


def _publish_so_far(layout: Layout) -> PublishedVideo | None:
    with closing(Journal(layout.journal)) as open_journal:
        published = publish(layout, manifests.load(layout.manifest))
        last = journal.last_video(layout.journal)
        if published and (last is None or _video_of(layout, last) != published):
            open_journal.append(VIDEO, published.facts())
        return published


def finished_before(folder: Path | str) -> Generator[Event]:
    """Yield the events of a run that is complete; its video.mp4 and contact sheet are written again where they are missing."""
    layout = existing_layout(Path(folder))
    with locked(layout):
        recorder = _Recorder.open(layout, manifests.load(layout.manifest), (), SnapshotPolicy(), {})
        with closing(recorder.journal):
            yield from recorder.finished_before()


@dataclass(frozen=True)
class _Checked:
    """A folder that was checked and can be written. manifest: to record with. differences: that --allow let pass.

    new: the folder holds no run yet. recorded: segments in the journal. start: the snapshot to continue from.
    """

    manifest: Manifest
    differences: list[Difference]
    new: bool
    recorded: int
    start: SnapshotFile | None

    @staticmethod
    def of(layout: Layout, manifest: Manifest, allow: tuple[str, ...]) -> _Checked:
        """Check everything without writing anything. Raises RunError if the folder cannot be resumed with this manifest."""
        differences: list[Difference] = []
        old = manifests.load(layout.manifest) if layout.manifest.exists() else None
        if old:
            if altered := check_run_json(layout, allow):
                differences.append(Difference(RUN_JSON, *altered))
            manifest, found = agreed_manifest(old, manifest, allow, layout.folder)
            differences += found
        recorded, damaged = damaged_segments(layout, CONTENTS_BUDGET)
        refuse_damage(layout, damaged)
        check_journal(layout, recorded)
        start = snapshots.newest(layout.snapshots, recorded)
        return _Checked(manifest, differences, old is None, recorded, start)


class _Recorder:
    """A run that is being written.

    first_of_clip: a new clip started since the last snapshot, so the next snapshot is kept for replay.
    """

    def __init__(
        self, layout: Layout, found: _Checked, open_journal: Journal, policy: SnapshotPolicy, keep_recorded: bool
    ):
        self.layout, self.manifest, self.journal, self.policy = layout, found.manifest, open_journal, policy
        self.start = found.start
        self.snapshots = snapshots.delete_later(layout.snapshots, after=self.start)
        self.buffer = SegmentBuffer(self.manifest.segment)
        index = self.start.segments if self.start else 0
        self.writer = SegmentWriter(layout, self.manifest, open_journal, index, found.recorded, keep_recorded)
        self.inbox = EditInbox(layout, open_journal, found.recorded * self.manifest.segment)
        self.first_of_clip = False

    @staticmethod
    def open(
        layout: Layout,
        manifest: Manifest,
        allow: tuple[str, ...],
        policy: SnapshotPolicy,
        inputs: Mapping[str, Path],
    ) -> _Recorder:
        """Create the run, or check that the folder holds the run of this manifest and clean up after a killed process.

        Nothing but the lock is written before everything is checked.
        """
        found = _Checked.of(layout, manifest, allow)
        manifest = found.manifest
        with explained(layout.folder, "opening the run"):
            for folder in (layout.folder, layout.media, layout.snapshots):
                folder.mkdir(exist_ok=True)
                durable.delete_temporary(folder)
            if found.new:
                copy_inputs(layout, input_facts(manifest), inputs)
                manifests.save(layout.manifest, manifest)
            open_journal = Journal(layout.journal, manifests.sha256(layout.manifest))
            if found.differences:
                facts = [asdict(one) for one in found.differences]
                new = durable.digest(manifests.encoded(manifest)).sha256
                open_journal.append(ALLOWED, {"differences": facts, "run_sha256": new})
                manifests.save(layout.manifest, manifest)
            playlist.restore(layout, manifest)
        try:
            keep_recorded = bool(found.differences) or bool({"segments", "all"} & set(allow))
            return _Recorder(layout, found, open_journal, policy, keep_recorded)
        except BaseException:
            open_journal.close()
            raise

    def run(self, rollout: Generation) -> Iterator[Event]:
        """Yield all events from the last snapshot (or the start) to the end of the video."""
        if journal.done_line(self.layout.journal):
            yield from self.finished_before()
            return
        follow_accepted_edits(self.layout, rollout)
        if self.start:
            self._load(rollout, self.start)
        yield RunOpened(self.layout.folder, self.start.frames if self.start else 0, self.writer.recorded)
        self.inbox.decide(rollout)
        for event in self._generated(rollout):
            saved = self._snapshot(rollout, event) if isinstance(event, WindowDone) else None
            yield event
            if isinstance(event, WindowStarted):
                self.first_of_clip |= event.window.cut is not None
            elif isinstance(event, Frames):
                yield from self._write(event)
            if saved:
                yield SnapshotSaved(saved.window, saved.frames, saved.bytes)
            self.inbox.on_event(rollout, event)
        for first, frames in self.buffer.flush():
            yield self.writer.put(first, frames)
        yield self._finish()

    def _generated(self, rollout: Generation) -> Iterator[EngineEvent]:
        """Yield the events of the rollout. Raises RunError, with the way on, where its numbers become NaN or infinite."""
        try:
            yield from rollout.run()
        except NonFiniteError as error:
            raise RunError(
                f"{error}. The run stopped there: {plural(self.writer.index, 'segment')} before it are safe, and "
                f"{resume_command(self.layout.folder)} continues after them once the cause is gone"
            ) from error

    def _load(self, rollout: Generation, start: SnapshotFile) -> None:
        tensors, facts, pending = snapshots.load(self.layout.snapshots, start)
        rollout.load(tensors, facts)
        self.buffer = SegmentBuffer(self.manifest.segment, start.segments * self.manifest.segment, pending)

    def _write(self, event: Frames) -> Iterator[SegmentWritten]:
        frames = event.frames.cpu()
        if len(frames) != 1:
            raise RunError(f"a run holds one video, but the rollout generates {len(frames)} at once: give it one seed")
        due = self.buffer.first + self.buffer.waiting
        if event.first != due or tuple(frames.shape[2:4]) != self.manifest.size:
            raise RunError(
                f"the rollout gave frame {event.first} of {pixels(frames.shape[2:4])}, but frame "
                f"{due} of {pixels(self.manifest.size)} was due"
            )
        for first, segment in self.buffer.push(frames[0]):
            yield self.writer.put(first, segment)

    def _snapshot(self, rollout: Generation, event: WindowDone) -> SnapshotFile | None:
        """Write a snapshot if the policy asks for one after this window."""
        before = self.snapshots[-1].frames if self.snapshots else 0
        every = self.policy.every or self.manifest.segment
        last_replay = max((one.frames for one in self.snapshots if one.replay), default=0)
        replay = self.first_of_clip or event.frames - last_replay >= self.policy.replay * self.manifest.fps
        if event.frames - before < every and not self.first_of_clip:
            return None
        tensors, facts = rollout.state()
        if (bad := first_non_finite(tensors.items())) is not None:
            raise RunError(
                f"after window {event.index} (from 0) the state {bad} holds NaN or infinity, so the next window would: "
                f"{plural(self.writer.index, 'segment')} before it are safe, and {resume_command(self.layout.folder)} "
                "continues after the last snapshot"
            ) from NonFiniteError(bad)
        folder, pending = self.layout.snapshots, self.buffer.pending
        with explained(self.layout.folder, f"writing the snapshot after frame {event.frames}"):
            saved = snapshots.save(
                folder, event.index, event.frames, self.writer.index, replay, tensors, facts, pending
            )
            self.snapshots = snapshots.prune(folder, [*self.snapshots, saved], self.policy)
        self.first_of_clip = False
        return saved

    def _finish(self) -> RunFinished:
        published = publish(self.layout, self.manifest)
        if published is None:
            raise RunError("the rollout generated no frames: ask for at least one")
        with explained(self.layout.folder, "closing the run"):
            self.journal.append(DONE, published.facts())
            playlist.append(self.layout, self.manifest, playlist.END)
        return RunFinished(published)

    def finished_before(self) -> Iterator[Event]:
        """Yield the events of a run that is complete; write video.mp4 again if it is missing."""
        line = journal.done_line(self.layout.journal)
        assert line is not None
        yield RunOpened(self.layout.folder, line["frames"], self.writer.recorded)
        published = _video_of(self.layout, line)
        if not self.layout.video.exists() or not self.layout.sheet.exists():
            publish(self.layout, self.manifest)
        yield RunFinished(published)


def _video_of(layout: Layout, line: journal.Line) -> PublishedVideo:
    return PublishedVideo.from_facts(layout.video, layout.sheet, line)
