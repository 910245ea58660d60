"""From a folder of videos to a folder of shots for training: the work of `longtake data prepare`.

Two passes. The first analyses every video that was not analysed before, in several processes. The second goes through the
results in the order of the file names, applies the rules, adds captions and writes the manifest. So a changed rule or caption
takes seconds, and killing the process at any moment loses at most the videos that were being read.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from longtake.core.errors import InputError
from longtake.core.platform import problem_of_name
from longtake.data.captions.captioners import find_captioner, load_plug_in
from longtake.data.captions.tables import PROMPT_LISTS, TABLES, VIDEO_LIST, CaptionTable, find_table, read_table
from longtake.data.manifest import SCHEMA, SUMMARY, edited_shots, printable, replacing, write_json
from longtake.data.report import Report, plural
from longtake.data.rules import Rules
from longtake.data.scan import OnProgress, analyse_all
from longtake.data.selection import PlugIns, Selection, WrittenCaptions
from longtake.data.shots.analysis import AnalysisSettings
from longtake.data.shots.detection import detector_version

WORK = "work"
SUFFIXES = """
    3gp asf avi divx dv f4v flv gif h264 h265 hevc ivf m1v m2ts m2v m4v mj2 mkv mov mp4 mpeg mpg mts mxf nut obu ogm
    ogv rm rmvb ts vob webm wmv y4m
"""
VIDEOS = frozenset(f".{suffix}" for suffix in SUFFIXES.split())
NAMED = 5  # files that a note names


class PrepareError(InputError):
    """A request that cannot be met; the message says what to do."""


@dataclass(frozen=True)
class Request:
    """The options of a preparation. captions: the table, if not the one in the folder. jobs: processes; 0 uses this one.

    shots: name of the shot detector. max_seconds: a longer shot is divided. encoding: of caption files.
    text: `module:function` from a frame (H, W, 3) uint8 to the share of it that text covers; rules.max_text_share needs it.
    Raises PrepareError for options that contradict each other.
    """

    rules: Rules = field(default_factory=Rules)
    shots: str = "adaptive"
    max_seconds: float = 60.0
    captions: Path | None = None
    encoding: str = "utf-8"
    captioner: str = "none"
    text: str | None = None
    jobs: int = 0

    def __post_init__(self) -> None:
        least = max(self.rules.min_seconds, 0.5)
        if not (math.isfinite(self.max_seconds) and self.max_seconds >= least):
            raise PrepareError(
                f"--max-seconds must be {least:g} or more, not {self.max_seconds:g}: no shot would remain"
            )
        if self.jobs < 0:
            raise PrepareError(f"--jobs must be at least 1, not {self.jobs}")
        if self.rules.max_text_share is not None and not self.text:
            raise PrepareError("--max-text-share needs a detector of text: give --text module:function")


def prepare(folder: Path, out: Path, request: Request, progress: OnProgress = lambda done, of, line: None) -> Report:
    """Prepare the videos in `folder` into `out`, or resume that. Errors of single files are listed in the report.

    Raises PrepareError, TableError, ManifestError, CaptionerError or DetectorError before any video is read.
    """
    if not folder.is_dir():
        raise PrepareError(f"{folder} is not a folder: give a folder of videos")
    if out.resolve() == folder.resolve():
        raise PrepareError(f"{out} is the folder of the videos: give another one with -o")
    if problem := problem_of_name(out):
        raise PrepareError(problem)
    out.mkdir(parents=True, exist_ok=True)
    report = Report()
    files = list(_files(folder, out, report))
    names = [name for name in files if Path(name).suffix.lower() in VIDEOS]
    table_file = request.captions or find_table(folder, names)
    table = read_table(table_file, files, request.encoding, folder) if table_file else CaptionTable()
    videos = sorted({*names, *table.captions})
    if not videos:
        unread = "".join(f"; {name}: {why}" for name, why in report.errors)
        raise PrepareError(f"{folder} holds no videos (files that end in .mp4, .mov, .mkv, .webm and the like){unread}")
    plug_ins, settings = _plug_ins(request), _settings(request, out / WORK)
    written = WrittenCaptions(table, request.encoding, edited_shots(out))
    report.videos = len(videos)
    hashes = dict(analyse_all(folder, videos, settings, request.jobs, report, progress))
    Selection(folder, request.rules, settings, report, written, plug_ins).write(out, hashes)
    _add_notes(report, files, videos, table)
    _write_summary(folder, out, request, settings, report)
    return report


def _plug_ins(request: Request) -> PlugIns:
    detector = load_plug_in(request.text) if request.text else None
    return PlugIns(request.captioner, find_captioner(request.captioner), request.text, detector)


def _settings(request: Request, work: Path) -> AnalysisSettings:
    threads = max(1, (os.cpu_count() or 1) // max(request.jobs, 1))  # of the decoder, in each process
    version = detector_version(request.shots, work)
    return AnalysisSettings(request.shots, version, request.max_seconds, work, threads)


def _files(folder: Path, out: Path, report: Report) -> Iterator[str]:
    """Every file below a folder, as a path relative to it, but for `out` and names that begin with a dot.

    A folder that cannot be read becomes an error of the report; a link to a folder, which is not followed, a note.
    """
    own, links = out.resolve(), []

    def unreadable(error: OSError) -> None:
        name = os.path.relpath(error.filename, folder)
        report.errors.append((printable(name), f"the folder cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        here = Path(place)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() != own)
        links += [printable((here / f).relative_to(folder).as_posix()) for f in folders if (here / f).is_symlink()]
        for name in sorted(files):
            if not name.startswith("."):
                yield (here / name).relative_to(folder).as_posix()
    if links:
        report.notes.append(f"links to folders are not followed: {', '.join(links)}")


def _add_notes(report: Report, files: list[str], videos: list[str], table: CaptionTable) -> None:
    """Add what the user should check to the report."""
    _note_other_files(report, files, videos)
    if table.unmatched and table.path:
        rows = plural(len(table.unmatched), "row")
        report.notes.append(f"{table.path.name} has {rows} without a video here: {_named(table.unmatched)}")
    if table.unused and table.path:
        report.notes.append(f"{table.path.name} has columns that are not used: {', '.join(table.unused)}")
    stems = {Path(video).stem for video in videos if "/" not in video}
    tables = [f for f in files if "/" not in f and Path(f).suffix.lower() in TABLES and Path(f).stem in stems]
    if tables and not table.path:
        report.notes.append(
            f"a table with the name of a video counts as its control signal: give --captions if {_named(tables)} is a "
            "table of captions"
        )
    texts = {str(Path(video).with_suffix(".txt")) for video in videos}
    lists = {VIDEO_LIST, *PROMPT_LISTS} if table.path and table.path.name == VIDEO_LIST else set()
    lonely = [f for f in files if f.lower().endswith(".txt") and f not in texts | lists]
    if lonely:
        report.notes.append(
            f"{plural(len(lonely), '.txt file')} without a video of the same name, such as {printable(lonely[0])}"
        )
    if report.captions["no caption"]:
        report.notes.append(
            f"{plural(report.captions['no caption'], 'shot')} without a caption: write some, or give --captioner"
        )


def _note_other_files(report: Report, files: list[str], videos: list[str]) -> None:
    names = set(videos)
    kinds = Counter(Path(f).suffix.lower() or "no suffix" for f in files if f not in names)
    for kind in (".txt", ".csv", ".jsonl"):
        kinds.pop(kind, None)
    if kinds:
        counts = ", ".join(f"{printable(kind)} ({count})" for kind, count in kinds.most_common(8))
        report.notes.append(f"files that are not videos by their suffix: {counts}")


def _named(names: list[str]) -> str:
    return ", ".join(printable(name) for name in names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _write_summary(folder: Path, out: Path, request: Request, settings: AnalysisSettings, report: Report) -> None:
    write_json(out / "report.json", report.facts())
    with replacing(out / "report.txt") as file:
        file.writelines(line + "\n" for line in report.lines())
    write_json(
        out / SUMMARY,
        {
            "schema": SCHEMA, "folder": str(folder.resolve()), "shots": report.kept, "detector": settings.detector,
            "max_seconds": request.max_seconds, "captioner": request.captioner, "rules": asdict(request.rules),
        },
    )  # fmt: skip
