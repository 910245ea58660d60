"""One flipped bit in any file of a run is found and named by that file; a refused resume changes nothing."""

import os
import random
import shutil
import threading
from contextlib import closing, suppress

import pytest

from longtake.runs import PromptStream, RunError, SnapshotPolicy, SnapshotSaved, manifest_of, record, repair, verify
from longtake.runs.files import journal, playlist
from longtake.runs.integrity import verify as checks
from tests.runs.toy_runs import clock, content, sha

KEEP = SnapshotPolicy(every=24, replay=2.0)
KINDS = (
    "run.json", "journal.jsonl", "index.m3u8", "edits.jsonl", "edit_horizon.json", "video.mp4", "sheet.png",
    "media/init.mp4", "media/s000002.m4s", "snapshots/*.json", "snapshots/*.safetensors",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run with an edit that was decided."""
    folder, video = tmp_path_factory.mktemp("made") / "run", clock(frames=100)
    for event in record(video.rollout(), video.manifest(), folder, policy=KEEP):
        if isinstance(event, SnapshotSaved) and event.window == 0:
            PromptStream(folder).replace("a blue ball", at=3.5, wait=0)
    return video, folder


@pytest.fixture(autouse=True)
def no_wait(monkeypatch):
    monkeypatch.setattr(checks, "PUBLISHING", 0.0)


@pytest.fixture
def run_copy(made, tmp_path):
    shutil.copytree(made[1], tmp_path / "run")
    return made[0], tmp_path / "run"


def bad(folder, *arguments) -> list[str]:
    return [check.text for check in verify(folder, *arguments) if not check.passed]


def files(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def flip_bit(path, rng) -> None:
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_is_found_and_named_by_its_file(run_copy, kind):
    _, folder = run_copy
    assert bad(folder) == []
    rng = random.Random(kind)
    for _ in range(25):
        path = rng.choice(sorted(folder.glob(kind)))
        whole = path.read_bytes()
        flip_bit(path, rng)
        try:
            found = bad(folder)
        except RunError as error:
            found = [str(error)]
        path.write_bytes(whole)
        name = path.with_suffix(".safetensors").name if kind.endswith(".json") and "/" in kind else path.name
        assert found and any(name in text or path.name in text for text in found), (path, found)
        others = [each for each in KINDS if "*" not in each and not each.endswith(path.name)]
        assert not any(os.path.basename(each) in found[0].replace(f"{folder}", "") for each in others), found
    assert bad(folder) == []


@pytest.mark.parametrize("line", [0, 2, -2, -1])
def test_a_lost_journal_line_is_found(run_copy, line):
    _, folder = run_copy
    path = folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(one for one in lines if one is not lines[line]))
    assert bad(folder)


def test_a_changed_prompt_is_refused_until_it_is_allowed(tmp_path):
    video = clock()
    with closing(record(video.rollout(), video.manifest(), tmp_path)) as events:
        next(event for event in events if isinstance(event, SnapshotSaved))
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"plan": "sliding"', '"plan": "slidinG"'))
    assert any("run.json was altered: put back the file with SHA-256" in text for text in bad(tmp_path, video.rollout))
    before = files(tmp_path)
    again = video.manifest(plan="slidinG")
    with pytest.raises(RunError, match=r"run\.json was altered since the run wrote it: .*--allow run\.json"):
        list(record(video.rollout(), again, tmp_path))
    with pytest.raises(RunError, match=r"run\.json was altered"):
        list(repair(tmp_path, again, video.rollout))
    assert {**files(tmp_path), "LOCK": ""} == {**before, "LOCK": ""}
    list(record(video.rollout(), again, tmp_path, allow=["run.json"]))
    assert bad(tmp_path, video.rollout) == []
    note = next(journal.lines_of_kind(tmp_path / "journal.jsonl", "differences_allowed"))
    assert note["differences"][0]["name"] == "run.json" and note["run_sha256"] == sha(path)


def without(name):
    return lambda folder: (folder / name).unlink()


def first_lines(count):
    def cut(folder):
        path = folder / "journal.jsonl"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:count]))

    return cut


def without_snapshots(damage):
    def both(folder):
        damage(folder)
        shutil.rmtree(folder / "snapshots")

    return both


REFUSED = {
    "no journal": without("journal.jsonl"),
    "no journal, no snapshots": without_snapshots(without("journal.jsonl")),
    "a short journal": first_lines(3),
    "a short journal, no snapshots": without_snapshots(first_lines(3)),
    "a segment less": without("media/s000001.m4s"),
    "no init": without("media/init.mp4"),
    "an altered run.json": lambda folder: (folder / "run.json").write_bytes((folder / "run.json").read_bytes() + b" "),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_refused_resume_changes_nothing(run_copy, why):
    video, folder = run_copy
    REFUSED[why](folder)
    before, folders = files(folder), {path for path in folder.rglob("*") if path.is_dir()}
    with pytest.raises(RunError):
        list(record(video.rollout(), video.manifest(), folder))
    now = files(folder)
    del before["LOCK"], now["LOCK"]
    assert now == before and {path for path in folder.rglob("*") if path.is_dir()} == folders
    assert bad(folder)


@pytest.mark.parametrize("why", [why for why in REFUSED if "run.json" not in why])
def test_what_was_refused_can_be_repaired(run_copy, made, why):
    video, folder = run_copy
    if "journal" in why:
        (folder / "edits.jsonl").unlink()  # the edit would be decided again, for another window
    REFUSED[why](folder)
    list(repair(folder, video.manifest(), video.rollout))
    list(record(video.rollout(), video.manifest(), folder))
    same = content(folder)
    if "journal" in why:
        assert {n: s for n, s in same.items() if n != "sheet.png"} == {
            n: s for n, s in content(made[1]).items() if n != "sheet.png"
        }
    else:
        assert same == content(made[1])
    assert bad(folder) == []


def test_a_playlist_that_lists_more_than_the_journal_is_no_reason_to_shorten_it(run_copy):
    video, folder = run_copy
    shutil.rmtree(folder / "snapshots")
    for number in range(2, 5):
        (folder / f"media/s{number:06d}.m4s").unlink()
    (folder / "video.mp4").unlink()
    first_lines(4)(folder)
    with pytest.raises(RunError, match=r"names 1 segment, but index\.m3u8 lists 5: put the journal back"):
        list(record(video.rollout(), video.manifest(), folder))
    assert any("index.m3u8 lists 5" in text for text in bad(folder))


# ---------------------------------------------------------------- a run that grows
def test_a_growing_run_raises_no_false_alarm(tmp_path):
    video, stop, found = clock(frames=200, segment=6), threading.Event(), []

    def watch():
        while not stop.is_set():
            with suppress(RunError):
                found.extend(check.text for check in verify(tmp_path / "r") if not check.passed)

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    events = record(video.rollout(), video.manifest(), tmp_path / "r", policy=SnapshotPolicy(every=6))
    next(events)
    for watcher in watchers:
        watcher.start()
    for _ in events:
        pass
    stop.set()
    for watcher in watchers:
        watcher.join()
    assert found == []
    assert bad(tmp_path / "r") == []


def test_a_playlist_may_be_one_segment_behind(run_copy):
    video, folder = run_copy
    path = folder / "index.m3u8"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-3]))
    assert bad(folder) == []
    assert playlist.listed(*_parts(video, folder)) == 4
    path.write_text("".join(whole.splitlines(keepends=True)[:-5]))
    assert any("index.m3u8 does not match" in text for text in bad(folder))


def _parts(video, folder):
    from longtake.runs.files.layout import Layout

    return Layout(folder), manifest_of(folder)


def test_snapshots_and_media_behind_the_journal_are_named(run_copy):
    _, folder = run_copy
    first_lines(3)(folder)
    text = "\n".join(bad(folder))
    assert "names 1 segment, but a snapshot was taken after" in text and "media holds s000004.m4s" in text
    assert "index.m3u8 lists 5" in text


# ---------------------------------------------------------------- folders that vanish
@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_folder_that_is_removed_is_not_called_safe(tmp_path, how):
    video = clock(frames=200)
    folder = tmp_path / "r"
    events = record(video.rollout(), video.manifest(), folder)
    with pytest.raises(RunError) as error:
        for event in events:
            if isinstance(event, SnapshotSaved) and folder.exists():
                shutil.rmtree(folder) if how == "removed" else folder.rename(tmp_path / "elsewhere")
    assert "safe" not in str(error.value) and f"{folder} was removed or moved while" in str(error.value)
    if how == "moved":
        list(record(video.rollout(), video.manifest(), tmp_path / "elsewhere"))
        assert bad(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_journal_that_is_replaced_stops_the_run(tmp_path, how):
    video = clock(frames=200)
    path = tmp_path / "r" / "journal.jsonl"
    with pytest.raises(RunError, match=r"journal\.jsonl was removed or replaced while"):
        for event in record(video.rollout(), video.manifest(), tmp_path / "r"):
            if isinstance(event, SnapshotSaved):
                data = path.read_bytes()
                path.unlink()
                if how == "replaced":
                    path.with_name("x").write_bytes(data)
                    path.with_name("x").rename(path)


def test_a_playlist_that_is_removed_is_written_again(tmp_path):
    video = clock(frames=200)
    for event in record(video.rollout(), video.manifest(), tmp_path):
        if isinstance(event, SnapshotSaved):
            (tmp_path / "index.m3u8").unlink(missing_ok=True)
    assert bad(tmp_path) == []
