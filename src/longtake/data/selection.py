"""The second pass over a folder: rules, captions and duplicates, in the order of the file names.

It reads videos only for plug-ins, whose answers are stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from longtake.data.captions import captioners
from longtake.data.captions.answers import AnswerCache
from longtake.data.captions.caption import Caption
from longtake.data.captions.captioners import Captioner, CaptionerError, ShotView
from longtake.data.captions.tables import CaptionTable, TableError, read_text
from longtake.data.captions.timed import CaptionTrack, ShotCaption, caption_of_shot
from longtake.data.filters import DuplicateIndex, broken_rules
from longtake.data.manifest import BY_HAND, DROPPED, SHOTS, PreparedShot, ShotKey, printable, replacing
from longtake.data.report import Report
from longtake.data.rules import Rules
from longtake.data.shots.analysis import Analysis, AnalysisSettings, Shot, stored_analysis
from longtake.media.video_reader import VideoError

TextDetector = Callable[[np.ndarray], float]  # frame (H, W, 3) uint8 -> share of it that text covers


@dataclass(frozen=True)
class WrittenCaptions:
    """The captions that people wrote. encoding: of .txt files. edited: shots whose captions were edited by hand."""

    table: CaptionTable = field(default_factory=CaptionTable)
    encoding: str = "utf-8"
    edited: Mapping[ShotKey, Mapping[str, PreparedShot]] = field(default_factory=dict)


@dataclass(frozen=True)
class PlugIns:
    """The captioner and the detector of text, each with its name, under which answers are stored."""

    captioner_name: str
    captioner: Captioner
    text_name: str | None = None
    text_detector: TextDetector | None = None


@dataclass
class Selection:
    """Decides which shots are kept, and gives them captions.

    duplicates: the fingerprints of the shots kept so far. met: edited shots that were found again.
    """

    folder: Path
    rules: Rules
    settings: AnalysisSettings
    report: Report
    written: WrittenCaptions
    plug_ins: PlugIns
    duplicates: DuplicateIndex = field(default_factory=DuplicateIndex)
    met: set[ShotKey] = field(default_factory=set)

    def write(self, out: Path, hashes: dict[str, str]) -> None:
        """Write shots.jsonl and dropped.jsonl. hashes: the SHA-256 of every video."""
        with replacing(out / SHOTS) as kept, replacing(out / DROPPED) as dropped:
            for video in sorted(hashes):
                if (file := stored_analysis(hashes[video], self.settings)) is None:
                    self._error(video, "its analysis is missing: prepare the folder again")
                    continue
                try:
                    track, source = self._written(video)
                except (TableError, OSError) as error:
                    self._error(video, str(error))
                    continue
                if file.missing:
                    self.report.notes.append(
                        f"{printable(video)} may be truncated: its frames end {file.missing:.1f} s before the time in "
                        "its header"
                    )
                if file.hdr:
                    self.report.notes.append(f"{printable(video)} is HDR: its colours are tone-mapped to BT.709")
                for shot in file.shots:
                    self._select(video, file, shot, (track, source), kept, dropped)
            self._keep_edited(dropped)
        self.report.errors.sort()

    def _error(self, name: str, why: str) -> None:
        self.report.errors.append((printable(name), why))

    def _written(self, video: str) -> tuple[CaptionTrack, str]:
        """The captions that people wrote for a video, and where: a line of the table, else the .txt next to the video."""
        table = self.written.table
        if video in table.captions:
            assert table.path
            return table.captions[video], f"{table.path.name} line {table.lines[video]}"
        text = (self.folder / video).with_suffix(".txt")
        if text.exists():
            return [(0.0, read_text(text, self.written.encoding))], printable(text.name)
        return [], ""

    def _select(
        self, video: str, file: Analysis, shot: Shot, written: tuple[CaptionTrack, str], kept: TextIO, dropped: TextIO
    ) -> None:
        """Write a shot into one of the lists, and count it."""
        reasons, text = dict(broken_rules(self.rules, shot, file)), None
        caption = self._edited(video, file, shot) or caption_of_shot(*written, shot.start_seconds, shot.seconds)
        try:
            if not reasons:
                text = self._check_text(video, file, shot, reasons)
                self._check_duplicate(shot, reasons)
            if not reasons and not caption.caption and caption.source != BY_HAND:
                caption = self._ask_captioner(video, file, shot, caption)
        except (CaptionerError, VideoError) as error:
            reasons["failed"] = str(error)
            self._error(f"{video} {shot.start}-{shot.stop - 1}", str(error))
        one = PreparedShot(video, file.sha256, file.size, shot, caption.caption, caption.source, text, caption.later)
        words = "; ".join(f"{name}: {why}" for name, why in reasons.items()) or caption.caption.sentence()
        self.report.count(video, shot, words, list(reasons))
        if reasons:
            dropped.write(json.dumps({**one.facts(), "reasons": reasons}) + "\n")
        else:
            self.duplicates.add(shot.metrics.fingerprint, shot.seconds, one.name)
            self.report.captions[_kind(caption.source)] += 1
            kept.write(json.dumps(one.facts()) + "\n")

    def _edited(self, video: str, file: Analysis, shot: Shot) -> ShotCaption | None:
        """The caption of a shot that was edited by hand: in this file, or else in another one with the same contents."""
        key = (file.sha256, shot.start, shot.stop)
        if key not in self.written.edited:
            return None
        self.met.add(key)
        found = self.written.edited[key]
        one = found.get(video, next(iter(found.values())))
        return ShotCaption(one.caption, BY_HAND, one.later)

    def _keep_edited(self, dropped: TextIO) -> None:
        """Write edited captions whose shots are absent to the list of dropped shots, in case the shots come back."""
        edited = self.written.edited.items()
        absent = [one for key, found in edited if key not in self.met for one in found.values()]
        for one in absent:
            dropped.write(json.dumps({**one.facts(), "reasons": {"absent": "there is no such shot now"}}) + "\n")
        if absent:
            names = ", ".join(one.name for one in absent[:5]) + (", ..." if len(absent) > 5 else "")
            self.report.notes.append(f"{DROPPED} keeps edited captions of shots that are absent now: {names}")

    def _check_text(self, video: str, file: Analysis, shot: Shot, reasons: dict[str, str]) -> float | None:
        """The share of the frame that text covers, if there is a detector of text."""
        detect, view = self.plug_ins.text_detector, self._view(video, shot)
        if detect is None:
            return None
        ask = lambda: max(float(detect(frame)) for frame in view.frames)
        share = self._answers.get(f"text {self.plug_ins.text_name}", (file.sha256, shot.start, shot.stop), ask)
        if self.rules.max_text_share is not None and share > self.rules.max_text_share:
            reasons["text"] = f"{share:.1%} of a frame, at most {self.rules.max_text_share:.1%}"
        return share

    def _check_duplicate(self, shot: Shot, reasons: dict[str, str]) -> None:
        if not self.rules.duplicates or reasons:
            return
        if (other := self.duplicates.find(shot.metrics.fingerprint, shot.seconds)) is not None:
            reasons["duplicate"] = f"like {other}"

    def _ask_captioner(self, video: str, file: Analysis, shot: Shot, given: ShotCaption) -> ShotCaption:
        """The caption of a shot by the captioner; a plug-in's answer is stored."""
        name, view, captioner = self.plug_ins.captioner_name, self._view(video, shot), self.plug_ins.captioner
        if name in captioners.BUILT_IN:
            caption = captioners.describe_shot(captioner, view)
        else:
            plug_in = f"captioner {name} {getattr(captioner, 'version', '')}"
            ask = lambda: captioners.describe_shot(captioner, view).facts()
            caption = Caption(**self._answers.get(plug_in, (file.sha256, shot.start, shot.stop), ask))
        return ShotCaption(caption, f"captioner {name}" if caption else "", given.later)

    def _view(self, video: str, shot: Shot) -> ShotView:
        return ShotView(self.folder / video, shot.start_seconds, shot.seconds, shot.fps, shot.stamps)

    @property
    def _answers(self) -> AnswerCache:
        return AnswerCache(self.settings.work / "answers")


def _kind(source: str) -> str:
    """The kind of a caption's source, for the report."""
    if not source:
        return "no caption"
    return ".txt next to the video" if source.endswith(".txt") else source.split(" line ")[0]
