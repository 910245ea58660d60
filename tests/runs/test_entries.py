"""Links, pipes and devices planted in a run directory: refused by name, never followed, opened or waited for."""

import contextlib
import os
import shutil
import socket

import pytest

from longtake.cli import run as longtake
from longtake.runs import (
    PromptStream,
    RunError,
    check_output_folder,
    manifest_of,
    publish_so_far,
    record,
    repair,
    verify,
)
from tests.runs.toy_runs import clock, content, sha

FILES = [
    "run.json", "journal.jsonl", "index.m3u8", "edits.jsonl", "edit_horizon.json", "LOCK", "video.mp4", "sheet.png",
    "media/init.mp4", "media/s000000.m4s", "media/s000001.m4s.tmp", "snapshots/w000009.json", "inputs/image.png",
]  # fmt: skip
FOLDERS = ["media", "snapshots", "inputs"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, video = tmp_path_factory.mktemp("made") / "run", clock(frames=50)
    list(record(video.rollout(), video.manifest(), folder))
    return video, folder


@pytest.fixture
def run_copy(made, tmp_path):
    shutil.copytree(made[1], tmp_path / "run")
    (tmp_path / "run" / "inputs").mkdir()
    return made[0], tmp_path / "run"


def uses(video, folder):
    return {
        "record": lambda: list(record(video.rollout(), video.manifest(), folder)),
        "generate": lambda: list(record(video.rollout(), video.manifest(), folder, fresh=True)),
        "check": lambda: check_output_folder(folder),
        "manifest": lambda: manifest_of(folder),
        "repair": lambda: list(repair(folder, video.manifest(), video.rollout)),
        "verify": lambda: list(verify(folder)),
        "publish": lambda: publish_so_far(folder),
        "prompts": lambda: PromptStream(folder),
    }


def refused_everywhere(video, folder, words) -> None:
    for name, use in uses(video, folder).items():
        with pytest.raises(RunError, match=words):
            use()
            raise AssertionError(name)


def replaced(path, make) -> None:
    path.unlink(missing_ok=True)
    make(path)


@pytest.mark.parametrize("name", FILES)
def test_links_to_files_are_never_followed(run_copy, tmp_path, name):
    video, folder = run_copy
    outside = tmp_path / "outside"
    outside.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"precious")
    before = outside.read_bytes(), outside.stat().st_mtime_ns
    replaced(folder / name, lambda path: path.symlink_to(outside))
    refused_everywhere(video, folder, f"{name} is a link, and links inside a run directory are never followed")
    assert (outside.read_bytes(), outside.stat().st_mtime_ns) == before


@pytest.mark.parametrize("name", FOLDERS)
def test_links_to_folders_are_never_followed(run_copy, tmp_path, name):
    video, folder = run_copy
    shutil.move(folder / name, tmp_path / "outside")
    (tmp_path / "outside" / "w000001.json").write_text("foreign")
    before = {path.name: sha(path) for path in (tmp_path / "outside").iterdir()}
    (folder / name).symlink_to(tmp_path / "outside")
    refused_everywhere(video, folder, f"{name} is a link")
    assert {path.name: sha(path) for path in (tmp_path / "outside").iterdir()} == before


def test_a_dangling_link_is_refused_too(run_copy, tmp_path):
    video, folder = run_copy
    replaced(folder / "LOCK", lambda path: path.symlink_to(tmp_path / "nowhere"))
    refused_everywhere(video, folder, "LOCK is a link")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["LOCK", "journal.jsonl", "snapshots", "media", "video.mp4.tmp"])
def test_a_new_run_follows_no_link_that_waits_for_it(made, tmp_path, name):
    """The folder holds nothing but what a killed process may leave, and one of that is a link."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder = tmp_path / "new"
    folder.mkdir()
    if name in FOLDERS:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "w000000.safetensors").write_bytes(b"precious")
        outside = tmp_path / "there" / "w000000.safetensors"
        (folder / name).symlink_to(tmp_path / "there")
    else:
        (folder / name).symlink_to(outside)
    try:
        list(record(made[0].rollout(), made[0].manifest(), folder))
    except RunError as error:
        assert f"{name} is a link" in str(error)
    else:
        assert name.endswith(".tmp")
    assert outside.read_bytes() == b"precious"


def make_socket(path) -> None:
    with contextlib.chdir(
        path.parent
    ):  # an address holds about 100 bytes, fewer than the path of a temporary folder may have
        socket.socket(socket.AF_UNIX).bind(path.name)


PLANTED = {
    "a named pipe": os.mkfifo,
    "a socket": make_socket,
    "a folder": os.mkdir,
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("name", ["run.json", "journal.jsonl", "LOCK", "media/s000001.m4s", "snapshots/w000001.json"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_pipes_and_sockets_do_not_hang(run_copy, name, kind):
    video, folder = run_copy
    replaced(folder / name, PLANTED[kind])
    refused_everywhere(video, folder, f"{name} is {kind} where a file belongs")


def test_a_device_is_refused(run_copy):
    video, folder = run_copy
    try:
        replaced(folder / "run.json", lambda path: os.mknod(path, 0o20666, os.makedev(1, 5)))  # /dev/zero
    except PermissionError:
        pytest.skip("may not make devices here")
    refused_everywhere(video, folder, r"run\.json is a device")


def test_a_file_where_a_folder_belongs(run_copy):
    video, folder = run_copy
    shutil.rmtree(folder / "snapshots")
    (folder / "snapshots").write_text("")
    refused_everywhere(video, folder, "snapshots is a file where a folder belongs")


def test_the_run_directory_itself_may_be_a_link(made, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    list(record(made[0].rollout(), made[0].manifest(), tmp_path / "link"))
    assert content(tmp_path / "there") == content(made[1])
    assert all(check.passed for check in verify(tmp_path / "link"))


def test_a_backup_of_hard_links_stays_as_it_is(tmp_path):
    video, folder, backup = clock(frames=100), tmp_path / "run", tmp_path / "backup"
    events = record(video.rollout(), video.manifest(), folder)
    for _ in range(20):
        next(events)
    events.close()
    shutil.copytree(folder, backup, copy_function=os.link)
    before = {path: path.read_bytes() for path in backup.rglob("*") if path.is_file()}
    list(record(video.rollout(), video.manifest(), folder))
    assert {path: path.read_bytes() for path in backup.rglob("*") if path.is_file()} == before
    assert all(check.passed for check in verify(folder))


def test_a_directory_of_0_1_says_so(tmp_path, capsys):
    (tmp_path / "run.json").write_text('{"schema": 1, "settings": {}}')
    with pytest.raises(RunError, match=r"was made by longtake 0\.1; finish it with that version, or choose another"):
        check_output_folder(tmp_path, fresh=True)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="already holds a run"):
        check_output_folder(tmp_path, fresh=True)
    assert longtake(["resume", str(tmp_path)]) == 2
    assert "run.json is damaged" in capsys.readouterr().err
