"""A folder of good and bad videos becomes a list of shots and a report, also if the process is killed and restarted."""

import json
import os
import shutil
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image

from longtake.cli import run
from longtake.data import scan as reading
from longtake.data.contact_sheet import write_sheet
from longtake.data.manifest import ManifestError, read_shots
from longtake.data.prepare import PrepareError, Request, prepare
from longtake.data.report import EvenSample, clock
from longtake.data.rules import Rules
from tests.data.acts import prepare_and_die
from tests.data.clips import moving, real, texture, write

QUICK = Request(shots="none")


def small(path, seed=0, count=18):
    return write(path, moving(seed, count))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Return a folder with good clips, captions from three sources, and files that cannot be read."""
    folder = tmp_path_factory.mktemp("mixed")
    small(folder / "a.mp4", 1)
    small(folder / "in" / "b.mp4", 2)
    small(folder / "c.mp4", 3)
    write(folder / "still.mp4", [texture(4)] * 18)
    (folder / "empty.mp4").touch()
    (folder / "text.mov").write_text("not a video")
    whole = small(folder / "torn.mp4", 5, 48).read_bytes()
    (folder / "torn.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "a.txt").write_text("  a pattern\nmoves ")
    (folder / "lonely.txt").write_text("nobody")
    (folder / "all.csv").write_text("file,subject,camera_motion\nb.mp4,blocks,truck left\ngone.mp4,x,\n")
    (folder / "notes.pdf").touch()
    return folder


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_mixed_folder_becomes_lists_and_a_report(mixed, tmp_path):
    seen = []
    report = prepare(mixed, tmp_path / "out", QUICK, lambda done, of, line: seen.append((done, of, line)))
    kept, dropped = lines(tmp_path / "out" / "shots.jsonl"), lines(tmp_path / "out" / "dropped.jsonl")
    assert [(shot["video"], shot["caption"], shot["caption_source"]) for shot in kept] == [
        ("a.mp4", "a pattern moves", "a.txt"),
        ("c.mp4", "", ""),
        ("in/b.mp4", "Blocks. The camera moves left.", "all.csv line 2"),
    ]
    assert [(shot["video"], list(shot["reasons"])) for shot in dropped] == [("still.mp4", ["still"])]
    assert dict(report.errors).keys() == {"empty.mp4", "text.mov", "torn.mp4"}
    assert len(seen) == report.videos == 7 and seen[-1][:2] == (7, 7)
    text = (tmp_path / "out" / "report.txt").read_text()
    for words in (
        "kept 3 shots", "still: less motion than --min-motion", "text.mov: the file cannot be opened", "1 .txt file without a video of the same name",
        "line 3: gone.mp4", ".pdf (1)", "1 shot without a caption",
    ):  # fmt: skip
        assert words in text
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert facts["kept"] == 3 and facts["reasons"] == {"still": 1} and len(facts["errors"]) == 3


def test_the_list_of_shots_is_read_back(mixed, tmp_path):
    prepare(mixed, tmp_path, QUICK)
    kept = list(read_shots(tmp_path))
    assert [shot.facts() for shot in kept] == lines(tmp_path / "shots.jsonl")
    edited = {**kept[2].facts(), "caption": "written by hand"}
    assert type(kept[2]).from_facts(edited).caption.sentence() == "written by hand"
    with open(tmp_path / "shots.jsonl", "a") as file:
        file.write('{"video": 1}\n')
    with pytest.raises(ManifestError, match="line 4 is not a shot"):
        list(read_shots(tmp_path))
    with pytest.raises(ManifestError, match="longtake data prepare"):
        list(read_shots(tmp_path / "elsewhere"))
    for damaged in ("[]", "[" * 100000, "{"):
        (tmp_path / "prepared.json").write_text(damaged)
        with pytest.raises(ManifestError, match=r"prepared\.json cannot be read .*prepare the videos again"):
            list(read_shots(tmp_path))


def edit(path, **words):
    """Write other captions into a list of shots, by the first letters of the videos."""
    found = [{**shot, "caption": words.get(shot["video"][0], shot["caption"])} for shot in lines(path)]
    path.write_text("".join(json.dumps(shot) + "\n" for shot in found))


def captions(out):
    return {shot.video: shot.caption.sentence() for shot in read_shots(out)}


def test_edited_captions_stay(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for seed, name in enumerate("abc"):
        small(folder / f"{name}.mp4", seed)
    wanted = Request(shots="none", captioner="filename")
    prepare(folder, out, wanted)
    edit(out / "shots.jsonl", a="a story", b="")
    (folder / "a.txt").write_text("not read")
    for _ in range(2):
        assert prepare(folder, out, wanted).captions == {"by hand": 2, "captioner filename": 1}
        assert captions(out) == {"a.mp4": "a story", "b.mp4": "", "c.mp4": "c"}
    strict = Request(Rules(min_seconds=9), "none", captioner="filename")
    assert prepare(folder, out, strict).kept == 0
    edit(out / "dropped.jsonl", c="another story")
    (folder / "a.mp4").rename(tmp_path / "away.mp4")
    (folder / "b.mp4").rename(folder / "new.mp4")
    report = prepare(folder, out, wanted)
    assert captions(out) == {"c.mp4": "another story", "new.mp4": ""}
    assert report.notes[0] == "dropped.jsonl keeps edited captions of shots that are absent now: a.mp4 0-17"
    (tmp_path / "away.mp4").rename(folder / "a.mp4")
    prepare(folder, out, wanted)
    assert captions(out) == {"a.mp4": "a story", "c.mp4": "another story", "new.mp4": ""}


def test_a_list_that_was_damaged_by_hand_is_not_overwritten(tmp_path):
    small(tmp_path / "in" / "a.mp4")
    prepare(tmp_path / "in", tmp_path / "out", QUICK)
    (tmp_path / "out" / "shots.jsonl").write_text(damaged := '{"video": "a.mp4"\n')
    with pytest.raises(ManifestError, match=r"shots\.jsonl line 1 is not a shot .*correct the line or delete it"):
        prepare(tmp_path / "in", tmp_path / "out", QUICK)
    assert (tmp_path / "out" / "shots.jsonl").read_text() == damaged


@pytest.mark.long
def test_the_number_of_processes_changes_nothing(mixed, tmp_path):
    prepare(mixed, tmp_path / "one", QUICK)
    prepare(mixed, tmp_path / "two", Request(shots="none", jobs=2))
    for name in ("shots.jsonl", "dropped.jsonl", "report.txt", "report.json", "prepared.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@pytest.mark.long
def test_a_killed_preparation_is_resumed(tmp_path, monkeypatch):
    for seed in range(4):
        small(tmp_path / "in" / f"{seed}.mp4", seed)
    child = get_context("spawn").Process(
        target=prepare_and_die, args=(str(tmp_path / "in"), str(tmp_path / "out"), 2), daemon=True
    )
    child.start()
    child.join()
    assert child.exitcode == -9 and not (tmp_path / "out" / "shots.jsonl").exists()
    results = {path: path.read_bytes() for path in (tmp_path / "out" / "work").rglob("*.json")}
    assert len(results) == 2
    torn = tmp_path / "out" / "work" / "read.jsonl"
    torn.write_text(torn.read_text()[:-9])
    read_now, analyse = [], reading.analyse
    monkeypatch.setattr(
        reading, "analyse", lambda path, settings: read_now.append(path.name) or analyse(path, settings)
    )
    prepare(tmp_path / "in", tmp_path / "out", QUICK)
    prepare(tmp_path / "in", tmp_path / "whole", QUICK)
    assert (tmp_path / "out" / "shots.jsonl").read_bytes() == (tmp_path / "whole" / "shots.jsonl").read_bytes()
    assert all(path.read_bytes() == before for path, before in results.items())
    assert set(read_now[:-4]) >= {"2.mp4", "3.mp4"} and "0.mp4" not in read_now[:-4]


def test_only_changed_files_are_read_again(tmp_path, monkeypatch):
    for seed in range(3):
        small(tmp_path / "in" / f"{seed}.mp4", seed)
    prepare(tmp_path / "in", tmp_path / "out", QUICK)
    read_now, analyse = [], reading.analyse
    monkeypatch.setattr(
        reading, "analyse", lambda path, settings: read_now.append(path.name) or analyse(path, settings)
    )
    small(tmp_path / "in" / "1.mp4", 9, 24)
    shutil.copy(tmp_path / "in" / "0.mp4", tmp_path / "in" / "copy.mp4")
    (tmp_path / "in" / "2.txt").write_text("a new caption")
    report = prepare(tmp_path / "in", tmp_path / "out", Request(Rules(duplicates=True), "none"))
    assert sorted(read_now) == ["1.mp4", "copy.mp4"]
    assert report.reasons == {"duplicate": 1} and report.kept == 3
    assert {shot.video: shot.caption.sentence() for shot in read_shots(tmp_path / "out")}["2.mp4"] == "a new caption"


def test_a_plug_in_that_fails_on_one_shot_leaves_the_others(tmp_path, monkeypatch):
    for seed in range(3):
        small(tmp_path / "in" / f"{seed}.mp4", seed)
    (tmp_path / "talker.py").write_text(
        "asked = []\n"
        "def say(shot):\n"
        "    asked.append(shot.file.stem)\n"
        "    if shot.file.stem == '1' and len(asked) < 4:\n"
        "        raise RuntimeError('out of words')\n"
        "    return f'number {shot.file.stem}, {len(shot.frames)} frames'\n"
        "def text(frame):\n"
        "    return float(frame.mean() > 0) / 10\n"
    )
    monkeypatch.chdir(tmp_path)
    wanted = Request(Rules(max_text_share=0.2), "none", captioner="talker:say", text="talker:text")
    report = prepare(tmp_path / "in", tmp_path / "out", wanted)
    assert report.kept == 2 and report.errors == [("1.mp4 0-17", "the captioner failed: RuntimeError: out of words")]
    assert lines(tmp_path / "out" / "dropped.jsonl")[0]["reasons"].keys() == {"failed"}
    assert prepare(tmp_path / "in", tmp_path / "out", wanted).kept == 3
    assert [shot.caption.text for shot in read_shots(tmp_path / "out")] == [f"number {n}, 8 frames" for n in range(3)]
    import talker

    assert talker.asked == ["0", "1", "2", "1"]
    strict = Request(Rules(max_text_share=0.05), "none", captioner="talker:say", text="talker:text")
    assert prepare(tmp_path / "in", tmp_path / "out", strict).reasons == {"text": 3}
    assert {shot["metrics"]["text"] for shot in lines(tmp_path / "out" / "dropped.jsonl")} == {0.1}


def test_a_duplicate_of_a_shot_that_failed_is_kept(tmp_path, monkeypatch):
    for name in "abc":
        small(tmp_path / "in" / f"{name}.mp4")
    (tmp_path / "shy.py").write_text(
        "def say(shot):\n    if shot.file.stem == 'a':\n        raise RuntimeError('not now')\n    return 'fine'\n"
    )
    monkeypatch.chdir(tmp_path)
    report = prepare(tmp_path / "in", tmp_path / "out", Request(Rules(duplicates=True), "none", captioner="shy:say"))
    assert report.reasons == {"failed": 1, "duplicate": 1} and captions(tmp_path / "out") == {"b.mp4": "fine"}


def test_skipped_files_are_reported(tmp_path, monkeypatch):
    folder, scan = tmp_path / "in", os.scandir
    small(folder / "a.mp4")
    small(folder / "in" / "locked" / "b.mp4", 1)
    small(tmp_path / "elsewhere" / "c.mp4", 2)
    (folder / "in" / "link").symlink_to(tmp_path / "elsewhere")
    whole = small(folder / "torn.mkv", 3, 96).read_bytes()
    (folder / "torn.mkv").write_bytes(whole[: len(whole) // 2])
    small(folder / "whole.mkv", 4, 96)

    def locked(path="."):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)
    for _ in range(2):
        report = prepare(folder, tmp_path / "out", QUICK)
        assert report.errors == [("in/locked", "the folder cannot be read: Permission denied")] and report.kept == 3
        links, torn, _ = report.notes
        assert links == "links to folders are not followed: in/link"
        assert torn == "torn.mkv may be truncated: its frames end 3.0 s before the time in its header"
    with pytest.raises(PrepareError, match=r"holds no videos .*; locked: the folder cannot be read"):
        prepare(folder / "in", tmp_path / "none", QUICK)


def test_a_bad_caption_is_an_error_of_its_video(tmp_path):
    for seed in range(2):
        small(tmp_path / "in" / f"{seed}.mp4", seed)
    (tmp_path / "in" / "0.txt").write_text("")
    report = prepare(tmp_path / "in", tmp_path / "out", QUICK)
    assert report.errors == [("0.mp4", "0.txt is empty: write a caption or delete it")] and report.kept == 1


def test_the_contact_sheet_shows_frames_and_reasons(mixed, tmp_path):
    report = prepare(mixed, tmp_path, QUICK)
    write_sheet(tmp_path / "sheet.png", mixed, report)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (40 + 4 * 132 - 6, 880, 3)
    assert sheet[20 + 30 : 20 + 30 + 96, 20 : 20 + 128].std() > 40


def test_a_sample_of_many_items_is_even():
    spread = EvenSample(4)
    for number in range(1000):
        spread.add(number)
    assert 4 <= len(spread.items) <= 8 and np.ptp(np.diff(spread.items)) == 0 and spread.items[-1] > 800
    assert clock(3725) == "1:02:05" and clock(83.46) == "1:23.4"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jobs", "0"], "--jobs must be at least 1, not 0"),
        (["--max-text-share", "0.1"], "give --text module:function"),
        (["--max-seconds", "0.2"], "--max-seconds must be 1 or more, not 0.2"),
        (["--max-seconds", "inf"], "--max-seconds must be 1 or more, not inf"),
        (["--min-brightness", "250"], "must be below --max-brightness"),
        (["--captioner", "nobody"], "unknown captioner 'nobody'"),
        (["-o", "IN"], "is the folder of the videos"),
    ],
)
def test_requests_that_cannot_be_met(arguments, words, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    shutil.copy(real("carphone_distorted.mp4"), tmp_path / "in")
    arguments = [str(tmp_path / "in") if word == "IN" else word for word in arguments]
    output = [] if "-o" in arguments else ["-o", str(tmp_path / "out")]
    assert run(["data", "prepare", str(tmp_path / "in"), *output, "--shots", "none", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(PrepareError, match="holds no videos"):
        prepare(tmp_path, tmp_path / "out", QUICK)
    with pytest.raises(PrepareError, match="is not a folder"):
        prepare(tmp_path / "nowhere", tmp_path / "out", QUICK)


def test_real_clips_are_prepared_by_the_command(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("bikes.mp4", "carphone_pristine.mp4"):
        shutil.copy(real(name), tmp_path / "in")
    command = ["data", "prepare", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--captioner", "filename"]
    assert run([*command, "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert "kept 5 shots, 0:09.6" in said and "small: smaller than --min-side" in said and "sheet.png" in said
    shots = list(read_shots(tmp_path / "out"))
    assert [(shot.shot.start, shot.shot.stop) for shot in shots] == [
        (0, 30),
        (30, 76),
        (76, 137),
        (137, 187),
        (187, 242),
    ]
    assert {shot.caption.text for shot in shots} == {"bikes"} and {shot.size for shot in shots} == {(272, 640)}
    assert run([*command, "--min-side", "140", "--jobs", "1"]) == 0
    again = capsys.readouterr().out
    assert "2 videos read before" in again and "kept 6 shots" in again
