"""`verify` finds every altered file and checks a segment by generating it again; `repair` restores lost segments."""

import shutil
from contextlib import closing
from dataclasses import replace

import pytest

from longtake.models import load
from longtake.runs import Check, RunError, SnapshotPolicy, record, repair, verify
from longtake.runs.files import journal
from tests.runs.toy_runs import Video, clock, content

KEEP = SnapshotPolicy(every=24, replay=2.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a finished run of 9 segments with several replay snapshots, to be copied before a test changes it."""
    folder, video = tmp_path_factory.mktemp("made") / "run", clock(frames=200)
    list(record(video.rollout(), video.manifest(), folder, policy=KEEP))
    return video, folder


@pytest.fixture
def run_copy(made, tmp_path):
    shutil.copytree(made[1], tmp_path / "run")
    return made[0], tmp_path / "run"


def flip(path, at: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def bad(folder, *arguments, **options) -> list[str]:
    return [check.text for check in verify(folder, *arguments, **options) if not check.passed]


def test_an_intact_run_passes_every_check(run_copy):
    video, folder = run_copy
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    checks = list(verify(folder, video.rollout, now=video.manifest()))
    assert all(check.passed for check in checks)
    text = "\n".join(check.text for check in checks)
    for words in ("9 segments, 200 frames, 8.3 s", "every SHA-256 is right", "index.m3u8", "video.mp4", "snapshots"):
        assert words in text
    assert "generated again from frame" in checks[-1].text and "the same" in checks[-1].text
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_segment_can_be_generated_again(run_copy):
    video, folder = run_copy
    since = []
    for index in range(9):
        *_, last = verify(folder, video.rollout, segment=index)
        assert last.passed and f"segment {index} (frames {24 * index} to" in last.text
        since.append(int(last.text.split("from frame ")[1].split()[0]))
    assert since == sorted(since) and len(set(since)) >= 4  # from the nearest snapshot, not from the start
    *_, last = verify(folder, video.rollout, segment=9)
    assert last == Check(False, "there is no segment 9: choose one from 0 to 8")


DAMAGE = {
    "altered segment": (lambda f: flip(f / "media/s000003.m4s"), "s000003.m4s was altered"),
    "deleted segment": (lambda f: (f / "media/s000004.m4s").unlink(), "s000004.m4s is missing"),
    "altered init": (lambda f: flip(f / "media/init.mp4"), "init.mp4 was altered"),
    "playlist": (lambda f: (f / "index.m3u8").write_text("x"), "index.m3u8 does not match the journal"),
    "video": (lambda f: flip(f / "video.mp4"), "video.mp4 was altered"),
    "no video": (lambda f: (f / "video.mp4").unlink(), "video.mp4 is missing"),
    "snapshot": (
        lambda f: flip(next((f / "snapshots").glob("*.safetensors"))),
        "1 damaged, which a resume will not use",
    ),
    "journal": (
        lambda f: flip(f / "journal.jsonl", (f / "journal.jsonl").read_bytes().index(b"\n{") + 1),
        "damaged at line 2",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_and_named(run_copy, what):
    _, folder = run_copy
    damage, words = DAMAGE[what]
    assert bad(folder) == []
    damage(folder)
    found = bad(folder)
    assert any(words in text for text in found), found


def test_a_video_that_cannot_be_repeated_is_found(tmp_path):
    video = Video(load("gauss"), options=dict(steps=2, window=9, overlap=3), frames=30, segment=5)
    list(record(video.rollout(), video.manifest(), tmp_path))
    assert bad(tmp_path, video.rollout) == []
    other = replace(video, seed=1)
    assert any(
        "generated again from frame" in text and "different bytes" in text for text in bad(tmp_path, other.rollout)
    )
    now = replace(video.manifest(), versions={"torch": "1.0"})
    assert any("bytes may differ: torch: was" in check.text for check in verify(tmp_path, now=now))


def test_a_run_that_is_being_written_can_be_verified(tmp_path):
    video = clock()
    with closing(record(video.rollout(), video.manifest(), tmp_path)) as events:
        for _ in events:
            assert bad(tmp_path) == []
    with pytest.raises(RunError, match="is not a run directory"):
        list(verify(tmp_path / "nowhere"))


@pytest.mark.parametrize("lost", [[0], [3], [8], [1, 2, 7], list(range(9))])
def test_lost_segments_are_generated_again(run_copy, made, lost):
    video, folder = run_copy
    for index in lost:
        path = folder / f"media/s{index:06d}.m4s"
        flip(path) if index % 2 else path.unlink()
    with pytest.raises(RunError, match=r"s00000\d\.m4s.*altered or deleted since the run wrote them.*--repair"):
        list(record(video.rollout(), video.manifest(), folder))
    again = [segment.index for segment in repair(folder, video.manifest(), video.rollout)]
    assert again == lost
    list(record(video.rollout(), video.manifest(), folder))
    assert content(folder) == content(made[1]) and bad(folder) == []


def test_a_lost_init_file_is_restored(run_copy, made):
    video, folder = run_copy
    (folder / "media" / "init.mp4").unlink()
    (folder / "video.mp4").unlink()
    assert len(list(repair(folder, video.manifest(), video.rollout))) == 1
    list(record(video.rollout(), video.manifest(), folder))
    assert content(folder) == content(made[1])


def test_a_damaged_journal_is_cut_back_and_the_rest_generated_again(run_copy, made):
    video, folder = run_copy
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join([*lines[:6], b"?" * 30 + b"\n", *lines[7:]]))
    with pytest.raises(RunError, match=r"damaged at line 7: .*--repair"):
        list(record(video.rollout(), video.manifest(), folder))
    assert list(repair(folder, video.manifest(), video.rollout)) == []
    assert len(list(journal.segments(folder / "journal.jsonl"))) == 4
    list(record(video.rollout(), video.manifest(), folder))
    assert content(folder) == content(made[1]) and bad(folder) == []
    assert (folder / "journal.jsonl").read_bytes().splitlines()[:-1] == [line.rstrip() for line in lines[:-1]]


def test_a_run_without_its_journal_is_not_started_again(run_copy, made):
    video, folder = run_copy
    (folder / "journal.jsonl").unlink()
    with pytest.raises(RunError, match=r"names 0 segments, but a snapshot was taken after \d: .*--repair"):
        list(record(video.rollout(), video.manifest(), folder))
    assert len(list((folder / "snapshots").iterdir())) > 4  # the snapshots are still there
    list(repair(folder, video.manifest(), video.rollout))
    list(record(video.rollout(), video.manifest(), folder))
    assert content(folder) == content(made[1]) and bad(folder) == []


def test_repair_refuses_another_video(run_copy):
    video, folder = run_copy
    (folder / "media" / "s000003.m4s").unlink()
    with pytest.raises(RunError, match="seed: was 0, now 1"):
        list(repair(folder, video.manifest(sampling={"seed": 1}), video.rollout))
    wrong = replace(video, options=video.options | {"steps": 3}, frames=60)
    with pytest.raises(RunError, match=r"came out different|not the rollout that made"):
        list(repair(folder, video.manifest(), wrong.rollout))


def test_an_altered_segment_is_never_published(run_copy):
    video, folder = run_copy
    (folder / "video.mp4").unlink()
    flip(folder / "media/s000005.m4s")
    with pytest.raises(RunError, match=r"s000005\.m4s .*altered"):
        list(record(video.rollout(), video.manifest(), folder))
    assert not (folder / "video.mp4").exists()
