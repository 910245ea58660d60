"""A folder of videos to a folder of shots worth learning from; the verb behind `longtake data prepare`.

Two passes. The first reads every video that was not read before, in several processes. The second goes through the
results in the order of the files' names, applies the rules, gives captions and writes the manifest. Changing a rule or a
caption therefore costs seconds, and killing it at any moment costs at most the videos that were being read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from longtake.data import captioner as captioners
from longtake.data import shots
from longtake.data.analysis import How
from longtake.data.filters import Rules
from longtake.data.manifest import ABOUT, by_hand, replacing, shown, write_json
from longtake.data.reading import Watch, read_all
from longtake.data.report import Report, plural
from longtake.data.sorting import Sorting
from longtake.data.tables import TABLES, Table, find_table, read_table

WORK = "work"
ENDINGS = """
    3gp asf avi divx dv f4v flv gif h264 h265 hevc ivf m1v m2ts m2v m4v mj2 mkv mov mp4 mpeg mpg mts mxf nut obu ogm
    ogv rm rmvb ts vob webm wmv y4m
"""
VIDEOS = frozenset(f".{ending}" for ending in ENDINGS.split())


class PrepareError(ValueError):
    """A request that cannot be met; the message says what to do."""


@dataclass(frozen=True)
class Request:
    """What to do. captions: the table, if not the one in the folder. jobs: processes; 0 works in this one.

    text: `module:function` from a picture (H W 3) uint8 to the share of it that is text; needed by rules.text.
    """

    rules: Rules = field(default_factory=Rules)
    shots: str = "adaptive"
    longest: float = 60.0
    captions: Path | None = None
    encoding: str = "utf-8"
    captioner: str = "none"
    text: str | None = None
    jobs: int = 0

    def __post_init__(self) -> None:
        if not self.longest >= max(self.rules.seconds, 0.5):
            raise PrepareError(
                f"--longest {self.longest:g} leaves nothing: give at least {max(self.rules.seconds, 0.5):g}"
            )
        if self.jobs < 0:
            raise PrepareError(f"--jobs must be at least 1, not {self.jobs}")
        if self.rules.text is not None and not self.text:
            raise PrepareError("--text-share needs something that finds text: give --text module:function")


def prepare(folder: Path, out: Path, request: Request, watch: Watch = lambda done, of, line: None) -> Report:
    """Fill `out` from the videos in `folder`, or go on with it. Errors in single files are in the report.

    Errors: PrepareError, TableError, ManifestError, CaptionerError, DetectorError, before anything is read.
    """
    if not folder.is_dir():
        raise PrepareError(f"{folder} is no folder of videos")
    if out.resolve() == folder.resolve():
        raise PrepareError(f"{out} is the folder of the videos: give another one with -o")
    out.mkdir(parents=True, exist_ok=True)
    report = Report()
    files = list(_files(folder, out, report))
    names = [name for name in files if Path(name).suffix.lower() in VIDEOS]
    table_file = request.captions or find_table(folder, names)
    table = read_table(table_file, files, request.encoding) if table_file else Table()
    videos = sorted({*names, *table.captions})
    if not videos:
        unread = "".join(f"; {name}: {why}" for name, why in report.errors)
        raise PrepareError(f"{folder} holds no videos (files that end in .mp4, .mov, .mkv, .webm and the like){unread}")
    say = captioners.find(request.captioner)
    find_text = captioners.plug_in(request.text) if request.text else None
    work = out / WORK
    how = How(request.shots, shots.check(request.shots, work), request.longest, work, _threads(request.jobs))
    edited = by_hand(out)
    report.videos = len(videos)
    hashes = dict(read_all(folder, videos, how, request.jobs, report, watch))
    sorting = Sorting(
        folder, request.rules, how, report, table, request.encoding, request.captioner, say, request.text, find_text,
        edited,
    )  # fmt: skip
    sorting.write(out, hashes)
    _note(report, files, videos, table)
    _write(folder, out, request, how, report)
    return report


def _files(folder: Path, out: Path, report: Report) -> Iterator[str]:
    """Every file below a folder, as a path relative to it; what begins with a dot is left alone, and so is `out`.

    A folder that cannot be read becomes an error of the report, and a link to a folder, which is not followed, a note.
    """
    own, links = out.resolve(), []

    def unreadable(error: OSError) -> None:
        name = os.path.relpath(error.filename, folder)
        report.errors.append((shown(name), f"the folder cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        here = Path(place)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() != own)
        links += [shown((here / f).relative_to(folder).as_posix()) for f in folders if (here / f).is_symlink()]
        for name in sorted(files):
            if not name.startswith("."):
                yield (here / name).relative_to(folder).as_posix()
    if links:
        report.notes.append(f"links to folders are not followed: {', '.join(links)}")


def _threads(jobs: int) -> int:
    """Decoder threads of each process."""
    return max(1, (os.cpu_count() or 1) // max(jobs, 1))


def _note(report: Report, files: list[str], videos: list[str], table: Table) -> None:
    """What deserves a look."""
    own = set(videos)
    kinds = Counter(Path(f).suffix.lower() or "no ending" for f in files if f not in own)
    for kind in (".txt", ".csv", ".jsonl"):
        kinds.pop(kind, None)
    if kinds:
        told = ", ".join(f"{shown(kind)} ({count})" for kind, count in kinds.most_common(8))
        report.notes.append(f"files that are no videos by their names: {told}")
    if table.strangers and table.path:
        told = ", ".join(shown(s) for s in table.strangers[:5]) + (", ..." if len(table.strangers) > 5 else "")
        report.notes.append(f"{table.path.name} has {plural(len(table.strangers), 'row')} without a video here: {told}")
    if table.ignored and table.path:
        report.notes.append(f"{table.path.name} has columns that are not used: {', '.join(table.ignored)}")
    stems = {Path(video).stem for video in videos if "/" not in video}
    called = [f for f in files if "/" not in f and Path(f).suffix.lower() in TABLES and Path(f).stem in stems]
    if called and not table.path:
        report.notes.append(
            f"{', '.join(shown(f) for f in called[:5])} {'are' if len(called) > 1 else 'is'} called as a video and taken for "
            "its track: give --captions if it is a table of captions"
        )
    beside = {str(Path(video).with_suffix(".txt")) for video in videos}
    lonely = [f for f in files if f.lower().endswith(".txt") and f not in beside]
    if lonely:
        report.notes.append(f"{plural(len(lonely), '.txt file')} without a video beside it, such as {shown(lonely[0])}")
    if report.captions["no caption"]:
        report.notes.append(
            f"{plural(report.captions['no caption'], 'shot')} without a caption: write some, or give --captioner"
        )


def _write(folder: Path, out: Path, request: Request, how: How, report: Report) -> None:
    write_json(out / "report.json", report.facts())
    with replacing(out / "report.txt") as file:
        file.writelines(line + "\n" for line in report.lines())
    write_json(
        out / ABOUT,
        {
            "folder": str(folder.resolve()), "shots": report.kept, "detector": how.detector, "longest": request.longest,
            "captioner": request.captioner, "rules": asdict(request.rules),
        },
    )  # fmt: skip
