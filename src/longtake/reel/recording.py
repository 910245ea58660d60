"""Record a rollout into a reel, or go on with one: engine events pass through, and the reel adds its own."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from longtake.events import Began, Ended, Frames
from longtake.events import Event as EngineEvent
from longtake.given import Making
from longtake.reel import disk, edits, journal, playlist, snapshot
from longtake.reel import given as givens
from longtake.reel import manifest as manifests
from longtake.reel.damage import damaged, refuse
from longtake.reel.disk import ReelError
from longtake.reel.journal import Journal
from longtake.reel.layout import Layout, claim, existing, locked
from longtake.reel.manifest import Manifest, threads
from longtake.reel.publish import Published, publish
from longtake.reel.segments import Cutter, Segment, Shelf
from longtake.reel.snapshot import Keep, Saved

QUICK = 1 << 28  # bytes of segments up to which a resume compares every hash; beyond it only sizes


@dataclass(frozen=True)
class Opened:
    """The reel is open. frames: output frames made before the window that comes next; segments: those on disk."""

    folder: Path
    frames: int
    segments: int


@dataclass(frozen=True)
class Snapshot:
    """If the process dies now, a resume goes on after window `window`, at output frame `frames`."""

    window: int
    frames: int
    bytes: int


@dataclass(frozen=True)
class Done:
    """The video is complete."""

    published: Published


Event = EngineEvent | Opened | Segment | Snapshot | Done


def record(
    rollout: Making,
    manifest: Manifest,
    folder: Path | str,
    *,
    fresh: bool = False,
    allow: Iterable[str] = (),
    keep: Keep | None = None,
    finish: bool = False,
    given: Mapping[str, Path] | None = None,
) -> Generator[Event]:
    """Run a rollout (made anew, of one video) and write it as it goes; on an existing reel, go on where it stands.

    Leaving the loop at any point, a signal, a kill or a power cut leave a reel that can be resumed, and a resumed reel
    becomes the same bytes as one that was never stopped. A `Segment` event comes after the segment is durable.
    fresh: refuse a folder that holds a reel. allow: names of differences from run.json that may pass ("all"; "segments"
    keeps recorded segments that come out different). finish: if the caller or a signal stops it, publish what is there.
    given: the files that settings["given"] tells of; a new reel copies them.
    Errors: ReelError with a sentence that says what to do.
    """
    layout, allowed = claim(Path(folder), fresh), tuple(allow)
    with locked(layout):
        recording = _Recording.open(layout, manifest, allowed, keep or Keep(), given or {})
        with closing(recording.journal), threads(recording.manifest.threads):
            try:
                yield from recording.run(rollout)
            except (GeneratorExit, KeyboardInterrupt):
                recording.journal.close()
                if finish:
                    _publish_so_far(layout)
                raise


def publish_so_far(folder: Path | str) -> Published | None:
    """Make video.mp4 and the contact sheet of a stopped reel from its whole segments; it can still be resumed."""
    layout = existing(Path(folder))
    with locked(layout):
        return _publish_so_far(layout)


def _publish_so_far(layout: Layout) -> Published | None:
    with closing(Journal(layout.journal)) as book:
        published = publish(layout, manifests.load(layout.manifest))
        last = journal.published(layout.journal)
        if published and (last is None or Published.of(layout, last) != published):
            book.append("video", published.facts())
        return published


class _Recording:
    """A reel that is being written."""

    def __init__(self, layout: Layout, manifest: Manifest, book: Journal, keep: Keep, lenient: bool):
        self.layout, self.manifest, self.journal, self.keep = layout, manifest, book, keep
        self.known, hurt = damaged(layout, QUICK)
        refuse(layout, hurt)
        self.start = _newest(layout, self.known)
        self.snapshots = snapshot.forget(layout.snapshots, after=self.start)
        self.cutter = Cutter(manifest.segment)
        index = self.start.segments if self.start else 0
        self.shelf = Shelf(layout, manifest, book, index, self.known, lenient)
        self.inbox = edits.Inbox(layout, book, self.known * manifest.segment)
        self.fresh_take = False

    @staticmethod
    def open(
        layout: Layout, manifest: Manifest, allow: tuple[str, ...], keep: Keep, given: Mapping[str, Path]
    ) -> _Recording:
        """Check that the reel is the one that the manifest describes, clean up after a process that died, and go on."""
        allowed: list[manifests.Difference] = []
        old = manifests.load(layout.manifest) if layout.manifest.exists() else None
        if old:
            manifest, allowed = manifests.agreed(old, manifest, allow, layout.folder)
        with disk.explained(layout.folder, "opening the reel"):
            for folder in (layout.folder, layout.media, layout.snapshots):
                disk.sweep(folder)
            if old is None:
                givens.keep(layout, manifest.settings.get("given", {}), given)
                manifests.save(layout.manifest, manifest)
            book = Journal(layout.journal)
            if allowed:
                book.append("allowed", {"differences": [asdict(d) for d in allowed]})
                manifests.save(layout.manifest, manifest)
            playlist.restore(layout, manifest)
        try:
            return _Recording(layout, manifest, book, keep, bool(allowed) or bool({"segments", "all"} & set(allow)))
        except BaseException:
            book.close()
            raise

    def run(self, rollout: Making) -> Iterator[Event]:
        """All events from where the reel stands to the end of the video."""
        if next(journal.notes(self.layout.journal, "done"), None):
            yield from self._done_before()
            return
        edits.follow(self.layout, rollout)
        if self.start:
            self._load(rollout, self.start)
        yield Opened(self.layout.folder, self.start.frames if self.start else 0, self.known)
        self.inbox.take(rollout)
        for event in rollout.run():
            saved = self._saved(rollout, event) if isinstance(event, Ended) else None
            yield event
            if isinstance(event, Began):
                self.fresh_take |= event.window.cut is not None
            elif isinstance(event, Frames):
                yield from self._frames(event)
            if saved:
                yield Snapshot(saved.window, saved.frames, saved.bytes)
            self.inbox.saw(rollout, event)
        for first, frames in self.cutter.flush():
            yield self.shelf.put(first, frames)
        yield self._done()

    def _load(self, rollout: Making, start: Saved) -> None:
        tensors, facts, pending = snapshot.load(self.layout.snapshots, start)
        rollout.load(tensors, facts)
        self.cutter = Cutter(self.manifest.segment, start.segments * self.manifest.segment, pending)

    def _frames(self, event: Frames) -> Iterator[Segment]:
        frames = event.frames.cpu()
        if len(frames) != 1:
            raise ReelError(f"a reel holds one video, but the rollout makes {len(frames)} at once: give it one seed")
        if event.first != self.cutter.first + self.cutter.waiting or tuple(frames.shape[2:4]) != self.manifest.size:
            raise ReelError(
                f"frame {event.first} of {frames.shape[3]} x {frames.shape[2]} came where frame "
                f"{self.cutter.first + self.cutter.waiting} of {self.manifest.size[1]} x {self.manifest.size[0]} was due"
            )
        for first, run in self.cutter.push(frames[0]):
            yield self.shelf.put(first, run)

    def _saved(self, rollout: Making, event: Ended) -> Saved | None:
        """A snapshot, if it is time for one."""
        before = self.snapshots[-1].frames if self.snapshots else 0
        every = self.keep.every or self.manifest.segment
        replay = self.fresh_take or event.frames - self._last_replay() >= self.keep.replay * self.manifest.fps
        if event.frames - before < every and not self.fresh_take:
            return None
        tensors, facts = rollout.state()
        pending = self.cutter.pending
        with disk.explained(self.layout.folder, f"writing the snapshot after frame {event.frames}"):
            saved = snapshot.save(
                self.layout.snapshots, event.index, event.frames, self.shelf.index, replay, tensors, facts, pending
            )
            self.snapshots = snapshot.prune(self.layout.snapshots, [*self.snapshots, saved], self.keep)
        self.fresh_take = False
        return saved

    def _last_replay(self) -> int:
        return max((one.frames for one in self.snapshots if one.replay), default=0)

    def _done(self) -> Done:
        published = publish(self.layout, self.manifest)
        if published is None:
            raise ReelError("the rollout made no frames: ask for at least one")
        with disk.explained(self.layout.folder, "closing the reel"):
            self.journal.append("done", published.facts())
            playlist.append(self.layout.playlist, playlist.END)
        return Done(published)

    def _done_before(self) -> Iterator[Event]:
        """The reel is complete; make video.mp4 again if it is gone."""
        line = next(journal.notes(self.layout.journal, "done"))
        yield Opened(self.layout.folder, line["frames"], self.known)
        published = Published.of(self.layout, line)
        if not self.layout.video.exists() or not self.layout.sheet.exists():
            publish(self.layout, self.manifest)
        yield Done(published)


def _newest(layout: Layout, segments: int) -> Saved | None:
    """The snapshot to go on from. ReelError if the journal lost lines that were durable before a snapshot."""
    have = snapshot.saved(layout.snapshots)
    if have and have[-1].segments > segments:
        raise ReelError(
            f"{layout.journal} names {segments} segments, but there were {have[-1].segments} already: put it back, or "
            f"make the lost ones again, bit for bit, with {disk.resume(layout.folder, '--repair')}"
        )
    return snapshot.newest(layout.snapshots, segments)
